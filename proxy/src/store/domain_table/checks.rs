//! What was last found out about an entry's name: the attribute `checks`, which is no part of the entry itself. Writing it touches neither
//! `version` nor `changed_at`, so the feed does not carry it.

use std::{borrow::Cow, collections::HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{DomainRecord, is_of_version, item, key};
use crate::{
    label,
    name::Pattern,
    store::{Item, Store, StoreError, instant::Micros},
    telemetry::metrics::Label,
};

/// What the last checks of a name found, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// When they were made.
    pub checked_at: Micros,
    /// How many in a row found something wrong.
    pub failures: u32,
    /// Since when the name leads elsewhere, if it does.
    pub away_since: Option<Micros>,
    /// Those that failed when they were made last, and could not be made now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<Check>,
    /// One of each check that was made.
    pub findings: Vec<Finding>,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which.
    pub check: Check,
    /// Whether it was right.
    pub outcome: Outcome,
    /// What was found, for programs.
    pub reason: Reason,
    /// What was found, for people.
    pub detail: String,
    /// What the name's owner can do about it.
    pub remedy: Option<String>,
}

label! {
    /// A check of a name.
    pub enum Check["check"] {
        /// Whether it leads to the edge.
        Dns = "dns",
        /// Whether its ownership record is there.
        Ownership = "ownership",
        /// Whether a CA of ours may issue for it (RFC 8659).
        Caa = "caa",
        /// Whether it is served with a certificate of its own.
        Https = "https",
    }
}

label! {
    /// What came of a check.
    pub enum Outcome["outcome"] {
        /// As it should be.
        Passed = "passed",
        /// Not as it should be.
        Failed = "failed",
        /// No answer, so nothing is known.
        Unknown = "unknown",
    }
}

label! {
    /// What a check found.
    pub enum Reason["reason"] {
        /// It leads to the edge.
        LeadsHere = "leads_here",
        /// It leads elsewhere.
        LeadsElsewhere = "leads_elsewhere",
        /// Some of its addresses are the edge's.
        LeadsPartlyHere = "leads_partly_here",
        /// It leads to another server, which passes requests on to the edge.
        PassedOn = "passed_on",
        /// There is no such record.
        NoRecord = "no_record",
        /// The DNS servers do not answer, or the CA does not say by which names CAA records may permit it.
        NoAnswer = "no_answer",
        /// The edge's own names have no address.
        EdgeUnresolved = "edge_unresolved",
        /// The ownership record is there.
        Proven = "proven",
        /// The ownership record says something else.
        OtherValue = "other_value",
        /// A CA may issue.
        Permitted = "permitted",
        /// CAA records permit other CAs only.
        Forbidden = "forbidden",
        /// It is served with a certificate of its own.
        Served = "served",
        /// No connection came about.
        Unreachable = "unreachable",
        /// The handshake was refused.
        Refused = "refused",
        /// The certificate is for other names.
        OtherCertificate = "other_certificate",
        /// The certificate has ended, or has not begun.
        Expired = "expired",
    }
}

macro_rules! texts {
    ($($label:ty),+) => {$(
        impl Serialize for $label {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $label {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str>>::deserialize(deserializer)?;
                labelled(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no {}", <$label>::NAME)))
            }
        }
    )+};
}
texts!(Check, Outcome, Reason);

impl Checks {
    /// What `check` found.
    #[must_use]
    pub fn of(&self, check: Check) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.check == check)
    }

    fn write(&self) -> AttributeValue {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let findings = self.findings.iter().map(|finding| {
            let mut map = HashMap::from([
                ("check".to_owned(), text(finding.check.as_str())),
                ("outcome".to_owned(), text(finding.outcome.as_str())),
                ("reason".to_owned(), text(finding.reason.as_str())),
                ("detail".to_owned(), text(&finding.detail)),
            ]);
            map.extend(finding.remedy.as_ref().map(|remedy| ("remedy".to_owned(), text(remedy))));
            AttributeValue::M(map)
        });
        let mut map = HashMap::from([
            ("checked_at".to_owned(), text(&self.checked_at.to_string())),
            ("failures".to_owned(), AttributeValue::N(self.failures.to_string())),
            ("findings".to_owned(), AttributeValue::L(findings.collect())),
        ]);
        map.extend(self.away_since.map(|since| ("away_since".to_owned(), text(&since.to_string()))));
        if !self.unresolved.is_empty() {
            let checks = self.unresolved.iter().map(|check| text(check.as_str())).collect();
            map.insert("unresolved".to_owned(), AttributeValue::L(checks));
        }
        AttributeValue::M(map)
    }

    /// What of `item` can be understood: what others wrote there is as if no check had been made.
    fn read(item: &Item) -> Option<Self> {
        let map = item.get(CHECKS)?.as_m().ok()?;
        let list = |key: &str| {
            let list = map.get(key).and_then(|list| list.as_l().ok());
            list.into_iter().flatten().take(Check::ALL.len())
        };
        Some(Self {
            checked_at: instant(map, "checked_at")?,
            failures: map.get("failures").and_then(|n| n.as_n().ok()?.parse().ok()).unwrap_or(0),
            away_since: instant(map, "away_since"),
            unresolved: list("unresolved").filter_map(|check| labelled(check.as_s().ok()?)).collect(),
            findings: list("findings").filter_map(Finding::read).collect(),
        })
    }
}

