//! A TXT record as Route 53 holds it, and what it is to become.

/// A record set of type TXT. Values are as Route 53 writes them: strings in quotes, one or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TxtRecord {
    pub(super) ttl_seconds: u32,
    pub(super) values: Vec<String>,
}

/// A change of a record: what was read is deleted, and what is wanted is created, both or neither. Route 53 refuses the deletion of what
/// is not as it says, and the creation of what is there, so that nobody's value is lost (API page `ChangeResourceRecordSets`); an UPSERT
/// would overwrite whatever is there by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) deleted: Option<TxtRecord>,
    pub(super) created: Option<TxtRecord>,
}

impl Replacement {
    /// `found` with `value`, and without those `superseded`. It is a change even when it is so already: whoever wrote it may have done so
    /// a moment ago, also we in a call whose answer was lost, and only a change has an id to ask whether all servers have it.
    pub(super) fn adding(found: Option<&TxtRecord>, value: &str, superseded: &[String]) -> Self {
        let value = quoted(value);
        let superseded: Vec<_> =
            superseded.iter().map(|text| quoted(text)).filter(|text| *text != value).collect();
        let before = found.map(|record| record.values.as_slice()).unwrap_or_default();
        let others = before.iter().filter(|other| **other != value && !superseded.contains(other));
        let mut values: Vec<_> = others.cloned().collect();
        values.push(value.clone());
        let ttl_seconds = found.map_or(TTL_SECONDS, |record| record.ttl_seconds);
        Self { deleted: found.cloned(), created: Some(TxtRecord { ttl_seconds, values }) }
    }

    /// `found` without `value`; none when it is not there.
    pub(super) fn removing(found: &TxtRecord, value: &str) -> Option<Self> {
        let value = quoted(value);
        if !found.values.contains(&value) {
            return None;
        }
        let values: Vec<_> = found.values.iter().filter(|other| **other != value).cloned().collect();
        let rest = TxtRecord { values, ..found.clone() };
        Some(Self {
            deleted: Some(found.clone()),
            created: Some(rest).filter(|rest| !rest.values.is_empty()),
        })
    }
}

/// Ours are base64url, in which nothing is to be escaped.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

/// Short, so that a resolver that has asked too early asks again soon.
const TTL_SECONDS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(values: &[&str]) -> TxtRecord {
        TxtRecord { ttl_seconds: 300, values: values.iter().map(|value| quoted(value)).collect() }
    }

    #[test]
    fn what_others_put_there_stays() {
        for (found, superseded, expected) in [
            (None, &[][..], &["new"][..]),
            (None, &["old"], &["new"]),
            (Some(&["other"][..]), &[], &["other", "new"]),
            (Some(&["other", "old", "third"]), &["old"], &["other", "third", "new"]),
            (Some(&["old"]), &["old"], &["new"]),
            (Some(&["new"]), &[], &["new"]),
            (Some(&["new", "other"]), &["new"], &["other", "new"]),
            (Some(&["new", "old"]), &["old"], &["new"]),
        ] {
            let found = found.map(record);
            let superseded: Vec<_> = superseded.iter().map(|text| (*text).to_owned()).collect();
            let made = Replacement::adding(found.as_ref(), "new", &superseded);
            let ttl_seconds = if found.is_some() { 300 } else { TTL_SECONDS };
            let created = TxtRecord { ttl_seconds, ..record(expected) };
            assert_eq!(made.created, Some(created), "{found:?} {superseded:?}");
            assert_eq!(made.deleted, found, "it is replaced as it was read");
        }
        for (found, expected) in [
            (&["new"][..], Some(None)),
            (&["other", "new"], Some(Some(record(&["other"])))),
            (&["other"], None),
            (&[], None),
        ] {
            let found = record(found);
            let made = Replacement::removing(&found, "new");
            assert_eq!(made.as_ref().map(|made| made.created.clone()), expected, "{found:?}");
            assert!(made.is_none_or(|made| made.deleted == Some(found)));
        }
    }
}
