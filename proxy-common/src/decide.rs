//! The order of verdicts: from a frame and the guard's tables to what becomes of it.
//! Not here: how a segment is rejected (`reset`, the kernel program), how tables are filled (`gatehouse::guard`).
//! Invariants: what cannot be judged passes (`what_cannot_be_judged_passes`); nothing is rejected while enforcement is
//! off or the mode observes (`only_an_enforced_mode_rejects`); an allowed name passes whatever else is known of it
//! (`an_allowed_name_passes_though_denied`), unless its source is denied (`a_denied_source_is_dropped_before_anything_else`); a hello meets the same verdict in one segment or several
//! (`a_hello_meets_one_verdict_wherever_it_is_cut`), and no order, repetition or loss of its segments rejects an allowed name
//! (`no_order_of_segments_rejects_an_allowed_name`).

mod source;

use self::source::{judge_fragment, judge_source, judge_syn, take_unknown};
use crate::budget::BudgetRate;
use crate::client_hello::{self, HelloProgress, ParserState};
use crate::flow::{Flow, FlowEntry, IPV4_ADDRESSES_AT, IPV6_ADDRESSES_AT, Place, Slot};
use crate::maps::{
    GuardSettings, GuardedAddress, Mode, NameKey, PortEntry, RejectCause, RejectedName, SourceAddress,
    SourceRule, Verdict,
};
use crate::name_hash::NameBuffer;
use crate::segment::{Datagram, Family, Segment, Unjudged};
use crate::source::{ByteSource, SourceWindow};

/// The guard's tables, the sockets of this machine, and the clock.
pub trait GuardTables {
    /// What is guarded on a port.
    fn port(&self, port: u16) -> PortEntry;
    /// Whether hellos to this address are judged, where not those to every address are.
    fn guards(&self, address: &GuardedAddress) -> bool;
    /// The rule of the smallest network that an address is in and that has one; asked only for ports with [`PortEntry::DENY`] and for SYNs
    /// beyond a budget.
    fn source_rule(&self, source: &SourceAddress) -> Option<SourceRule>;
    /// Takes one from the budget of SYNs of a [`SourceAddress::counted`], if one is left.
    fn take_syn(&self, source: u64, rate: BudgetRate, now_ns: u64) -> bool;
    /// The policy.
    fn settings(&self) -> GuardSettings;
    /// The key of the name hash.
    fn name_key(&self) -> NameKey;
    /// `CLOCK_MONOTONIC` in nanoseconds; asked only for names that are not allowed, and flows that are remembered.
    fn now_ns(&self) -> u64;
    /// Until when the guard enforces.
    fn enforce_until_ns(&self) -> u64;
    /// Whether `NAMES` holds a hash.
    fn allows(&self, name: u64) -> bool;
    /// Until when user space denies a hash.
    fn denied_until_ns(&self, name: u64) -> Option<u64>;
    /// Takes one from the budget of unknown names of a [`SourceAddress::counted`], if one is left.
    fn take_unknown_of(&self, source: u64, rate: BudgetRate, now_ns: u64) -> bool;
    /// Takes one from the budget of unknown names, if one is left.
    fn take_unknown(&self, rate: BudgetRate, now_ns: u64) -> bool;
    /// Whether the kernel holds a socket or a request of the segment's flow, not merely one that listens.
    fn has_socket(&self, segment: &Segment) -> bool;
    /// The tag of the flow that a slot remembers; 0 for none.
    fn hint(&self, index: u32) -> u8;
    /// Says which flow a slot remembers.
    fn set_hint(&self, index: u32, tag: u8);
    /// Copies what a slot remembers; another CPU may be writing it.
    fn load_flow(&self, index: u32, entry: &mut FlowEntry);
    /// Remembers a flow.
    fn store_flow(&self, index: u32, entry: &FlowEntry);
    /// Fills the name with what was kept at `index` together with `entry`; none if it has been overwritten.
    fn restore_name(&self, index: u32, name: &mut NameBuffer, entry: &FlowEntry) -> Option<()>;
    /// Keeps the name that the end of a segment has cut.
    fn keep_name(&self, index: u32, name: &NameBuffer, entry: &FlowEntry);
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It passes, counted under this verdict.
    Pass(Verdict),
    /// It is dropped, counted under this verdict.
    Drop(Verdict),
    /// Its segment is rejected.
    Reject(RejectCause, ServerSide),
}

