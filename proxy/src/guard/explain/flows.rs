//! The connections of a capture, each with what the guard does with it.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
};

use proxy_common::{
    decide::{GuardTables as _, Scratch},
    maps::{PortEntry, Verdict},
    model::Model,
    segment::{Datagram, Family, Segment},
    source::ByteSource as _,
};
use serde::{Serialize, Serializer};

use super::{
    capture::{Capture, CaptureError},
    connection::{Judgement, judgement, verdict},
    knowledge::Knowledge,
    reason::Told,
    step::Step,
};
use crate::name::ServerName;

/// What becomes of the packets of a capture.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CaptureReport {
    /// How many packets it has.
    pub(crate) packets: u64,
    /// How many of them go to no guarded port, or are no whole TCP segments: they pass.
    pub(crate) unguarded_packets: u64,
    /// Its connections to guarded ports, in the order of their first packets.
    pub(crate) flows: Vec<FlowReport>,
    /// How many connections are beyond those.
    pub(crate) flows_left_out: u64,
    /// Names that can be served, as hellos say them.
    #[serde(skip)]
    pub(crate) names: BTreeSet<ServerName>,
    /// Where connections come from.
    #[serde(skip)]
    pub(crate) sources: BTreeSet<IpAddr>,
}

/// What becomes of a connection.
#[derive(Debug, Serialize)]
pub(crate) struct FlowReport {
    /// The client.
    pub(crate) source: SocketAddr,
    /// The server.
    pub(crate) destination: SocketAddr,
    /// The name in its hello, bytes that are no text escaped.
    #[serde(serialize_with = "escaped")]
    pub(crate) name: Option<Box<[u8]>>,
    /// How many packets the client sent.
    pub(crate) packets: u64,
    /// What became of the one that decided.
    #[serde(flatten)]
    pub(crate) judgement: Judgement,
}

/// A connection while its packets are read.
struct Flow {
    source: SocketAddr,
    destination: SocketAddr,
    name: Option<Box<[u8]>>,
    verdict: Verdict,
    step: Step,
    packets: u64,
    /// The sequence number of its SYN, by which another connection of the same ports is told.
    syn: Option<u32>,
}

/// A TCP segment to a guarded port, and its ends.
struct GuardedSegment {
    source: SocketAddr,
    destination: SocketAddr,
    /// The sequence number, if it is a SYN.
    syn: Option<u32>,
}

/// Judges the packets of `capture`, at the times when they were captured and with full budgets at first.
pub(crate) fn judge(capture: &Capture<'_>, knowledge: &Knowledge) -> Result<CaptureReport, CaptureError> {
    let mut model = knowledge.model(FIRST_NS);
    let mut scratch = Scratch::new();
    let mut flows = Flows::default();
    let mut report = CaptureReport::default();
    let mut began = None;
    for packet in capture.packets() {
        let packet = packet?;
        let since = packet.at_ns.saturating_sub(*began.get_or_insert(packet.at_ns));
        // Clocks are set back, and packets of several interfaces may be out of order.
        model.now_ns = model.now_ns.max(FIRST_NS.saturating_add(since));
        report.packets += 1;
        let frame = packet.frame();
        let verdict = verdict(&frame, &model, &mut scratch);
        match guarded(&frame, &model) {
            None => report.unguarded_packets += 1,
            Some(segment) => {
                let seen =
                    Seen { verdict, step: Step::of(verdict, &frame, &model), name: scratch.server_name() };
                flows.see(&segment, &seen);
            }
        }
    }
    flows.finish(&mut report, knowledge);
    Ok(report)
}

/// What became of a packet.
struct Seen<'a> {
    verdict: Verdict,
    step: Step,
    /// Meaningful behind [`Step::Hello`].
    name: &'a [u8],
}

#[derive(Default)]
struct Flows {
    all: Vec<Flow>,
    /// Where in `all` each pair of ends is.
    latest: HashMap<(SocketAddr, SocketAddr), usize>,
    left_out: u64,
}

impl Flows {
    fn see(&mut self, segment: &GuardedSegment, seen: &Seen<'_>) {
        let index = match self.latest.entry((segment.source, segment.destination)) {
            Entry::Occupied(mut there) => {
                let is_another = self.all.get(*there.get()).is_some_and(|flow| flow.is_before(segment));
                if is_another && self.all.len() < MOST_FLOWS {
                    there.insert(self.all.len());
                    self.all.push(Flow::new(segment, seen));
                }
                *there.get()
            }
            Entry::Vacant(_) if self.all.len() >= MOST_FLOWS => {
                // Of those that have no place, each SYN is taken for one.
                self.left_out += u64::from(segment.syn.is_some());
                return;
            }
            Entry::Vacant(place) => {
                self.all.push(Flow::new(segment, seen));
                *place.insert(self.all.len() - 1)
            }
        };
        if let Some(flow) = self.all.get_mut(index) {
            flow.see(segment, seen);
        }
    }

