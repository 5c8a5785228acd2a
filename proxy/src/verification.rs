//! Whether customers' names lead here: what a new entry waits for, and regular checks of DNS, CAA and certificate of all entries of the table.
//! The same is done pass by pass by a program that is started now and then (`pass`).
//! Not here: what an entry's status permits (`domains`); how what was found is kept (`store`).
//! Invariants: an entry that was verified is removed only after it has been seen to lead elsewhere for long
//! (`a_name_that_leads_elsewhere_fails_and_is_removed_when_it_does_so_for_long`), and answers that do not come say nothing; no address is
//! connected to that an entry's target may not have; names of one tenant whose servers say nothing keep no other's waiting
//! (`a_tenant_whose_names_never_answer_keeps_no_other_waiting`); one instance of the fleet does the looking, and which names it looks at costs no reading of its own.
//!
//! ```text
//! feed -> Schedule, or Candidates of a pass -> Looker::look (DNS, TXT, CAA, handshake) -> judge -> CourseRules::follow -> entry's status, `checks`
//! ```

mod caa;
mod checker;
mod course;
mod dns;
mod due;
mod edge;
mod fair_queue;
#[cfg(test)]
pub(crate) mod fixture;
mod http;
mod https;
mod judge;
mod look;
mod metrics;
mod name_check;
mod pass;
mod provider;
mod schedule;
mod zone;

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use prometheus::Registry;
use tokio::runtime::Handle;

pub use dns::NoResolver;
pub use edge::{Purpose, RecordToSet};
pub(crate) use judge::is_private;
pub use look::{LookedAt, Looker, leave_out_caa_of_own};
pub use pass::{LeaseState, Pass, PassReport};
pub use provider::{HintedRecord, Provider};
pub use zone::Zone;

use self::{checker::Checker, course::CourseRules, metrics::VerificationMetrics, name_check::NameCheck};
use crate::{
    config::Config,
    domains::{Domains, admin::Permits},
    phase::PhaseWatch,
    store::{Store, state_table::lease::Holder},
};

/// Where the cleartext port says which edge it is.
pub const EDGE_PATH: &str = "/.well-known/gatehouse";

/// Why names cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerificationStartError {
    /// DNS servers.
    #[error(transparent)]
    Resolver(#[from] NoResolver),
    /// A metric is registered already.
    #[error("metrics of `verification` cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The kernel gives no random bytes.
    #[error("no random name for this instance")]
    Random(#[from] aws_lc_rs::error::Unspecified),
}

/// Registers this room's metrics for a list of all.
pub(crate) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    VerificationMetrics::register(registry).map(drop)
}

/// Begins the checks of `config`, on `control`, until `phase` says that the instance ends. Clients reach the edge at `https_port`; `permits`
/// says which addresses may be connected to.
pub fn start(
    config: &Config,
    https_port: u16,
    permits: Permits,
    (store, domains): (&Store, &Domains),
    phase: PhaseWatch,
    control: &Handle,
    registry: &Registry,
) -> Result<(), VerificationStartError> {
    let metrics = VerificationMetrics::register(registry)?;
    if !config.domains.table || !config.verification.by_instances {
        return Ok(());
    }
    let Some(looker) = Looker::new(config, https_port, permits)? else { return Ok(()) };
    let verification = &config.verification;
    let checker = Checker {
        names: NameCheck { looker, rules: CourseRules::of(verification), store: store.clone() },
        per_second: verification.per_second,
        domains: domains.clone(),
        metrics,
        holder: Holder::random()?,
        identities: ArcSwap::from_pointee(None),
        schedule: Arc::new(Mutex::new(None)),
    };
    control.spawn(checker.run(phase));
    Ok(())
}
