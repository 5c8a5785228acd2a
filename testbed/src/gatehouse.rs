//! Instances of Gatehouse: their settings, their processes, their command line.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Permissions},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use aws_policy::{Role, record};
use nix::sys::signal::Signal;

use crate::{
    cleartext,
    metrics::Metrics,
    namespace::{self, Namespace},
    network::{EDGE_A, EDGE_A_V6, EDGE_B, EDGE_B_V6, LOOPBACK, Network},
    process::{self, Process},
};

/// Which of the edge's addresses an instance takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first; clients use it unless told otherwise.
    A,
    /// The second.
    B,
    /// The first's addresses again, for an instance that takes over while A still runs.
    Successor,
}

impl Place {
    /// Its name in files.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Successor => "successor",
        }
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn v4(self) -> Ipv4Addr {
        match self {
            Self::A | Self::Successor => EDGE_A,
            Self::B => EDGE_B,
        }
    }

    /// Its IPv6 address.
    #[must_use]
    pub const fn v6(self) -> Ipv6Addr {
        match self {
            Self::A | Self::Successor => EDGE_A_V6,
            Self::B => EDGE_B_V6,
        }
    }

    fn metrics(self) -> SocketAddr {
        let port = match self {
            Self::A => METRICS,
            Self::B => 9_465,
            Self::Successor => 9_466,
        };
        SocketAddr::new(LOOPBACK, port)
    }
}

/// A configuration file in the making: sections of keys with values in TOML.
#[derive(Debug, Clone)]
pub struct Settings {
    place: Place,
    folder: PathBuf,
    sections: BTreeMap<String, BTreeMap<String, String>>,
    domains: Vec<String>,
    issuers: Vec<String>,
    environment: Vec<(String, String)>,
    capabilities: Option<String>,
}

impl Settings {
    /// Listeners and metrics of `place`; state lies in `folder`.
    #[must_use]
    pub fn new(place: Place, folder: &Path) -> Self {
        let (v4, v6) = (place.v4(), place.v6());
        let mut settings = Self {
            place,
            folder: folder.to_owned(),
            sections: BTreeMap::new(),
            domains: Vec::new(),
            issuers: Vec::new(),
            environment: Vec::new(),
            capabilities: None,
        };
        settings.raw("listen", "https", &format!("[\"{v4}:443\", \"[{v6}]:443\"]"));
        settings.raw("listen", "http", &format!("[\"{v4}:80\", \"[{v6}]:80\"]"));
        settings.text("control", "metrics", &place.metrics().to_string());
        settings
    }

