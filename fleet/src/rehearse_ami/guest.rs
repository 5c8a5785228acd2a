//! The machine that stands for the instance: a copy-on-write layer over the base disk, in QEMU.

use std::{fs, net::TcpListener, path::Path};

use xshell::{Shell, cmd};

use super::process::Process;

/// Booting, or running; its SSH daemon is reached at a port of 127.0.0.1.
pub(super) struct Guest {
    port: u16,
    _process: Process,
}

impl Guest {
    /// Returns as soon as QEMU runs. That the guest answers is what Packer waits for.
    pub(super) fn boot(
        shell: &Shell,
        folder: &Path,
        base: &Path,
        key: &Path,
        accelerator: &str,
    ) -> anyhow::Result<Self> {
        let (layer, seed) = (folder.join("layer"), folder.join("seed"));
        cmd!(shell, "qemu-img create -q -f qcow2 -F qcow2 -b {base} {layer} 4G").quiet().run()?;
        write_seed(shell, folder, &seed, key)?;
        let drive = |path: &Path, format: &str| format!("file={},if=virtio,format={format}", path.display());
        let port = free_port()?;
        let mut process = Process::start("qemu-system-x86_64", &folder.join("qemu.log"), |command| {
            command
                .args(["-accel", accelerator, "-cpu", CPU])
                .args("-smp 2 -m 1024 -display none -qmp stdio".split(' '))
                .arg("-serial")
                .arg(format!("file:{}", folder.join("console").display()))
                // Thrown away with the guest, so nothing has to reach the disk.
                .args(["-drive", &format!("{},cache=unsafe", drive(&layer, "qcow2"))])
                .args(["-drive", &format!("{},readonly=on", drive(&seed, "raw"))])
                .args(["-netdev", &format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22")])
                .args("-device virtio-net-pci,netdev=net -device virtio-rng-pci".split(' '))
        })?;
        // Its monitor's greeting: all devices are there.
        process.hear()?;
        println!("rehearsal: a guest boots; its SSH daemon will be at 127.0.0.1:{port}");
        Ok(Self { port, _process: process })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// A FAT disk with the label and the two files that cloud-init's `NoCloud` looks for.
fn write_seed(shell: &Shell, folder: &Path, seed: &Path, key: &Path) -> anyhow::Result<()> {
    let public = fs::read_to_string(key.with_extension("pub"))?;
    let (user, meta) = (folder.join("user-data"), folder.join("meta-data"));
    fs::write(&user, USER_DATA.replace("{key}", public.trim()))?;
    fs::write(&meta, "instance-id: rehearsal\n")?;
    fs::File::create(seed)?.set_len(1 << 20)?;
    cmd!(shell, "mkfs.vfat -n CIDATA {seed}").quiet().ignore_stdout().run()?;
    cmd!(shell, "mcopy -i {seed} {user} {meta} ::").quiet().run()?;
    Ok(())
}

/// A free port of 127.0.0.1. A port that QEMU chose itself could only be read from the text of its monitor.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The user that Debian's cloud image has, with the key that EC2 would hand over.
const USER_DATA: &str = include_str!("../../../packer/base/user-data");
/// Emulated, a plain processor is quicker than one with every extension.
const CPU: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+rdrand";
