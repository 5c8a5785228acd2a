//! The maps between the guard in the kernel and user space: one definition of each name, key and value.
//!
//! Invariant: a change of any size, field or meaning here raises [`ABI`], which names the folder the maps are pinned
//! in; the sizes are asserted below, so a change of layout cannot pass unseen.

mod rejected;
mod source;

use core::mem::size_of;

pub use self::rejected::{REJECTED_NAMES_BYTES, RejectedName};
pub use self::source::{SOURCE_NETWORKS_CAPACITY, SourceAddress, SourceRule};

/// Version of everything in this module; pins lie in `maps-v<ABI>/`.
pub const ABI: u32 = 7;

/// Names of the maps in the program's object, and of their pins.
pub mod map_names {
    /// `ARRAY[1]` of [`super::GuardSettings`]: written by user space before the program is attached.
    pub const SETTINGS: &str = "SETTINGS";
    /// `ARRAY[1]` of `u64`: `CLOCK_MONOTONIC` nanoseconds until which the guard enforces. In the past it says how `NAMES` was
    /// left: 0 = not whole, anything else = whole, so that a successor may enforce by it.
    pub const ENFORCE_UNTIL: &str = "ENFORCE_UNTIL";
    /// `ARRAY[1]` of [`super::NameKey`]: the secret of the name hash, adopted together with the names.
    pub const NAME_KEY: &str = "NAME_KEY";
    /// `HASH` (`BPF_F_NO_PREALLOC`) from name hash (`u64`) to [`super::NameEntry`]: allowed names.
    pub const NAMES: &str = "NAMES";
    /// `LRU_HASH` from name hash (`u64`) to [`super::DenialEntry`]: names user space has denied.
    pub const DENIALS: &str = "DENIALS";
    /// `ARRAY[1]` of [`super::PORT_NUMBERS`] [`super::PortEntry`], in one value: what is guarded on each port.
    pub const PORTS: &str = "PORTS";
    /// `HASH` (`BPF_F_NO_PREALLOC`) of [`super::GuardedAddress`]: where hellos are judged, if not on every address.
    pub const ADDRESSES: &str = "ADDRESSES";
    /// `LPM_TRIE` (`BPF_F_NO_PREALLOC`) from [`super::SourceAddress`] to [`super::SourceRule`] as a `u32`: what is done with packets to
    /// guarded ports from these networks. It is looked at for ports that have [`super::PortEntry::DENY`], and for SYNs beyond their
    /// source's budget.
    pub const SOURCE_NETWORKS: &str = "SOURCE_NETWORKS";
    /// `PERCPU_ARRAY[Verdict::COUNT]` of [`super::Tally`].
    pub const VERDICTS: &str = "VERDICTS";
    /// `ARRAY[1]` of [`super::UnknownBudget`]: what is left for names that are neither allowed nor denied.
    pub const UNKNOWN_BUDGET: &str = "UNKNOWN_BUDGET";
    /// `RINGBUF` of [`super::RejectedName`]. Not pinned: each program has its own, which is read by whoever loaded it, since a ring has
    /// one reader.
    pub const REJECTED_NAMES: &str = "REJECTED_NAMES";
}

/// What the guard does with a name that is neither allowed nor denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Mode {
    /// Count it and let it pass.
    Observe = 0,
    /// Let it pass while the budget of unknown names lasts, then reject it.
    Adaptive = 1,
    /// Reject it.
    Strict = 2,
}

impl Mode {
    /// The mode behind the number in [`GuardSettings`], unless it only observes.
    #[must_use]
    #[inline]
    pub const fn enforcing(mode: u32) -> Option<Self> {
        match mode {
            1 => Some(Self::Adaptive),
            2 => Some(Self::Strict),
            _ => None,
        }
    }
}

/// The guard's policy, one value for all interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct GuardSettings {
    /// A [`Mode`]; any other value observes.
    pub mode: u32,
    /// Refill of the budget of unknown names, names per second.
    pub unknown_per_second: u32,
    /// Size of that budget, names.
    pub unknown_burst: u32,
    /// Refill of each source's own budget of unknown names, names per second.
    pub unknown_per_source_per_second: u32,
    /// Size of that budget, names.
    pub unknown_per_source_burst: u32,
    /// Resets sent to clients by the guard itself, per second and CPU; beyond it segments are dropped.
    pub resets_per_second: u32,
    /// Refill of each source's budget of SYNs, SYNs per second; 0 sets no limit.
    pub syns_per_source_per_second: u32,
    /// Size of that budget, SYNs.
    pub syns_per_source_burst: u32,
    /// How many rejected names are told to user space, per second; 0 tells of none.
    pub sampled_rejections_per_second: u32,
}

