//! Metrics of the process: its build, its start time, its resources.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{
    IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Registers `gatehouse_build_info` and the `process_*` metrics that Prometheus's own client libraries name so.
pub fn measure(registry: &Registry) -> Result<(), prometheus::Error> {
    let build = Opts::new("gatehouse_build_info", "The running build; always 1.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    registry.register(Box::new(build))?;
    let started = super::metrics::gauge(
        registry,
        "process_start_time_seconds",
        "Start time, in seconds since the epoch.",
    )?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    started.set(i64::try_from(now).unwrap_or(i64::MAX));
    registry.register(Box::new(ProcessCollector::new()?))
}

/// Read from /proc when asked.
struct ProcessCollector {
    memory: IntGauge,
    descriptors: IntGauge,
}

impl ProcessCollector {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            memory: IntGauge::new("process_resident_memory_bytes", "Resident memory.")?,
            descriptors: IntGauge::new("process_open_fds", "Open file descriptors.")?,
        })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.memory.desc(), self.descriptors.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.memory.set(resident_bytes().map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.descriptors.set(i64::try_from(open).unwrap_or(i64::MAX));
        [self.memory.collect(), self.descriptors.collect()].concat()
    }
}

/// proc(5), `/proc/pid/status`: `VmRSS:   1234 kB`.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let registry = Registry::new();
        measure(&registry).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for name in ["gatehouse_build_info", "process_start_time_seconds", "process_open_fds"] {
            assert!(text.contains(&format!("\n{name}")), "{name} in {text}");
        }
        assert!(resident_bytes().unwrap() > 1 << 20);
    }
}
