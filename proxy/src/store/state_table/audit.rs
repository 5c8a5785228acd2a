//! Who changed which entry of the domains table: items `audit#<tenant>#<day>`/`<instant>#<random>`, written in one transaction with the change.
//! Not here: what is changed (`domains`).
//! Invariants: no entry is changed without its record (`domain_table::replace` writes both or nothing); records are forgotten after the time
//! the settings say, and never changed; a record that cannot be read is left out (`what_cannot_be_read_is_left_out`).

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::{
    day_log::{self, LogDay, LogPage},
    item::seconds,
};
use crate::{
    name::Pattern,
    store::{Consistency, Item, Store, StoreError, instant::Micros, tenant::Tenant},
};

/// A part of an entry that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `target`, `status`, `tenant`, or one of `settings`.
    pub field: String,
    /// As it was; absent, there was no entry, or another tenant's.
    pub from: Option<String>,
    /// As it is; absent, there is no entry, or another tenant's.
    pub to: Option<String>,
}

/// A change of an entry, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Micros,
    /// Who: `uid 0`, `token 0123456789ab`.
    pub by: String,
    /// Which entry.
    pub domain: Pattern,
    /// Whose it is, or was.
    pub tenant: String,
    /// What was done, as reports name it.
    pub action: String,
    /// What is not as it was.
    pub changes: Vec<Change>,
}

/// Part of a day's records of a tenant.
#[derive(Debug, Default)]
pub struct AuditPage {
    /// The oldest first.
    pub records: Vec<AuditRecord>,
    /// Behind which the next part begins; absent, this was the last.
    pub next: Option<String>,
}

impl AuditRecord {
    /// As `tenant` finds it, where the entry has gone from `former` to another: each knows its own side of the change.
    pub(in crate::store) fn seen_by(&self, tenant: &str, former: Option<&str>) -> Self {
        let mut seen = self.clone();
        if let Some(former) = former {
            for change in &mut seen.changes {
                let of_the_other = if tenant == former { &mut change.to } else { &mut change.from };
                *of_the_other = None;
            }
        }
        seen
    }

    /// The item in which `tenant` finds it, for as long as it is `kept`.
    pub(in crate::store) fn item(&self, tenant: &str, kept: Duration) -> Result<Item, StoreError> {
        let mut random = [0_u8; 4];
        let refuse = |_| StoreError::Refused("no random numbers".into());
        aws_lc_rs::rand::fill(&mut random).map_err(refuse)?;
        let random = u32::from_be_bytes(random);
        let changes =
            serde_json::to_string(&self.changes).map_err(|error| StoreError::Refused(error.into()))?;
        let text = |text: String| AttributeValue::S(text);
        Ok(Item::from([
            ("pk".to_owned(), text(partition(tenant, &LogDay::of(self.at)))),
            ("sk".to_owned(), text(format!("{}#{random:08x}", self.at))),
            ("by".to_owned(), text(self.by.clone())),
            ("domain".to_owned(), text(self.domain.to_string())),
            ("action".to_owned(), text(self.action.clone())),
            ("changes".to_owned(), text(changes)),
            ("expires_at".to_owned(), seconds(self.at.more(kept))),
        ]))
    }

    fn read(item: &Item, tenant: &str) -> Option<Self> {
        let text = |attribute: &str| item.get(attribute)?.as_s().ok();
        let (at, _) = text("sk")?.split_once('#')?;
        Some(Self {
            at: Micros::parse(at)?,
            by: text("by")?.clone(),
            domain: text("domain")?.parse().ok()?,
            tenant: tenant.to_owned(),
            action: text("action")?.clone(),
            changes: serde_json::from_str(text("changes")?).ok()?,
        })
    }
}

/// Up to `limit` changes of `tenant`'s entries on `day`, those behind `after`. Consistent: what was answered is found.
pub async fn audit(
    store: &Store,
    tenant: &Tenant,
    day: &LogDay,
    after: Option<&str>,
    limit: u16,
) -> Result<AuditPage, StoreError> {
    let LogPage { items, next } =
        day_log::page(store, &partition(tenant.as_str(), day), after, limit, Consistency::Strong).await?;
    let records = items.iter().filter_map(|item| AuditRecord::read(item, tenant.as_str())).collect();
    Ok(AuditPage { records, next })
}

fn partition(tenant: &str, day: &LogDay) -> String {
    format!("audit#{tenant}#{}", day.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            at: Micros::parse("2026-11-28T23:59:59.000001Z").unwrap(),
            by: "uid 0".to_owned(),
            domain: "a.example".parse().unwrap(),
            tenant: "acme".to_owned(),
            action: "add".to_owned(),
            changes: vec![Change { field: "target".into(), from: None, to: Some("http://10.0.0.1".into()) }],
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let item = record().item("acme", Duration::from_mins(1)).unwrap();
        assert_eq!(item["pk"].as_s().unwrap(), "audit#acme#2026-11-28");
        assert_eq!(AuditRecord::read(&item, "acme"), Some(record()));
        for lost in ["sk", "by", "domain", "action", "changes"] {
            for wrong in [None, Some(AttributeValue::Bool(true)), Some(AttributeValue::S("-".into()))] {
                let mut item = item.clone();
                match wrong {
                    None => drop(item.remove(lost)),
                    // Any text says who did what.
                    Some(AttributeValue::S(_)) if matches!(lost, "by" | "action") => continue,
                    Some(wrong) => drop(item.insert(lost.to_owned(), wrong)),
                }
                assert_eq!(AuditRecord::read(&item, "acme"), None, "{lost}");
            }
        }
    }
}
