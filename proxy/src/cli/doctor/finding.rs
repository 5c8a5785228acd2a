//! What a check found.

use std::time::Duration;

use serde::Serialize;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) what: String,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// What to paste into the policy of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<serde_json::Value>,
}

/// How bad it is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    Ok,
    /// Nothing is wrong: the settings do not need it, or it cannot be looked at from here.
    Note,
    /// It works, and less well than it could.
    Warning,
    /// What the settings ask for will not work.
    Error,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, what: what.into(), found: found.into(), remedy: None, policy: None }
    }

    pub(super) fn note(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Note, remedy: Some(remedy.into()), ..Self::ok(what, found) }
    }

    pub(super) fn warning(
        what: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::note(what, found, remedy) }
    }

    pub(super) fn error(
        what: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Error, ..Self::note(what, found, remedy) }
    }

    /// No worse than `severity`, where the settings do not depend on it.
    pub(super) fn at_most(mut self, severity: Severity, is_needless: bool) -> Self {
        if is_needless {
            self.severity = self.severity.min(severity);
        }
        self
    }
}

/// A check that did not end.
pub(super) fn late(what: &str, deadline: Duration) -> Finding {
    let found = format!("no answer within {} s", deadline.as_secs());
    Finding::error(what, found, "check what it depends on, and run `gatehouse doctor` again")
}
