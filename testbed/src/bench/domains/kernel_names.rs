//! The kernel's map of an instance's names, read by its pin: what the guard judges by.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::Context;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use proxy_common::{
    maps::{ABI, NameEntry, NameKey, map_names},
    name_hash,
};

use crate::namespace::Namespace;

/// An open map.
pub(super) struct KernelNames {
    key: NameKey,
    names: HashMap<MapData, u64, NameEntry>,
    memory_bytes: u64,
}

impl KernelNames {
    /// That of the guard whose `pins` are seen inside `namespace`.
    pub(super) fn open(namespace: &Namespace, pins: &Path) -> anyhow::Result<Self> {
        let folder = pins.join(format!("maps-v{ABI}"));
        namespace.inside(move || Self::of(&folder))?
    }

    fn of(folder: &Path) -> anyhow::Result<Self> {
        let open = |name: &str| {
            let pin = folder.join(name);
            MapData::from_pin(&pin).with_context(|| format!("{}: is the guard on?", pin.display()))
        };
        let key: Array<_, NameKey> = Map::from_map_data(open(map_names::NAME_KEY)?)?.try_into()?;
        let names = open(map_names::NAMES)?;
        let memory_bytes = memory_bytes(&names)?;
        let names = Map::from_map_data(names)?.try_into()?;
        Ok(Self { key: key.get(&0, 0)?, names, memory_bytes })
    }

    /// Whether `name` is in it.
    pub(super) fn holds(&self, name: &str) -> anyhow::Result<bool> {
        match self.names.get(&name_hash::exact(&self.key, name.as_bytes()), 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What the kernel has set aside for it.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

/// `memlock` of the map's descriptor (Documentation/bpf/maps.rst; proc(5), `/proc/pid/fdinfo`).
fn memory_bytes(map: &MapData) -> anyhow::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(bytes.with_context(|| format!("no memlock: {info}"))?.trim().parse()?)
}
