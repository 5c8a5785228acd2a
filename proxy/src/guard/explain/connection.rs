//! One connection: what becomes of its SYN, and of the segment with its ClientHello.

use std::net::{IpAddr, SocketAddr};

use proxy_common::{
    decide::{Decision, Scratch, decide},
    maps::{Rejection, Verdict},
    model::Model,
    segment::Segment,
};
use serde::Serialize;

use super::{
    knowledge::Knowledge,
    packets::{frame, hello},
    reason::{Told, reason},
    step::Step,
};
use crate::{guard::ports::anyone, name::ServerName};

/// A connection that the guard is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The name in its hello.
    pub(crate) name: ServerName,
    /// Where it comes from; absent, from nowhere that has a rule or a budget.
    pub(crate) source: Option<IpAddr>,
    /// The port it goes to; absent, the first where hellos are judged.
    pub(crate) port: Option<u16>,
}

/// What becomes of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConnectionReport {
    /// The port it goes to.
    pub(crate) port: u16,
    /// Its first packet.
    pub(crate) syn: Judgement,
    /// Its ClientHello, if it comes to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hello: Option<Judgement>,
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Judgement {
    /// As metrics name it.
    pub(crate) verdict: &'static str,
    /// What that means to the connection.
    pub(crate) outcome: PacketOutcome,
    /// The step that decided.
    pub(crate) step: Step,
    /// Its number in the order of verdicts.
    pub(crate) step_number: u8,
    /// By what.
    pub(crate) reason: String,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacketOutcome {
    /// It passes to user space.
    Passes,
    /// It is dropped.
    Dropped,
    /// Its connection is reset.
    Rejected,
}

impl PacketOutcome {
    pub(super) fn of(verdict: Verdict) -> Self {
        if verdict.drops() {
            Self::Dropped
        } else if verdict.rejects() {
            Self::Rejected
        } else {
            Self::Passes
        }
    }

    /// As JSON has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
        }
    }
}

/// What the guard does with a connection.
pub(crate) fn explain(knowledge: &Knowledge, connection: &Connection) -> ConnectionReport {
    let mut model = knowledge.model(NOW_NS);
    if connection.source.is_none() {
        without_sources(&mut model);
    }
    let hellos = &knowledge.rules.ports;
    let port = connection.port.or_else(|| hellos.first_hello_port()).unwrap_or(HTTPS);
    let destination = hellos.destination(port, connection.source.map(|source| source.is_ipv4()));
    let source = connection.source.unwrap_or_else(|| anyone(destination.is_ipv4()));
    let source = SocketAddr::new(source, CLIENT_PORT);
    let mut scratch = Scratch::new();
    let mut judged = |flags, payload: &[u8]| {
        let packet = frame(source, destination, flags, payload).unwrap_or_default();
        let verdict = verdict(&packet, &model, &mut scratch);
        let told = Told { source: connection.source, destination, name: Some(&connection.name), knowledge };
        judgement(verdict, Step::of(verdict, &packet, &model), &told)
    };
    let syn = judged(Segment::SYN, &[]);
    let goes_on = syn.outcome == PacketOutcome::Passes;
    let payload = hello(connection.name.as_str().as_bytes()).unwrap_or_default();
    let hello = goes_on.then(|| judged(Segment::ACK | Segment::PSH, &payload));
    ConnectionReport { port, syn, hello }
}

/// What becomes of a packet; of a connection that is rejected, the kernel has a socket.
pub(super) fn verdict(packet: &[u8], model: &Model, scratch: &mut Scratch) -> Verdict {
    match decide(packet, model, scratch) {
        Decision::Pass(verdict) | Decision::Drop(verdict) => verdict,
        Decision::Reject(cause, _) => Verdict::reject(cause, Rejection::ResetServer),
    }
}

pub(super) fn judgement(verdict: Verdict, step: Step, told: &Told<'_>) -> Judgement {
    Judgement {
        verdict: verdict.as_str(),
        outcome: PacketOutcome::of(verdict),
        step,
        step_number: step.number(),
        reason: reason(verdict, step, told),
    }
}

/// Of an unknown source neither network nor budget is known.
fn without_sources(model: &mut Model) {
    model.source_networks.clear();
    model.settings.syns_per_source_per_second = 0;
}

/// Any time at which a lease can have begun and none has ended.
const NOW_NS: u64 = 1_000_000_000_000;
const HTTPS: u16 = 443;
const CLIENT_PORT: u16 = 40_000;

#[cfg(test)]
mod tests;
