//! `cargo xtask image`: the appliance's image, from the base disk to the booted and tested machine.
//! Not here: how the image is provisioned (`packer/`); what is asserted of the booted machine (`ami-tests`).
//! Invariant: a disk is made again only when something that goes into it has changed
//! (`another_input_is_another_key`).

mod bake;
mod base;
mod boot;
mod build_cache;
mod cves;
mod disk;
mod fleet;
mod moto;
mod trial;
mod validate;

use std::path::{Path, PathBuf};

use crate::{setup, shell};

/// A step of the image's build.
#[derive(Clone, clap::Subcommand)]
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
    /// List the known vulnerabilities of Debian's packages in the image; fails where a fix is lacking
    Cves(cves::Options),
    /// Bake the AMI at AWS, copy it to other regions and publish it
    Ami(fleet::Ami),
    /// Publish what `ami` baked; harmless to repeat
    #[command(disable_help_flag = true)]
    Publish(fleet::Publish),
    /// Bake and publish the AMI without AWS: calls go to moto, provisioning to a guest in QEMU
    RehearseAmi(fleet::RehearseAmi),
    /// Check the templates, the units and the scripts; no build, no boot, no network
    Validate,
}

/// Does one step.
pub(crate) fn run(step: Step) -> anyhow::Result<()> {
    let shell = shell()?;
    match &step {
        Step::Publish(options) if options.asks_for_help() => {}
        Step::Publish(_) => setup::run(&shell, setup::Purpose::Aws)?,
        _ => setup::run(&shell, setup::Purpose::Image)?,
    }
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
            setup::run(&shell, setup::Purpose::Package)?;
            setup::run(&shell, setup::Purpose::Run)?;
            trial::run(&shell, filter.as_deref())
        }
        Step::Cves(options) => {
            setup::require_root(&shell, "image cves")?;
            setup::run(&shell, setup::Purpose::Package)?;
            cves::run(&shell, &options)
        }
        Step::Ami(options) => {
            setup::run(&shell, setup::Purpose::Aws)?;
            options.run(&shell)
        }
        Step::Publish(options) => options.run(&shell),
        Step::RehearseAmi(options) => {
            setup::require_root(&shell, "image rehearse-ami")?;
            setup::run(&shell, setup::Purpose::Aws)?;
            options.run(&shell)
        }
        Step::Validate => validate::run(&shell),
    }
}

/// For Packer, called in the workspace's root: its scratch files below `FOLDER`, and no check for updates.
fn packer_environment() -> [(&'static str, PathBuf); 2] {
    [("PACKER_CACHE_DIR", Path::new(FOLDER).join("cache")), ("CHECKPOINT_DISABLE", "1".into())]
}

/// Everything of images, below the workspace.
const FOLDER: &str = "target/image";
