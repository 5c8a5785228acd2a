//! The maps, and how the judgement reads them. Names and layouts are those of `proxy_common::maps`.
#![expect(unsafe_code, reason = "map values are behind pointers")]

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use proxy_common::budget::BudgetRate;
use proxy_common::decide::{GuardTables, Scratch};
use proxy_common::maps::{
    DenialEntry, GuardSettings, NameEntry, NameKey, PortEntry, Tally, UnknownBudget, Verdict,
};

#[map]
static SETTINGS: Array<GuardSettings> = Array::with_max_entries(1, 0);
#[map]
static ENFORCE_UNTIL: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static NAME_KEY: Array<NameKey> = Array::with_max_entries(1, 0);
// The sizes of NAMES and DENIALS are set when the program is loaded. Not preallocated: a million names would cost 84 MB.
#[map]
static NAMES: HashMap<u64, NameEntry> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);
#[map]
static DENIALS: LruHashMap<u64, DenialEntry> = LruHashMap::with_max_entries(1 << 16, 0);
#[map]
static PORTS: HashMap<u16, PortEntry> = HashMap::with_max_entries(64, BPF_F_NO_PREALLOC);
#[map]
static VERDICTS: PerCpuArray<Tally> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map]
static UNKNOWN_BUDGET: Array<UnknownBudget> = Array::with_max_entries(1, 0);
#[map]
static RESET_BUDGET: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The maps as the judgement reads them.
pub(crate) struct KernelMaps;

impl GuardTables for KernelMaps {
    #[inline]
    fn port(&self, port: u16) -> Option<PortEntry> {
        // SAFETY: user space replaces whole entries, and a torn `u32` does not exist.
        unsafe { PORTS.get(port) }.copied()
    }

    #[inline]
    fn settings(&self) -> GuardSettings {
        const OFF: GuardSettings =
            GuardSettings { mode: 0, unknown_per_second: 0, unknown_burst: 0, resets_per_second: 0 };
        SETTINGS.get(0).copied().unwrap_or(OFF)
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
    fn take_unknown(&self, rate: BudgetRate, now_ns: u64) -> bool {
        // Two CPUs may take the same one: the budget bounds a flood, it counts nothing.
        UNKNOWN_BUDGET.get_ptr_mut(0).is_some_and(|budget| take(rate, budget.cast(), now_ns))
    }
}

/// Takes one reset from this CPU's budget.
pub(crate) fn take_reset() -> bool {
    let per_second = KernelMaps.settings().resets_per_second;
    let rate = BudgetRate { per_second, burst: per_second };
    RESET_BUDGET.get_ptr_mut(0).is_some_and(|budget| take(rate, budget, now_ns()))
}

/// Counts a packet.
pub(crate) fn count(verdict: Verdict, bytes: u64) {
    if let Some(tally) = VERDICTS.get_ptr_mut(verdict as u32) {
        // SAFETY: a map value of this CPU, which runs one XDP program at a time.
        let tally = unsafe { &mut *tally };
        tally.packets += 1;
        tally.bytes += bytes;
    }
}

/// This CPU's room to work in.
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a map value of this CPU, which runs one XDP program at a time; taken once per packet. All bit patterns the
    // map can hold were written by this program, or are zero, which is valid too.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

#[inline]
fn take(rate: BudgetRate, budget: *mut u64, now_ns: u64) -> bool {
    // SAFETY: an aligned `u64` in a map value.
    let arrival_ns = unsafe { budget.read_volatile() };
    let Some(next_ns) = rate.take(arrival_ns, now_ns) else { return false };
    // SAFETY: as above.
    unsafe { budget.write_volatile(next_ns) };
    true
}

#[inline]
fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_ktime_get_ns() }
}
