//! The order of verdicts: from a frame and the guard's tables to what becomes of it.
//! Not here: how a segment is rejected (`reset`, the kernel program), how tables are filled (`gatehouse::guard`).
//! Invariants: what cannot be judged passes (`what_cannot_be_judged_passes`); nothing is rejected while enforcement is
//! off or the mode observes (`only_an_enforced_mode_rejects`); an allowed name passes whatever else is known of it
//! (`an_allowed_name_passes_though_denied`).

use crate::budget::BudgetRate;
use crate::client_hello::{self, HelloProgress};
use crate::maps::{GuardSettings, Mode, NameKey, PortEntry, RejectCause, Verdict};
use crate::name_hash::NameBuffer;
use crate::segment::{Segment, Unjudged};
use crate::source::{ByteSource, SourceWindow};

/// The guard's tables, and the clock they are read against.
pub trait GuardTables {
    /// What is guarded on a port.
    fn port(&self, port: u16) -> Option<PortEntry>;
    /// The policy.
    fn settings(&self) -> GuardSettings;
    /// The key of the name hash.
    fn name_key(&self) -> NameKey;
    /// `CLOCK_MONOTONIC` in nanoseconds; asked only for names that are not allowed.
    fn now_ns(&self) -> u64;
    /// Until when the guard enforces.
    fn enforce_until_ns(&self) -> u64;
    /// Whether `NAMES` holds a hash.
    fn allows(&self, name: u64) -> bool;
    /// Until when user space denies a hash.
    fn denied_until_ns(&self, name: u64) -> Option<u64>;
    /// Takes one from the budget of unknown names, if one is left.
    fn take_unknown(&self, rate: BudgetRate, now_ns: u64) -> bool;
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It passes, counted under this verdict.
    Pass(Verdict),
    /// Its segment is rejected.
    Reject(RejectCause, Segment),
}

/// Room to work in, too large for the kernel's stack of 512 bytes.
#[derive(Default)]
#[repr(C)]
pub struct Scratch {
    name: NameBuffer,
    hello: client_hello::ParserState,
}

impl Scratch {
    /// Fresh room.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Judges a frame.
#[inline]
pub fn decide<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    tables: &T,
    scratch: &mut Scratch,
) -> Decision {
    let segment = match Segment::find(frame) {
        Ok(segment) => segment,
        Err(Unjudged::NotTcp) => return Decision::Pass(Verdict::PassUnguarded),
        Err(Unjudged::Fragment) => return Decision::Pass(Verdict::PassFragment),
        Err(Unjudged::Unparsed) => return Decision::Pass(Verdict::PassUnparsed),
    };
    let Some(port) = tables.port(segment.destination_port) else {
        return Decision::Pass(Verdict::PassUnguarded);
    };
    // Data in a SYN is not judged: the listener takes no TCP Fast Open (RFC 7413), so it comes again.
    if segment.has(Segment::SYN) {
        return Decision::Pass(Verdict::PassSyn);
    }
    if port.flags & PortEntry::HELLO == 0 || segment.payload_bytes == 0 || segment.has(Segment::RST) {
        return Decision::Pass(Verdict::PassNoHello);
    }
    let payload = SourceWindow::new(frame, segment.payload_offset, segment.payload_bytes);
    scratch.hello = client_hello::ParserState::default();
    match client_hello::feed(&mut scratch.hello, &payload, &mut scratch.name) {
        HelloProgress::Name => {}
        HelloProgress::Incomplete => return Decision::Pass(Verdict::PassIncomplete),
        HelloProgress::NotHello => return Decision::Pass(Verdict::PassNoHello),
        HelloProgress::NoName => return Decision::Pass(Verdict::PassNoName),
        HelloProgress::Malformed => return Decision::Pass(Verdict::PassMalformed),
        HelloProgress::TooLong => return Decision::Pass(Verdict::PassTooLong),
    }
    scratch.name.measure(scratch.hello.name_bytes());
    match judge(&scratch.name, tables) {
        Ok(verdict) => Decision::Pass(verdict),
        Err(cause) => Decision::Reject(cause, segment),
    }
}

/// Judges a name: the verdict under which it passes, or why it does not.
#[inline]
fn judge<T: GuardTables>(name: &NameBuffer, tables: &T) -> Result<Verdict, RejectCause> {
    let key = tables.name_key();
    let exact = name.exact(&key);
    // Allowed before denied: a collision can only let an unknown name through to user space, which is authoritative.
    if tables.allows(exact) || name.wildcard(&key).is_some_and(|suffix| tables.allows(suffix)) {
        return Ok(Verdict::PassAllowed);
    }
    let now_ns = tables.now_ns();
    if now_ns >= tables.enforce_until_ns() {
        return Ok(Verdict::PassUnenforced);
    }
    let settings = tables.settings();
    let Some(mode) = Mode::enforcing(settings.mode) else { return Ok(Verdict::PassObserved) };
    if tables.denied_until_ns(exact).is_some_and(|until_ns| now_ns < until_ns) {
        return Err(RejectCause::Denied);
    }
    let budget = BudgetRate { per_second: settings.unknown_per_second, burst: settings.unknown_burst };
    if mode == Mode::Adaptive && tables.take_unknown(budget, now_ns) {
        return Ok(Verdict::PassUnknown);
    }
    Err(RejectCause::Foreign)
}

#[cfg(test)]
mod tests;
