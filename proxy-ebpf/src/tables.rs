//! The maps, and how the judgement reads them. Names and layouts are those of `proxy_common::maps`.
#![expect(unsafe_code, reason = "map values are behind pointers")]

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use proxy_common::budget::BudgetRate;
use proxy_common::decide::{Candidate, GuardTables, Scratch, ServerSide};
use proxy_common::flow::{CUT_NAMES, CutName, FlowEntry, SLOTS};
use proxy_common::maps::{
    DenialEntry, GuardSettings, GuardedAddress, NameEntry, NameKey, PORT_NUMBERS, PortEntry,
    REJECTED_NAMES_BYTES, RejectCause, RejectedName, SOURCE_NETWORKS_CAPACITY, SourceAddress, SourceRule,
    Tally, UnknownBudget, Verdict,
};
use proxy_common::name_hash::NameBuffer;
use proxy_common::segment::Segment;

use crate::packet::Packet;
use crate::reject;

#[map]
static SETTINGS: Array<GuardSettings> = Array::with_max_entries(1, 0);
#[map]
static ENFORCE_UNTIL: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static NAME_KEY: Array<NameKey> = Array::with_max_entries(1, 0);
// Its size is set when the program is loaded. Not preallocated: a million names would cost 84 MB.
#[map]
static NAMES: HashMap<u64, NameEntry> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
#[map]
static DENIALS: LruHashMap<u64, DenialEntry> = LruHashMap::with_max_entries(1 << 16, 0);
#[map]
static PORTS: Array<[PortEntry; PORT_NUMBERS]> = Array::with_max_entries(1, 0);
#[map]
static ADDRESSES: HashMap<GuardedAddress, u32> = HashMap::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static SOURCE_NETWORKS: LpmTrie<SourceAddress, u32> =
    LpmTrie::with_max_entries(SOURCE_NETWORKS_CAPACITY, BPF_F_NO_PREALLOC);
#[map]
static VERDICTS: PerCpuArray<Tally> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map]
static UNKNOWN_BUDGET: Array<UnknownBudget> = Array::with_max_entries(1, 0);
// A source that is forgotten, because of a flood of others, has its whole budget again.
#[map]
static SYN_BUDGETS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1 << 16, 0);
// The same holds here, within the budget of all.
#[map]
static UNKNOWN_BUDGETS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1 << 14, 0);
#[map]
static RESET_BUDGET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
// Of flows: hints small enough to stay in a CPU's cache, since each data segment reads one; what they lead to is read for few.
#[map]
static HINTS: Array<[u8; SLOTS as usize]> = Array::with_max_entries(1, 0);
#[map]
static FLOWS: Array<FlowEntry> = Array::with_max_entries(SLOTS, 0);
#[map]
static CUT_NAME: Array<CutName> = Array::with_max_entries(CUT_NAMES, 0);
#[map]
static REJECTED_NAMES: RingBuf = RingBuf::with_byte_size(REJECTED_NAMES_BYTES, 0);
#[map]
static SAMPLE_BUDGET: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static ROOM: PerCpuArray<Room> = PerCpuArray::with_max_entries(1, 0);

/// What the judgement of a packet needs beside the stack.
#[repr(C)]
pub(crate) struct Room {
    pub(crate) candidate: Candidate,
    pub(crate) scratch: Scratch,
    pub(crate) rejected: (RejectCause, ServerSide),
    /// What is told of it.
    told: RejectedName,
}

/// The maps as the judgement of a packet reads them.
pub(crate) struct KernelMaps<'a> {
    pub(crate) packet: &'a Packet,
}

