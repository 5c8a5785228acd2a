//! `cargo xtask image`: the appliance's image, from the base disk to the booted and tested machine.
//! Not here: how the image is provisioned (`packer/`); what is asserted of the booted machine (`ami-tests`).
//! Invariant: a disk is made again only when something that goes into it has changed
//! (`another_input_is_another_key`).

mod bake;
mod base;
mod boot;
mod disk;
mod kept;
mod rehearse;
mod trial;
mod validate;

use crate::{setup, shell};

/// Which part of the image's making.
#[derive(Clone, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Step {
    /// Make the bootable Debian that stands for AWS's cloud image here; kept until its inputs change
    Base,
    /// Bake the image: boot the base, install the package, clean up; kept until its inputs change
    Build,
    /// Boot the image and assert on it from outside, in a network of its own
    Test {
        /// Only the cases whose names contain this
        filter: Option<String>,
    },
    /// Provision a copy of the base's tree without booting it, and look at what is left in it
    Rehearse,
    /// Check the templates, the units and the scripts; no build, no boot, no network
    Validate,
}

/// Does one step.
pub(crate) fn run(step: Step) -> anyhow::Result<()> {
    let shell = shell()?;
    setup::run(&shell, setup::Purpose::Image)?;
    match step {
        Step::Base => {
            setup::require_root(&shell, "image base")?;
            base::disk(&shell).map(drop)
        }
        Step::Build => {
            setup::require_root(&shell, "image build")?;
            setup::run(&shell, setup::Purpose::Package)?;
            bake::run(&shell).map(drop)
        }
        Step::Test { filter } => {
            setup::require_root(&shell, "image test")?;
            setup::run(&shell, setup::Purpose::All)?;
            trial::run(&shell, filter.as_deref())
        }
        Step::Rehearse => {
            setup::require_root(&shell, "image rehearse")?;
            setup::run(&shell, setup::Purpose::Package)?;
            rehearse::run(&shell)
        }
        Step::Validate => validate::run(&shell),
    }
}

/// Everything of images, below the workspace.
const FOLDER: &str = "target/image";
