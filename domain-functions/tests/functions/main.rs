//! The functions as Lambda runs them: the program itself, with the runtime API before it, a DynamoDB API behind it, and a real DNS server and
//! a real Caddy beside it. What the template `functions` does not grant is denied. Not here: whether AWS
//! permits a call; only AWS can tell.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests unwrap, and fixtures are tests"
)]

mod dns;
mod domain_checker;
mod domain_verifier;
mod function;
mod table;
