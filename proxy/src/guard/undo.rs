//! What an attachment has changed so far, so that a failure at a later interface can be undone at the earlier ones.
//! Not here: the maps; those of the predecessor stay until every interface runs the new program (`handover`).

use aya::programs::Xdp;
use tracing::{error, info};

use super::{
    error::GuardError,
    interface::Interface,
    link::{create_pinned, replace},
    pins::{Pins, Removal, remove_pin},
};
use crate::config::Attach;

/// One step at an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A predecessor's link of this mode was removed, to make room for one of the other.
    Remove(Attach),
    /// A link that was there runs the new program.
    Replace(Attach),
    /// There is a link that was not there.
    Create(Attach),
}

/// Steps in the order in which they were taken.
pub(super) struct Changes {
    previous: Option<Xdp>,
    done: Vec<(Interface, Change)>,
}

impl Changes {
    /// Nothing yet; `previous` is what the links that are there run.
    pub(super) fn new(previous: Option<Xdp>) -> Self {
        Self { previous, done: Vec::new() }
    }

    pub(super) fn note(&mut self, interface: &Interface, change: Change) {
        self.done.push((interface.clone(), change));
    }

    /// Undoes every step, the last one first. What cannot be undone is logged, and the rest goes on.
    pub(super) fn undo(self, pins: &Pins) {
        let Self { mut previous, done } = self;
        let mut removal = Removal::Needless;
        for (interface, change) in done.iter().rev() {
            match (change, &mut previous) {
                (Change::Create(mode), _) => match remove_pin(&pins.link(interface.index, *mode)) {
                    Ok(removed) => removal = removed,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        error!(interface = %interface.name, error, "guard: the new program could not be removed");
                    }
                },
                (Change::Replace(mode), Some(program)) => {
                    told(interface, replace(program, interface, &pins.link(interface.index, *mode)));
                }
                (Change::Remove(mode), Some(program)) => {
                    let path = pins.link(interface.index, *mode);
                    told(interface, create_pinned(program, interface, *mode, &path, removal));
                }
                (Change::Replace(_) | Change::Remove(_), None) => {
                    error!(interface = %interface.name, "guard: the predecessor's program is not pinned, and cannot be put back");
                }
            }
        }
    }
}

fn told(interface: &Interface, done: Result<(), GuardError>) {
    match done {
        Ok(()) => info!(interface = %interface.name, "guard: the predecessor's program is back"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            error!(interface = %interface.name, error, "guard: the predecessor's program could not be put back");
        }
    }
}
