//! Whether the driver of a guarded interface runs XDP as it is set up now.

use std::{fs, path::Path, thread};

use super::finding::Finding;
use crate::config::{Attach, Config};

/// Each of `guard.interfaces`.
pub(super) fn all(config: &Config) -> Vec<Finding> {
    if config.guard.interfaces.is_empty() {
        return vec![Finding::ok("guard", "off: guard.interfaces is empty")];
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let judged =
        config.guard.interfaces.iter().map(|name| judge(name, read(name), config.guard.attach, cores));
    judged.collect()
}

/// What sysfs says of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InterfaceFacts {
    /// None for a virtual one.
    driver: Option<String>,
    mtu: u32,
    queues: usize,
}

fn read(name: &str) -> Option<InterfaceFacts> {
    let folder = Path::new("/sys/class/net").join(name);
    let mtu = fs::read_to_string(folder.join("mtu")).ok()?.trim().parse().ok()?;
    let driver = fs::read_link(folder.join("device/driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let queues = fs::read_dir(folder.join("queues")).into_iter().flatten().flatten();
    let queues = queues.filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-")).count();
    Some(InterfaceFacts { driver, mtu, queues })
}

fn judge(name: &str, interface: Option<InterfaceFacts>, attach: Attach, cores: usize) -> Finding {
    let what = format!("guard {name}");
    let Some(InterfaceFacts { driver, mtu, queues }) = interface else {
        return Finding::error(
            what,
            "no such interface",
            "name one that `ip link` shows in guard.interfaces",
        );
    };
    let shown = format!("{}, MTU {mtu}, {queues} queues", driver.as_deref().unwrap_or("virtual"));
    let ena = driver.as_deref() == Some("ena") && attach == Attach::Native;
    match () {
        // Amazon's driver in the mainline kernel runs XDP on one page a packet, and on half of its queues, of which it has
        // one a core.
        () if ena && mtu > ENA_MTU => {
            Finding::error(what, shown, format!("ip link set dev {name} mtu {ENA_MTU}"))
        }
        () if ena && queues > (cores / 2).max(1) => {
            Finding::error(what, shown, format!("ethtool -L {name} combined {}", (cores / 2).max(1)))
        }
        () => Finding::ok(what, shown),
    }
}

const ENA_MTU: u32 = 3498;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Severity;

    fn interface(driver: Option<&str>, mtu: u32, queues: usize) -> InterfaceFacts {
        InterfaceFacts { driver: driver.map(str::to_owned), mtu, queues }
    }

    #[test]
    fn only_what_the_driver_refuses_fails_with_the_command_that_mends_it() {
        for (found, attach, remedy) in [
            (Some(interface(Some("ena"), 9001, 2)), Attach::Native, Some("ip link set dev eth0 mtu 3498")),
            (Some(interface(Some("ena"), 1500, 4)), Attach::Native, Some("ethtool -L eth0 combined 2")),
            (Some(interface(Some("ena"), 3498, 2)), Attach::Native, None),
            (Some(interface(Some("ena"), 9001, 4)), Attach::Generic, None),
            (Some(interface(Some("virtio_net"), 1500, 4)), Attach::Native, None),
            (Some(interface(None, 9000, 1)), Attach::Native, None),
            (None, Attach::Native, Some("name one that `ip link` shows in guard.interfaces")),
        ] {
            let finding = judge("eth0", found.clone(), attach, 4);
            assert_eq!(finding.remedy.as_deref(), remedy, "{found:?} {attach:?}");
            assert_eq!(finding.severity == Severity::Ok, remedy.is_none(), "{finding:?}");
        }
    }

    #[test]
    fn the_loopback_interface_is_found() {
        assert!(read("lo").is_some_and(|lo| lo.driver.is_none() && lo.mtu > 0));
        assert_eq!(read("no-such-if"), None);
    }
}
