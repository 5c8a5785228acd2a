//! The baked image: Packer boots the base disk in QEMU and provisions it as it would an instance on AWS.
//! Invariant: the steps of provisioning are those of the template, in its order (`the_template_runs_every_step_in_order`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{FOLDER, base, build_cache::kept, packer_environment};
use crate::package::{self, Architecture};

/// What `image build` leaves.
pub(super) struct Baked {
    /// The disk, as QEMU boots it.
    pub(super) disk: PathBuf,
    /// The package that is in it.
    pub(super) package: PathBuf,
}

/// Builds the package, the base disk if none is kept, and the image if none is kept for these two and the template.
pub(super) fn run(shell: &Shell) -> anyhow::Result<Baked> {
    let package = package::build(shell, Architecture::Amd64)?.path;
    let base = base::disk(shell)?;
    let mut inputs = vec![package.clone(), base.clone(), TEMPLATE.into()];
    inputs.extend(shell.read_dir(STEPS)?);
    let stem = shell.current_dir().join(FOLDER).join("baked");
    let disk = kept(shell, &stem, &inputs, |disk| bake(shell, &package, &base, disk))?;
    println!("image: {} ({} MiB)", disk.display(), fs::metadata(&disk)?.len() >> 20);
    Ok(Baked { disk, package })
}

fn bake(shell: &Shell, package: &Path, base: &Path, disk: &Path) -> anyhow::Result<()> {
    let output = Path::new(FOLDER).join("packer");
    shell.remove_path(&output)?;
    seed(shell)?;
    let accelerator = accelerator();
    println!("image: baking with Packer ({accelerator}; minutes without KVM)");
    let version = env!("CARGO_PKG_VERSION");
    cmd!(shell, "packer build -color=false -only=qemu.disk")
        .envs(packer_environment())
        .args(["-var".to_owned(), format!("package={}", package.display())])
        .args(["-var".to_owned(), format!("base={}", base.display())])
        .args(["-var".to_owned(), format!("output={}", output.display())])
        .args(["-var".to_owned(), format!("accelerator={accelerator}")])
        .args(["-var".to_owned(), format!("version={version}")])
        .arg(TEMPLATE)
        .quiet()
        .run()
        .with_context(|| format!("the image cannot be baked; its console is {}.console", output.display()))?;
    let baked = shell.current_dir().join(output).join(format!("gatehouse-{version}-amd64.qcow2"));
    fs::rename(baked, disk).context("Packer left no disk")
}

/// The user data of the provisioning boot: a user with a key that is made for it and thrown away with it.
fn seed(shell: &Shell) -> anyhow::Result<()> {
    let (key, folder) = (Path::new(FOLDER).join("id"), Path::new(FOLDER).join("seed"));
    shell.remove_path(&key)?;
    shell.remove_path(key.with_extension("pub"))?;
    cmd!(shell, "ssh-keygen -q -t ed25519 -N '' -C packer -f {key}").quiet().run()?;
    let public = shell.read_file(key.with_extension("pub"))?;
    shell.write_file(folder.join("user-data"), USER_DATA.replace("{key}", public.trim()))?;
    shell.write_file(folder.join("meta-data"), "instance-id: packer\n")?;
    Ok(())
}

/// What QEMU runs guests on. Inside most virtual machines KVM's device is there and runs none.
pub(super) fn accelerator() -> &'static str {
    let nested = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"));
    if Path::new("/dev/kvm").exists() && !nested { "kvm" } else { "tcg" }
}

/// The user that Debian's cloud image has, with the key that EC2 would hand over.
const USER_DATA: &str = include_str!("../../../packer/base/user-data");
const TEMPLATE: &str = "packer/image.pkr.hcl";
const STEPS: &str = "packer/provision";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_runs_every_step_in_order() {
        let template = include_str!("../../../packer/image.pkr.hcl");
        let listed = template.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","));
        let listed: Vec<_> = listed.filter(|path| path.starts_with(STEPS)).map(PathBuf::from).collect();
        let shell = crate::shell().unwrap();
        let mut steps = shell.read_dir(shell.current_dir().join(STEPS)).unwrap();
        steps.sort();
        assert_eq!(listed.len(), steps.len());
        for (listed, there) in listed.iter().zip(&steps) {
            assert!(there.ends_with(listed), "{} is not {}", there.display(), listed.display());
        }
    }
}
