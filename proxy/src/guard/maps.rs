//! The pinned maps as typed handles: opened, compared.
//! Not here: in which folder they are (`pins`), what updates the names (`names`).

use std::path::Path;

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, MapInfo, PerCpuArray},
};
use proxy_common::maps::{
    DenialEntry, GuardSettings, GuardedAddress, NameEntry, NameKey, PORT_NUMBERS, PortEntry, Tally, Verdict,
    map_names,
};

use super::{enforce_until::EnforceUntil, error::GuardError, ports::Ports, source_networks::SourceNetworks};
use crate::config::GuardConfig;

/// Every map user space reads or writes, and so pins.
pub(super) const PINNED: [&str; 10] = [
    map_names::SETTINGS,
    map_names::ENFORCE_UNTIL,
    map_names::NAME_KEY,
    map_names::NAMES,
    map_names::DENIALS,
    map_names::PORTS,
    map_names::ADDRESSES,
    map_names::SOURCE_NETWORKS,
    map_names::VERDICTS,
    map_names::UNKNOWN_BUDGET,
];

/// The maps of one folder.
pub(super) struct GuardMaps {
    pub(super) settings: Array<MapData, GuardSettings>,
    pub(super) until: EnforceUntilMap,
    pub(super) key: Array<MapData, NameKey>,
    pub(super) names: HashMap<MapData, u64, NameEntry>,
    pub(super) denials: HashMap<MapData, u64, DenialEntry>,
    pub(super) verdicts: Verdicts,
    pub(super) guarded: GuardedPorts,
    /// How many names fit.
    pub(super) capacity: usize,
}

impl GuardMaps {
    pub(super) fn open(folder: &Path) -> Result<Self, GuardError> {
        let capacity = shape(folder, map_names::NAMES)?.max_entries;
        Ok(Self {
            settings: open(folder, map_names::SETTINGS)?,
            until: EnforceUntilMap::open(folder)?,
            key: open(folder, map_names::NAME_KEY)?,
            names: open(folder, map_names::NAMES)?,
            denials: open(folder, map_names::DENIALS)?,
            verdicts: Verdicts(open(folder, map_names::VERDICTS)?),
            guarded: GuardedPorts {
                ports: open(folder, map_names::PORTS)?,
                addresses: open(folder, map_names::ADDRESSES)?,
                sources: SourceNetworks::adopt(open(folder, map_names::SOURCE_NETWORKS)?)
                    .map_err(failed(map_names::SOURCE_NETWORKS, "reading"))?,
            },
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
        })
    }

    /// Draws the key of the name hash; only for maps that hold no names yet.
    pub(super) fn draw_key(&mut self) -> Result<(), GuardError> {
        let mut bytes = [[0_u8; 8]; 2];
        aws_lc_rs::rand::fill(bytes.as_flattened_mut()).map_err(|_| GuardError::Random)?;
        let [k0, k1] = bytes.map(u64::from_ne_bytes);
        self.key.set(0, NameKey { k0, k1 }, 0).map_err(failed(map_names::NAME_KEY, "writing"))
    }
}

/// `PORTS`, and what their entries lead to: `ADDRESSES` and `SOURCE_NETWORKS`.
pub(super) struct GuardedPorts {
    ports: Array<MapData, [PortEntry; PORT_NUMBERS]>,
    addresses: HashMap<MapData, GuardedAddress, u32>,
    sources: SourceNetworks,
}

impl GuardedPorts {
    /// Writes which ports are guarded, at which addresses, and the rules of networks: those that are new before the ports that lead to them.
    pub(super) fn write(&mut self, ports: &Ports, config: &GuardConfig) -> Result<(), GuardError> {
        let wanted = ports.addresses();
        let addresses = failed(map_names::ADDRESSES, "writing");
        wanted
            .iter()
            .try_for_each(|address| self.addresses.insert(address, GUARDED, 0))
            .map_err(&addresses)?;
        let sources = failed(map_names::SOURCE_NETWORKS, "writing");
        self.sources.add(config).map_err(&sources)?;
        self.ports.set(0, *ports.table(&config.deny), 0).map_err(failed(map_names::PORTS, "writing"))?;
        self.sources.retain(config).map_err(sources)?;
        self.retain(&wanted).map_err(addresses)
    }

