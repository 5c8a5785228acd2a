//! A running instance as whoever starts, reloads and restarts it sees it. No case needs a network or root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests unwrap, and fixtures are tests"
)]

mod fixture;
mod load;
mod server;
mod tables;

mod administration;
mod answers;
mod certificate_commands;
mod ending;
mod error_pages;
mod lifecycle;
mod manager;
mod parameter;
mod reload;
mod trouble;
mod upgrade;
