//! What goes over the control socket, as JSON; `--json` prints the same.

mod instance_status;
mod name_answer;

use std::{fmt, path::PathBuf, str::FromStr};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

pub use self::{
    instance_status::{InstanceStatus, PhaseWord},
    name_answer::{GuardAnswer, NameAnswer, PermissionWord},
};
pub use crate::store::domain_table::{NoTenant, Tenant};
use crate::{
    certificates::{
        listing::{Listed, Row},
        own::OwnRow,
    },
    config::DomainSettings,
    domains::admin::{self, Existing, Proof, Wanted},
    name::{Pattern, ServerName},
    store::{
        domain_table::{DomainRecord, DomainStatus, checks::Checks},
        instant::Micros,
    },
    target::Target,
};

/// A name that may be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// What it covers.
    pub domain: Pattern,
    /// Its own target; absent, the default.
    pub target: Option<Target>,
    /// What it sets for its name.
    #[serde(flatten)]
    pub settings: DomainSettings,
    /// As the table has it.
    pub status: DomainStatus,
    /// `table` or `static`.
    pub source: String,
    /// Whose it is.
    pub tenant: String,
    /// When it last changed.
    pub changed_at: Option<String>,
    /// What was last found out about its name; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Checks>,
}

impl Domain {
    /// Whether `name` is the other name of its pair.
    #[must_use]
    pub fn has_counterpart(&self, name: &ServerName) -> bool {
        self.settings.counterpart(&self.domain).as_ref() == Some(name)
    }
}

/// Part of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntryPage<T> {
    /// Domains of a tenant in the order of their names, of all tenants in the table's.
    pub items: Vec<T>,
    /// Where the next part begins; absent, this was the last.
    pub next: Option<String>,
    /// Items that are no entries, each with its fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub malformed: Vec<String>,
}

/// Where a part of the list of certificates ended: its last name, and when that is to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bookmark(pub Listed);

/// A text is no bookmark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write it as the previous part of the list returned it, like `www.example.com,2026-11-24T02:15:08.123456Z`"
)]
pub struct NoBookmark;

/// What a new or replaced entry says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDomain {
    /// Its own target; absent, the default.
    #[serde(default)]
    pub target: Option<Target>,
    /// What is set for its name; what is absent is as it was.
    #[serde(flatten)]
    pub settings: DomainSettings,
    /// Whose it is; absent, as it was.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// Whether an entry that says something else is replaced.
    #[serde(default)]
    pub replace: bool,
    /// Whether it is served without waiting for its verification.
    #[serde(default)]
    pub verified: bool,
}

impl NewDomain {
    /// What an addition says; of another request, nothing.
    pub(super) fn of(wanted: &Wanted) -> Self {
        let Wanted::Present { target, settings, tenant, existing, proof } = wanted else {
            return Self::default();
        };
        Self {
            target: target.clone(),
            settings: *settings,
            tenant: tenant.clone(),
            replace: *existing == Existing::Replace,
            verified: *proof == Proof::Waived,
        }
    }
}

/// A change of the table that has been made, or that nothing had to be changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    /// What was changed.
    pub domain: Pattern,
    /// What was done, from what to what.
    #[serde(flatten)]
    pub report: admin::Report,
    /// How far it has come.
    pub reach: ChangeReach,
}

/// Who follows a change by the time its command returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeReach {
    /// The table only: no instance runs here. Instances elsewhere follow within seconds.
    Table,
    /// Table and snapshot of the instance; its guard is off.
    Snapshot,
    /// Table, snapshot and guard.
    Guard,
    /// Table and snapshot; the guard has not confirmed it in time.
    GuardLate,
}

/// The outcome of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Settings that changed and are in force.
    pub applied: Vec<String>,
    /// Settings that changed and wait for a restart.
    pub needs_restart: Vec<String>,
}

/// What a successor is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeWanted {
    /// The program, by its absolute path; absent, the one that runs, as it is installed now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
    /// How long it may take until it is ready.
    pub within_seconds: u64,
}

/// A successor has taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// Its process.
    pub pid: u32,
    /// Its release.
    pub version: String,
    /// The process that it has taken over from, which ends when its connections have.
    pub predecessor: u32,
}

