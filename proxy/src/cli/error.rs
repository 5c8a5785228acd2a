//! How a command fails: the line it writes and the code it ends with.

use std::{io, path::PathBuf, process::ExitCode};

use super::printable::printable;
use crate::{
    certificates::{
        caddy::TransferError,
        own::{OwnError, OwnFault},
    },
    config::ConfigError,
    control::{
        ClientError,
        events::ReplayError,
        setup_links::LinkError,
        table::{NoCertificate, NoDomain},
        tokens::TokenError,
    },
    domains::{ChangeError, import::RowFault},
    guard::{GuardError, explain::CaptureError},
    run::RunError,
    store::{ConnectError, StoreError, tables::TablesError},
    verification::NoResolver,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// Settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The running instance.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The instance could not start, or not go on.
    #[error(transparent)]
    Run(#[from] RunError),
    /// No way to the tables.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The tables.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// A call to a table.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A change of the domains table.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// No such entry.
    #[error(transparent)]
    NoDomain(#[from] NoDomain),
    /// No such certificate.
    #[error(transparent)]
    NoCertificate(#[from] NoCertificate),
    /// No token was made or revoked.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No setup link was made.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A webhook does not go on from elsewhere.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Events do not reach their receivers.
    #[error("{failing} of the webhooks fail; the lines above say why")]
    WebhooksFail {
        /// How many.
        failing: usize,
    },
    /// A question only a running instance can answer.
    #[error("no instance runs here (`{}`); start one with `gatehouse run`", path.display())]
    NotRunning {
        /// Its control socket.
        path: PathBuf,
    },
    /// A question about a guard that is off.
    #[error(
        "guard.interfaces: `[]`, so the guard is off, and nothing is rejected in the kernel; list the interfaces to guard"
    )]
    GuardOff,
    /// A command about a copy that is off.
    #[error(
        "store.local_copy: not set, so that nothing is copied; give the directory of a former copy by `--directory`"
    )]
    NoLocalCopy,
    /// A copy that cannot be removed.
    #[error("`{}` cannot be cleared; run it as root, or as the user that runs gatehouse", path.display())]
    LocalCopy {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Neither an instance nor a store to ask instead.
    #[error(
        "no instance runs here (`{}`), and there is no embedded store in `{}`; start one with `gatehouse run`, give the settings of the intended one with `--config`, or create a store with `gatehouse tables create`",
        socket.display(),
        directory.display()
    )]
    NoStore {
        /// The control socket that nobody answers on.
        socket: PathBuf,
        /// The state directory.
        directory: PathBuf,
    },
    /// The instance finds its settings wrong.
    #[error("{wrong}\nnothing was changed: the old settings stay in force")]
    NotReloaded {
        /// Line by line.
        wrong: String,
    },
    /// No successor took over.
    #[error("{why}\nnothing was changed: the running instance goes on")]
    NotUpgraded {
        /// What the instance says.
        why: String,
    },
    /// The program for a successor.
    #[error("--binary: `{}` cannot be made an absolute path; write one", path.display())]
    Binary {
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `doctor` found what will not work.
    #[error("{failed} checks failed; the lines that begin with `error` say what to do")]
    Unwell {
        /// How many findings.
        failed: usize,
    },
    /// A file of domains.
    #[error("`{path}` cannot be read")]
    ImportFile {
        /// As given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A capture of packets.
    #[error("`--pcap`: `{}` cannot be read; name a file that this user may read, of at most {} MiB", path.display(), most >> 20)]
    CaptureFile {
        /// As given.
        path: PathBuf,
        /// How many bytes it may have.
        most: usize,
        /// Why not.
        source: io::Error,
    },
    /// A file that is no capture.
    #[error("`--pcap`: `{}`", path.display())]
    Capture {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        source: CaptureError,
    },
    /// Rows of a file of domains.
    #[error("nothing was written:{}", lines_of(.0))]
    ImportRows(Vec<RowFault>),
    /// Rows of a file of domains whose requests were refused.
    #[error("rows refused: {refused}; the lines above say why, and the others are as shown")]
    ImportRefused {
        /// How many.
        refused: usize,
    },
    /// Instances are not as they should be.
    #[error("{warned} of the instances have warnings; the lines above each say what to do")]
    FleetWarned {
        /// How many.
        warned: usize,
    },
    /// A name is not as it should be.
    #[error("{failed} checks failed; the lines below each say what to do")]
    NameUnwell {
        /// How many findings.
        failed: usize,
    },
    /// There is nothing to compare with.
    #[error(
        "verification.edge_names: `[]`, so there is no name that records could lead to; give it like `[\"edge.example.net\"]`"
    )]
    NoEdgeName,
    /// DNS servers.
    #[error(transparent)]
    Resolver(#[from] NoResolver),
    /// A storage that could not be copied.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Parts of a storage that could not be used.
    #[error(
        "{damaged} of {all} certificates and accounts cannot be used; the lines that begin with `damaged` say why"
    )]
    Damaged {
        /// How many.
        damaged: usize,
        /// Of how many.
        all: usize,
    },
    /// A file that was to be imported.
    #[error("`{}` cannot be read; name a PEM file that this user may read", path.display())]
    PemFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A key that is no secret.
    #[error("`{}`: others than its owner may use this private key (mode {mode:04o}); `chmod 600 {}` makes it its owner's alone", path.display(), path.display())]
    ExposedKey {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A certificate or key that is not fit to be presented.
    #[error("`{}`: {fault}", path.display())]
    OwnFault {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: OwnFault,
    },
    /// A certificate of the operator's own was not stored or removed.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// Manual pages.
    #[error("`{}`: manual pages cannot be written here; name a directory that this user may write to", directory.display())]
    Papers {
        /// Where to.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No runtime for the command.
    #[error("no runtime could be started")]
    Runtime(#[source] io::Error),
    /// Standard output is gone.
    #[error("the answer could not be written")]
    Output(#[source] io::Error),
    /// An answer that is no JSON.
    #[error("the answer could not be put into JSON")]
    Json(#[from] serde_json::Error),
}

/// Each on a line of its own.
fn lines_of(faults: &[RowFault]) -> String {
    faults.iter().fold(String::new(), |text, fault| format!("{text}\n  {fault}"))
}

impl CommandError {
    /// 2 for usage and settings, 1 for everything else.
    pub(super) fn exit_code(&self) -> ExitCode {
        let is_of_caller = match self {
            Self::Config(_) | Self::NotReloaded { .. } | Self::Link(LinkError::Lifetime(_)) => true,
            Self::Connect(error) => error.is_of_settings(),
            Self::Run(error) => error.is_of_settings(),
            Self::Change(ChangeError::Refused(refusal)) => refusal.is_of_request(),
            Self::Client(ClientError::Refused(problem)) => problem.is_of_request(),
            _ => false,
        };
        if is_of_caller { ExitCode::from(2) } else { ExitCode::FAILURE }
    }

    /// Writes the error, one line each, to stderr.
    pub(super) fn report(&self) {
        for line in crate::telemetry::error_chain(self).lines() {
            eprintln!("gatehouse: {}", printable(line));
        }
    }
}
