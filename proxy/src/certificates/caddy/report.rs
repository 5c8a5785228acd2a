//! What became of each certificate and account.

use serde::{Deserialize, Serialize};

/// What was copied, and what was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Whether nothing was written: then an outcome is what it would be.
    pub dry_run: bool,
    /// Each certificate and account.
    pub items: Vec<TransferredItem>,
    /// What has to be done before all that was copied is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A certificate or an account, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferredItem {
    /// Its folder in Caddy's storage, whose path begins the keys of the table, too.
    pub folder: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, or what it is.
    pub detail: String,
}

/// What becomes of a certificate or an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is copied.
    Copied,
    /// It is there already.
    Unchanged,
    /// What is there is as new, or another account: that stays.
    Kept,
    /// It has expired, and is not copied.
    Expired,
    /// It cannot be used by the other side, and is not copied.
    Foreign,
    /// It cannot be used by anybody, and is not copied.
    Damaged,
}

impl Outcome {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 6] =
        [Self::Copied, Self::Unchanged, Self::Kept, Self::Expired, Self::Foreign, Self::Damaged];

    /// As reports name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Unchanged => "unchanged",
            Self::Kept => "kept",
            Self::Expired => "expired",
            Self::Foreign => "foreign",
            Self::Damaged => "damaged",
        }
    }
}

impl Transfer {
    /// How many have this outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.items.iter().filter(|item| item.outcome == outcome).count()
    }

    pub(super) fn add(&mut self, folder: &impl ToString, judged: Judged) {
        let Judged { outcome, detail } = judged;
        self.items.push(TransferredItem { folder: folder.to_string(), outcome, detail });
    }
}

/// The outcome of one certificate or account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Judged {
    pub(super) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into() }
    }
}
