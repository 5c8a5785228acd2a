//! Processes that end with the value that stands for them: children, and successors that a child has left in its place.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    time::ClockId,
    unistd::Pid,
};

use crate::{namespace::Namespace, wait};

/// A running process, its output in a file. Dropping it sends SIGTERM, and SIGKILL when that does not help.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    handle: Handle,
    log: PathBuf,
}

/// By what its end is heard of.
#[derive(Debug)]
enum Handle {
    /// We have started it.
    Child(Child),
    /// A child has: it becomes ours when that has ended, as we are the subreaper (prctl(2)).
    Successor,
    /// A successor that was waited for.
    Ended(ExitStatus),
}

/// A command whose process is killed when the resident thread that started it ends, so that nothing survives a killed test.
#[must_use]
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
    command
}

impl Process {
    /// Starts `command` (made by [`command`]) inside `namespace`; output goes to `<folder>/<name>.log`, appended.
    pub fn start(
        namespace: &Namespace,
        name: &str,
        mut command: Command,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(name).with_extension("log");
        let output = File::options().create(true).append(true).open(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = namespace
            .inside(move || command.spawn())?
            .with_context(|| format!("cannot start {name}; `cargo xtask setup` installs what is needed"))?;
        Ok(Self { name: name.to_owned(), pid: child.id(), handle: Handle::Child(child), log })
    }

    /// Before a child starts that may have a successor, which will be left to us then, and not to the machine.
    pub fn adopt_orphans() -> anyhow::Result<()> {
        Ok(prctl::set_child_subreaper(true)?)
    }

    /// The process `pid` that has taken over from this one, and writes where it did.
    #[must_use]
    pub fn successor(&self, pid: u32) -> Self {
        Self { name: self.name.clone(), pid, handle: Handle::Successor, log: self.log.clone() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Its end, if it has come.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        match &mut self.handle {
            Handle::Child(child) => return Ok(child.try_wait()?),
            Handle::Ended(status) => return Ok(Some(*status)),
            Handle::Successor => {}
        }
        let status = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => ExitStatus::from_raw(code << 8),
            Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::from_raw(signal as i32),
            // Its parent still lived, and has heard how it ended; nobody else will.
            Err(Errno::ECHILD) if kill(pid, None) == Err(Errno::ESRCH) => ExitStatus::default(),
            Ok(_) | Err(_) => return Ok(None),
        };
        self.handle = Handle::Ended(status);
        Ok(Some(status))
    }

    /// The file it writes to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it wrote so far.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Fails when it has ended, with the end of its output.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} ended: {status}\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// Probes until `probe` succeeds, and fails at once when the process ends.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut probe: impl FnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut ended = None;
        let outcome = wait::until(what, within, || match self.ensure_alive() {
            Ok(()) => probe().map(Some),
            Err(error) => {
                ended = Some(error);
                Ok(None)
            }
        })
        .with_context(|| self.tail())?;
        match (outcome, ended) {
            (Some(value), _) => Ok(value),
            (None, Some(error)) => Err(error.context(format!("waiting for {what}"))),
            (None, None) => bail!("{} neither runs nor has ended", self.name),
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        wait::until(&format!("the end of {}", self.name), within, || self.ended()?.context("it runs on"))
            .with_context(|| self.tail())
    }

    /// Peak resident memory in bytes.
    pub fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        status_bytes(self.pid, "VmHWM")
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        status_bytes(self.pid, "VmRSS")
    }

    /// What it has used so far, user and system.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(Pid::from_raw(i32::try_from(self.pid)?))
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let skipped = lines.len().saturating_sub(TAIL_LINES);
        let tail = lines.get(skipped..).unwrap_or_default().join("\n");
        format!("the end of {}:\n{tail}", self.log.display())
    }
}

/// What a process and its threads have used so far, user and system (`clock_getcpuclockid(3)`).
pub(crate) fn cpu(process: Pid) -> anyhow::Result<Duration> {
    Ok(ClockId::pid_cpu_clock_id(process)?.now()?.into())
}

/// A field of proc(5), `/proc/pid/status`, that is a size.
pub fn status_bytes(process: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = value.with_context(|| format!("no {field}"))?;
    Ok(kib.trim().trim_end_matches("kB").trim().parse::<u64>()? << 10)
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", self.tail());
        }
        if matches!(self.ended(), Ok(Some(_))) {
            return;
        }
        // A stopped process takes its SIGTERM only once it goes on.
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            let _ = self.signal(signal);
        }
        if self.wait(GRACE).is_err() {
            let _ = self.signal(Signal::SIGKILL);
            let _ = self.wait(GRACE);
        }
    }
}

const GRACE: Duration = Duration::from_secs(2);
const TAIL_LINES: usize = 40;
