//! Where the program that this process attached runs still.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use aya::{maps::MapInfo, programs::links::LinkInfo};
use proxy_common::maps::map_names;

use super::{interface::Interface, link::link_info, pins::Pins};

/// The interfaces to which a program was attached, and the pinned links by which it was.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    links: Arc<[(Interface, PathBuf)]>,
    /// The kernel's id of the program that is ours.
    program: Arc<AtomicU32>,
    /// Where the names it reads are pinned, and the kernel's id of their map.
    names: (PathBuf, Option<u32>),
}

/// What a pinned link runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// Our program.
    Ours,
    /// Our program, on an interface that is gone.
    OursNowhere,
    /// Another, or nothing: the pin is gone.
    NotOurs,
    /// It cannot be told, as for want of descriptors.
    Unknown,
}

impl Attachment {
    /// The program with the kernel's id `program`, whose maps are pinned at `pins`, behind `links`.
    pub(super) fn new(program: u32, pins: &Pins, links: impl Iterator<Item = (Interface, PathBuf)>) -> Self {
        let path = pins.maps().join(map_names::NAMES);
        let id = map_id(&path);
        Self { links: links.collect(), program: Arc::new(program.into()), names: (path, id) }
    }

    /// Takes for ours what the links run now, if it reads our maps: the successor that attached it is gone.
    pub(super) fn adopt(&self) {
        let (path, id) = &self.names;
        let running = self.links.iter().find_map(|(_, link)| link_info(link));
        if let Some(running) = running
            && id.is_some()
            && map_id(path) == *id
        {
            self.program.store(running.program_id(), Ordering::Release);
        }
    }

    /// What the links run, one after the other; some system calls each.
    pub(super) fn look(&self) -> impl Iterator<Item = Runs> {
        let ours = self.program.load(Ordering::Acquire);
        self.links.iter().map(move |(interface, link)| {
            match link_info(link).as_ref().map(LinkInfo::program_id) {
                Some(program) if program != ours => Runs::NotOurs,
                Some(_) if !interface.is_there() => Runs::OursNowhere,
                Some(_) => Runs::Ours,
                None if link.try_exists().is_ok_and(|exists| !exists) => Runs::NotOurs,
                None => Runs::Unknown,
            }
        })
    }
}

fn map_id(path: &PathBuf) -> Option<u32> {
    MapInfo::from_pin(path).ok().map(|info| info.id())
}

/// Whether our program can run nowhere any more, by what all links run.
pub(super) fn is_replaced(mut runs: impl Iterator<Item = Runs>) -> bool {
    runs.all(|runs| runs == Runs::NotOurs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_replaced_when_no_link_may_run_it() {
        for (runs, expected) in [
            (&[Runs::Ours][..], false),
            (&[Runs::OursNowhere], false),
            (&[Runs::NotOurs], true),
            (&[Runs::Unknown], false),
            (&[Runs::NotOurs, Runs::Ours], false),
            (&[Runs::NotOurs, Runs::NotOurs], true),
            (&[Runs::NotOurs, Runs::Unknown], false),
        ] {
            assert_eq!(is_replaced(runs.iter().copied()), expected, "{runs:?}");
        }
    }
}
