//! An interface to guard, and what it means when it refuses the program.

use std::fs;

use nix::{errno::Errno, net::if_::if_nametoindex};

use super::error::GuardError;

/// An interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
}

/// What the kernel says about an interface's hardware; absent where sysfs belongs to another network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hardware {
    driver: Option<String>,
    mtu: Option<u32>,
}

impl Interface {
    pub(super) fn find(name: &str) -> Result<Self, GuardError> {
        let index = if_nametoindex(name)
            .map_err(|source| GuardError::NoInterface { interface: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), index })
    }

    /// Whether it is there still, and not another of its name.
    pub(super) fn is_there(&self) -> bool {
        if_nametoindex(self.name.as_str()).is_ok_and(|index| index == self.index)
    }

    /// Why the kernel refused to attach, from its error code and the hardware.
    pub(super) fn refusal(&self, errno: Errno) -> GuardError {
        refusal(&self.name, Hardware::of(self), errno)
    }
}

impl Hardware {
    fn of(interface: &Interface) -> Self {
        let folder = format!("/sys/class/net/{}", interface.name);
        let read = |file: &str| fs::read_to_string(format!("{folder}/{file}")).ok();
        let number = |file: &str| read(file)?.trim().parse::<u32>().ok();
        if number("ifindex") != Some(interface.index) {
            return Self::default();
        }
        let driver = fs::read_link(format!("{folder}/device/driver"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Self { driver, mtu: number("mtu") }
    }
}

fn refusal(interface: &str, hardware: Hardware, errno: Errno) -> GuardError {
    let interface = interface.to_owned();
    let ena = hardware.driver.as_deref() == Some("ena");
    let driver = hardware.driver.unwrap_or_else(|| "unknown".to_owned());
    match (errno, hardware.mtu) {
        (Errno::EPERM | Errno::EACCES, _) => {
            GuardError::Privilege { action: "attach an XDP program", source: errno.into() }
        }
        (Errno::EBUSY | Errno::EEXIST, _) => GuardError::Occupied { interface },
        (Errno::EOPNOTSUPP, _) => GuardError::NoNativeMode { interface, driver },
        // Amazon's driver answers EINVAL to both an MTU above its limit and more than half of the queues in use.
        (Errno::EINVAL, Some(mtu)) if ena && mtu > ENA_MTU => {
            GuardError::MtuTooLarge { interface, driver, mtu, limit: ENA_MTU }
        }
        (Errno::EINVAL, _) if ena => GuardError::TooFewQueues { interface, driver },
        // veth: the peer sends on more queues than this end receives on.
        (Errno::ENOSPC, _) => GuardError::TooFewQueues { interface, driver },
        (source, _) => GuardError::Attach { interface, source },
    }
}

/// The largest MTU with which the `ena` driver of the mainline kernel runs XDP.
const ENA_MTU: u32 = 3498;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_remedy() {
        let ena = |mtu| Hardware { driver: Some("ena".into()), mtu: Some(mtu) };
        for (hardware, errno, remedy) in [
            (ena(9001), Errno::EINVAL, "ip link set dev eth0 mtu 3498"),
            (ena(1500), Errno::EINVAL, "ethtool -L eth0 combined"),
            (ena(1500), Errno::EINVAL, "attach = \"generic\""),
            (ena(1500), Errno::EBUSY, "ip link set dev eth0 xdp off"),
            (Hardware::default(), Errno::EOPNOTSUPP, "attach = \"generic\""),
            (Hardware::default(), Errno::EPERM, "CAP_NET_ADMIN"),
            (Hardware::default(), Errno::ENOSPC, "ethtool -l eth0"),
            (Hardware::default(), Errno::EINVAL, "attach = \"generic\""),
        ] {
            let text = refusal("eth0", hardware.clone(), errno).to_string();
            assert!(text.contains(remedy), "{hardware:?} {errno}: {text}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = Interface::find("no-such-if").unwrap_err().to_string();
        assert!(error.contains("guard.interfaces: `no-such-if`"), "{error}");
    }
}