    /// Has the next [`GuardedPorts::write`] compare all that is there: somebody else may have written.
    pub(super) fn compare(&mut self) -> Result<(), GuardError> {
        self.sources.read().map_err(failed(map_names::SOURCE_NETWORKS, "reading"))
    }

    fn retain(&mut self, wanted: &[GuardedAddress]) -> Result<(), MapError> {
        let held = self.addresses.keys().collect::<Result<Vec<_>, MapError>>()?;
        let others = held.iter().filter(|address| !wanted.contains(address));
        others.copied().try_for_each(|address| self.addresses.remove(&address))
    }
}

/// `ENFORCE_UNTIL`.
pub(super) struct EnforceUntilMap(Array<MapData, u64>);

impl EnforceUntilMap {
    pub(super) fn open(folder: &Path) -> Result<Self, GuardError> {
        open(folder, map_names::ENFORCE_UNTIL).map(Self)
    }

    pub(super) fn read(&self) -> Result<EnforceUntil, GuardError> {
        let value = self.0.get(&0, 0).map_err(failed(map_names::ENFORCE_UNTIL, "reading"))?;
        Ok(EnforceUntil::decode(value))
    }

    pub(super) fn write(&mut self, until: EnforceUntil) -> Result<(), MapError> {
        self.0.set(0, until.encode(), 0)
    }
}

/// `VERDICTS`.
pub(super) struct Verdicts(PerCpuArray<MapData, Tally>);

impl Verdicts {
    /// Packets and bytes of one verdict, over all CPUs.
    pub(super) fn tally(&self, verdict: Verdict) -> Result<Tally, MapError> {
        let per_cpu = self.0.get(&(verdict as u32), 0)?;
        Ok(per_cpu.iter().fold(Tally::default(), |sum, one| Tally {
            packets: sum.packets.wrapping_add(one.packets),
            bytes: sum.bytes.wrapping_add(one.bytes),
        }))
    }
}

/// Whether the maps of two folders have the same kinds and sizes, so that a program can use either.
pub(super) fn same_shapes(left: &Path, right: &Path) -> bool {
    PINNED.iter().all(|name| match (shape(left, name), shape(right, name)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    })
}

#[derive(PartialEq)]
struct MapShape {
    kind: Option<aya::maps::MapType>,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

fn shape(folder: &Path, name: &'static str) -> Result<MapShape, GuardError> {
    let info = info(folder, name)?;
    Ok(MapShape {
        kind: info.map_type().ok(),
        key_size: info.key_size(),
        value_size: info.value_size(),
        max_entries: info.max_entries(),
        flags: info.map_flags(),
    })
}

fn info(folder: &Path, name: &'static str) -> Result<MapInfo, GuardError> {
    MapInfo::from_pin(folder.join(name)).map_err(failed(name, "opening"))
}

/// One map of a folder.
pub(super) fn open<T: TryFrom<Map, Error = MapError>>(
    folder: &Path,
    name: &'static str,
) -> Result<T, GuardError> {
    MapData::from_pin(folder.join(name))
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(failed(name, "opening"))
}

/// A [`GuardError::Map`] for what was done to `map`.
pub(super) fn failed(map: &'static str, action: &'static str) -> impl Fn(MapError) -> GuardError {
    move |source| GuardError::Map { map, action, source }
}

/// The value of each address in `ADDRESSES`, which says nothing more.
const GUARDED: u32 = 1;

/// Every key of a map; a key removed meanwhile starts the kernel's walk again, so it is bounded.
pub(super) fn keys<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    capacity: usize,
) -> Result<Vec<K>, MapError> {
    map.keys().take(capacity.saturating_mul(2)).collect()
}
