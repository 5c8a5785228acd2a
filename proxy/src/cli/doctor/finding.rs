//! What a check found.

use std::time::Duration;

use serde::Serialize;

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Severity,
    pub(super) what: String,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    /// What to paste into the policy of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<serde_json::Value>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    Ok,
    /// It works, and less well than it could.
    Warn,
    /// What the settings ask for will not work.
    Fail,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { verdict: Severity::Ok, what: what.into(), found: found.into(), remedy: None, policy: None }
    }

    pub(super) fn warn(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { verdict: Severity::Warn, what: what.into(), found: found.into(), remedy, policy: None }
    }

    pub(super) fn fail(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Severity::Fail, ..Self::warn(what, found, remedy) }
    }

    /// [`Finding::warn`] instead of a failure, where the settings do not depend on it.
    pub(super) fn unless(mut self, needless: bool) -> Self {
        if needless && self.verdict == Severity::Fail {
            self.verdict = Severity::Warn;
        }
        self
    }
}

/// A check that did not end.
pub(super) fn late(what: &str, deadline: Duration) -> Finding {
    let found = format!("no answer within {} s", deadline.as_secs());
    Finding::fail(what, found, "check what it depends on, and run `gatehouse doctor` again")
}
