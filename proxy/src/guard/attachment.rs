//! Where the program that this process attached runs still.

use std::{path::PathBuf, sync::Arc};

use aya::programs::links::LinkInfo;

use super::{interface::Interface, link::link_info};

/// The interfaces to which a program was attached, and the pinned links by which it was.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    links: Arc<[(Interface, PathBuf)]>,
    program: u32,
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
    /// The program with the kernel's id `program`, behind `links`.
    pub(super) fn new(program: u32, links: impl Iterator<Item = (Interface, PathBuf)>) -> Self {
        Self { links: links.collect(), program }
    }

    /// What the links run, one after the other; some system calls each.
    pub(super) fn look(&self) -> impl Iterator<Item = Runs> {
        self.links.iter().map(|(interface, link)| match link_info(link).as_ref().map(LinkInfo::program_id) {
            Some(program) if program != self.program => Runs::NotOurs,
            Some(_) if !interface.is_there() => Runs::OursNowhere,
            Some(_) => Runs::Ours,
            None if link.try_exists().is_ok_and(|exists| !exists) => Runs::NotOurs,
            None => Runs::Unknown,
        })
    }
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
