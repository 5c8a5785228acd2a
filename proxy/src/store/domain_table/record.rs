//! An entry of the domains table, and the item it is kept as.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::{
    Item,
    settings::{self, SETTINGS, SettingsMap},
};
use crate::{
    config::DomainSettings,
    name::Pattern,
    store::{StoreError, instant::Micros, partition::partition, tenant::DEFAULT_TENANT},
    target::Target,
};

/// An entry of the domains table. One made by hand has its `domain` only: active, of the default tenant, version 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DomainRecord {
    /// What it covers; the key.
    #[serde(rename = "domain")]
    pub pattern: Pattern,
    /// Where its requests go; absent, the default target.
    pub target: Option<Target>,
    /// What it sets for its name.
    #[serde(flatten)]
    pub settings: DomainSettings,
    /// Whether the item has `settings`, in which other programs may keep more.
    #[serde(skip)]
    pub settings_map: SettingsMap,
    /// Whether it is served.
    pub status: DomainStatus,
    /// Whose it is.
    pub tenant: String,
    /// Optimistic lock; 0 for an item made by hand and for rows of an index that leaves it out.
    pub version: u64,
    /// When it was made.
    pub created_at: Option<Micros>,
    /// When it last changed: its place in the feed. An item made by hand has none, and is in no feed.
    pub changed_at: Option<Micros>,
    /// Seconds since the epoch after which the table forgets it.
    pub expires_at: Option<u64>,
    /// Whether it was suspended while it waited for its proof, and does so again when it is resumed.
    #[serde(skip)]
    pub is_unproven: bool,
}

/// Whether an entry is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainStatus {
    /// Not verified yet: not served.
    Pending,
    /// Served. An item without a status is active.
    Active,
    /// Its verification has failed recently; still served.
    Failing,
    /// Not served until its owner says so.
    Suspended,
    /// A tombstone, so that other instances see the removal.
    Removed,
}

/// A partition of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard(u8);

/// All partitions of the feed.
pub const SHARDS: [Shard; 4] = [Shard(0), Shard(1), Shard(2), Shard(3)];

impl Shard {
    /// The partition of `pattern`.
    #[must_use]
    pub fn of(pattern: &Pattern) -> Self {
        Self(partition(&pattern.to_string(), 4))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl DomainRecord {
    /// Whose it is; what was removed is nobody's any more.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        (self.status != DomainStatus::Removed).then_some(self.tenant.as_str())
    }

    /// Reads an item of any writer; malformed attributes are named, never guessed.
    pub(super) fn read(item: &Item) -> Result<Self, StoreError> {
        let reader = Reader { item, key: text_of(item, "domain").unwrap_or_default() };
        let pattern = Pattern::parse(&reader.key).map_err(|error| reader.fault("domain", &error))?;
        if pattern.to_string() != reader.key {
            return Err(reader.fault("domain", &format!("must be written `{pattern}` to be found")));
        }
        let (settings_map, settings) = reader.settings()?;
        Ok(Self {
            settings,
            settings_map,
            target: reader.text("target", |text| Target::parse(text).map_err(|error| error.to_string()))?,
            status: reader.text("status", DomainStatus::parse)?.unwrap_or(DomainStatus::Active),
            tenant: reader.text("tenant", |text| Ok(text.into()))?.unwrap_or_else(|| DEFAULT_TENANT.into()),
            version: reader.number("version")?.unwrap_or(0),
            created_at: reader.text("created_at", instant)?,
            changed_at: reader.text("changed_at", instant)?,
            expires_at: reader.number("expires_at")?,
            is_unproven: reader.flag("unproven")?,
            pattern,
        })
    }

    /// Every attribute it is stored as beside its key; absent ones are removed.
    pub(super) fn attributes(&self) -> [(&'static str, Option<AttributeValue>); 9] {
        let text = |text: String| Some(AttributeValue::S(text));
        let number = |n: u64| Some(AttributeValue::N(n.to_string()));
        [
            ("target", self.target.as_ref().and_then(|target| text(target.to_string()))),
            ("status", text(self.status.as_str().to_owned())),
            ("tenant", text(self.tenant.clone())),
            ("version", number(self.version)),
            ("created_at", self.created_at.and_then(|at| text(at.to_string()))),
            ("changed_at", self.changed_at.and_then(|at| text(at.to_string()))),
            ("feed", text(Shard::of(&self.pattern).to_string())),
            ("expires_at", self.expires_at.and_then(number)),
            ("unproven", self.is_unproven.then_some(AttributeValue::Bool(true))),
        ]
    }
}

impl DomainStatus {
    /// Whether an entry of this status is served.
    #[must_use]
    pub fn is_served(self) -> bool {
        match self {
            Self::Active | Self::Failing => true,
            Self::Pending | Self::Suspended | Self::Removed => false,
        }
    }

    /// As the table and the command line write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Failing => "failing",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        [Self::Pending, Self::Active, Self::Failing, Self::Suspended, Self::Removed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("`{text}` is none of pending, active, failing, suspended, removed"))
    }
}

fn instant(text: &str) -> Result<Micros, String> {
    Micros::parse(text).ok_or_else(|| format!("`{text}` is not written like `2026-11-24T02:15:08.123456Z`"))
}

struct Reader<'a> {
    item: &'a Item,
    key: String,
}

impl Reader<'_> {
    fn fault(&self, attribute: &'static str, fault: &dyn fmt::Display) -> StoreError {
        let key = self.key.chars().take(MAX_SHOWN).collect();
        StoreError::Misshapen { key, attribute, fault: fault.to_string() }
    }

    fn text<T>(
        &self,
        attribute: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, StoreError> {
        match self.item.get(attribute) {
            None | Some(AttributeValue::Null(_)) => Ok(None),
            Some(AttributeValue::S(text)) => {
                parse(text).map(Some).map_err(|fault| self.fault(attribute, &fault))
            }
            Some(_) => Err(self.fault(attribute, &"must be of type S")),
        }
    }

    /// Whether there are `settings`, and what we know of them; what others keep there is theirs.
    fn settings(&self) -> Result<(SettingsMap, DomainSettings), StoreError> {
        match self.item.get(SETTINGS) {
            None | Some(AttributeValue::Null(_)) => Ok((SettingsMap::Absent, DomainSettings::default())),
            Some(AttributeValue::M(map)) => {
                let settings = settings::read(map).map_err(|fault| self.fault(SETTINGS, &fault))?;
                Ok((SettingsMap::Present, settings))
            }
            Some(_) => Err(self.fault(SETTINGS, &"must be of type M")),
        }
    }

    fn flag(&self, attribute: &'static str) -> Result<bool, StoreError> {
        match self.item.get(attribute) {
            None | Some(AttributeValue::Null(_)) => Ok(false),
            Some(AttributeValue::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.fault(attribute, &"must be of type BOOL")),
        }
    }

    fn number(&self, attribute: &'static str) -> Result<Option<u64>, StoreError> {
        match self.item.get(attribute) {
            None | Some(AttributeValue::Null(_)) => Ok(None),
            Some(AttributeValue::N(text)) => {
                text.parse().map(Some).map_err(|_| self.fault(attribute, &"must be a whole number"))
            }
            Some(_) => Err(self.fault(attribute, &"must be of type N")),
        }
    }
}

fn text_of(item: &Item, attribute: &str) -> Option<String> {
    item.get(attribute).and_then(|value| value.as_s().ok().cloned())
}

/// A hostile key is not written to the log in full.
const MAX_SHOWN: usize = 260;
