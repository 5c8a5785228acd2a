//! The report of a change, for the caller and for the log.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Warning;
use crate::store::domain_table::{DomainRecord, DomainStatus};
pub use crate::store::state_table::Change;

/// What was done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is new.
    Add,
    /// It says something else than before.
    Replace,
    /// It is gone.
    Remove,
    /// It is not served until it is resumed.
    Suspend,
    /// It is served again.
    Resume,
    /// Nothing: it was already so.
    Keep,
}

impl Action {
    /// As the log and JSON write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Remove => "remove",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Keep => "keep",
        }
    }
}

/// What was done, from what to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was done.
    pub action: Action,
    /// What is not as it was.
    pub changes: Vec<Change>,
    /// The entry as it is now, or was when it is gone.
    pub entry: String,
    /// Whose it is.
    pub tenant: String,
    /// Whether the entry is one that is served.
    pub is_active: bool,
    /// What still stands in the way, or may not be meant.
    pub warnings: Vec<String>,
}

impl Report {
    pub(super) fn of(
        action: Action,
        old: Option<&DomainRecord>,
        new: &DomainRecord,
        warnings: &[Warning],
    ) -> Self {
        let shown = if new.status == DomainStatus::Removed { old.unwrap_or(new) } else { new };
        Self {
            action,
            changes: changes(old, new),
            entry: described(shown),
            tenant: new.tenant.clone(),
            is_active: new.status.is_served(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
        }
    }

    /// All changed parts as they were, for one field of the log.
    #[must_use]
    pub fn from(&self) -> String {
        side(&self.changes, |change| change.from.as_deref())
    }

    /// All changed parts as they are, for one field of the log.
    #[must_use]
    pub fn to(&self) -> String {
        side(&self.changes, |change| change.to.as_deref())
    }
}

/// `added with target http://10.0.0.5, tenant default`, `target https://a.example -> https://b.example`, `unchanged`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.action {
            Action::Add => write!(f, "added with {}", self.entry),
            Action::Remove => write!(f, "removed; it had {}", self.entry),
            Action::Keep => write!(f, "unchanged; it has {}", self.entry),
            Action::Replace | Action::Suspend | Action::Resume => {
                let shown = |side: &Option<String>| side.clone().unwrap_or_else(|| ABSENT.to_owned());
                let changed = self.changes.iter();
                let changed: Vec<_> = changed
                    .map(|change| {
                        format!("{} {} -> {}", change.field, shown(&change.from), shown(&change.to))
                    })
                    .collect();
                f.write_str(&changed.join(", "))
            }
        }
    }
}

fn changes(old: Option<&DomainRecord>, new: &DomainRecord) -> Vec<Change> {
    let new = Some(new).filter(|new| new.status != DomainStatus::Removed);
    let part = |field: &str, part: fn(&DomainRecord) -> String| Change {
        field: field.to_owned(),
        from: old.map(part),
        to: new.map(part),
    };
    let parts = [
        part("target", target),
        part("status", |record| record.status.as_str().to_owned()),
        part("tenant", |record| record.tenant.clone()),
    ];
    parts.into_iter().chain(settings(old, new)).filter(|change| change.from != change.to).collect()
}

fn settings(old: Option<&DomainRecord>, new: Option<&DomainRecord>) -> impl Iterator<Item = Change> {
    let texts = |record: Option<&DomainRecord>| record.map(|record| record.settings).unwrap_or_default();
    let (from, to) = (texts(old).texts(), texts(new).texts());
    let (was, is) = (old.is_some(), new.is_some());
    let set = from.into_iter().zip(to).filter(|((_, from), (_, to))| from.is_some() || to.is_some());
    let text = |text: Option<String>| text.unwrap_or_else(|| BY_DEFAULT.to_owned());
    set.map(move |((field, from), (_, to))| Change {
        field: field.to_owned(),
        from: was.then(|| text(from)),
        to: is.then(|| text(to)),
    })
}

fn described(record: &DomainRecord) -> String {
    let status = match record.status {
        DomainStatus::Active => String::new(),
        other => format!(", status {}", other.as_str()),
    };
    let settings = match record.settings.to_string() {
        nothing if nothing.is_empty() => nothing,
        settings => format!(", {settings}"),
    };
    format!("target {}, tenant {}{settings}{status}", target(record), record.tenant)
}

/// An entry's own target, or that it has none.
pub(super) fn target(record: &DomainRecord) -> String {
    record.target.as_ref().map_or_else(|| BY_DEFAULT.to_owned(), ToString::to_string)
}

fn side(changes: &[Change], part: impl Fn(&Change) -> Option<&str>) -> String {
    let parts: Vec<_> = changes
        .iter()
        .filter_map(|change| part(change).map(|value| format!("{} {value}", change.field)))
        .collect();
    if parts.is_empty() { ABSENT.to_owned() } else { parts.join(", ") }
}

const ABSENT: &str = "absent";
const BY_DEFAULT: &str = "(default)";
