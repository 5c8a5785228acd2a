//! A network namespace and the thread that lives in it.
//!
//! A socket belongs to the namespace of the thread that makes it, and a child to that of the thread that starts it. So
//! each namespace has one resident thread, and what is to be inside is started there. The thread also has a mount
//! namespace of its own, with this namespace's `/sys`, our own `/etc/hosts`, and whatever bpffs Gatehouse mounts: none
//! of it is seen by the host, and all of it goes with the thread. Nothing here needs `unsafe`, nor `ip netns exec`,
//! which would hide the bpffs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
};

use anyhow::{Context, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// A named network namespace; dropping it removes the name, and with the last process the namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    jobs: Option<Sender<Job>>,
    resident: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Namespace {
    /// Makes the namespace `name` and moves a thread into it; `hosts` becomes its `/etc/hosts`.
    pub fn create(name: &str, hosts: &Path) -> anyhow::Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))
            .with_context(|| format!("cannot make the namespace {name}: root is needed (CAP_SYS_ADMIN)"))?;
        let (jobs, queue) = mpsc::channel();
        let mut namespace = Self { name: name.to_owned(), jobs: Some(jobs), resident: None };
        let (entered, outcome) = mpsc::channel();
        let (path, hosts) = (namespace.path(), hosts.to_owned());
        let resident = thread::Builder::new().name(name.to_owned());
        namespace.resident = Some(resident.spawn(move || reside(&path, &hosts, &entered, &queue))?);
        outcome
            .recv()
            .context("the resident thread is gone")?
            .with_context(|| format!("cannot enter {name}"))?;
        namespace.inside(|| run(Command::new("ip").args(["link", "set", "lo", "up"])))??;
        Ok(namespace)
    }

    /// Its name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does `job` inside, while the caller waits. Long work belongs on a thread that `job` starts.
    pub fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
        let (answer, outcome) = mpsc::channel();
        let job: Job = Box::new(move || {
            // The caller may be gone; then nobody wants the answer.
            let _ = answer.send(job());
        });
        let jobs = self.jobs.as_ref().context("the namespace is being removed")?;
        jobs.send(job).ok().context("the resident thread is gone")?;
        outcome.recv().context("the resident thread is gone")
    }

    /// Starts a thread inside, for work that takes its time.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<JoinHandle<T>> {
        self.inside(move || thread::spawn(work))
    }

    /// Does `work` on a thread of its own inside and waits for it.
    pub fn await_inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<T> {
        match self.thread(work)?.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a command inside to its end and returns what it printed; failing is an error with what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.await_inside(move || run(&mut command))?
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(resident) = self.resident.take() {
            let _ = resident.join();
        }
        if let Err(error) = run(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("cannot remove the namespace {}: {error:#}", self.name);
        }
    }
}

/// Runs a command to its end; what it printed, or an error with what it said.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = command
        .output()
        .with_context(|| format!("cannot run {command:?}; `cargo xtask setup` installs what is needed"))?;
    if !status.success() {
        let [said, answer] = [&stderr, &stdout].map(|text| String::from_utf8_lossy(text));
        bail!("{command:?}: {status}: {}\n{answer}", said.trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Removes namespaces that a killed test process has left behind: their names end in `-<pid>-<number>`.
pub fn sweep() {
    let Ok(names) = fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if is_abandoned(&name, |pid| Path::new("/proc").join(pid).exists()) {
            // Another test process may sweep at the same time.
            let _ = run(Command::new("ip").args(["netns", "del", &name]));
        }
    }
}

fn is_abandoned(name: &str, lives: impl Fn(&str) -> bool) -> bool {
    let mut parts = name.strip_prefix("gatehouse-").unwrap_or_default().split('-');
    let (Some(_), Some(pid), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) && !lives(pid)
}

fn reside(path: &Path, hosts: &Path, entered: &Sender<anyhow::Result<()>>, queue: &Receiver<Job>) {
    let outcome = enter(path, hosts);
    let failed = outcome.is_err();
    if entered.send(outcome).is_err() || failed {
        return;
    }
    for job in queue {
        job();
    }
}

fn enter(path: &Path, hosts: &Path) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).context("mounts stay shared")?;
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET).context("the network namespace refuses us")?;
    // sysfs shows the interfaces of the namespace it was mounted in, so it has to be mounted anew.
    umount2("/sys", MntFlags::MNT_DETACH).context("/sys stays")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).context("no sysfs")?;
    mount(Some(hosts), "/etc/hosts", NONE, MsFlags::MS_BIND, NONE).context("no /etc/hosts of our own")?;
    Ok(())
}

const NONE: Option<&str> = None;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_test_processes_are_swept() {
        let lives = |pid: &str| pid == "17";
        for (name, abandoned) in [
            ("gatehouse-edge", false),
            ("gatehouse-edge-17-0", false),
            ("gatehouse-edge-18-0", true),
            ("gatehouse-client-18-12", true),
            ("gatehouse-edge-18", false),
            ("gatehouse-edge-eighteen-0", false),
            ("somebody-edge-18-0", false),
        ] {
            assert_eq!(is_abandoned(name, lives), abandoned, "{name}");
        }
    }
}