/// The 128-bit key of the name hash (SipHash-1-3), drawn by user space when the maps are made.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct NameKey {
    /// First half of the key.
    pub k0: u64,
    /// Second half of the key.
    pub k1: u64,
}

/// An allowed name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct NameEntry {
    /// Reserved, 0.
    pub flags: u32,
    /// Reserved: where this name's connections are counted, 0.
    pub counter: u32,
}

/// A name user space has denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct DenialEntry {
    /// `CLOCK_MONOTONIC` nanoseconds at which the denial ends.
    pub until_ns: u64,
}

/// What is guarded on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct PortEntry(
    /// Any of the flags below; 0 guards nothing.
    pub u8,
);

impl PortEntry {
    /// Packets to the port are counted.
    pub const COUNTED: Self = Self(1);
    /// ClientHellos to the port are judged, if they go to an address in [`map_names::ADDRESSES`].
    pub const HELLO: Self = Self(1 | 2);
    /// ClientHellos to the port are judged on every IPv4 address.
    pub const HELLO_IPV4: Self = Self(1 | 2 | 4);
    /// ClientHellos to the port are judged on every IPv6 address.
    pub const HELLO_IPV6: Self = Self(1 | 2 | 8);
    /// Packets to the port from a network in [`map_names::SOURCE_NETWORKS`] that is denied are dropped.
    pub const DENY: Self = Self(1 | 16);
    /// A translation of addresses behind the program changes the port, so that no socket of a flow can be found by its packets.
    pub const TRANSLATED: Self = Self(1 | 32);

    /// Whether it says all that `other` says.
    #[must_use]
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What both say.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Entries of [`map_names::PORTS`]: one for each port.
pub const PORT_NUMBERS: usize = 1 << 16;

/// An address and port where hellos are judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct GuardedAddress {
    /// IPv6, or IPv4 mapped to it (RFC 4291 §2.5.5.2).
    pub address: [u8; 16],
    /// In host order.
    pub port: u32,
}

impl GuardedAddress {
    /// An IPv4 address, whose number is in host order.
    #[must_use]
    #[inline]
    pub const fn ipv4(address: u32, port: u16) -> Self {
        let [a, b, c, d] = address.to_be_bytes();
        Self { address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], port: port as u32 }
    }
}

/// A token bucket of unknown names, refilled by the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct UnknownBudget {
    /// Theoretical arrival time of the generic cell rate algorithm, `CLOCK_MONOTONIC` nanoseconds.
    pub arrival_ns: u64,
}

/// Packets and bytes that met one verdict on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// Why a segment is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectCause {
    /// Its name is neither allowed nor denied.
    Foreign,
    /// User space has denied its name.
    Denied,
}

/// What was done to a segment that is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// It became a reset for the server's socket.
    ResetServer,
    /// The client was sent a reset.
    ResetClient,
    /// It was dropped.
    Drop,
}

impl Verdict {
    /// Whether a packet with this verdict is dropped unseen. What is rejected is another matter.
    #[must_use]
    #[inline]
    pub const fn drops(self) -> bool {
        matches!(self, Self::DropDeniedSource | Self::DropSynExcess)
    }

    /// Whether its connection is rejected.
    #[must_use]
    pub const fn rejects(self) -> bool {
        matches!(
            self,
            Self::RejectForeignServer
                | Self::RejectForeignClient
                | Self::RejectForeignDrop
                | Self::RejectDeniedServer
                | Self::RejectDeniedClient
                | Self::RejectDeniedDrop
        )
    }

    /// The verdict under which a rejected segment is counted.
    #[must_use]
    #[inline]
    pub const fn reject(cause: RejectCause, rejection: Rejection) -> Self {
        match (cause, rejection) {
            (RejectCause::Foreign, Rejection::ResetServer) => Self::RejectForeignServer,
            (RejectCause::Foreign, Rejection::ResetClient) => Self::RejectForeignClient,
            (RejectCause::Foreign, Rejection::Drop) => Self::RejectForeignDrop,
            (RejectCause::Denied, Rejection::ResetServer) => Self::RejectDeniedServer,
            (RejectCause::Denied, Rejection::ResetClient) => Self::RejectDeniedClient,
            (RejectCause::Denied, Rejection::Drop) => Self::RejectDeniedDrop,
        }
    }
}

