//! The guard's metrics. The kernel counts verdicts; they are read when Prometheus asks.
//! Invariant: counters never fall while maps are adopted, since the map is their only memory
//! (`a_second_start_adopts_maps_link_names_and_counters`).

use std::sync::Arc;

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use proxy_common::maps::Verdict;

use super::{enforcement::Enforcement, maps::Verdicts, names_state::Names};
use crate::{
    config::Attach,
    telemetry::metrics::{Gauges, Label, counter, gauge},
};

crate::label! {
    /// How the program is attached.
    enum AttachMode["attach"] {
        Native = "native",
        Generic = "generic",
    }
}

/// Gauges of the guard.
#[derive(Clone)]
pub(super) struct GuardMetrics {
    enforcing: IntGauge,
    enforcement: Gauges<Enforcement>,
    names: IntGauge,
    capacity: IntGauge,
    full: IntGauge,
    interfaces: Gauges<AttachMode>,
    configured: IntGauge,
    sampled_rejections: IntCounter,
}

impl GuardMetrics {
    pub(super) fn register(registry: &Registry, verdicts: Arc<Verdicts>) -> Result<Self, prometheus::Error> {
        registry.register(Box::new(VerdictCollector::new(verdicts)?))?;
        Self::gauges(registry)
    }

    fn gauges(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            enforcing: gauge(registry, "gatehouse_guard_enforcing", "Whether unknown names are rejected.")?,
            enforcement: Gauges::register(
                registry,
                "gatehouse_guard_enforcement",
                "1 for the state enforcement is in: on, or why it is off.",
            )?,
            names: gauge(registry, "gatehouse_guard_names", "Names in the kernel's map.")?,
            capacity: gauge(
                registry,
                "gatehouse_guard_names_capacity",
                "Names that the kernel's map can hold.",
            )?,
            full: gauge(
                registry,
                "gatehouse_guard_names_full",
                "Whether there are more names than the kernel's map can hold, which ends enforcement.",
            )?,
            interfaces: Gauges::register(
                registry,
                "gatehouse_guard_interfaces",
                "Interfaces the program is attached to.",
            )?,
            configured: gauge(
                registry,
                "gatehouse_guard_interfaces_configured",
                "Interfaces of `guard.interfaces`, to each of which the program is attached at the start.",
            )?,
            sampled_rejections: counter(
                registry,
                "gatehouse_guard_sampled_rejections_total",
                "Rejected ClientHellos of which the kernel told name and source, by `guard.sampled_rejections`.",
            )?,
        })
    }

    pub(super) fn attached(&self, mode: Attach, interfaces: usize) {
        let label = match mode {
            Attach::Native => AttachMode::Native,
            Attach::Generic => AttachMode::Generic,
        };
        self.interfaces.set(label, gauged(interfaces));
    }

    pub(super) fn configured(&self, interfaces: usize) {
        self.configured.set(gauged(interfaces));
    }

    pub(super) fn capacity(&self, capacity: usize) {
        self.capacity.set(gauged(capacity));
    }

    pub(super) fn sampled_rejections(&self) -> IntCounter {
        self.sampled_rejections.clone()
    }

    pub(super) fn names(&self, held: usize, state: Names) {
        self.names.set(gauged(held));
        self.full.set(i64::from(state == Names::Full));
    }

    pub(super) fn names_held(&self) -> usize {
        usize::try_from(self.names.get()).unwrap_or_default()
    }

    /// What enforcement is `now`; `rejects` is whether the mode rejects names at all.
    pub(super) fn enforcement(&self, now: Enforcement, rejects: bool) {
        self.enforcing.set(i64::from(now.is_on() && rejects));
        for state in Enforcement::ALL {
            self.enforcement.set(*state, i64::from(*state == now));
        }
    }
}

/// Registers the guard's metrics for a list of all, with no kernel behind them.
pub(crate) fn declare(registry: &Registry) -> Result<(), prometheus::Error> {
    for family in families()? {
        for verdict in Verdict::ALL {
            family.with_label_values(&[verdict.as_str()]);
        }
        registry.register(Box::new(family))?;
    }
    GuardMetrics::gauges(registry).map(drop)
}

fn gauged(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct VerdictCollector {
    verdicts: Arc<Verdicts>,
    /// What the families look like; nothing is counted in them.
    empty: [IntCounterVec; 2],
}

impl VerdictCollector {
    fn new(verdicts: Arc<Verdicts>) -> Result<Self, prometheus::Error> {
        Ok(Self { verdicts, empty: families()? })
    }
}

impl Collector for VerdictCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.empty.iter().flat_map(Collector::desc).collect()
    }

    /// Nothing when the kernel does not answer: a scrape without the series is better than one that seems to reset them.
    fn collect(&self) -> Vec<MetricFamily> {
        let Ok([packets, bytes]) = families() else { return Vec::new() };
        for verdict in Verdict::ALL {
            let Ok(tally) = self.verdicts.tally(*verdict) else { return Vec::new() };
            packets.with_label_values(&[verdict.as_str()]).inc_by(tally.packets);
            bytes.with_label_values(&[verdict.as_str()]).inc_by(tally.bytes);
        }
        [packets, bytes].iter().flat_map(Collector::collect).collect()
    }
}

fn families() -> Result<[IntCounterVec; 2], prometheus::Error> {
    let family = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["verdict"]);
    Ok([
        family("gatehouse_guard_packets_total", "Packets the guard saw, by verdict.")?,
        family("gatehouse_guard_bytes_total", "Bytes of the packets the guard saw, by verdict.")?,
    ])
}