impl GuardTables for KernelMaps<'_> {
    #[inline]
    fn port(&self, port: u16) -> PortEntry {
        let ports = PORTS.get_ptr(0).map(|ports| ports.cast::<PortEntry>());
        // SAFETY: every number of 16 bits has an entry.
        ports.map(|ports| unsafe { ports.add(port.into()).read() }).unwrap_or_default()
    }

    #[inline]
    fn guards(&self, address: &GuardedAddress) -> bool {
        ADDRESSES.get_ptr(address).is_some()
    }

    #[inline]
    fn source_rule(&self, source: &SourceAddress) -> Option<SourceRule> {
        SOURCE_NETWORKS.get(Key::new(SourceAddress::BITS, *source)).and_then(|rule| SourceRule::of(*rule))
    }

    #[inline]
    fn take_syn(&self, source: u64, rate: BudgetRate, now_ns: u64) -> bool {
        take_of(&SYN_BUDGETS, source, rate, now_ns)
    }

    #[inline]
    fn settings(&self) -> GuardSettings {
        settings()
    }

    #[inline]
    fn name_key(&self) -> NameKey {
        NAME_KEY.get(0).copied().unwrap_or(NameKey { k0: 0, k1: 0 })
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        now_ns()
    }

    #[inline]
    fn enforce_until_ns(&self) -> u64 {
        ENFORCE_UNTIL.get(0).copied().unwrap_or(0)
    }

    #[inline]
    fn allows(&self, name: u64) -> bool {
        NAMES.get_ptr(name).is_some()
    }

    #[inline]
    fn denied_until_ns(&self, name: u64) -> Option<u64> {
        // SAFETY: an aligned `u64` is read whole; an entry reused meanwhile denies another name a moment too long.
        unsafe { DENIALS.get(name) }.map(|denial| denial.until_ns)
    }

    #[inline]
    fn take_unknown_of(&self, source: u64, rate: BudgetRate, now_ns: u64) -> bool {
        take_of(&UNKNOWN_BUDGETS, source, rate, now_ns)
    }

    #[inline]
    fn take_unknown(&self, rate: BudgetRate, now_ns: u64) -> bool {
        // Two CPUs may take the same one: the budget bounds a flood, it counts nothing.
        UNKNOWN_BUDGET.get_ptr_mut(0).is_some_and(|budget| take(rate, budget.cast(), now_ns))
    }

    #[inline]
    fn has_socket(&self, segment: &Segment) -> bool {
        reject::has_socket(self.packet, segment)
    }

    #[inline]
    fn hint(&self, index: u32) -> u8 {
        // SAFETY: the index is masked to the map's value; another CPU may write the byte meanwhile, which is read whole.
        hint(index).map_or(0, |hint| unsafe { hint.read_volatile() })
    }

    #[inline]
    fn set_hint(&self, index: u32, tag: u8) {
        if let Some(hint) = hint(index) {
            // SAFETY: as above.
            unsafe { hint.write_volatile(tag) };
        }
    }

    #[inline]
    fn load_flow(&self, index: u32, entry: &mut FlowEntry) {
        if let Some(there) = FLOWS.get_ptr(index) {
            // SAFETY: a map value of plain numbers. Another CPU may write it meanwhile: the entry's seal tells.
            unsafe { core::ptr::copy_nonoverlapping(there, entry, 1) };
        }
    }

    #[inline]
    fn store_flow(&self, index: u32, entry: &FlowEntry) {
        if let Some(there) = FLOWS.get_ptr_mut(index) {
            // SAFETY: as above.
            unsafe { core::ptr::copy_nonoverlapping(entry, there, 1) };
        }
    }

    #[inline]
    fn restore_name(&self, index: u32, name: &mut NameBuffer, entry: &FlowEntry) -> Option<()> {
        // SAFETY: a map value of plain numbers. Another CPU may write it meanwhile: its seal tells.
        unsafe { CUT_NAME.get_ptr(index)?.as_ref() }?.restore(name, entry)
    }

    #[inline]
    fn keep_name(&self, index: u32, name: &NameBuffer, entry: &FlowEntry) {
        // SAFETY: as above.
        if let Some(there) = CUT_NAME.get_ptr_mut(index).and_then(|there| unsafe { there.as_mut() }) {
            there.keep(name, entry);
        }
    }
}