/// What the kernel holds of a flow that is rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerSide {
    /// A socket or a request: it is to be freed first.
    Held,
    /// Nothing.
    Free,
}

/// A segment whose payload is to be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The segment.
    pub segment: Segment,
    /// Whose it is.
    flow: Flow,
    /// What is guarded on its port.
    port: PortEntry,
    slot: Slot,
    hinted: bool,
    is_handshake: bool,
}

/// Room to work in, too large for the kernel's stack of 512 bytes.
#[derive(Default)]
#[repr(C)]
pub struct Scratch {
    name: NameBuffer,
    hello: ParserState,
    entry: FlowEntry,
}

impl Scratch {
    /// Fresh room.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of the name of `candidate`, which was judged last and is rejected.
    #[inline]
    pub fn tell(&self, candidate: &Candidate, cause: RejectCause, rejected: &mut RejectedName) {
        rejected.fill(&self.name, self.hello.name_bytes(), cause, candidate.flow.source());
    }

    /// The name in the hello that was judged last, as the hello has it; of a decision that none led to, nothing of use.
    #[must_use]
    pub fn server_name(&self) -> &[u8] {
        self.name.name(self.hello.name_bytes())
    }
}

/// Looks at the headers of a frame: most frames pass by them alone, and need no room to work in.
///
/// # Errors
/// The verdict, unless there is a payload to judge: it passes, or [`Verdict::drops`].
#[inline]
pub fn screen<S: ByteSource + ?Sized, T: GuardTables>(frame: &S, tables: &T) -> Result<Candidate, Verdict> {
    let datagram = Datagram::find(frame)?;
    // Nothing else is looked at before the port: most packets of other services end here.
    let port = tables.port(datagram.destination_port(frame)?);
    if !port.has(PortEntry::COUNTED) {
        return Err(Verdict::PassUnguarded);
    }
    if port.has(PortEntry::DENY)
        && let Some(verdict) = judge_source(frame, &datagram, tables)
    {
        return Err(verdict);
    }
    if datagram.is_fragment {
        return Err(judge_fragment(frame, &datagram, tables));
    }
    let segment = Segment::within(frame, &datagram)?;
    let ends = segment.has(Segment::SYN | Segment::RST | Segment::FIN);
    if !port.has(PortEntry::HELLO) || (segment.payload_bytes == 0 && !ends) {
        let syn = segment.has(Segment::SYN);
        return Err(if syn { judge_syn(frame, &datagram, tables) } else { Verdict::PassNoHello });
    }
    let Some(flow) = Flow::of(frame, &segment) else { return Err(Verdict::PassUnparsed) };
    let slot = flow.slot();
    let hinted = tables.hint(slot.index) == slot.tag;
    if ends && (segment.payload_bytes == 0 || segment.has(Segment::SYN | Segment::RST)) {
        if hinted {
            tables.set_hint(slot.index, NO_FLOW);
        }
        // Data in a SYN is not judged: the listener takes no TCP Fast Open (RFC 7413), so it comes again.
        let syn = segment.has(Segment::SYN);
        return Err(if syn { judge_syn(frame, &datagram, tables) } else { Verdict::PassNoHello });
    }
    // RFC 8446 §5.1: what is no handshake record starts no hello.
    let is_handshake = frame.load_u8(segment.payload_offset) == Some(HANDSHAKE);
    if !hinted && !is_handshake {
        return Err(Verdict::PassNoHello);
    }
    Ok(Candidate { segment, flow, port, slot, hinted, is_handshake })
}

