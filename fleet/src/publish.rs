//! `cargo xtask image publish`: what an AMI still lacks once Packer has made and copied it, and the SSM parameters by
//! which it is found. The template's last post-processor calls it; by hand it may be called again with the same manifest.
//! Not here: the bake (`ami`).
//! Invariants: a parameter names an image only after that image has all it lacked, in every region
//! (`parameters_come_after_all_images`); what is as it must be is not asked for again (`what_is_there_is_left_alone`).

mod aws;
mod manifest;
mod plan;

use std::path::PathBuf;

use anyhow::Context;
use xshell::{Shell, cmd};

use self::plan::{Call, Seen, Wanted};
pub(crate) use self::{
    aws::Aws,
    manifest::{Bake, Image},
};

/// What is published, and how.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What Packer wrote of the bake: `<output>.manifest.json`
    manifest: PathBuf,
    /// Parameters are `<prefix>/<version>/<architecture>` and `<prefix>/latest/<architecture>`
    #[arg(long, default_value = "/gatehouse/images")]
    prefix: String,
    /// Days from the bake until EC2 no longer lists the image; running instances are not affected
    #[arg(long, default_value_t = 730)]
    deprecate_after_days: u32,
    /// An organization, by its ARN, that may launch the image; once for each
    #[arg(long = "organization", value_name = "ARN")]
    organizations: Vec<String>,
    /// URL of an API in the place of AWS's, as in the rehearsal
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
}

/// Publishes the last bake of the manifest.
pub(crate) fn run(shell: &Shell, options: &Options) -> anyhow::Result<()> {
    let bake = Bake::read(&options.manifest)?;
    let wanted =
        Wanted::of(&bake, &options.prefix, deprecation(shell, &bake, options)?, &options.organizations)?;
    let aws = Aws::at(shell, options.endpoint_url.as_deref());
    let mut seen = Vec::new();
    for image in &bake.images {
        seen.push(Seen::read(&aws, image, &wanted)?);
    }
    let calls = plan::missing(&bake.images, &wanted, &seen);
    for call in &calls {
        println!("publish: {call}");
        aws.call(call.region(), &call.arguments()).with_context(|| remedy(call, options))?;
    }
    println!("publish: {} in {} regions; {}", bake.name(), bake.images.len(), wanted.parameters().join(", "));
    Ok(())
}

/// The beginning of the day, so that a region's image is never asked to live longer than EC2 allows by some minutes.
fn deprecation(shell: &Shell, bake: &Bake, options: &Options) -> anyhow::Result<String> {
    let at = bake.built_at.saturating_add(u64::from(options.deprecate_after_days) * DAY_SECONDS).to_string();
    Ok(cmd!(shell, "date --utc --date=@{at} +%Y-%m-%dT00:00:00Z").quiet().read()?)
}

fn remedy(call: &Call, options: &Options) -> String {
    format!(
        "{call}: refused; permit it ({}), then run `cargo xtask image publish {}` again",
        call.permission(),
        options.manifest.display()
    )
}

const DAY_SECONDS: u64 = 24 * 60 * 60;
