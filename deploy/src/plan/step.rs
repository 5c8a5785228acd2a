//! Steps and their order.

use std::{collections::BTreeMap, fmt};

use crate::{
    code_package::CodePackage,
    stack::StackKey,
    wanted::{Region, Stage},
};

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The steps of a wave go side by side; a wave begins when the one before has succeeded.
    pub(crate) waves: Vec<Vec<Step>>,
}

impl Plan {
    /// Adds a wave, unless there is nothing in it.
    pub(super) fn then(&mut self, wave: Vec<Step>) {
        if !wave.is_empty() {
            self.waves.push(wave);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waves.is_empty()
    }
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Change(StackChange),
    /// A function's package.
    Upload {
        region: Region,
        package: CodePackage,
    },
    /// Termination protection.
    Protect(StackKey),
    Unprotect(StackKey),
    /// All versions in the stack's bucket.
    Empty(StackKey),
    Delete(StackKey),
    /// With deletion protection taken off.
    DeleteTable {
        region: Region,
        name: String,
    },
    ScheduleKeyDeletion {
        region: Region,
        key: String,
    },
}

/// A stack that is made or changed, by a change set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackChange {
    pub(crate) key: StackKey,
    pub(crate) is_new: bool,
    pub(crate) parameters: BTreeMap<&'static str, Value>,
    /// Names of what differs; `template` is one.
    pub(crate) differs: Vec<&'static str>,
    /// ARNs of alarms that turn the change back.
    pub(crate) alarms: Vec<String>,
}

/// A parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Known(String),
    /// Of a stack that is made or changed before.
    Output(StackKey, &'static str),
    /// Only AWS knows, and nobody asked.
    Open(&'static str),
}

impl Step {
    /// Where it happens.
    pub(crate) fn region(&self) -> &Region {
        match self {
            Self::Change(StackChange { key, .. })
            | Self::Protect(key)
            | Self::Unprotect(key)
            | Self::Empty(key)
            | Self::Delete(key) => &key.region,
            Self::Upload { region, .. }
            | Self::DeleteTable { region, .. }
            | Self::ScheduleKeyDeletion { region, .. } => region,
        }
    }

    /// For a person, with all that is given.
    pub(crate) fn sentence(&self, stage: &Stage) -> String {
        match self {
            Self::Change(change) => format!("{}{}", self.title(stage), change.details()),
            _ => self.title(stage),
        }
    }

    /// For a person who has read the sentence.
    pub(crate) fn title(&self, stage: &Stage) -> String {
        match self {
            Self::Change(StackChange { key, is_new: true, .. }) => format!("create {}", key.name(stage)),
            Self::Change(StackChange { key, .. }) => format!("update {}", key.name(stage)),
            Self::Upload { package, .. } => {
                format!("put the function's package {} into the bucket", package.key())
            }
            Self::Protect(key) => format!("protect {} from deletion", key.name(stage)),
            Self::Unprotect(key) => {
                format!("take the protection from {}: its static addresses will be lost", key.name(stage))
            }
            Self::Empty(key) => format!("empty the bucket of {}, all versions", key.name(stage)),
            Self::Delete(key) => format!("delete {} and wait until it is gone", key.name(stage)),
            Self::DeleteTable { name, .. } => {
                format!("take the deletion protection from the table {name} and delete it with all its data")
            }
            Self::ScheduleKeyDeletion { key, .. } => {
                format!("schedule the key {key} for deletion in 30 days: backups cannot be read without it")
            }
        }
    }
}

impl StackChange {
    fn details(&self) -> String {
        if self.is_new {
            let given = self.parameters.iter().filter(|(name, _)| **name != "Stage");
            let given: Vec<_> = given.map(|(name, value)| format!("{name}={value}")).collect();
            return if given.is_empty() { String::new() } else { format!(" with {}", given.join(" ")) };
        }
        let of = |name: &&str| match self.parameters.get(name) {
            Some(value) => format!("{name}={value}"),
            None => (*name).to_owned(),
        };
        format!(": {}", self.differs.iter().map(of).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Settings are a file; its first line would say little.
            Self::Known(text) if text.contains('\n') => write!(f, "<{} bytes>", text.len()),
            Self::Known(text) if text.is_empty() => f.write_str("\"\""),
            Self::Known(text) => f.write_str(text),
            Self::Output(key, name) => write!(f, "<{name} of {key}>"),
            Self::Open(what) => write!(f, "<{what}>"),
        }
    }
}
