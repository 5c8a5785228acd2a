//! From whatever is pinned to our program on every interface: maps adopted or built, then the links updated.
//! Invariant: the old program uses its old maps until the new one and its maps are complete; one update of the link switches both
//! (`another_size_builds_new_maps_behind_the_same_link`).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, RingBuf},
    programs::{ProgramInfo, Xdp},
};
use aya_obj::programs::XdpAttachType;
use proxy_common::maps::map_names;
use serde::{Deserialize, Serialize};

use super::{
    attach::{attach_all, load, verify},
    enforce_until::EnforceUntil,
    error::GuardError,
    following::OtherGuard,
    interface::Interface,
    link::{link_info, pin_failed},
    maps::{EnforceUntilMap, GuardMaps, GuardedPorts, Verdicts, failed, same_shapes},
    names::NameTable,
    names_state::{MapsOrigin, Names, NamesCell},
    pins::{Pins, program as program_of, remove_folder, remove_pin},
    policy::Policy,
    ports::Ports,
};
use crate::config;

/// A program as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The kernel's id.
    pub id: u32,
    /// Its name, cut to 15 bytes by the kernel.
    pub name: String,
    /// Hash of its instructions, as `bpftool prog` prints it.
    pub tag: String,
}

/// What stays as it is while the program is attached.
pub(super) struct AttachedState {
    pub(super) pins: Pins,
    pub(super) origin: MapsOrigin,
    pub(super) program: Program,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) policy: Arc<Mutex<Policy>>,
    pub(super) guarded: Mutex<GuardedPorts>,
    pub(super) ports: Ports,
}

/// An attached program, and the maps that control it.
pub(super) struct Attached {
    pub(super) state: AttachedState,
    pub(super) names: NameTable,
    pub(super) until: EnforceUntilMap,
    /// In which this program, and no predecessor's, tells of rejected names.
    pub(super) told: RingBuf<MapData>,
}

/// Attaches `object` to `interfaces`; `fill` writes the names known by now, and the policy: to new maps before the program can see a packet, to
/// a predecessor's once its program is replaced, so that a start that is refused changes nothing of what the predecessor enforces.
pub(super) fn take_over(
    object: &[u8],
    config: &config::GuardConfig,
    ports: &Ports,
    interfaces: &[Interface],
    other: OtherGuard,
    fill: impl Fn(&mut NameTable),
) -> Result<Attached, GuardError> {
    let pins = Pins::prepare(&config.pin_path)?;
    settle(&pins)?;
    let taken = advance(object, config, ports, interfaces, other, fill, &pins);
    if taken.is_err() {
        settle(&pins)?;
    }
    taken
}

fn advance(
    object: &[u8],
    config: &config::GuardConfig,
    ports: &Ports,
    interfaces: &[Interface],
    other: OtherGuard,
    fill: impl Fn(&mut NameTable),
    pins: &Pins,
) -> Result<Attached, GuardError> {
    let (mut ebpf, origin) = adopt_or_build(object, config.names, pins)?;
    let told = own_map(&mut ebpf, map_names::REJECTED_NAMES)?;
    let program = verify(&mut ebpf)?;
    let mut maps = GuardMaps::open(&folder(pins, origin))?;
    if origin == MapsOrigin::Built {
        maps.draw_key()?;
    }
    if origin == MapsOrigin::Built {
        maps.guarded.write(ports, config)?;
    }
    let state = NamesCell::new(Names::left_by(origin, maps.until.read()?));
    let GuardMaps { settings, key, names, denials, capacity, mut until, verdicts, mut guarded } = maps;
    let policy = Arc::new(Mutex::new(Policy::new(settings, config, state.clone())));
    let mut names = NameTable::open(&key, names, denials, Arc::clone(&policy), capacity, state)?;
    let previous = previous_program(pins)?;
    // Of adopted maps the predecessor's program stays pinned, and all they hold as it was, until it is replaced for good.
    if origin == MapsOrigin::Built {
        fill(&mut names);
        pin_program(program, &program_of(&pins.next_maps()))?;
    }
    if origin == MapsOrigin::Built && other == OtherGuard::Predecessors && names.state() == Names::Held {
        carry_on(&mut until, pins)?;
    }
    attach_all(program, previous, interfaces, config.attach, pins)?;
    let info = program.info().map_err(GuardError::Verify)?;
    match origin {
        MapsOrigin::Adopted => {
            fill(&mut names);
            guarded.write(ports, config)?;
            pin_program(program, &program_of(&pins.maps()))?;
            pins.retire_other_versions()?;
        }
        MapsOrigin::Built => pins.promote()?,
    }
    let (program, verdicts) = (describe(&info), Arc::new(verdicts));
    let (guarded, ports) = (Mutex::new(guarded), ports.clone());
    let state = AttachedState { pins: pins.clone(), origin, program, verdicts, policy, guarded, ports };
    Ok(Attached { state, names, until, told })
}

