//! Measurements, each as ratios to a base in the same run. A missed goal is printed; a measurement that could not be made fails.

pub mod certificates;
pub mod domains;
pub mod guard;
pub mod proxy;
pub mod report;

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::wait;

/// Resident bytes once they have stopped growing.
fn settled(resident_bytes: impl Fn() -> anyhow::Result<u64>) -> anyhow::Result<u64> {
    let (mut last, mut since) = (0, Instant::now());
    wait::until("memory that does not grow", PATIENCE, || {
        let now = resident_bytes()?;
        if now > last {
            (last, since) = (now, Instant::now());
        }
        ensure!(since.elapsed() >= STILL, "{last} bytes for {:?}", since.elapsed());
        Ok(last)
    })
}

const PATIENCE: Duration = Duration::from_mins(1);
const STILL: Duration = Duration::from_secs(2);