/// Judges the payload of a segment.
#[inline]
pub fn judge<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    candidate: &Candidate,
    tables: &T,
    scratch: &mut Scratch,
) -> Decision {
    let Candidate { segment, slot, hinted, .. } = candidate;
    let walk = match begin(frame, candidate, tables, scratch) {
        Ok(walk) => walk,
        Err(verdict) => return Decision::Pass(verdict),
    };
    let payload = SourceWindow::new(frame, segment.payload_offset, segment.payload_bytes);
    let decision = match client_hello::feed(&mut scratch.hello, &payload, &mut scratch.name) {
        HelloProgress::Name => {
            scratch.name.measure(scratch.hello.name_bytes());
            judge_name(scratch, candidate, tables)
        }
        HelloProgress::Incomplete => Decision::Pass(Verdict::PassIncomplete),
        HelloProgress::NotHello => Decision::Pass(Verdict::PassNoHello),
        HelloProgress::NoName => Decision::Pass(Verdict::PassNoName),
        HelloProgress::Malformed => Decision::Pass(Verdict::PassMalformed),
        HelloProgress::TooLong => Decision::Pass(Verdict::PassTooLong),
    };
    match decision {
        // A rejected segment that comes again is to be rejected again: what led to it stays.
        Decision::Reject(..) | Decision::Drop(_) => return decision,
        // Nothing follows a FIN.
        Decision::Pass(_) if segment.has(Segment::FIN) => tables.set_hint(slot.index, NO_FLOW),
        Decision::Pass(Verdict::PassIncomplete) => {
            if scratch.advance(segment, walk) {
                remember(candidate, tables, scratch);
            }
        }
        Decision::Pass(Verdict::PassUnknown) => {
            scratch.charge(segment, walk);
            remember(candidate, tables, scratch);
        }
        Decision::Pass(_) if *hinted => tables.set_hint(slot.index, NO_FLOW),
        Decision::Pass(_) => {}
    }
    decision
}

impl From<Unjudged> for Verdict {
    #[inline]
    fn from(why: Unjudged) -> Self {
        match why {
            Unjudged::NotTcp => Self::PassUnguarded,
            Unjudged::Fragment => Self::PassFragment,
            Unjudged::Unparsed => Self::PassUnparsed,
        }
    }
}

/// Judges a frame, both steps at once.
#[inline]
pub fn decide<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    tables: &T,
    scratch: &mut Scratch,
) -> Decision {
    match screen(frame, tables) {
        Ok(candidate) => judge(frame, &candidate, tables, scratch),
        Err(verdict) if verdict.drops() => Decision::Drop(verdict),
        Err(verdict) => Decision::Pass(verdict),
    }
}

/// Where the walk through a segment begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    /// With the hello, of which nothing is remembered.
    Begin,
    /// With the hello, of which this or more is remembered.
    Repeat,
    /// Where it stopped.
    Resume,
}

/// Prepares the walk; `scratch.entry` is what is remembered of the flow, if anything is.
///
/// # Errors
/// The verdict under which the segment passes because there is no walk.
#[inline]
fn begin<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    candidate: &Candidate,
    tables: &T,
    scratch: &mut Scratch,
) -> Result<Walk, Verdict> {
    let Candidate { segment, flow, slot, hinted, is_handshake, .. } = candidate;
    let mut walk = Walk::Begin;
    let mut is_charged = false;
    if *hinted {
        tables.load_flow(slot.index, &mut scratch.entry);
        let place = scratch.entry.place(flow, segment.sequence, tables.now_ns());
        match place {
            Place::Unknown => {}
            Place::Start => walk = Walk::Repeat,
            // RFC 8446 §4.1.4: a hello that follows a HelloRetryRequest.
            Place::Elsewhere => is_charged = scratch.entry.charged == 1,
            Place::Next => return resume(*slot, tables, scratch),
            Place::OutOfOrder => return Err(Verdict::PassOutOfOrder),
            Place::Expired | Place::NextExpired => tables.set_hint(slot.index, NO_FLOW),
        }
        if place == Place::NextExpired {
            return Err(Verdict::PassForgotten);
        }
    }
    if !is_handshake {
        return Err(Verdict::PassNoHello);
    }
    if !is_guarded(frame, candidate, tables) {
        return Err(Verdict::PassUnguarded);
    }
    scratch.hello = ParserState::default();
    if walk == Walk::Begin {
        scratch.entry.charged = is_charged.into();
    }
    Ok(walk)
}

#[inline]
fn resume<T: GuardTables>(slot: Slot, tables: &T, scratch: &mut Scratch) -> Result<Walk, Verdict> {
    let Scratch { name, hello, entry, .. } = scratch;
    *hello = entry.state;
    if hello.cut_name_bytes() > 0 {
        tables.restore_name(slot.cut_name(), name, entry).ok_or(Verdict::PassForgotten)?;
    }
    Ok(Walk::Resume)
}

