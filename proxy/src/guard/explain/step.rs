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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each step with the verdicts that it alone ends with.
    const STEPS: [(Step, &[Verdict]); 12] = [
        (Step::Packet, &[Verdict::PassFragment, Verdict::PassUnparsed]),
        (Step::Port, &[]),
        (Step::Source, &[Verdict::DropDeniedSource, Verdict::PassDeniedSource]),
        (Step::Syn, &[Verdict::PassSyn, Verdict::DropSynExcess, Verdict::PassSynExcess]),
        (Step::Payload, &[Verdict::PassNoHello, Verdict::PassOutOfOrder, Verdict::PassForgotten]),
        (Step::Address, &[]),
        (
            Step::Hello,
            &[Verdict::PassNoName, Verdict::PassMalformed, Verdict::PassTooLong, Verdict::PassIncomplete],
        ),
        (Step::Name, &[Verdict::PassAllowed]),
        (Step::Enforcement, &[Verdict::PassUnenforced]),
        (Step::Mode, &[Verdict::PassObserved]),
        (
            Step::Denial,
            &[Verdict::RejectDeniedServer, Verdict::RejectDeniedClient, Verdict::RejectDeniedDrop],
        ),
        (
            Step::Unknown,
            &[
                Verdict::PassUnknown,
                Verdict::RejectForeignServer,
                Verdict::RejectForeignClient,
                Verdict::RejectForeignDrop,
            ],
        ),
    ];

    #[test]
    fn steps_are_numbered_and_named_as_the_security_page_lists_them() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");
        let page = std::fs::read_to_string(page).unwrap();
        for (step, _) in STEPS {
            let entry = format!("\n{}. *{}*: ", step.number(), step.as_str());
            assert!(page.contains(&entry), "{entry}");
        }
    }

    #[test]
    fn every_verdict_but_one_is_of_one_step() {
        let model = Model::default();
        for (step, verdicts) in STEPS {
            for verdict in verdicts {
                assert_eq!(Step::of(*verdict, &[], &model), step, "{verdict:?}");
            }
        }
        let named: BTreeSet<_> =
            STEPS.iter().flat_map(|(_, verdicts)| *verdicts).map(|verdict| verdict.as_str()).collect();
        let rest: Vec<_> = Verdict::ALL.iter().filter(|verdict| !named.contains(verdict.as_str())).collect();
        assert_eq!(rest, [&Verdict::PassUnguarded]);
    }
}
