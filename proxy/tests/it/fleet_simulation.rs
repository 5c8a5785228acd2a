//! A fleet under load that is updated, gets a bad image and loses an instance; `cargo xtask fleet-simulation` also loses a zone, and drains a region.

use std::path::Path;

use testbed::fleet_simulation::{FACTOR, Story, run};

use crate::fixture::{BINARY, report};

#[test]
fn a_rolling_update_under_load_fails_no_request() {
    play(&[Story::RollingUpdate]);
}

#[test]
fn a_bad_image_fails_no_request_and_a_dead_instance_none_once_it_is_noticed() {
    play(&[Story::BadImage, Story::InstanceKilled]);
}

fn play(stories: &[Story]) {
    report(&run(Path::new(BINARY), FACTOR, stories).unwrap().to_string());
}