impl Finding {
    /// Whether it says that an entry that is served is not as it should be: such a one may lose the proof of its ownership.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.outcome == Outcome::Failed && self.check != Check::Ownership
    }

    fn read(value: &AttributeValue) -> Option<Self> {
        let map = value.as_m().ok()?;
        Some(Self {
            check: labelled(text(map, "check")?)?,
            outcome: labelled(text(map, "outcome")?)?,
            reason: labelled(text(map, "reason")?)?,
            detail: text(map, "detail")?.to_owned(),
            remedy: text(map, "remedy").map(str::to_owned),
        })
    }
}

/// The entry of `pattern` and what was found out about it, read consistently.
pub async fn get_checked(
    store: &Store,
    pattern: &Pattern,
) -> Result<Option<(DomainRecord, Option<Checks>)>, StoreError> {
    let item = item(store, pattern).await?;
    item.as_ref().map(|item| Ok((DomainRecord::read(item)?, Checks::read(item)))).transpose()
}

/// Writes what was found out about the entry of `pattern` when it was of version `seen` (0: made by hand, without one);
/// [`StoreError::Conflict`] when there is none, or another: it may have been removed and made anew, even by another tenant.
pub async fn put_checks(
    store: &Store,
    pattern: &Pattern,
    seen: u64,
    checks: &Checks,
) -> Result<(), StoreError> {
    let update = store.client().update_item().table_name(&store.tables().domains);
    let mut values = Item::from([(":checks".to_owned(), checks.write())]);
    let is_seen = is_of_version(seen, &mut values);
    let update = update
        .set_key(Some(key(pattern)))
        .update_expression("SET #checks = :checks")
        .condition_expression(format!("attribute_exists(#domain) AND ({is_seen})"))
        .expression_attribute_names("#checks", CHECKS)
        .expression_attribute_names("#domain", "domain")
        .expression_attribute_names("#version", "version")
        .set_expression_attribute_values(Some(values));
    update.send().await?;
    Ok(())
}

fn text<'a>(map: &'a HashMap<String, AttributeValue>, key: &str) -> Option<&'a str> {
    map.get(key)?.as_s().ok().map(String::as_str)
}

fn instant(map: &HashMap<String, AttributeValue>, key: &str) -> Option<Micros> {
    Micros::parse(text(map, key)?)
}

fn labelled<L: Label>(text: &str) -> Option<L> {
    L::ALL.iter().copied().find(|label| label.as_str() == text)
}

