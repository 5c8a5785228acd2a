//! Why the guard does not start, with the remedy.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use nix::errno::Errno;

/// Why the guard does not start.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The binary was built without the program.
    #[error(
        "guard.interfaces: this binary contains no XDP program; run `cargo xtask build-ebpf` and build again, \
         or write `interfaces = []`"
    )]
    NoProgram,
    /// No such interface here.
    #[error(
        "guard.interfaces: `{interface}` is not an interface of this network namespace; `ip link` shows those that are"
    )]
    NoInterface {
        /// As configured.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// The process lacks capabilities.
    #[error(
        "guard.interfaces: the kernel does not let this process {action}; run as root, or grant CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON, and mount a bpffs at `guard.pin_path`, or write `interfaces = []`"
    )]
    Privilege {
        /// What was refused.
        action: &'static str,
        /// The refusal.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The folder of pins could not be made, mounted or written.
    #[error(
        "guard.pin_path: `{path}` cannot hold pins; name a folder that can be created, or one in a bpffs"
    )]
    PinPath {
        /// The folder or file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The object could not be loaded.
    #[error("guard: the kernel refused the program's maps; Gatehouse needs Linux 6.1 or later with BTF")]
    Load(#[source] EbpfError),
    /// The verifier refused the program.
    #[error("guard: the kernel's verifier refused the program; Gatehouse needs Linux 6.1 or later with BTF")]
    Verify(#[source] ProgramError),
    /// A map could not be opened, read or written.
    #[error(
        "guard: map {map}: {action} failed; `gatehouse guard detach` removes what is pinned, then start again"
    )]
    Map {
        /// Its name.
        map: &'static str,
        /// What was done to it.
        action: &'static str,
        /// What went wrong.
        #[source]
        source: MapError,
    },
    /// Another program holds the interface.
    #[error(
        "guard.interfaces: another XDP program is attached to `{interface}`; `bpftool net` shows which, \
         `ip link set dev {interface} xdp off` or remove the pin of its link"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// The driver has no XDP.
    #[error(
        "guard.attach: `native`: the driver `{driver}` of `{interface}` has no XDP; write `attach = \"generic\"`, \
         or `interfaces = []`"
    )]
    NoNativeMode {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
    },
    /// Packets are larger than the driver's XDP takes.
    #[error(
        "guard.interfaces: `{interface}` has MTU {mtu}, more than its driver `{driver}` supports with XDP; \
         `ip link set dev {interface} mtu {limit}`, or write `attach = \"generic\"`"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
        /// What it is set to.
        mtu: u32,
        /// What works.
        limit: u32,
    },
    /// The driver has too few queues left.
    #[error(
        "guard.interfaces: the driver `{driver}` of `{interface}` has no queues left for XDP; `ethtool -l {interface}` shows the \
         maximum, `ethtool -L {interface} combined N` sets half of it; where the maximum is 1, as on a machine of one virtual CPU, \
         write `attach = \"generic\"`"
    )]
    TooFewQueues {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
    },
    /// The kernel offers no link that can be pinned.
    #[error(
        "guard.interfaces: the kernel refuses a BPF link on `{interface}` and offers only an attachment that would stay after the \
         process has ended; write `attach = \"generic\"`, or use Linux 6.1 or later"
    )]
    NoLink {
        /// The interface.
        interface: String,
    },
    /// The kernel refused the attachment.
    #[error("guard.interfaces: attaching to `{interface}` failed; `attach = \"generic\"` may work")]
    Attach {
        /// The interface.
        interface: String,
        /// What went wrong.
        #[source]
        source: Errno,
    },
    /// Another start has put its program in the place of ours, and may give the place back.
    #[error(
        "guard: another process has just put its program on the interfaces; reload again in a few seconds, and stop that process if \
         it is not meant to take over"
    )]
    Contested,
    /// The operating system gave no thread.
    #[error("guard: no thread could be started; raise the limit of processes")]
    Thread(#[source] io::Error),
    /// The operating system gave no random numbers.
    #[error("guard: no random numbers for the key of the name hash; `getrandom(2)` must be permitted")]
    Random,
    /// A metric exists twice.
    #[error("guard: metrics could not be registered")]
    Metrics(#[source] prometheus::Error),
}

/// What was to be removed and was not there is as it should be.
pub(super) fn absent_is_removed(removal: Result<(), MapError>) -> Result<(), MapError> {
    match removal {
        Err(error) if errno(&error) == Some(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

/// A failed system call below an error of aya, if there is one.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    let mut cause = Some(error);
    // An error's chain is as long as its types are nested.
    for _ in 0..8 {
        let error = cause?;
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(Errno::from_raw(code));
        }
        cause = error.source();
    }
    None
}
