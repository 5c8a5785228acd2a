//! A proxy under measurement: its process, its port, and the CPU time it has used.

use std::{
    fmt, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{client::Client, nginx::Nginx};
use crate::process::{self, status_bytes};

/// A running proxy, or the upstream behind all of them.
pub(super) struct Subject {
    name: String,
    port: u16,
    roots: Option<PathBuf>,
    fields: Vec<String>,
    child: Child,
}

/// What executes a subject's instructions.
#[derive(Clone, Copy)]
pub(super) enum RunBy<'a> {
    Machine,
    /// Callgrind, which counts them, and writes the count to this file when the subject ends.
    Callgrind(&'a Path),
}

impl RunBy<'_> {
    fn command(self, program: &Path) -> Command {
        let Self::Callgrind(file) = self else { return Command::new(program) };
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", file.display())).arg(program);
        command
    }

    fn counts(self) -> bool {
        matches!(self, Self::Callgrind(_))
    }
}

impl Subject {
    /// Gatehouse with one worker over `io`, its own issuer, its guard and access log off.
    pub(super) fn gatehouse(folder: &Path, binary: &Path, io: &str, upstream: u16) -> anyhow::Result<Self> {
        Self::gatehouse_by(RunBy::Machine, folder, binary, io, upstream)
    }

    /// The same, and what it is run by.
    pub(super) fn gatehouse_by(
        run_by: RunBy<'_>,
        folder: &Path,
        binary: &Path,
        io: &str,
        upstream: u16,
    ) -> anyhow::Result<Self> {
        let [https, http, metrics] = [free_port()?, free_port()?, free_port()?];
        let state = folder.join(io);
        let config = state.with_extension("toml");
        fs::write(
            &config,
            format!(
                "state_directory = \"{state}\"\n\
                 [listen]\nhttps = [\"127.0.0.1:{https}\"]\nhttp = [\"127.0.0.1:{http}\"]\n\
                 [worker]\nthreads = 1\nio = \"{io}\"\n\
                 [[domains.static]]\nname = \"localhost\"\ntarget = \"http://127.0.0.1:{port}\"\n\
                 [upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
                 connections_per_source = 4096\nidle_per_target = 512\n\
                 [control]\nmetrics = \"127.0.0.1:{metrics}\"\n\
                 [log]\naccess = false\nfilter = \"warn\"\n",
                state = state.display(),
                port = upstream
            ),
        )?;
        let mut command = run_by.command(binary);
        command.arg("--config").arg(&config).arg("run");
        let log = state.with_extension("log");
        Self::start(&format!("gatehouse {io}"), https, command, &log, Some(state.join(GATEHOUSE_ROOT)))
    }

    pub(super) fn nginx(folder: &Path, name: &str, config: &Nginx) -> anyhow::Result<Self> {
        Self::nginx_by(RunBy::Machine, folder, name, config)
    }

    /// The same, and what it is run by.
    pub(super) fn nginx_by(
        run_by: RunBy<'_>,
        folder: &Path,
        name: &str,
        config: &Nginx,
    ) -> anyhow::Result<Self> {
        let file = folder.join(name).with_extension("conf");
        fs::write(&file, &config.text)?;
        let mut command = run_by.command(Path::new("nginx"));
        command.arg("-c").arg(&file).arg("-p").arg(folder);
        command.args(["-g", if run_by.counts() { "daemon off; master_process off;" } else { "daemon off;" }]);
        Self::start(name, config.port, command, &file.with_extension("log"), config.roots.clone())
    }

    /// Its name in the table.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens, on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Who signs what it presents; nobody, where it speaks cleartext.
    pub(super) fn roots(&self) -> Option<&Path> {
        self.roots.as_deref()
    }

    /// Where it is asked.
    pub(super) fn url(&self) -> String {
        let scheme = if self.roots.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}/", self.port)
    }

    /// What its requests have beside the usual, as `Name: value`.
    pub(super) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The same, asked with these.
    pub(super) fn with_fields(mut self, fields: Vec<String>) -> Self {
        self.fields = fields;
        self
    }

    /// Fails unless it answers as the upstream does: whoever answers at its port is measured.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (status, body) = Client::new(self)?.exchange(request)?;
        ensure!((status, body.as_slice()) == (200, b"ok"), "{self} answers {status} {}", body.escape_ascii());
        Ok(())
    }

    /// What its process and its children have used so far, user and system.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut spent = Duration::ZERO;
        for pid in family(self.child.id())? {
            spent += process::cpu(pid)?;
        }
        Ok(spent)
    }

    /// Resident memory of its process and its children.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let process = |pid: Pid| status_bytes(u32::try_from(pid.as_raw())?, "VmRSS");
        family(self.child.id())?.into_iter().map(process).sum()
    }

    pub(super) fn start(
        name: &str,
        port: u16,
        mut command: Command,
        log: &Path,
        roots: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let output = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}; `cargo xtask setup` installs it"))?;
        let subject = Self { name: name.to_owned(), port, roots, fields: Vec::new(), child };
        subject.wait_until_listening().with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(subject)
    }

    fn wait_until_listening(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(Instant::now() < deadline, "{self} does not listen on port {}", self.port);
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // nginx's master ends its worker on SIGTERM, and would leave it behind on SIGKILL.
        if let Some(pid) = pid_of(self.child.id()) {
            let _ = kill(pid, Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// The first core this process may run on: where Gatehouse pins its first worker.
pub(super) fn first_core() -> anyhow::Result<usize> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    (0..CpuSet::count()).find(|core| set.is_set(*core).unwrap_or(false)).context("no core")
}

/// A command on the core of [`first_core`], for a program that does not pin its thread itself.
pub(super) fn pinned(program: impl AsRef<std::ffi::OsStr>) -> anyhow::Result<Command> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &first_core()?.to_string()]).arg(program);
    Ok(command)
}

/// A process and its children (proc(5), `/proc/pid/stat` field 4).
fn family(process: u32) -> anyhow::Result<Vec<Pid>> {
    let mut family = vec![pid_of(process).context("no process id")?];
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let parent = tail.split_whitespace().nth(1).and_then(|parent| parent.parse::<u32>().ok());
        let own = head.split_whitespace().next().and_then(|own| own.parse().ok());
        if let (Some(own), true) = (own, parent == Some(process)) {
            family.extend(pid_of(own));
        }
    }
    Ok(family)
}

fn pid_of(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().filter(|id| *id > 0).map(Pid::from_raw)
}

pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The internal issuer's root, in the state directory.
const GATEHOUSE_ROOT: &str = "internal-root.pem";
/// Callgrind is fifty times slower than the machine.
const START: Duration = Duration::from_mins(1);
