//! A virtual machine of the image: QEMU on a disk that is laid over the baked one.
//! Invariant: the baked disk is never written to (`qcow2` with a backing file).

mod monitor;
pub(crate) mod seed;
mod shell;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use testbed::{
    gatehouse::Place,
    namespace,
    network::Network,
    process::{self, Process},
    wait,
};

use self::{monitor::Monitor, shell::Shell};
use crate::world::PATIENCE;

/// A running machine.
pub(crate) struct Guest {
    pub(crate) place: Place,
    machine: Machine,
    process: Process,
    monitor: Monitor,
    shell: Shell,
}

/// What is left of a machine while it is off.
#[derive(Clone)]
struct Machine {
    place: Place,
    /// Its files: `disk`, `seed`, `console`, and the sockets.
    folder: PathBuf,
    hardware: Hardware,
}

/// What a machine is given.
#[derive(Clone)]
pub(crate) struct Hardware {
    pub(crate) accelerator: String,
    pub(crate) memory_mib: u32,
}

impl Guest {
    /// A new machine of `image` at `place`, with `user_data`; it boots for the first time.
    pub(crate) fn boot(
        network: &Network,
        folder: &Path,
        image: &Path,
        hardware: &Hardware,
        place: Place,
        user_data: &str,
    ) -> anyhow::Result<Self> {
        let folder = folder.join(format!("machine-{}", place.label()));
        fs::create_dir_all(&folder)?;
        let disk = folder.join("disk");
        namespace::run(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(image)
                .arg(&disk)
                .arg(DISK),
        )?;
        seed::write(&folder.join("seed"), place, user_data)?;
        network.port(&port(place))?;
        Machine { place, folder, hardware: hardware.clone() }.start(network)
    }

    /// Pulls the plug, and starts it anew from what is on its disk.
    pub(crate) fn cut_power(&mut self, network: &Network) -> anyhow::Result<()> {
        self.monitor.quit()?;
        self.process.wait(PATIENCE)?;
        *self = self.machine.start(network)?;
        Ok(())
    }

    /// Runs `command` as root and returns what it printed; failing is an error with that.
    pub(crate) fn run(&mut self, command: &str) -> anyhow::Result<String> {
        self.process.ensure_alive()?;
        self.shell.run(command)
    }

    /// Waits until there is a shell, which comes late in a boot.
    pub(crate) fn await_shell(&mut self) -> anyhow::Result<()> {
        self.shell.await_answer()
    }

    /// Keeps the machine's memory and disk as they are under `name`.
    pub(crate) fn save(&mut self, name: &str) -> anyhow::Result<()> {
        self.monitor.command(&format!("savevm {name}"))
    }

    /// Takes it back to that moment. Its clock is set to now: certificates and leases would be of the future.
    pub(crate) fn restore(&mut self, name: &str) -> anyhow::Result<()> {
        self.monitor.command(&format!("loadvm {name}"))?;
        self.shell.await_answer()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        self.run(&format!("date --set=@{}", now.as_secs())).map(drop)
    }

    /// What the serial console showed so far.
    pub(crate) fn console(&self) -> String {
        let bytes = fs::read(self.machine.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the console, from its byte `from` on, shows every one of `texts`.
    pub(crate) fn await_console(&self, from: usize, texts: &[&str]) -> anyhow::Result<()> {
        wait::until(&format!("the console to show {texts:?}"), PATIENCE, || {
            let console = self.console();
            let shown = console.get(from..).unwrap_or_default();
            ensure!(texts.iter().all(|text| shown.contains(text)), "{}", tail(shown));
            Ok(())
        })
    }

    /// What to look at when a case has failed.
    pub(crate) fn testimony(&mut self) -> String {
        let log = self.run("journalctl --unit=gatehouse --lines=25 --no-pager --output=cat");
        let log = log.unwrap_or_else(|error| format!("no log: {error:#}"));
        format!("console of {:?}:\n{}\nlog:\n{log}", self.place, tail(&self.console()))
    }
}

impl Machine {
    fn start(&self, network: &Network) -> anyhow::Result<Guest> {
        let file = |name: &str| self.folder.join(name);
        let command = self.qemu();
        let process = Process::start(&network.edge, "qemu", command, &self.folder)?;
        let monitor = Monitor::connect(&file("monitor")).context("QEMU's monitor")?;
        let shell = Shell::new(file("shell"));
        Ok(Guest { place: self.place, machine: self.clone(), process, monitor, shell })
    }

    fn qemu(&self) -> Command {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let place = u8::from(self.place != Place::A) + 1;
        let mut command = process::command("qemu-system-x86_64");
        command.args([
            "-machine",
            &format!("pc,accel={}", self.hardware.accelerator),
            "-cpu",
            CPU,
            "-smp",
            "2",
            "-nodefaults",
            "-display",
            "none",
        ]);
        command.args(["-m", &self.hardware.memory_mib.to_string()]);
        command.args(["-drive", &format!("file={},if=virtio,format=qcow2,discard=unmap", file("disk"))]);
        command.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", file("seed"))]);
        command.args(["-netdev", &format!("tap,id=net,ifname={},script=no,downscript=no", port(self.place))]);
        command.args(["-device", &format!("virtio-net-pci,netdev=net,mac=52:54:00:00:00:{place:02x}")]);
        command.args(["-device", "virtio-rng-pci"]);
        command.args(["-chardev", &format!("file,id=console,append=on,path={}", file("console"))]);
        command.args(["-chardev", &format!("socket,id=shell,server=on,wait=off,path={}", file("shell"))]);
        command.args(["-chardev", &format!("socket,id=monitor,server=on,wait=off,path={}", file("monitor"))]);
        command.args([
            "-serial",
            "chardev:console",
            "-serial",
            "chardev:shell",
            "-mon",
            "chardev=monitor,mode=control",
        ]);
        command
    }
}

fn port(place: Place) -> String {
    format!("gh-tap-{}", place.label())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
}

/// What an operator gives it at least.
const DISK: &str = "8G";
/// Emulated, a plain processor is quicker than one with every extension: libraries choose code that has to be emulated.
const CPU: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+rdrand";
