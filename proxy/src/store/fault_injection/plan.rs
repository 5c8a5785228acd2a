//! What is injected, and how often.

use std::{path::PathBuf, time::Duration};

use crate::config::Span;

/// Faults by chance, per thousand calls, from a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// The same seed gives the same faults at the same calls.
    pub seed: u64,
    /// Reads that are not consistent, those of an index included, are up to so old.
    pub stale: Duration,
    /// Calls answered `ProvisionedThroughputExceededException`.
    pub throttle: u16,
    /// Writes answered with a transaction conflict.
    pub conflict: u16,
    /// Writes that are carried out, and whose answer never comes.
    pub lost: u16,
    /// Keys of a `BatchGetItem` left unprocessed.
    pub unprocessed: u16,
    /// While this file exists nothing is answered.
    pub outage: Option<PathBuf>,
}

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "GATEHOUSE_STORE_FAULTS: `{0}` is not a fault; write them like `seed=7,stale=2s,throttle=50,conflict=50,lost=50,unprocessed=100,outage=/run/out`"
)]
pub struct PlanError(String);

impl FaultPlan {
    /// The plan the environment asks for, if it does.
    pub fn from_environment() -> Result<Option<Self>, PlanError> {
        std::env::var("GATEHOUSE_STORE_FAULTS").ok().map(|text| Self::parse(&text)).transpose()
    }

    /// Reads `seed=7,stale=2s,throttle=50,conflict=50,lost=50,unprocessed=100,outage=/run/out`, each of which may be absent.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            plan.set(part).ok_or_else(|| PlanError(part.to_owned()))?;
        }
        Ok(plan)
    }

    fn set(&mut self, part: &str) -> Option<()> {
        let (name, value) = part.split_once('=')?;
        let per_mille = || value.parse::<u16>().ok().filter(|n| *n <= 1000);
        match name {
            "seed" => self.seed = value.parse().ok()?,
            "stale" => self.stale = *value.parse::<Span>().ok()?,
            "throttle" => self.throttle = per_mille()?,
            "conflict" => self.conflict = per_mille()?,
            "lost" => self.lost = per_mille()?,
            "unprocessed" => self.unprocessed = per_mille()?,
            "outage" => self.outage = Some(PathBuf::from(value)),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_written_and_a_mistyped_one_refused() {
        let plan = FaultPlan::parse("seed=7, stale=2s,throttle=50,outage=/run/out").unwrap();
        assert_eq!((plan.seed, plan.stale, plan.throttle), (7, Duration::from_secs(2), 50));
        assert_eq!((plan.conflict, plan.outage), (0, Some(PathBuf::from("/run/out"))));
        for text in ["throttle", "throttle=1001", "stale=2", "seed=x", "thorttle=5"] {
            assert!(FaultPlan::parse(text).is_err(), "{text}");
        }
    }
}
