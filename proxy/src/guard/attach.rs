//! Loads the program into the kernel, and attaches it to each interface by a pinned link.
//! Invariants: an existing link is updated, never removed and made again, since the first attachment resets some network cards; an
//! attachment without a link is undone (`a_second_start_adopts_maps_link_names_and_counters`); a start that fails at one interface
//! leaves the others as they were (`a_hand_over_refused_by_one_interface_is_undone_on_the_others`); nothing in the kernel is looked up by id
//! or by listing, which needs `CAP_SYS_ADMIN` (`the_capabilities_of_the_unit_are_enough`).

use std::path::{Path, PathBuf};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, Xdp},
};
use nix::errno::Errno;
use proxy_common::maps::map_names;
use tracing::info;

use super::{
    error::{GuardError, errno},
    interface::Interface,
    link::{create_pinned, replace},
    maps::PINNED,
    pins::{Pins, Removal, remove_pin},
    undo::{Change, Changes},
};
use crate::config::Attach;

/// Reads the object; its maps are those pinned in `folder`, or new ones pinned there.
pub(super) fn load(object: &[u8], names: u32, folder: &Path) -> Result<Ebpf, GuardError> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(map_names::NAMES, names);
    for name in PINNED {
        loader.map_pin_path(name, folder.join(name));
    }
    loader.load(object).map_err(|error| match errno(&error) {
        Some(Errno::EPERM) => GuardError::Privilege { action: "create BPF maps", source: error.into() },
        _ => GuardError::Load(error),
    })
}

/// The object's program, verified by the kernel.
pub(super) fn verify(ebpf: &mut Ebpf) -> Result<&mut Xdp, GuardError> {
    let program = ebpf.programs_mut().find_map(|(_, program)| match program {
        Program::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    let program = program.ok_or(GuardError::NoProgram)?;
    program.load().map_err(|error| match errno(&error) {
        Some(Errno::EPERM) => GuardError::Privilege { action: "load an XDP program", source: error.into() },
        _ => GuardError::Verify(error),
    })?;
    Ok(program)
}

/// Attaches `program` to every interface, and to no other; on failure each runs what it ran before: nothing, or `previous`.
pub(super) fn attach_all(
    program: &mut Xdp,
    previous: Option<Xdp>,
    interfaces: &[Interface],
    mode: Attach,
    pins: &Pins,
) -> Result<(), GuardError> {
    let mut changes = Changes::new(previous);
    for interface in interfaces {
        if let Err(error) = attach(program, interface, mode, pins, &mut changes) {
            changes.undo(pins);
            return Err(error);
        }
    }
    let kept: Vec<PathBuf> = interfaces.iter().map(|interface| pins.link(interface.index, mode)).collect();
    for link in pins.links()?.iter().filter(|link| !kept.contains(link)) {
        info!(link = %link.display(), "guard: detached from an interface that is not configured");
        remove_pin(link)?;
    }
    Ok(())
}

/// Attaches `program` to one interface, and notes each step that can be undone.
fn attach(
    program: &mut Xdp,
    interface: &Interface,
    mode: Attach,
    pins: &Pins,
    changes: &mut Changes,
) -> Result<(), GuardError> {
    let other = match mode {
        Attach::Native => Attach::Generic,
        Attach::Generic => Attach::Native,
    };
    let removal = remove_pin(&pins.link(interface.index, other))?;
    if removal == Removal::Underway {
        changes.note(interface, Change::Remove(other));
    }
    let path = pins.link(interface.index, mode);
    if path.exists() {
        match replace(program, interface, &path) {
            // The interface the link belonged to is gone, and its index was given to this one.
            Err(GuardError::Attach { source: Errno::ENOLINK, .. }) => drop(remove_pin(&path)?),
            Err(error) => return Err(error),
            Ok(()) => {
                info!(interface = %interface.name, "guard: program replaced");
                changes.note(interface, Change::Replace(mode));
                return Ok(());
            }
        }
    }
    create_pinned(program, interface, mode, &path, removal)?;
    info!(interface = %interface.name, ?mode, "guard: attached");
    changes.note(interface, Change::Create(mode));
    Ok(())
}