/// Which part of the table is to be repaired.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReindexPart {
    /// The key behind which it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What a repair of the table, or of a part of it, did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReindexReport {
    /// Items repaired.
    pub repaired: u64,
    /// Items that are no entries, each with its fault; of the whole table the first thousand.
    pub malformed: Vec<String>,
    /// Behind which key the next part begins; absent, this was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl ReindexReport {
    /// Of the whole table, `repaired` part after part.
    pub async fn of_all_parts<E>(repaired: impl AsyncFn(ReindexPart) -> Result<Self, E>) -> Result<Self, E> {
        let mut whole = Self::default();
        loop {
            let part = repaired(ReindexPart { after: whole.next.take() }).await?;
            whole.repaired += part.repaired;
            let room = MAX_TOLD.saturating_sub(whole.malformed.len());
            whole.malformed.extend(part.malformed.into_iter().take(room));
            whole.next = part.next;
            if whole.next.is_none() {
                return Ok(whole);
            }
        }
    }
}

/// The outcome of a request to order a name's certificate without waiting for its back-off.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retried {
    /// The name.
    pub server_name: Pattern,
    /// Whether a back-off was ended.
    pub had_failed: bool,
}

/// Why a request was refused (RFC 9457).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WireProblem {
    /// HTTP status.
    pub status: u16,
    /// What is wrong, and what to do.
    pub detail: String,
    /// What it is wrong with, where that is known.
    #[serde(flatten)]
    pub fault: Fault,
}

impl WireProblem {
    /// Whether the request or the settings are wrong, and not what is there.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        // A malformed item of the table has this status, too, and names no argument.
        self.status == StatusCode::UNPROCESSABLE_ENTITY && self.fault.field.is_some()
    }
}

/// What a request or a setting is wrong in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which argument or setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// As given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What to do instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl From<admin::Explained> for Fault {
    fn from(explained: admin::Explained) -> Self {
        let admin::Explained { field, value, remedy, .. } = explained;
        Self { field: Some(field.to_owned()), value: Some(value), remedy: Some(remedy) }
    }
}

/// Part of the list of certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificatePage {
    /// All of the operator's own, with the first part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<OwnRow>,
    /// Those that were ordered.
    #[serde(flatten)]
    pub ordered: EntryPage<Row>,
}

/// A certificate that the operator brings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOwnCertificate {
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM of its private key.
    pub key: String,
}

impl fmt::Debug for NewOwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, key } = self;
        write!(f, "NewOwnCertificate({} and {} bytes)", chain.len(), key.len())
    }
}

impl Drop for NewOwnCertificate {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0.server_name, self.0.due_at)
    }
}

impl FromStr for Bookmark {
    type Err = NoBookmark;
    fn from_str(text: &str) -> Result<Self, NoBookmark> {
        let (name, due_at) = text.split_once(',').ok_or(NoBookmark)?;
        let server_name = Pattern::parse(name).map_err(|_| NoBookmark)?;
        Ok(Self(Listed { server_name, due_at: Micros::parse(due_at).ok_or(NoBookmark)? }))
    }
}

impl From<&DomainRecord> for Domain {
    fn from(record: &DomainRecord) -> Self {
        Self {
            domain: record.pattern.clone(),
            target: record.target.clone(),
            settings: record.settings,
            status: record.status,
            source: "table".to_owned(),
            tenant: record.tenant.clone(),
            changed_at: record.changed_at.map(|at| at.to_string()),
            checks: None,
        }
    }
}

impl From<&crate::config::StaticDomain> for Domain {
    fn from(entry: &crate::config::StaticDomain) -> Self {
        Self {
            domain: entry.name.clone(),
            target: entry.target.clone(),
            settings: entry.settings,
            status: DomainStatus::Active,
            source: "static".to_owned(),
            tenant: crate::store::domain_table::DEFAULT_TENANT.to_owned(),
            changed_at: None,
            checks: None,
        }
    }
}

/// With more items that are no entries, something else writes to the table.
const MAX_TOLD: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsVersion;

    #[test]
    fn no_key_is_shown() {
        let new = NewOwnCertificate { chain: "a chain".to_owned(), key: "a key".to_owned() };
        assert_eq!(format!("{new:?}"), "NewOwnCertificate(7 and 5 bytes)");
    }

    #[test]
    fn what_is_set_for_a_name_stands_beside_its_target_and_nothing_else_does() {
        let read = |text: &str| serde_json::from_str::<NewDomain>(text);
        let new = read(r#"{"target":"http://a.example","minimum_tls":"1.3","replace":true}"#).unwrap();
        assert_eq!((new.settings.minimum_tls, new.replace), (Some(TlsVersion::Tls13), true));
        for wrong in [r#"{"minimum":"1.3"}"#, r#"{"minimum_tls":"1.1"}"#, r#"{"settings":{}}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
