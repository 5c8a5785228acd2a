//! What the kernel's maps say of single names, read by their pins beside whoever writes them.
//! Not here: filling them (`names`).

use std::path::Path;

use aya::maps::{Array, HashMap, MapData, MapError};
use proxy_common::{
    budget::BudgetRate,
    maps::{DenialEntry, GuardSettings, NameEntry, NameKey, UnknownBudget, map_names},
    name_hash,
};

use super::{
    difference::hash,
    error::GuardError,
    explain::NameFacts,
    kernel_time::KernelTime,
    maps::{failed, open},
};

/// The maps that decide about names.
pub(super) struct KernelNames {
    key: NameKey,
    names: HashMap<MapData, u64, NameEntry>,
    denials: HashMap<MapData, u64, DenialEntry>,
    unknown: Array<MapData, UnknownBudget>,
    now: KernelTime,
}

impl KernelNames {
    /// Those that are pinned in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, GuardError> {
        let key: Array<MapData, NameKey> = open(folder, map_names::NAME_KEY)?;
        Ok(Self {
            key: key.get(&0, 0).map_err(failed(map_names::NAME_KEY, "reading"))?,
            names: open(folder, map_names::NAMES)?,
            denials: open(folder, map_names::DENIALS)?,
            unknown: open(folder, map_names::UNKNOWN_BUDGET)?,
            now: KernelTime::now().map_err(|errno| GuardError::Thread(errno.into()))?,
        })
    }

    /// Adds to `facts` what the kernel says of the name.
    pub(super) fn find(&self, facts: &mut NameFacts) -> Result<(), GuardError> {
        for pattern in facts.name.patterns() {
            let found = there(self.names.get(&hash(&self.key, &pattern), 0));
            if found.map_err(failed(map_names::NAMES, "reading"))?.is_some() {
                facts.in_kernel = Some(pattern);
                break;
            }
        }
        let exact = name_hash::exact(&self.key, facts.name.as_str().as_bytes());
        let denial = there(self.denials.get(&exact, 0)).map_err(failed(map_names::DENIALS, "reading"))?;
        let left_ns = denial.map_or(0, |denial| denial.until_ns.saturating_sub(self.now.0));
        facts.denied_for_seconds = (left_ns > 0).then(|| left_ns.div_ceil(NANOSECONDS));
        Ok(())
    }

    /// What is left of the budget of unknown names.
    pub(super) fn unknown_left(&self, settings: &GuardSettings) -> Result<u32, GuardError> {
        let spent = self.unknown.get(&0, 0).map_err(failed(map_names::UNKNOWN_BUDGET, "reading"))?;
        let rate = BudgetRate { per_second: settings.unknown_per_second, burst: settings.unknown_burst };
        Ok(rate.left(spent.arrival_ns, self.now.0))
    }
}

fn there<T>(found: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match found {
        Err(MapError::KeyNotFound) => Ok(None),
        found => found.map(Some),
    }
}

const NANOSECONDS: u64 = 1_000_000_000;
