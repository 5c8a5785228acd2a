//! The baked image: Packer boots the base disk in QEMU and provisions it as it would an instance on AWS.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use xshell::{Shell, cmd};

use super::{FOLDER, base};
use crate::package;

/// Builds the package, the base disk if none is kept, and the image; says how large it is.
pub(super) fn run(shell: &Shell) -> anyhow::Result<PathBuf> {
    let archive = package::build(shell)?.path;
    let base = base::disk(shell)?;
    let output = Path::new(FOLDER).join("baked");
    shell.remove_path(&output)?;
    seed(shell)?;
    let accelerator = if Path::new(KVM).exists() && !is_emulated() { "kvm" } else { "tcg" };
    println!("image: baking with Packer ({accelerator}; minutes without KVM)");
    cmd!(shell, "packer build -color=false -only=qemu.disk")
        .args(["-var".to_owned(), format!("package={}", archive.display())])
        .args(["-var".to_owned(), format!("base={}", base.display())])
        .args(["-var".to_owned(), format!("accelerator={accelerator}")])
        .args(["-var".to_owned(), format!("version={}", env!("CARGO_PKG_VERSION"))])
        .arg("packer/image.pkr.hcl")
        .quiet()
        .run()
        .context("the image cannot be baked; its console is in target/image/baked.console")?;
    let image =
        shell.current_dir().join(output).join(format!("gatehouse-{}-amd64.qcow2", env!("CARGO_PKG_VERSION")));
    println!("image: {} ({} MiB)", image.display(), fs::metadata(&image)?.len() >> 20);
    Ok(image)
}

/// The user data of the provisioning boot: a user with a key that is made for it and thrown away with it.
fn seed(shell: &Shell) -> anyhow::Result<()> {
    let (key, folder) = (Path::new(FOLDER).join("id"), Path::new(FOLDER).join("seed"));
    shell.remove_path(&key)?;
    shell.remove_path(key.with_extension("pub"))?;
    cmd!(shell, "ssh-keygen -q -t ed25519 -N '' -C packer -f {key}").quiet().run()?;
    let public = shell.read_file(key.with_extension("pub"))?;
    shell.write_file(folder.join("user-data"), user_data(public.trim()))?;
    shell.write_file(folder.join("meta-data"), "instance-id: packer\n")?;
    Ok(())
}

fn user_data(key: &str) -> String {
    format!(
        "#cloud-config\nusers:\n  - name: admin\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    shell: /bin/bash\n    \
         ssh_authorized_keys: [\"{key}\"]\n"
    )
}

/// Inside most virtual machines the device is there and runs no guest.
fn is_emulated() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" hypervisor"))
}

const KVM: &str = "/dev/kvm";
