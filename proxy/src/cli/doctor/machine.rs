//! Kernel, limits, clock, directories.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{AccessFlags, access},
};
use time::OffsetDateTime;

use super::finding::{Finding, Severity};
use crate::{
    clock,
    config::{Config, Io},
    store::local_copy,
    transport::Backend,
};

/// The oldest kernel with what the guard's program calls.
pub(super) fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_kernel(release.trim())
}

fn judge_kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => {
            Finding::ok("kernel", release)
        }
        (Some(Ok(_)), Some(Ok(_))) => Finding::error("kernel", release, "run Linux 6.1 or newer"),
        _ => Finding::warning(
            "kernel",
            format!("`{release}` is not a release of Linux"),
            "check that it is 6.1 or newer",
        ),
    }
}

/// Types of the kernel, by which the guard's program is relocated.
pub(super) fn btf(config: &Config) -> Finding {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    if path.exists() {
        return Finding::ok("btf", path.display().to_string());
    }
    Finding::error("btf", format!("no {}", path.display()), "run a kernel with CONFIG_DEBUG_INFO_BTF=y")
        .at_most(Severity::Note, config.guard.interfaces.is_empty())
}

/// A send and a receive through the ring.
pub(super) fn ring(config: &Config) -> Finding {
    if config.worker.io == Io::Epoll {
        return Finding::ok("io_uring", "not used: worker.io is `epoll`");
    }
    match Backend::choose(Io::Uring) {
        Ok(_) => Finding::ok("io_uring", "a send and a receive went through it"),
        Err(error) => {
            let remedy = "sysctl kernel.io_uring_disabled=0, and permit io_uring_setup in seccomp profiles; epoll works meanwhile";
            Finding::error("io_uring", crate::telemetry::error_chain(&error), remedy)
                .at_most(Severity::Warning, config.worker.io == Io::Auto)
        }
    }
}

/// Descriptors and locked memory.
pub(super) fn limits(config: &Config) -> Vec<Finding> {
    let read = |resource| getrlimit(resource).map_or(0, |(_, hard)| hard);
    vec![
        judge_descriptors(read(Resource::RLIMIT_NOFILE), config.limits.connections),
        judge_memlock(read(Resource::RLIMIT_MEMLOCK)),
    ]
}

/// One connection to the client and one to the target each.
fn judge_descriptors(limit: u64, connections: usize) -> Finding {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2);
    if limit >= wanted {
        return Finding::ok("descriptors", format!("{limit} for limits.connections = {connections}"));
    }
    let found = format!("{limit}, and limits.connections = {connections} may take {wanted}");
    Finding::warning(
        "descriptors",
        found,
        format!("LimitNOFILE={wanted} in the unit, or lower limits.connections"),
    )
}

/// Since 5.11 maps are charged to the cgroup instead; rings are charged here still.
fn judge_memlock(limit: u64) -> Finding {
    if limit >= LEAST_MEMLOCK {
        let found = if limit == u64::MAX { "unlimited".to_owned() } else { format!("{} KiB", limit >> 10) };
        return Finding::ok("memlock", found);
    }
    Finding::warning("memlock", format!("{} KiB", limit >> 10), "LimitMEMLOCK=8M in the unit")
}

/// Certificates and leases are judged by it.
pub(super) fn clock() -> Vec<Finding> {
    vec![judge_clock(clock::wall()), judge_synchronisation(kernel_clock())]
}

fn judge_clock(now: SystemTime) -> Finding {
    let shown = OffsetDateTime::from(now).date().to_string();
    if now < UNIX_EPOCH + BUILT {
        return Finding::error(
            "clock",
            format!("{shown}: earlier than the build of this program"),
            "set the clock: start chrony",
        );
    }
    Finding::ok("clock", shown)
}

/// adjtimex(2): whether something keeps the clock.
fn judge_synchronisation(state: io::Result<libc::c_int>) -> Finding {
    match state {
        Ok(libc::TIME_ERROR) => Finding::warning(
            "time source",
            "the kernel's clock is not synchronised",
            "start chrony, on AWS with its source 169.254.169.123",
        ),
        Ok(_) => Finding::ok("time source", "the kernel's clock is synchronised"),
        Err(error) => Finding::warning("time source", error.to_string(), "see `chronyc tracking`"),
    }
}

#[expect(unsafe_code, reason = "nix has no adjtimex")]
fn kernel_clock() -> io::Result<libc::c_int> {
    // SAFETY: `timex` is a struct of numbers, of which all zeros is a value.
    let mut nothing: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `nothing` is a live `timex`; with `modes` 0 the call only reads the clock and fills it.
    let state = unsafe { libc::adjtimex(&raw mut nothing) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(state) }
}

