//! The steps of the verdict order, numbered as docs/security.md lists them.

use proxy_common::{
    decide::GuardTables,
    maps::{PortEntry, Verdict},
    model::Model,
    segment::Datagram,
};
use serde::Serialize;

/// The step that decided on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Whether it is a whole TCP segment behind headers that are walked.
    Packet = 1,
    /// Whether its port is guarded.
    Port = 2,
    /// Whether its source is denied.
    Source = 3,
    /// Whether a SYN is within the budget of its source.
    Syn = 4,
    /// Whether its payload starts or continues a ClientHello.
    Payload = 5,
    /// Whether hellos to its address are judged.
    Address = 6,
    /// Whether the hello says a name.
    Hello = 7,
    /// Whether the kernel has the name.
    Name = 8,
    /// Whether the guard enforces.
    Enforcement = 9,
    /// Whether the mode rejects.
    Mode = 10,
    /// Whether user space has denied the name.
    Denial = 11,
    /// Whether the mode lets an unknown name pass: `adaptive` does within a budget, `strict` never.
    Unknown = 12,
}

impl Step {
    /// The step at which `frame` met `verdict`.
    pub(super) fn of(verdict: Verdict, frame: &[u8], model: &Model) -> Self {
        match verdict {
            Verdict::PassUnguarded => unguarded(frame, model),
            Verdict::PassFragment | Verdict::PassUnparsed => Self::Packet,
            Verdict::DropDeniedSource | Verdict::PassDeniedSource => Self::Source,
            Verdict::PassSyn | Verdict::DropSynExcess | Verdict::PassSynExcess => Self::Syn,
            Verdict::PassNoHello | Verdict::PassOutOfOrder | Verdict::PassForgotten => Self::Payload,
            Verdict::PassNoName | Verdict::PassMalformed | Verdict::PassTooLong | Verdict::PassIncomplete => {
                Self::Hello
            }
            Verdict::PassAllowed => Self::Name,
            Verdict::PassUnenforced => Self::Enforcement,
            Verdict::PassObserved => Self::Mode,
            Verdict::RejectDeniedServer | Verdict::RejectDeniedClient | Verdict::RejectDeniedDrop => {
                Self::Denial
            }
            Verdict::PassUnknown
            | Verdict::RejectForeignServer
            | Verdict::RejectForeignClient
            | Verdict::RejectForeignDrop => Self::Unknown,
        }
    }

    /// Its number in the order.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// What is asked there.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Port => "port",
            Self::Source => "source",
            Self::Syn => "syn",
            Self::Payload => "payload",
            Self::Address => "address",
            Self::Hello => "hello",
            Self::Name => "name",
            Self::Enforcement => "enforcement",
            Self::Mode => "mode",
            Self::Denial => "denial",
            Self::Unknown => "unknown",
        }
    }
}

/// Three steps end with this verdict.
fn unguarded(frame: &[u8], model: &Model) -> Step {
    let Ok(datagram) = Datagram::find(frame) else { return Step::Packet };
    match datagram.destination_port(frame) {
        Err(_) => Step::Packet,
        Ok(port) if model.port(port).has(PortEntry::COUNTED) => Step::Address,
        Ok(_) => Step::Port,
    }
}