/// The attribute.
pub(super) const CHECKS: &str = "checks";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domains::admin::added_for_tests,
        store::{
            domain_table::{self, DomainStatus, tests::audit},
            fixture::faulty_with_tables,
        },
    };

    fn checks() -> Checks {
        let finding = |check, outcome, reason, remedy: Option<&str>| Finding {
            check,
            outcome,
            reason,
            detail: "leads to 203.0.113.9".to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        Checks {
            checked_at: Micros::from_epoch(7_000_000),
            failures: 3,
            away_since: Some(Micros::from_epoch(5_000_000)),
            unresolved: vec![Check::Https],
            findings: vec![
                finding(Check::Dns, Outcome::Failed, Reason::LeadsElsewhere, Some("set the CNAME record")),
                finding(Check::Caa, Outcome::Passed, Reason::Permitted, None),
            ],
        }
    }

    #[tokio::test]
    async fn checks_are_kept_beside_an_entry_and_change_nothing_of_it() {
        let store = faulty_with_tables("seed=3").await;
        let pattern = Pattern::parse("a.example").unwrap();
        assert!(matches!(put_checks(&store, &pattern, 0, &checks()).await, Err(StoreError::Conflict)));
        let record = added_for_tests(&pattern);
        domain_table::put(&store, &record, 0).await.unwrap();
        assert_eq!(get_checked(&store, &pattern).await.unwrap(), Some((record.clone(), None)));
        put_checks(&store, &pattern, 1, &checks()).await.unwrap();
        assert_eq!(get_checked(&store, &pattern).await.unwrap(), Some((record.clone(), Some(checks()))));
        let renewed = DomainRecord { version: 2, ..record.clone() };
        domain_table::put(&store, &renewed, 1).await.unwrap();
        assert_eq!(get_checked(&store, &pattern).await.unwrap(), Some((renewed, Some(checks()))));
    }

    /// An entry, its tombstone, and another that is made anew.
    fn lives(pattern: &Pattern) -> [DomainRecord; 3] {
        let record = added_for_tests(pattern);
        let gone =
            DomainRecord { status: DomainStatus::Removed, version: 2, expires_at: Some(9), ..record.clone() };
        let again = DomainRecord { version: 3, ..record.clone() };
        [record, gone, again]
    }

    #[tokio::test]
    async fn an_entry_that_is_made_anew_has_none() {
        let store = faulty_with_tables("seed=3").await;
        let pattern = Pattern::parse("a.example").unwrap();
        let [record, gone, again] = lives(&pattern);
        domain_table::replace(&store, &record, None, &audit(), &[]).await.unwrap();
        put_checks(&store, &pattern, 1, &checks()).await.unwrap();
        domain_table::replace(&store, &gone, Some(&record), &audit(), &[]).await.unwrap();
        assert!(get_checked(&store, &pattern).await.unwrap().unwrap().1.is_some());
        domain_table::replace(&store, &again, Some(&gone), &audit(), &[]).await.unwrap();
        assert_eq!(get_checked(&store, &pattern).await.unwrap(), Some((again, None)));
    }

    #[tokio::test]
    async fn what_was_found_of_another_life_of_an_entry_is_not_written() {
        let store = faulty_with_tables("seed=3").await;
        let pattern = Pattern::parse("a.example").unwrap();
        let [record, gone, again] = lives(&pattern);
        let moved = DomainRecord { version: 4, tenant: "zeta".to_owned(), ..record.clone() };
        domain_table::replace(&store, &record, None, &audit(), &[]).await.unwrap();
        domain_table::replace(&store, &gone, Some(&record), &audit(), &[]).await.unwrap();
        domain_table::replace(&store, &again, Some(&gone), &audit(), &[]).await.unwrap();
        for seen in [0, 1, 2] {
            let late = put_checks(&store, &pattern, seen, &checks()).await;
            assert!(matches!(late, Err(StoreError::Conflict)), "{seen}: {late:?}");
        }
        assert_eq!(get_checked(&store, &pattern).await.unwrap(), Some((again.clone(), None)));
        put_checks(&store, &pattern, 3, &checks()).await.unwrap();
        domain_table::replace(&store, &moved, Some(&again), &audit(), &[]).await.unwrap();
        assert_eq!(
            get_checked(&store, &pattern).await.unwrap(),
            Some((moved, None)),
            "it was its former tenant's"
        );
    }

    #[tokio::test]
    async fn an_entry_made_by_hand_has_checks_too() {
        let store = faulty_with_tables("seed=3").await;
        let pattern = Pattern::parse("a.example").unwrap();
        let domain = AttributeValue::S(pattern.to_string());
        let put = store.client().put_item().table_name(&store.tables().domains);
        put.item("domain", domain).send().await.unwrap();
        put_checks(&store, &pattern, 0, &checks()).await.unwrap();
        assert_eq!(get_checked(&store, &pattern).await.unwrap().unwrap().1, Some(checks()));
    }

    #[test]
    fn what_others_wrote_there_is_no_check() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let with = |key: &str, value: AttributeValue| {
            let AttributeValue::M(mut map) = checks().write() else { unreachable!("it writes a map") };
            map.insert(key.to_owned(), value);
            Item::from([(CHECKS.to_owned(), AttributeValue::M(map))])
        };
        let odd = AttributeValue::L(vec![text("odd"), AttributeValue::M(HashMap::new())]);
        assert_eq!(Checks::read(&with("findings", odd)), Some(Checks { findings: Vec::new(), ..checks() }));
        assert_eq!(Checks::read(&with("checked_at", text("yesterday"))), None);
        assert_eq!(Checks::read(&with("failures", text("3"))).unwrap().failures, 0);
        assert_eq!(Checks::read(&Item::from([(CHECKS.to_owned(), text("ok"))])), None);
        assert_eq!(Checks::read(&Item::new()), None);
    }
}
