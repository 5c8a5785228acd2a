//! `cargo xtask image`: the base disk, and what can be said of provisioning and templates without a boot.
//! Not here: how the image is provisioned (`packer/`).
//! Invariant: a disk is made again only when something that goes into it has changed
//! (`another_input_is_another_key`).

mod base;
mod boot;
mod disk;
mod rehearse;
mod validate;

use crate::{setup, shell};

/// Which part of the image's making.
#[derive(Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Step {
    /// Make the bootable Debian that stands for AWS's cloud image here; kept until its inputs change
    Base,
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
