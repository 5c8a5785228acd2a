//! The guard's tables in user space: the whole decision without a kernel. `gatehouse guard explain` answers by it, and the
//! program in the kernel is compared with it (`the_kernel_judges_segments_as_the_model_does`).
//! Not here: what is in the tables (`gatehouse::guard::explain`; `fixture::model` for tests).

extern crate std;

use core::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::vec::Vec;

use crate::budget::BudgetRate;
use crate::decide::GuardTables;
use crate::flow::{CutName, FlowEntry};
use crate::maps::{GuardSettings, GuardedAddress, NameKey, PortEntry, SourceAddress, SourceRule};
use crate::name_hash::NameBuffer;
use crate::segment::Segment;

/// The tables as user space would fill them.
#[derive(Clone)]
pub struct Model {
    /// The policy.
    pub settings: GuardSettings,
    /// The time.
    pub now_ns: u64,
    /// Until when it enforces.
    pub enforce_until_ns: u64,
    /// What is guarded on each port.
    pub ports: HashMap<u16, PortEntry>,
    /// Where hellos are judged on ports that do not guard every address.
    pub addresses: Vec<GuardedAddress>,
    /// Networks with a rule, each with the length of its prefix in bits, [`SourceAddress::FAMILY_BITS`] included.
    pub source_networks: Vec<(SourceAddress, u32, SourceRule)>,
    /// What is left of each source's budget of SYNs.
    pub syns: RefCell<HashMap<u64, u64>>,
    /// Hashes of allowed names.
    pub names: HashSet<u64>,
    /// Until when each is denied.
    pub denials: HashMap<u64, u64>,
    /// What is left of each source's budget of unknown names.
    pub unknown_of: RefCell<HashMap<u64, u64>>,
    /// The budget of unknown names.
    pub unknown: Cell<u64>,
    /// Whether the kernel has a socket of each segment's flow.
    pub has_socket: fn(&Segment) -> bool,
    /// Which slots remember a flow.
    pub hints: RefCell<HashMap<u32, u8>>,
    /// What they remember.
    pub flows: RefCell<HashMap<u32, FlowEntry>>,
    /// Names that a segment's end has cut.
    pub cut_names: RefCell<HashMap<u32, CutName>>,
}

/// Its key of the name hash.
pub const KEY: NameKey = NameKey { k0: 1, k1: 2 };
impl Model {
    /// Whether anything is remembered of any flow.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.hints.borrow().values().any(|tag| *tag != 0)
    }

    /// Lets time pass.
    pub fn pass_time(&mut self, ns: u64) {
        self.now_ns += ns;
        self.enforce_until_ns += ns;
    }
}

impl GuardTables for Model {
    fn port(&self, port: u16) -> PortEntry {
        self.ports.get(&port).copied().unwrap_or_default()
    }
    fn guards(&self, address: &GuardedAddress) -> bool {
        self.addresses.contains(address)
    }
    fn source_rule(&self, source: &SourceAddress) -> Option<SourceRule> {
        let within = self.source_networks.iter().filter(|(network, bits, _)| network.shares(source) >= *bits);
        within.max_by_key(|(_, bits, _)| *bits).map(|(.., rule)| *rule)
    }
    fn take_syn(&self, source: u64, rate: BudgetRate, now_ns: u64) -> bool {
        take(&self.syns, source, rate, now_ns)
    }
    fn settings(&self) -> GuardSettings {
        self.settings
    }
    fn name_key(&self) -> NameKey {
        KEY
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn enforce_until_ns(&self) -> u64 {
        self.enforce_until_ns
    }
    fn allows(&self, name: u64) -> bool {
        self.names.contains(&name)
    }
    fn denied_until_ns(&self, name: u64) -> Option<u64> {
        self.denials.get(&name).copied()
    }
    fn take_unknown_of(&self, source: u64, rate: BudgetRate, now_ns: u64) -> bool {
        take(&self.unknown_of, source, rate, now_ns)
    }
    fn take_unknown(&self, rate: BudgetRate, now_ns: u64) -> bool {
        let asked = rate.ask(self.unknown.get(), now_ns);
        self.unknown.set(asked.arrival_ns);
        asked.granted
    }
    fn has_socket(&self, segment: &Segment) -> bool {
        (self.has_socket)(segment)
    }
    fn hint(&self, index: u32) -> u8 {
        self.hints.borrow().get(&index).copied().unwrap_or(0)
    }
    fn set_hint(&self, index: u32, tag: u8) {
        self.hints.borrow_mut().insert(index, tag);
    }
    fn load_flow(&self, index: u32, entry: &mut FlowEntry) {
        *entry = self.flows.borrow().get(&index).copied().unwrap_or_default();
    }
    fn store_flow(&self, index: u32, entry: &FlowEntry) {
        self.flows.borrow_mut().insert(index, *entry);
    }
    fn restore_name(&self, index: u32, name: &mut NameBuffer, entry: &FlowEntry) -> Option<()> {
        self.cut_names.borrow().get(&index)?.restore(name, entry)
    }
    fn keep_name(&self, index: u32, name: &NameBuffer, entry: &FlowEntry) {
        self.cut_names.borrow_mut().entry(index).or_default().keep(name, entry);
    }
}

fn take(budgets: &RefCell<HashMap<u64, u64>>, source: u64, rate: BudgetRate, now_ns: u64) -> bool {
    let mut budgets = budgets.borrow_mut();
    let arrival_ns = budgets.entry(source).or_default();
    let asked = rate.ask(*arrival_ns, now_ns);
    *arrival_ns = asked.arrival_ns;
    asked.granted
}