/// Has new maps enforce for as long as those that are in use would without their process: the workers of this one have only to begin.
fn carry_on(until: &mut EnforceUntilMap, pins: &Pins) -> Result<(), GuardError> {
    let next = pins.next_maps();
    for folder in pins.map_folders()?.iter().filter(|folder| **folder != next) {
        if let Ok(in_use @ EnforceUntil::At(_)) = EnforceUntilMap::open(folder).and_then(|map| map.read()) {
            until.write(in_use).map_err(failed(map_names::ENFORCE_UNTIL, "writing"))?;
        }
    }
    Ok(())
}

/// Loads with new maps; when the pinned ones have the same shapes, again with those.
fn adopt_or_build(object: &[u8], names: u32, pins: &Pins) -> Result<(Ebpf, MapsOrigin), GuardError> {
    let (current, next) = (pins.maps(), pins.next_maps());
    make_folder(&next)?;
    let fresh = load(object, names, &next)?;
    if !same_shapes(&current, &next) {
        return Ok((fresh, MapsOrigin::Built));
    }
    drop(fresh);
    remove_folder(&next)?;
    Ok((load(object, names, &current)?, MapsOrigin::Adopted))
}

/// A map that is not pinned, of the object that was loaded.
fn own_map<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, GuardError> {
    let map = ebpf.take_map(name).ok_or(GuardError::NoProgram)?;
    T::try_from(map).map_err(failed(name, "opening"))
}

/// Ends what a crash interrupted: new maps whose program is attached already are promoted, others removed.
fn settle(pins: &Pins) -> Result<(), GuardError> {
    if !pins.next_maps().exists() {
        return Ok(());
    }
    match ProgramInfo::from_pin(program_of(&pins.next_maps())) {
        Ok(program) if is_attached(pins, program.id())? => pins.promote(),
        _ => remove_folder(&pins.next_maps()),
    }
}

fn is_attached(pins: &Pins, program: u32) -> Result<bool, GuardError> {
    Ok(pins.links()?.iter().filter_map(|link| link_info(link)).any(|link| link.program_id() == program))
}

/// The program that a predecessor has pinned, if it is one that links run.
fn previous_program(pins: &Pins) -> Result<Option<Xdp>, GuardError> {
    for folder in pins.map_folders()? {
        let path = program_of(&folder);
        let Ok(info) = ProgramInfo::from_pin(&path) else { continue };
        if is_attached(pins, info.id())? {
            return Xdp::from_pin(path, XdpAttachType::Interface).map(Some).map_err(GuardError::Verify);
        }
    }
    Ok(None)
}

/// Beside its maps, in the place of a predecessor's, so that a start after a crash knows the program that uses them: to list
/// programs takes `CAP_SYS_ADMIN`.
fn pin_program(program: &mut Xdp, path: &Path) -> Result<(), GuardError> {
    remove_pin(path)?;
    program.pin(path).map_err(|error| pin_failed(path, &error))
}

fn describe(info: &ProgramInfo) -> Program {
    Program {
        id: info.id(),
        name: info.name_as_str().unwrap_or_default().to_owned(),
        tag: format!("{:016x}", info.tag()),
    }
}

fn folder(pins: &Pins, origin: MapsOrigin) -> PathBuf {
    match origin {
        MapsOrigin::Adopted => pins.maps(),
        MapsOrigin::Built => pins.next_maps(),
    }
}

fn make_folder(path: &Path) -> Result<(), GuardError> {
    std::fs::create_dir(path).map_err(|source| GuardError::PinPath { path: path.to_owned(), source })
}
