//! A fleet on one machine, under load all the time: instances of Gatehouse as processes, each in a network namespace of its own, on one store
//! and one CA; the fleet's function as it is; and around them doubles of Global Accelerator, Auto Scaling, CloudFormation and of each
//! instance's metadata service.
//! Not here: whether AWS does what its documentation says, how long it takes, and what it permits; the guard, which is off.
//!
//! The accelerator (`accelerator`, `balancer`) follows these statements of its developer guide:
//!
//! | statement | here |
//! |---|---|
//! | "Preserve client IP addresses": an endpoint sees the client's address | destination NAT in the edge, which machines have as their router |
//! | "How Global Accelerator works", 5-tuple: a flow stays with its endpoint | by the kernel's connection tracking |
//! | "Idle timeout" of 340 s for TCP, then the flow is forgotten | the tracking's timeout |
//! | "Remove a standard endpoint", weight 0: new connections stop, those in progress go on | rules change, tracked flows do not |
//! | "Changing health check options": HTTP, port, path, every 10 s, three results in a row turn an endpoint either way | GET of :80/health from the edge |
//! | "Failover for unhealthy endpoints": new flows go to healthy endpoints alone; established ones are not moved | likewise |
//! | the same: without a healthy endpoint to the next nearest group that has one; where none has, to any endpoint of the nearest group | likewise |
//! | "Endpoint weights": shares in proportion; 0 is none | likewise, of 1,000 |
//! | "Adjusting traffic flow with traffic dials": percent of what would come to the group, the rest to the next nearest | likewise |
//! | `AddEndpoints`, `RemoveEndpoints`: `TransactionInProgressException` while another change is under way; ten endpoints | a change takes 5 s, which is a guess |
//!
//! Auto Scaling (`scaling`) follows its lifecycle with both hooks of `infra/fleet.yaml`: `join` with ABANDON, `leave` with CONTINUE. EC2 takes
//! two minutes to tell of a machine that is dead or cut off; who is dead is gone without a hook, who is cut off leaves by it. CloudFormation's
//! rolling update (`world`) is that of the template: one comes, its signal is waited for, one goes; without the signal it goes back, in the
//! worst way that AWS's schema of launch templates permits: all are replaced once more. The order of its steps is taken from the events that
//! it writes, which say no more.
//!
//! All these times, the template's, and those of the function are divided by one factor. Not divided are those of Gatehouse itself but
//! `instance.lifecycle_poll`, and the second that a health check waits for its answer.

mod accelerator;
mod api;
mod balancer;
mod cloud;
mod control;
mod machine;
mod scaling;
mod services;
mod stories;
mod world;

use std::{fmt, path::Path};

pub use self::stories::Story;
use self::{
    stories::{COUNT, NEAR},
    world::World,
};

/// What a run has shown, a line for each story.
#[derive(Debug)]
pub struct Report(Vec<String>);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Plays `stories` with instances of `binary`, AWS's times divided by `factor`. Fails if a story does not end as it has to.
pub fn run(binary: &Path, factor: u32, stories: &[Story]) -> anyhow::Result<Report> {
    let world = World::start(binary, factor)?;
    let region = world.create_region("eu-central-1", COUNT)?;
    anyhow::ensure!(region == NEAR, "there was a region already");
    stories.iter().map(|story| story.play(&world)).collect::<anyhow::Result<_>>().map(Report)
}

/// By which times are divided unless somebody wishes otherwise: an update of four instances takes less than a minute.
pub const FACTOR: u32 = 60;
