//! What an instance makes of one name.

use serde::{Deserialize, Serialize};

use crate::{
    domains::{Permission, PermissionSource},
    name::ServerName,
};

/// What an instance makes of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAnswer {
    /// The name.
    pub server_name: ServerName,
    /// Whether it may be served.
    pub permission: PermissionWord,
    /// By which entry of which source, or why not.
    pub why: String,
    /// What the kernel does with its hellos.
    pub guard: GuardAnswer,
}

/// Whether a name may be served, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionWord {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
    /// Nothing can be said of it now.
    Unknown,
}

/// Whether the kernel has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardAnswer {
    /// The guard is off.
    Off,
    /// It has.
    Listed,
    /// It has not.
    Unlisted,
    /// It holds an older list.
    Behind,
}

impl NameAnswer {
    pub(in crate::control) fn new(
        server_name: ServerName,
        permission: &Permission,
        guard: GuardAnswer,
    ) -> Self {
        let (permission, why) = match permission {
            Permission::Allow(entry) => {
                let source = match entry.source {
                    PermissionSource::Static => "the settings",
                    PermissionSource::Table => "the domains table",
                    PermissionSource::Ask => "the ask endpoint",
                };
                let pair = if entry.pattern.covers(&server_name) { "" } else { AS_COUNTERPART };
                (PermissionWord::Allowed, format!("`{}` of {source}{pair}", entry.pattern))
            }
            Permission::Deny(denial) => (PermissionWord::Denied, denial.to_string()),
            Permission::Unknown(reason) => (PermissionWord::Unknown, reason.to_string()),
        };
        Self { server_name, permission, why, guard }
    }
}

const AS_COUNTERPART: &str = ", as the other name of its pair";
