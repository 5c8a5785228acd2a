//! Where the program that this process attached runs still.
//! Invariant: a start that takes our place and fails gives it back, and we go on (`a_start_that_is_undone_leaves_its_predecessor_enforcing`).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
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

/// Whether this process may write what the programs in the links read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Our program runs, or may run.
    InForce,
    /// Another start's program has just taken its place everywhere. If that start fails, ours is put back.
    Contested,
    /// This process has nothing more to say to the kernel.
    Over,
}

/// Since when another start's program runs in our place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Replacement {
    #[default]
    None,
    Since(Instant),
    /// For good: nobody follows the names any more.
    Final,
}

impl Replacement {
    /// By what all links run at `now`.
    pub(super) fn look(&mut self, mut runs: impl Iterator<Item = Runs>, now: Instant) -> Standing {
        let is_elsewhere = runs.all(|runs| runs == Runs::NotOurs);
        *self = match *self {
            Self::Final => Self::Final,
            _ if !is_elsewhere => Self::None,
            Self::None => Self::Since(now),
            Self::Since(since) if now.saturating_duration_since(since) < UNDONE_WITHIN => Self::Since(since),
            Self::Since(_) => Self::Final,
        };
        match self {
            Self::None => Standing::InForce,
            Self::Since(_) => Standing::Contested,
            Self::Final => Standing::Over,
        }
    }
}

/// A start that fails at a later interface undoes what it did at the earlier ones before this, though a network card may take a second to begin
/// anew; shorter than the guard enforces without us.
const UNDONE_WITHIN: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_replaced_when_no_link_may_run_it() {
        for (runs, expected) in [
            (&[Runs::Ours][..], Standing::InForce),
            (&[Runs::OursNowhere], Standing::InForce),
            (&[Runs::NotOurs], Standing::Contested),
            (&[Runs::Unknown], Standing::InForce),
            (&[Runs::NotOurs, Runs::Ours], Standing::InForce),
            (&[Runs::NotOurs, Runs::NotOurs], Standing::Contested),
            (&[Runs::NotOurs, Runs::Unknown], Standing::InForce),
        ] {
            let standing = Replacement::default().look(runs.iter().copied(), Instant::now());
            assert_eq!(standing, expected, "{runs:?}");
        }
    }

    #[test]
    fn a_program_is_replaced_for_good_after_four_seconds() {
        let start = Instant::now();
        let mut replacement = Replacement::default();
        for (millis, runs, expected) in [
            (0, Runs::NotOurs, Standing::Contested),
            (3_900, Runs::NotOurs, Standing::Contested),
            (3_950, Runs::Ours, Standing::InForce),
            (5_000, Runs::NotOurs, Standing::Contested),
            (9_000, Runs::NotOurs, Standing::Over),
            (9_100, Runs::Ours, Standing::Over),
        ] {
            let now = start + Duration::from_millis(millis);
            assert_eq!(replacement.look([runs].into_iter(), now), expected, "{millis} ms");
        }
    }
}