/// Whether hellos to the segment's address are judged.
#[inline]
fn is_guarded<S: ByteSource + ?Sized, T: GuardTables>(frame: &S, candidate: &Candidate, tables: &T) -> bool {
    let Candidate { segment, port, .. } = candidate;
    let (at, number) = (segment.network_offset, segment.destination_port);
    let address = match segment.family {
        Family::Ipv4 if port.has(PortEntry::HELLO_IPV4) => return true,
        Family::Ipv6 if port.has(PortEntry::HELLO_IPV6) => return true,
        Family::Ipv4 => {
            let address = frame.load_u32(at + IPV4_ADDRESSES_AT + 4);
            address.map(|address| GuardedAddress::ipv4(address, number))
        }
        Family::Ipv6 => {
            let address = frame.load(at + IPV6_ADDRESSES_AT + 16);
            address.map(|address| GuardedAddress { address, port: number.into() })
        }
    };
    address.is_some_and(|address| tables.guards(&address))
}

impl Scratch {
    /// Moves the entry to where the walk stands behind `segment`; not back, when an earlier one comes again.
    #[inline]
    fn advance(&mut self, segment: &Segment, walk: Walk) -> bool {
        let next = segment.sequence.wrapping_add(segment.payload_bytes);
        match walk {
            Walk::Begin => self.entry.start = segment.sequence,
            // RFC 9293 §3.4: sequence numbers are compared modulo 2^32.
            // The last of equal length counts: one before it may have been damaged on the way, which is not looked for here.
            Walk::Repeat if next.wrapping_sub(self.entry.next).cast_signed() < 0 => return false,
            Walk::Repeat | Walk::Resume => {}
        }
        self.entry.next = next;
        self.entry.state = self.hello;
        true
    }

    /// Notes that the budget was charged; where the walk began stays, for the segment may come again. It is over: what follows is no hello.
    #[inline]
    fn charge(&mut self, segment: &Segment, walk: Walk) {
        if walk == Walk::Begin {
            self.entry.start = segment.sequence;
        }
        self.entry.next = self.entry.start;
        self.entry.state = ParserState::default();
        self.entry.charged = 1;
    }
}

/// Writes the entry into the tables.
#[inline]
fn remember<T: GuardTables>(candidate: &Candidate, tables: &T, scratch: &mut Scratch) {
    let (slot, Scratch { name, entry, .. }) = (candidate.slot, scratch);
    entry.flow = candidate.flow;
    entry.written_ns = tables.now_ns();
    entry.close();
    if entry.state.cut_name_bytes() > 0 {
        tables.keep_name(slot.cut_name(), name, entry);
    }
    tables.store_flow(slot.index, entry);
    tables.set_hint(slot.index, slot.tag);
}

/// Judges the name in `scratch`.
#[inline]
fn judge_name<T: GuardTables>(scratch: &Scratch, candidate: &Candidate, tables: &T) -> Decision {
    let (name, key) = (&scratch.name, tables.name_key());
    let exact = name.exact(&key);
    // Allowed before denied: a collision can only let an unknown name through to user space, which is authoritative.
    if tables.allows(exact) || name.wildcard(&key).is_some_and(|suffix| tables.allows(suffix)) {
        return Decision::Pass(Verdict::PassAllowed);
    }
    let now_ns = tables.now_ns();
    if now_ns >= tables.enforce_until_ns() {
        return Decision::Pass(Verdict::PassUnenforced);
    }
    let settings = tables.settings();
    let Some(mode) = Mode::enforcing(settings.mode) else { return Decision::Pass(Verdict::PassObserved) };
    let is_denied = tables.denied_until_ns(exact).is_some_and(|until_ns| now_ns < until_ns);
    let has_socket = tables.has_socket(&candidate.segment);
    if mode == Mode::Adaptive && !is_denied {
        // Once per flow, since a segment may come again; never for a segment without a connection behind it, whose source
        // anyone can forge, except where nobody can tell.
        let may_charge = has_socket || candidate.port.has(PortEntry::TRANSLATED);
        if scratch.entry.charged == 1
            || (may_charge && take_unknown(&candidate.flow, &settings, tables, now_ns))
        {
            return Decision::Pass(Verdict::PassUnknown);
        }
    }
    let cause = if is_denied { RejectCause::Denied } else { RejectCause::Foreign };
    Decision::Reject(cause, if has_socket { ServerSide::Held } else { ServerSide::Free })
}

/// RFC 8446 §5.1
const HANDSHAKE: u8 = 22;
/// The hint of a slot that remembers no flow.
const NO_FLOW: u8 = 0;

#[cfg(test)]
mod tests;