    fn finish(self, report: &mut CaptureReport, knowledge: &Knowledge) {
        report.flows_left_out = self.left_out;
        for flow in self.all {
            report.sources.insert(flow.source.ip());
            let name = flow.name.as_deref().and_then(server_name);
            report.names.extend(name.clone());
            let told = Told {
                source: Some(flow.source.ip()),
                destination: flow.destination,
                name: name.as_ref(),
                knowledge,
            };
            let judgement = judgement(flow.verdict, flow.step, &told);
            let Flow { source, destination, name, packets, .. } = flow;
            report.flows.push(FlowReport { source, destination, name, packets, judgement });
        }
    }
}

impl Flow {
    fn new(segment: &GuardedSegment, seen: &Seen<'_>) -> Self {
        let GuardedSegment { source, destination, syn } = *segment;
        let Seen { verdict, step, .. } = *seen;
        Self { source, destination, name: None, verdict, step, packets: 0, syn }
    }

    /// Whether `segment` begins another connection.
    fn is_before(&self, segment: &GuardedSegment) -> bool {
        segment.syn.is_some() && self.syn != segment.syn
    }

    fn see(&mut self, segment: &GuardedSegment, seen: &Seen<'_>) {
        self.packets += 1;
        self.syn = self.syn.or(segment.syn);
        if weight(seen.verdict) > weight(self.verdict) {
            (self.verdict, self.step) = (seen.verdict, seen.step);
        }
        if seen.step >= Step::Name && self.name.is_none() {
            self.name = Some(seen.name.into());
        }
    }
}

/// Of the packets of a connection, the one with the greatest weight decides; of several, the first.
fn weight(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::RejectForeignServer
        | Verdict::RejectForeignClient
        | Verdict::RejectForeignDrop
        | Verdict::RejectDeniedServer
        | Verdict::RejectDeniedClient
        | Verdict::RejectDeniedDrop
        | Verdict::DropDeniedSource
        | Verdict::DropSynExcess => 5,
        Verdict::PassAllowed | Verdict::PassObserved | Verdict::PassUnknown | Verdict::PassUnenforced => 4,
        Verdict::PassNoName | Verdict::PassMalformed | Verdict::PassTooLong => 3,
        Verdict::PassIncomplete
        | Verdict::PassOutOfOrder
        | Verdict::PassForgotten
        | Verdict::PassDeniedSource
        | Verdict::PassSynExcess => 2,
        Verdict::PassFragment | Verdict::PassUnparsed | Verdict::PassUnguarded | Verdict::PassSyn => 1,
        Verdict::PassNoHello => 0,
    }
}

/// The segment in a frame, if it goes to a guarded port.
fn guarded(frame: &[u8], model: &Model) -> Option<GuardedSegment> {
    let datagram = Datagram::find(frame).ok()?;
    let port = datagram.destination_port(frame).ok()?;
    if !model.port(port).has(PortEntry::COUNTED) {
        return None;
    }
    let segment = Segment::within(frame, &datagram).ok()?;
    let (source, destination) = ends(frame, &segment)?;
    Some(GuardedSegment {
        source: SocketAddr::new(source, segment.source_port),
        destination: SocketAddr::new(destination, segment.destination_port),
        syn: segment.has(Segment::SYN).then_some(segment.sequence),
    })
}

fn ends(frame: &[u8], segment: &Segment) -> Option<(IpAddr, IpAddr)> {
    let at = segment.network_offset;
    Some(match segment.family {
        // RFC 791 §3.1, RFC 8200 §3
        Family::Ipv4 => (frame.load::<4>(at + 12)?.into(), frame.load::<4>(at + 16)?.into()),
        Family::Ipv6 => (frame.load::<16>(at + 8)?.into(), frame.load::<16>(at + 24)?.into()),
    })
}

/// The name in a hello, if it is one that could be served: in a hello there are no U-labels.
fn server_name(bytes: &[u8]) -> Option<ServerName> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
    ServerName::parse(text).ok()
}

#[expect(clippy::ref_option, reason = "serde gives the field as it is")]
fn escaped<S: Serializer>(name: &Option<Box<[u8]>>, to: S) -> Result<S::Ok, S::Error> {
    match name {
        Some(name) => to.collect_str(&name.escape_ascii()),
        None => to.serialize_none(),
    }
}

/// Any instant from which a capture's times count.
const FIRST_NS: u64 = 1_000_000_000_000;
/// Connections that are told apart; a capture of a flood has more.
const MOST_FLOWS: usize = 10_000;

#[cfg(test)]
mod tests;
