//! The five kinds of stacks: names, templates, and what a status permits.

use std::fmt;

use crate::wanted::{Region, Stage};

/// A kind of stack; in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A bucket for the function's code, in each region.
    Artifacts,
    /// The tables, in the home region.
    Domains,
    /// The accelerator, in the home region.
    Edge,
    /// Functions over the domains table, in the home region.
    Functions,
    /// Instances, in each region.
    Fleet,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Artifacts, Self::Domains, Self::Edge, Self::Functions, Self::Fleet];

    /// As the stack's name ends.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Artifacts => "artifacts",
            Self::Domains => "domains",
            Self::Edge => "edge",
            Self::Functions => "functions",
            Self::Fleet => "fleet",
        }
    }

    /// Whether there is one in the home region only.
    pub(crate) const fn is_at_home(self) -> bool {
        match self {
            Self::Domains | Self::Edge | Self::Functions => true,
            Self::Artifacts | Self::Fleet => false,
        }
    }

    /// CloudFormation's template.
    pub(crate) const fn template(self) -> &'static str {
        match self {
            Self::Artifacts => include_str!("../../infra/artifacts.yaml"),
            Self::Domains => include_str!("../../infra/domains.yaml"),
            Self::Edge => include_str!("../../infra/edge.yaml"),
            Self::Functions => include_str!("../../infra/functions.yaml"),
            Self::Fleet => include_str!("../../infra/fleet.yaml"),
        }
    }
}

/// A stack of a stage: of which kind, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StackKey {
    pub(crate) kind: Kind,
    pub(crate) region: Region,
}

impl StackKey {
    pub(crate) fn new(kind: Kind, region: &Region) -> Self {
        Self { kind, region: region.clone() }
    }

    /// What CloudFormation calls it.
    pub(crate) fn name(&self, stage: &Stage) -> String {
        format!("gatehouse-{stage}-{}", self.kind.name())
    }
}

impl fmt::Display for StackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stack {} in {}", self.kind.name(), self.region)
    }
}

/// What CloudFormation's words for a stack's status come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Not there, or nothing but a change set that was never carried out.
    Absent,
    /// It can be changed.
    Ready,
    /// Something is under way.
    Busy,
    /// Its creation failed: it can only be deleted.
    Undone,
    /// Its deletion failed: it can only be deleted again.
    HalfDeleted,
    /// An update that failed could not be undone either.
    Stuck,
}

impl Condition {
    /// Of a `StackStatus`.
    pub(crate) fn of(status: &str) -> Self {
        match status {
            "REVIEW_IN_PROGRESS" | "DELETE_COMPLETE" => Self::Absent,
            "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" => Self::Undone,
            "DELETE_FAILED" => Self::HalfDeleted,
            _ if status.ends_with("_IN_PROGRESS") => Self::Busy,
            _ if status.ends_with("_FAILED") => Self::Stuck,
            _ => Self::Ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_cloudformation_has_its_meaning() {
        for (status, condition) in [
            ("CREATE_COMPLETE", Condition::Ready),
            ("UPDATE_COMPLETE", Condition::Ready),
            ("UPDATE_ROLLBACK_COMPLETE", Condition::Ready),
            ("IMPORT_ROLLBACK_COMPLETE", Condition::Ready),
            ("REVIEW_IN_PROGRESS", Condition::Absent),
            ("DELETE_COMPLETE", Condition::Absent),
            ("ROLLBACK_COMPLETE", Condition::Undone),
            ("CREATE_IN_PROGRESS", Condition::Busy),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Condition::Busy),
            ("UPDATE_ROLLBACK_IN_PROGRESS", Condition::Busy),
            ("ROLLBACK_COMPLETE", Condition::Undone),
            ("ROLLBACK_FAILED", Condition::Undone),
            ("CREATE_FAILED", Condition::Undone),
            ("DELETE_FAILED", Condition::HalfDeleted),
            ("UPDATE_FAILED", Condition::Stuck),
            ("UPDATE_ROLLBACK_FAILED", Condition::Stuck),
        ] {
            assert_eq!(Condition::of(status), condition, "{status}");
        }
    }

    #[test]
    fn templates_fit_into_a_call() {
        for kind in Kind::ALL {
            // "AWS CloudFormation quotas": of TemplateBody.
            assert!(kind.template().len() <= 51_200, "{}", kind.name());
        }
    }
}
