//! The guard as `gatehouse status` shows it.

use serde::{Deserialize, Serialize};

use super::{handover::Program, names_state::MapsOrigin, recent_rejections::TopRejected};
use crate::{
    config::{Attach, GuardMode},
    domains::{Revision, revision},
};

/// The guard's state at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "guard", rename_all = "snake_case")]
pub enum GuardStatus {
    /// No interfaces are configured.
    Off,
    /// The program is in place.
    On(Box<GuardReport>),
}

/// What there is to say of a guard that is on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuardReport {
    /// What happens to unknown names.
    pub mode: GuardMode,
    /// Whether it happens now: `on`, or why not.
    pub enforcement: String,
    /// How the program is attached.
    pub attach: Attach,
    /// Where.
    pub interfaces: Vec<GuardedInterface>,
    /// The program.
    pub program: Program,
    /// Whether maps were adopted.
    pub maps: MapsOrigin,
    /// Where maps and links are pinned.
    pub pin_path: std::path::PathBuf,
    /// Names in the kernel's map.
    pub names: usize,
    /// Names it can hold.
    pub names_capacity: usize,
    /// The revision of the domain set it holds; none, not all lists were read.
    #[serde(with = "revision::or_zero")]
    pub revision: Option<Revision>,
    /// Names that were rejected lately, of a sample; of releases that do not tell, none.
    #[serde(default)]
    pub rejected: TopRejected,
    /// What was counted, verdict by verdict.
    pub verdicts: Vec<VerdictRow>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardedInterface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The kernel's id of the link; absent when the program was detached, or the interface is gone.
    pub link: Option<u32>,
    /// The program the link runs, which is ours unless a successor replaced it.
    pub program: Option<u32>,
}

/// One verdict's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// As metrics name it.
    pub verdict: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
