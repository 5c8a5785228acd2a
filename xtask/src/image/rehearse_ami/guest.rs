//! The machine that stands for the instance: a copy-on-write layer over the base disk, in QEMU.

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{super::bake, process::Process};

/// Booting, or running; its SSH daemon is reached at a port of 127.0.0.1.
pub(super) struct Guest {
    port: u16,
    _process: Process,
}

impl Guest {
    /// Returns as soon as QEMU runs. That the guest answers is what Packer waits for.
    pub(super) fn boot(shell: &Shell, folder: &Path, base: &Path, key: &Path) -> anyhow::Result<Self> {
        let (layer, seed) = (folder.join("layer"), folder.join("seed"));
        cmd!(shell, "qemu-img create -q -f qcow2 -F qcow2 -b {base} {layer} 4G").quiet().run()?;
        write_seed(shell, folder, &seed, key)?;
        let drive = |path: &Path, format: &str| format!("file={},if=virtio,format={format}", path.display());
        let mut process = Process::start("qemu-system-x86_64", &folder.join("qemu.log"), |command| {
            command
                .args(["-accel", bake::accelerator(), "-cpu", CPU])
                .args("-smp 2 -m 1024 -display none -qmp stdio".split(' '))
                .arg("-serial")
                .arg(format!("file:{}", folder.join("console").display()))
                // Thrown away with the guest, so nothing has to reach the disk.
                .args(["-drive", &format!("{},cache=unsafe", drive(&layer, "qcow2"))])
                .args(["-drive", &format!("{},readonly=on", drive(&seed, "raw"))])
                .args(["-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22"])
                .args("-device virtio-net-pci,netdev=net -device virtio-rng-pci".split(' '))
        })?;
        let port = forwarded(&ask(&mut process, "info usernet")?)?;
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
    fs::write(&user, bake::user_data(public.trim()))?;
    fs::write(&meta, "instance-id: rehearsal\n")?;
    fs::File::create(seed)?.set_len(1 << 20)?;
    cmd!(shell, "mkfs.vfat -n CIDATA {seed}").quiet().ignore_stdout().run()?;
    cmd!(shell, "mcopy -i {seed} {user} {meta} ::").quiet().run()?;
    Ok(())
}

/// What QEMU's monitor says to a line.
fn ask(process: &mut Process, line: &str) -> anyhow::Result<String> {
    process.say(r#"{"execute": "qmp_capabilities"}"#)?;
    let question = serde_json::json!({
        "execute": "human-monitor-command",
        "arguments": {"command-line": line},
    });
    process.say(&question.to_string())?;
    // A greeting, the answer to the first line, and events may come before.
    for _ in 0..MOST_LINES {
        let answer: Value = serde_json::from_str(&process.hear()?)?;
        if let Some(text) = answer.get("return").and_then(Value::as_str) {
            return Ok(text.to_owned());
        }
        ensure!(answer.get("error").is_none(), "QEMU refuses `{line}`: {answer}");
    }
    anyhow::bail!("QEMU does not answer `{line}`")
}

/// The port of this machine that leads into the guest.
fn forwarded(connections: &str) -> anyhow::Result<u16> {
    let mut words = connections.lines().find(|line| line.contains("HOST_FORWARD")).map(str::split_whitespace);
    // Protocol, descriptor, source address, port.
    let port = words.as_mut().and_then(|words| words.nth(3)).and_then(|port| port.parse().ok());
    port.with_context(|| format!("QEMU forwards no port: {connections}"))
}

/// Emulated, a plain processor is quicker than one with every extension.
const CPU: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+rdrand";
const MOST_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read() {
        let said = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  12       127.0.0.1 42395       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded(said).unwrap(), 42395);
        assert!(forwarded("Hub -1 (net):\r\n").is_err());
    }
}
