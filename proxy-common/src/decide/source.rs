//! What a packet's source alone decides: networks with a rule, and budgets of SYNs.

use super::GuardTables;
use crate::budget::BudgetRate;
use crate::flow::Flow;
use crate::maps::{GuardSettings, Mode, SourceRule, Verdict};
use crate::segment::Datagram;
use crate::source::ByteSource;

/// The verdict for a packet from a denied network.
#[inline]
pub(super) fn judge_source<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    datagram: &Datagram,
    tables: &T,
) -> Option<Verdict> {
    let source = datagram.source(frame)?;
    if tables.source_rule(&source) != Some(SourceRule::Deny) {
        return None;
    }
    let drops = drops_sources(&tables.settings(), tables);
    Some(if drops { Verdict::DropDeniedSource } else { Verdict::PassDeniedSource })
}

/// The verdict for a SYN. Whether a source is exempt is asked only beyond its budget, within which most are.
///
/// Never inlined: the kernel's stack has no room for its keys beside those of what else is called there.
#[inline(never)]
pub(super) fn judge_syn<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    datagram: &Datagram,
    tables: &T,
) -> Verdict {
    let settings = tables.settings();
    let per_second = settings.syns_per_source_per_second;
    if per_second == 0 {
        return Verdict::PassSyn;
    }
    let Some(source) = datagram.source(frame) else { return Verdict::PassUnparsed };
    let rate = BudgetRate { per_second, burst: settings.syns_per_source_burst };
    if tables.take_syn(source.counted(), rate, tables.now_ns())
        || tables.source_rule(&source) == Some(SourceRule::Exempt)
    {
        return Verdict::PassSyn;
    }
    if drops_sources(&settings, tables) { Verdict::DropSynExcess } else { Verdict::PassSynExcess }
}

/// The verdict for the first fragment of a segment. It is charged as a SYN, since it may be one and need not say so: its flags may lie in another.
#[inline]
pub(super) fn judge_fragment<S: ByteSource + ?Sized, T: GuardTables>(
    frame: &S,
    datagram: &Datagram,
    tables: &T,
) -> Verdict {
    match judge_syn(frame, datagram, tables) {
        Verdict::PassSyn => Verdict::PassFragment,
        judged => judged,
    }
}

/// Takes one from the budget of unknown names of a flow's source, then one from that of all: who has spent its own spends no other's.
///
/// Never inlined, as above.
#[inline(never)]
pub(super) fn take_unknown<T: GuardTables>(
    flow: &Flow,
    settings: &GuardSettings,
    tables: &T,
    now_ns: u64,
) -> bool {
    let source = flow.source();
    let own = BudgetRate {
        per_second: settings.unknown_per_source_per_second,
        burst: settings.unknown_per_source_burst,
    };
    let all = BudgetRate { per_second: settings.unknown_per_second, burst: settings.unknown_burst };
    let has_own = tables.take_unknown_of(source.counted(), own, now_ns)
        || tables.source_rule(&source) == Some(SourceRule::Exempt);
    has_own && tables.take_unknown(all, now_ns)
}

/// Whether packets are dropped for their source.
#[inline]
fn drops_sources<T: GuardTables>(settings: &GuardSettings, tables: &T) -> bool {
    tables.now_ns() < tables.enforce_until_ns() && Mode::enforcing(settings.mode).is_some()
}