    /// Sets a key to a TOML value.
    pub fn raw(&mut self, section: &str, key: &str, value: &str) -> &mut Self {
        self.sections.entry(section.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets a key to a text.
    pub fn text(&mut self, section: &str, key: &str, value: &str) -> &mut Self {
        self.raw(section, key, &format!("{value:?}"))
    }

    /// Adds a name to the static list.
    pub fn domain(&mut self, name: &str) -> &mut Self {
        self.domains.push(format!("name = {name:?}"));
        self
    }

    /// Adds a name with a target of its own to the static list.
    pub fn domain_to(&mut self, name: &str, target: &str) -> &mut Self {
        self.domains.push(format!("name = {name:?}\ntarget = {target:?}"));
        self
    }

    /// Adds an ACME issuer.
    pub fn issuer(&mut self, directory: &str, roots: &Path) -> &mut Self {
        let email = "operator@example.com";
        self.issuers
            .push(format!("directory = {directory:?}\nemail = {email:?}\nroots = \"{}\"", roots.display()));
        self
    }

    /// Has its files lie in `folder`.
    pub fn lie_in(&mut self, folder: &Path) -> &mut Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Has it listen at `address`, with its metrics, in place of its place's addresses.
    pub fn listen_at(&mut self, address: Ipv4Addr) -> &mut Self {
        for (key, port) in [("https", 443), ("http", 80)] {
            self.raw("listen", key, &format!("[\"{address}:{port}\"]"));
        }
        self.text("control", "metrics", &format!("{address}:{METRICS}"))
    }

    /// Writes them and starts `binary` with them inside `namespace`, which need not be the edge; does not wait.
    pub fn spawn(&self, namespace: &Namespace, binary: &Path) -> anyhow::Result<Process> {
        fs::create_dir_all(&self.folder)?;
        fs::write(config_file(self), self.render())?;
        spawn(namespace, binary, self)
    }

    /// Writes them and runs a command with them inside `namespace`, as [`Gatehouse::command`].
    pub fn command(
        &self,
        namespace: &Namespace,
        binary: &Path,
        arguments: &[&str],
    ) -> anyhow::Result<String> {
        fs::create_dir_all(&self.folder)?;
        fs::write(config_file(self), self.render())?;
        command(namespace, binary, self, arguments)
    }

    /// Sets an environment variable of the process and of commands beside it.
    pub fn environment(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the process run as nobody, with `capabilities` (as a unit lists them) and no others, in a folder of its own.
    pub fn restrict(&mut self, capabilities: &str) -> &mut Self {
        let names =
            capabilities.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase());
        let sets = ["-all".to_owned()].into_iter().chain(names.map(|name| format!("+{name}")));
        self.capabilities = Some(sets.collect::<Vec<_>>().join(","));
        self
    }

    fn has_shared_store(&self) -> bool {
        self.sections.get("store").is_some_and(|keys| keys.contains_key("endpoint"))
    }

    fn render(&self) -> String {
        let mut text = format!("state_directory = \"{}/state\"\n", self.folder.display());
        for (section, keys) in &self.sections {
            let _ = write!(text, "\n[{section}]\n");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        for (table, entries) in [("domains.static", &self.domains), ("certificates.issuers", &self.issuers)] {
            for entry in entries {
                let _ = write!(text, "\n[[{table}]]\n{entry}\n");
            }
        }
        text
    }
}

/// A running instance.
#[derive(Debug)]
pub struct Gatehouse {
    /// Its process.
    pub process: Process,
    settings: Settings,
    binary: PathBuf,
    network: Arc<Network>,
}

impl Gatehouse {
    /// Starts `binary` inside the edge and waits until it is healthy.
    pub fn start(network: &Arc<Network>, binary: &Path, settings: Settings) -> anyhow::Result<Self> {
        let mut gatehouse = Self::launch(network, binary, settings)?;
        gatehouse.wait_until_ready()?;
        Ok(gatehouse)
    }

    /// Starts `binary` inside the edge and does not wait.
    pub fn launch(network: &Arc<Network>, binary: &Path, settings: Settings) -> anyhow::Result<Self> {
        Process::adopt_orphans()?;
        let network = Arc::clone(network);
        if settings.has_shared_store() {
            settings.command(&network.edge, binary, &["tables", "create"])?;
        }
        let process = settings.spawn(&network.edge, binary)?;
        Ok(Self { process, settings, binary: binary.to_owned(), network })
    }

    /// Waits until `/health` says 200.
    pub fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let (network, address) = (Arc::clone(&self.network), self.http());
        self.process.wait_until("a healthy instance", START, || {
            let answer = cleartext::get(&network.edge, address, "health", "/health")?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
    }

    /// Ends it by SIGTERM, which must make it exit 0.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait(END)?;
        ensure!(status.success(), "SIGTERM ended it with {status}");
        Ok(())
    }

    /// Starts it anew with the same settings, after it has ended.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.process = self.settings.spawn(&self.network.edge, &self.binary)?;
        self.wait_until_ready()
    }

    /// Writes its settings and has it read them.
    pub fn reload(&self) -> anyhow::Result<String> {
        fs::write(config_file(&self.settings), self.settings.render())?;
        self.command(&["reload"])
    }

    /// Writes its settings and has a successor take over, which is this instance from then on; returns the predecessor, which drains.
    pub fn upgrade(&mut self, arguments: &[&str]) -> anyhow::Result<Process> {
        fs::write(config_file(&self.settings), self.settings.render())?;
        let answer = self.command(&[&["upgrade", "--json"], arguments].concat())?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        let pid =
            answer.get("pid").and_then(serde_json::Value::as_u64).context("no process in the answer")?;
        let successor = self.process.successor(u32::try_from(pid)?);
        Ok(std::mem::replace(&mut self.process, successor))
    }

    /// Its settings, for a start or a reload that differs.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        config_file(&self.settings)
    }

    /// What `/health` says now.
    pub fn health(&self) -> anyhow::Result<u16> {
        Ok(cleartext::get(&self.network.edge, self.http(), "health", "/health")?.status)
    }

    /// A scrape.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        let answer =
            cleartext::get(&self.network.edge, self.settings.place.metrics(), "localhost", "/metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(Metrics::parse(&answer.body))
    }

    /// `gatehouse --config FILE ARGUMENTS...` inside the edge: what it printed; failing is an error with what it said.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        command(&self.network.edge, &self.binary, &self.settings, arguments)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait(END)
    }

    fn http(&self) -> SocketAddr {
        SocketAddr::from((self.settings.place.v4(), 80))
    }
}

fn command(
    namespace: &Namespace,
    binary: &Path,
    settings: &Settings,
    arguments: &[&str],
) -> anyhow::Result<String> {
    let mut command = Command::new(binary);
    command.arg("--config").arg(config_file(settings)).args(arguments);
    command
        .envs(credentials(record::OPERATOR))
        .envs(settings.environment.iter().map(|(name, value)| (name, value)));
    namespace.await_inside(move || namespace::run(&mut command))?
}

fn spawn(namespace: &Namespace, binary: &Path, settings: &Settings) -> anyhow::Result<Process> {
    let mut command = match &settings.capabilities {
        None => process::command(binary),
        Some(capabilities) => restricted(binary, capabilities, settings)?,
    };
    command.arg("--config").arg(config_file(settings)).arg("run");
    command
        .envs(credentials(Role::Instance.access_key()))
        .envs(settings.environment.iter().map(|(name, value)| (name, value)));
    let name = format!("gatehouse-{}", settings.place.label());
    Process::start(namespace, &name, command, &settings.folder)
}

/// As [`process::command`], as nobody. What the process writes to has to be nobody's, and the way there open.
fn restricted(binary: &Path, capabilities: &str, settings: &Settings) -> anyhow::Result<Command> {
    chown(&settings.folder, Some(NOBODY), Some(NOBODY))?;
    let above = settings.folder.parent().context("the folder has no parent")?;
    fs::set_permissions(above, Permissions::from_mode(0o755))?;
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command.args([
        "--pdeathsig",
        "KILL",
        "--reuid",
        &nobody,
        "--regid",
        &nobody,
        "--clear-groups",
        "--no-new-privs",
    ]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([set, capabilities]);
    }
    command.arg("--").arg(binary);
    Ok(command)
}

/// AWS's APIs want a signature; the doubles of them look at the key's id alone, to tell an instance's calls from those of a person's command.
fn credentials(access_key: &str) -> [(&'static str, &str); 2] {
    [("AWS_ACCESS_KEY_ID", access_key), ("AWS_SECRET_ACCESS_KEY", "testbed")]
}

fn config_file(settings: &Settings) -> PathBuf {
    settings.folder.join("gatehouse.toml")
}

const METRICS: u16 = 9_464;
const NOBODY: u32 = 65_534;
const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(45);