macro_rules! verdicts {
    ($($(#[doc = $help:literal])+ $name:ident = $text:literal,)+) => {
        /// What became of a packet. Every packet is counted under exactly one of these.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Verdict { $($(#[doc = $help])+ $name,)+ }

        impl Verdict {
            /// Every verdict, in the order of its index.
            pub const ALL: &'static [Verdict] = &[$(Verdict::$name,)+];
            /// How many there are: the length of the map.
            #[expect(clippy::cast_possible_truncation, reason = "a few dozen")]
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// The verdict as metrics and `gatehouse status` write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Verdict::$name => $text,)+ }
            }
        }
    };
}

verdicts! {
    /// From a network of `guard.deny`: dropped.
    DropDeniedSource = "drop_denied_source",
    /// From a network of `guard.deny` while the mode is `observe` or enforcement is off.
    PassDeniedSource = "pass_denied_source",
    /// A SYN beyond the budget of its source, `guard.syns_per_source_per_second`: dropped.
    DropSynExcess = "drop_syn_excess",
    /// A SYN beyond the budget of its source while the mode is `observe` or enforcement is off.
    PassSynExcess = "pass_syn_excess",
    /// Not TCP to a guarded port, or a ClientHello to an address where none is judged.
    PassUnguarded = "pass_unguarded",
    /// An IP fragment: its ports or its payload are elsewhere. The first of a segment has passed the rules and the budget of its source.
    PassFragment = "pass_fragment",
    /// More VLAN tags or IPv6 extension headers than are walked, or a packet cut short.
    PassUnparsed = "pass_unparsed",
    /// A SYN to a guarded port.
    PassSyn = "pass_syn",
    /// No payload, or one that does not start a ClientHello.
    PassNoHello = "pass_no_hello",
    /// A ClientHello without `server_name`.
    PassNoName = "pass_no_name",
    /// A ClientHello that breaks its own lengths, or a name no DNS name can be.
    PassMalformed = "pass_malformed",
    /// A ClientHello with more records or extensions than are walked.
    PassTooLong = "pass_too_long",
    /// A ClientHello whose name has not been seen yet: the segment that follows is judged together with it.
    PassIncomplete = "pass_incomplete",
    /// A segment of a ClientHello that is not the next one: a part comes again, overlaps another or is missing.
    PassOutOfOrder = "pass_out_of_order",
    /// The next segment of a ClientHello whose beginning has been forgotten.
    PassForgotten = "pass_forgotten",
    /// An allowed name.
    PassAllowed = "pass_allowed",
    /// An unknown name while the mode is `observe`.
    PassObserved = "pass_observed",
    /// An unknown name within the budget of unknown names.
    PassUnknown = "pass_unknown",
    /// An unknown name while enforcement is off.
    PassUnenforced = "pass_unenforced",
    /// An unknown name: the segment became a reset for the server's socket.
    RejectForeignServer = "reject_foreign_server",
    /// An unknown name: the client was sent a reset.
    RejectForeignClient = "reject_foreign_client",
    /// An unknown name: dropped, the budget of resets being spent.
    RejectForeignDrop = "reject_foreign_drop",
    /// A name user space denied: the segment became a reset for the server's socket.
    RejectDeniedServer = "reject_denied_server",
    /// A name user space denied: the client was sent a reset.
    RejectDeniedClient = "reject_denied_client",
    /// A name user space denied: dropped, the budget of resets being spent.
    RejectDeniedDrop = "reject_denied_drop",
}

const _: () = {
    assert!(size_of::<GuardSettings>() == 36);
    assert!(size_of::<NameKey>() == 16);
    assert!(size_of::<NameEntry>() == 8);
    assert!(size_of::<DenialEntry>() == 8);
    assert!(size_of::<PortEntry>() == 1);
    assert!(size_of::<GuardedAddress>() == 20);
    assert!(size_of::<SourceAddress>() == 20);
    assert!(size_of::<UnknownBudget>() == 8);
    assert!(size_of::<Tally>() == 16);
};

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya asks for a marker that these types are plain bytes")]
mod user {
    use super::{
        DenialEntry, GuardSettings, GuardedAddress, NameEntry, NameKey, PortEntry, SourceAddress, Tally,
        UnknownBudget,
    };

    macro_rules! pod {
        ($($name:ty),+) => {$(
            // SAFETY: `repr(C)`, only integers, no padding (the sizes are asserted above), so every bit pattern is a value.
            unsafe impl aya::Pod for $name {}
        )+};
    }
    pod!(
        GuardSettings,
        NameKey,
        NameEntry,
        DenialEntry,
        PortEntry,
        GuardedAddress,
        SourceAddress,
        UnknownBudget,
        Tally
    );
}
