//! Metrics of the process: its build, its start time, its resources.

use std::{
    fs,
    time::{Duration, UNIX_EPOCH},
};

use crate::clock;

use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage},
    time::TimeVal,
};
use prometheus::{
    Counter, IntGauge, Opts, Registry,
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
    let now = clock::wall().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    started.set(i64::try_from(now).unwrap_or(i64::MAX));
    registry.register(Box::new(ProcessCollector::new()?))
}

/// Read from /proc when asked.
struct ProcessCollector {
    memory: IntGauge,
    virtual_memory: IntGauge,
    descriptors: IntGauge,
    most_descriptors: IntGauge,
    threads: IntGauge,
    cpu: Counter,
}

impl ProcessCollector {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            memory: IntGauge::new("process_resident_memory_bytes", "Resident memory.")?,
            virtual_memory: IntGauge::new("process_virtual_memory_bytes", "Virtual memory.")?,
            descriptors: IntGauge::new("process_open_fds", "Open file descriptors.")?,
            most_descriptors: IntGauge::new("process_max_fds", "Most file descriptors that may be open.")?,
            threads: IntGauge::new("process_threads", "Threads.")?,
            cpu: Counter::new("process_cpu_seconds_total", "Time on a CPU, in user mode and in the kernel.")?,
        })
    }

    fn gauges(&self) -> [&IntGauge; 5] {
        [&self.memory, &self.virtual_memory, &self.descriptors, &self.most_descriptors, &self.threads]
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(Collector::desc);
        gauges.chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let gauged =
            |number: Option<u64>| number.map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX));
        self.memory.set(gauged(field_bytes(&status, "VmRSS:")));
        self.virtual_memory.set(gauged(field_bytes(&status, "VmSize:")));
        self.threads.set(gauged(field(&status, "Threads:").and_then(|threads| threads.parse().ok())));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.descriptors.set(gauged(u64::try_from(open).ok()));
        let most = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft);
        self.most_descriptors.set(gauged(most.ok()));
        // A counter never falls: rounding may make a reading less than the last.
        let more = cpu_seconds().unwrap_or_default() - self.cpu.get();
        if more > 0.0 {
            self.cpu.inc_by(more);
        }
        self.gauges().into_iter().flat_map(Collector::collect).chain(self.cpu.collect()).collect()
    }
}

/// getrusage(2).
fn cpu_seconds() -> Option<f64> {
    let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: TimeVal| {
        let whole = Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or_default());
        (whole + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or_default())).as_secs_f64()
    };
    Some(seconds(used.user_time()) + seconds(used.system_time()))
}

/// proc(5), `/proc/pid/status`: `VmRSS:   1234 kB`.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn field_bytes(status: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 = field(status, name)?.strip_suffix("kB")?.trim().parse().ok()?;
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
        for name in [
            "gatehouse_build_info",
            "process_start_time_seconds",
            "process_open_fds",
            "process_max_fds",
            "process_threads",
            "process_virtual_memory_bytes",
            "process_cpu_seconds_total",
        ] {
            assert!(text.contains(&format!("\n{name}")), "{name} in {text}");
        }
        assert!(resident_bytes().unwrap() > 1 << 20);
        assert!(cpu_seconds().unwrap() > 0.0);
    }
}
