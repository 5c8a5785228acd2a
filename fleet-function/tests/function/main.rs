//! The function as Lambda runs it: the program itself, with the runtime API before it and doubles of three services behind it,
//! which deny what the template `fleet` does not grant.
//! Not here: whether AWS permits a call, and whether its services behave as their API models say; only AWS can tell.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests unwrap, and fixtures are tests"
)]

mod fleet_function;
mod function;
mod region;