#[inline]
fn settings() -> GuardSettings {
    const OFF: GuardSettings = GuardSettings {
        mode: 0,
        unknown_per_second: 0,
        unknown_burst: 0,
        unknown_per_source_per_second: 0,
        unknown_per_source_burst: 0,
        resets_per_second: 0,
        syns_per_source_per_second: 0,
        syns_per_source_burst: 0,
        sampled_rejections_per_second: 0,
    };
    SETTINGS.get(0).copied().unwrap_or(OFF)
}

#[inline]
fn hint(index: u32) -> Option<*mut u8> {
    let hints = HINTS.get_ptr_mut(0)?.cast::<u8>();
    // SAFETY: the mask is that of the map's value.
    Some(unsafe { hints.add((index & (SLOTS - 1)) as usize) })
}

/// Takes one reset from this CPU's budget.
pub(crate) fn take_reset() -> bool {
    let per_second = settings().resets_per_second;
    let rate = BudgetRate { per_second, burst: per_second };
    RESET_BUDGET.get_ptr_mut(0).is_some_and(|budget| take(rate, budget, now_ns()))
}

/// Tells user space of the name that is rejected, within a budget. Whoever has no reader, or a slow one, is not told.
pub(crate) fn tell(room: &mut Room) {
    let per_second = settings().sampled_rejections_per_second;
    let rate = BudgetRate { per_second, burst: per_second };
    // Two CPUs may take the same one, as above.
    if !SAMPLE_BUDGET.get_ptr_mut(0).is_some_and(|budget| take(rate, budget, now_ns())) {
        return;
    }
    let Room { candidate, scratch, rejected: (cause, _), told } = room;
    scratch.tell(candidate, *cause, told);
    // The reader comes by four times a second: to wake it would cost more than it is worth.
    let _ = REJECTED_NAMES.output::<RejectedName>(&*told, BPF_RB_NO_WAKEUP.into());
}

/// Counts a packet.
pub(crate) fn count(verdict: Verdict, bytes: u32) {
    if let Some(tally) = VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: a map value of this CPU, which runs one XDP program at a time.
        let tally = unsafe { &mut *tally };
        tally.packets += 1;
        tally.bytes += u64::from(bytes);
    }
}

/// This CPU's room to work in.
pub(crate) fn room() -> Option<&'static mut Room> {
    // SAFETY: a map value of this CPU, which runs one XDP program at a time; taken once per packet. All bit patterns the
    // map can hold were written by this program, or are zero, which is valid too.
    ROOM.get_ptr_mut(0).map(|room| unsafe { &mut *room })
}

/// Takes one from the budget of a source.
#[inline]
fn take_of(budgets: &LruHashMap<u64, u64>, source: u64, rate: BudgetRate, now_ns: u64) -> bool {
    if let Some(budget) = budgets.get_ptr_mut(source) {
        // Two CPUs may take the same one, as above.
        return take(rate, budget, now_ns);
    }
    let asked = rate.ask(FULL, now_ns);
    // What cannot be counted is not limited.
    let _ = budgets.insert(source, asked.arrival_ns, 0);
    asked.granted
}

#[inline]
fn take(rate: BudgetRate, budget: *mut u64, now_ns: u64) -> bool {
    // SAFETY: an aligned `u64` in a map value.
    let arrival_ns = unsafe { budget.read_volatile() };
    let asked = rate.ask(arrival_ns, now_ns);
    if asked.arrival_ns != arrival_ns {
        // SAFETY: as above.
        unsafe { budget.write_volatile(asked.arrival_ns) };
    }
    asked.granted
}

/// `CLOCK_MONOTONIC` as of the last tick, at most 10 ms ago (Linux 5.11): nothing here is that short, and reading the counter
/// itself takes as long as looking for a name.
#[inline]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The state of a budget of which nothing was taken.
const FULL: u64 = 0;
