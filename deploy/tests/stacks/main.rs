//! The program at moto, which stands for AWS, with what moto leaves out of CloudFormation (`aws.py`).
//! Not here: whether AWS permits a call, and whether a stack comes up there; only AWS can tell.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests unwrap, and fixtures are tests"
)]

mod account;
mod deployment;
