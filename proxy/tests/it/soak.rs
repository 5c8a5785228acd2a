//! A minute of faults on each back end; `cargo xtask soak` takes as many as are wanted.

use std::{path::Path, time::Duration};

use crate::fixture::{BINARY, on_both_back_ends, report};

on_both_back_ends!(endpoints_that_fail_in_turn_cost_no_request_but_those_they_hang_on);

fn endpoints_that_fail_in_turn_cost_no_request_but_those_they_hang_on(io: &str) {
    let seen = testbed::soak::run(Path::new(BINARY), io, Duration::from_mins(1)).unwrap();
    report(&format!("{io}: {seen}"));
}
