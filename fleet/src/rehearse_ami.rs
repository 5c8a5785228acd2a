//! `cargo xtask image rehearse-ami`: the bake of the AMI from its first call to the published parameters, without AWS.
//! Packer speaks to moto, the instance that it starts there is a guest in QEMU, and the scripts that provision it are the
//! template's. AWS's own client reads the result from moto.
//! Not here: whether EC2 starts such an image, which only EC2 can say.
//! Invariants: a wrong image, copy, name or call is named (`what_is_wrong_with_an_image_is_named`,
//! `a_call_that_was_not_made_is_named`); nothing of it outlives the command (`Process`).

mod calls;
mod cloud;
mod guest;
mod outcome;
mod process;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use xshell::{Shell, cmd};

use self::{calls::Calls, cloud::Cloud, guest::Guest, outcome::Outcome};
use crate::ami;

/// What is rehearsed with.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian package that is installed
    #[arg(long, value_name = "FILE")]
    package: PathBuf,
    /// The disk that the guest starts from
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Python with moto
    #[arg(long, value_name = "FILE")]
    python: PathBuf,
    /// What QEMU runs the guest on: `tcg` works everywhere, `kvm` is as quick as the machine
    #[arg(long)]
    accelerator: String,
}

/// Bakes, publishes, checks, and publishes once more, which must change nothing.
pub(crate) fn run(shell: &Shell, options: &Options) -> anyhow::Result<()> {
    let Options { package, base, python, accelerator } = options;
    let folder = shell.create_temp_dir()?;
    let key = folder.path().join("key");
    // Of the kind that EC2 makes for Packer.
    cmd!(shell, "ssh-keygen -q -t rsa -b 3072 -N '' -f {key}").quiet().run()?;
    let cloud = Cloud::start(shell, folder.path(), python)?;
    let guest = Guest::boot(shell, folder.path(), base, &key, accelerator)?;
    let _account = cloud::strangers_account(shell, folder.path())?;

    println!("rehearsal: Packer bakes; minutes pass until the guest answers");
    let output = folder.path().join("ami");
    ami::packer(shell, package, &output, &variables(&cloud, &guest, &key))?;

    let manifest = folder.path().join("ami.manifest.json");
    let outcome = Outcome::read(shell, &cloud, &manifest)?;
    outcome.judge()?;
    let calls = Calls::read(cloud.calls())?;
    calls.judge()?;
    print!("{calls}");
    once_more(shell, &cloud, &manifest)?;
    println!("rehearsal: {outcome}");
    Ok(())
}

/// What leads Packer to moto and to the guest; all else is as on AWS.
fn variables(cloud: &Cloud, guest: &Guest, key: &Path) -> Vec<String> {
    let publish =
        format!("cargo xtask image publish --endpoint-url {} --organization {ORGANIZATION}", cloud.url());
    let keys: Vec<_> =
        [HOME].iter().chain(&ELSEWHERE).map(|region| format!("\"{region}\"=\"alias/{region}\"")).collect();
    let variables = [
        format!("region={HOME}"),
        format!("ami_regions={ELSEWHERE:?}"),
        format!("ami_users=[\"{FRIEND}\"]"),
        format!("kms_keys={{{}}}", keys.join(",")),
        format!("endpoint={}", cloud.url()),
        "ssh_host=127.0.0.1".to_owned(),
        format!("ssh_port={}", guest.port()),
        format!("ami_ssh_key={}", key.display()),
        format!("publish={publish}"),
    ];
    variables.into_iter().flat_map(|variable| ["-var".to_owned(), variable]).collect()
}

fn once_more(shell: &Shell, cloud: &Cloud, manifest: &Path) -> anyhow::Result<()> {
    let before = Calls::read(cloud.calls())?.changes();
    let url = cloud.url();
    cmd!(shell, "cargo xtask image publish --endpoint-url {url} --organization {ORGANIZATION} {manifest}")
        .quiet()
        .run()?;
    let after = Calls::read(cloud.calls())?.changes();
    ensure!(before == after, "publishing once more changed something: {before} calls, and now {after}");
    Ok(())
}

/// Where it is baked, and where it is copied to.
const HOME: &str = "eu-central-1";
const ELSEWHERE: [&str; 2] = ["ap-southeast-2", "us-west-2"];
/// Who may launch it beside the account that baked it.
const FRIEND: &str = "210987654321";
const ORGANIZATION: &str = "arn:aws:organizations::123456789012:organization/o-gatehouse";