/// Where the embedded store and keys lie.
pub(super) fn state_directory(config: &Config) -> Finding {
    let path = &config.state_directory;
    match writable(path) {
        Some(Ok(there)) if there == path => Finding::ok("state", path.display().to_string()),
        Some(Ok(_)) => Finding::ok("state", format!("{} will be made", path.display())),
        Some(Err(found)) => {
            Finding::error("state", found, "chown it to the user that runs gatehouse, or set state_directory")
        }
        None => Finding::error("state", path.display().to_string(), "name a directory that can be created"),
    }
}

/// The copy of what is served: whether it can be written, and what there is of it.
pub(super) fn local_copy(config: &Config, now: SystemTime) -> Option<Finding> {
    let directory = config.store.local_copy.as_ref()?;
    let shown = directory.display();
    let owner = "chown it to the user that runs gatehouse, or set store.local_copy";
    Some(match local_copy::look(directory) {
        Ok(Some((bytes, written))) => {
            let minutes = now.duration_since(written).unwrap_or_default().as_secs() / 60;
            Finding::ok("copy", format!("{bytes} bytes in {shown}, written {minutes} min ago"))
        }
        Ok(None) => match writable(directory) {
            Some(Ok(_)) => Finding::ok("copy", format!("none in {shown} yet")),
            Some(Err(found)) => Finding::error("copy", found, owner),
            None => Finding::error("copy", shown.to_string(), "name a directory that can be created"),
        },
        Err(error) => Finding::error("copy", format!("{shown}: {error}"), owner),
    })
}

/// The nearest folder to `path` that is there, if it can be written; else why not. `None` if there is none.
fn writable(path: &Path) -> Option<Result<&Path, String>> {
    let nearest = path.ancestors().map(|path| if path == Path::new("") { Path::new(".") } else { path });
    let there = nearest.into_iter().find(|path| path.exists())?;
    Some(match access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if there.is_dir() => Ok(there),
        Ok(()) => Err(format!("`{}` is not a directory", there.display())),
        Err(error) => Err(format!("`{}` cannot be written ({error})", there.display())),
    })
}

const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// What the rings of a few workers take.
const LEAST_MEMLOCK: u64 = 1 << 20;
/// 2026-11-01: no machine that runs this release lives before it.
const BUILT: Duration = Duration::from_hours(498_192);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_severity() {
        for (finding, severity) in [
            (judge_kernel("6.1.0-18-cloud-amd64"), Severity::Ok),
            (judge_kernel("6.18.5"), Severity::Ok),
            (judge_kernel("10.0"), Severity::Ok),
            (judge_kernel("5.15.0"), Severity::Error),
            (judge_kernel("next"), Severity::Warning),
            (judge_descriptors(200_000, 100_000), Severity::Ok),
            (judge_descriptors(1024, 100_000), Severity::Warning),
            (judge_memlock(u64::MAX), Severity::Ok),
            (judge_memlock(64 << 10), Severity::Warning),
            (judge_clock(UNIX_EPOCH), Severity::Error),
            (judge_clock(UNIX_EPOCH + BUILT), Severity::Ok),
            (judge_synchronisation(Ok(libc::TIME_ERROR)), Severity::Warning),
            (judge_synchronisation(Ok(libc::TIME_OK)), Severity::Ok),
        ] {
            assert_eq!(finding.severity, severity, "{finding:?}");
            assert_eq!(finding.remedy.is_some(), severity != Severity::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_directory_is_there_or_can_be_made() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        let at = |path: &str| Config { state_directory: place.path().join(path), ..Config::default() };
        for (path, severity) in [("", Severity::Ok), ("new/state", Severity::Ok), ("file", Severity::Error)] {
            let finding = state_directory(&at(path));
            assert_eq!(finding.severity, severity, "{finding:?}");
        }
    }

    #[test]
    fn a_copy_is_told_with_its_size_and_age_or_that_it_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        let told = |config: &Config| {
            let hour = clock::wall() + Duration::from_hours(1);
            local_copy(config, hour).map(|finding| (finding.severity, finding.found))
        };
        assert_eq!(told(&config), None);
        config.store.local_copy = Some(folder.path().join("copy"));
        let (severity, found) = told(&config).unwrap();
        assert!(
            severity == Severity::Ok && found.starts_with("none in ") && found.ends_with(" yet"),
            "{found}"
        );
        fs::create_dir(folder.path().join("copy")).unwrap();
        fs::write(local_copy::file_in(&folder.path().join("copy")), "copy").unwrap();
        let (severity, found) = told(&config).unwrap();
        assert!(severity == Severity::Ok && found.starts_with("4 bytes in "), "{found}");
        assert!(found.ends_with("written 60 min ago") || found.ends_with("written 59 min ago"), "{found}");
        config.store.local_copy = Some(local_copy::file_in(&folder.path().join("copy")));
        let (severity, found) = told(&config).unwrap();
        assert!(severity == Severity::Error, "{found}");
    }
}
