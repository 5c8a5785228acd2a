//! Whether CAA records let a CA issue (RFC 8659).

use crate::name::Pattern;

/// One CAA record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CaaRecord {
    /// Whether a CA that does not know `tag` must not issue.
    pub(super) is_critical: bool,
    /// `issue`, `issuewild`, `iodef` or another property.
    pub(super) tag: String,
    /// Its value.
    pub(super) value: String,
}

/// The records that apply to a name: those of the first name upwards that has any (§3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CaaRecords {
    /// That name.
    pub(super) at: String,
    /// At least one.
    pub(super) records: Vec<CaaRecord>,
}

/// What the records say to CAs of certain identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CaaVerdict {
    /// One of them may issue.
    Permitted,
    /// None may.
    Forbidden {
        /// By records of which property, `issue` or `issuewild`.
        tag: &'static str,
        /// Who may.
        others: Vec<String>,
    },
}

impl CaaRecords {
    /// Whether a CA that calls itself one of `identities` may issue a certificate of `pattern`.
    #[must_use]
    pub(super) fn judge(&self, pattern: &Pattern, identities: &[String]) -> CaaVerdict {
        // §4.1: a property that is not known, and critical, forbids.
        let unknown =
            |record: &CaaRecord| record.is_critical && !KNOWN.contains(&&*record.tag.to_ascii_lowercase());
        if self.records.iter().any(unknown) {
            return CaaVerdict::Forbidden { tag: ISSUE, others: Vec::new() };
        }
        // §4.3: for a wildcard `issuewild` stands in the place of `issue`, if there is any.
        let (tag, issuers) = match (pattern, self.issuers(ISSUE_WILD)) {
            (Pattern::Wildcard(_), Some(wild)) => (ISSUE_WILD, Some(wild)),
            (Pattern::Wildcard(_) | Pattern::Exact(_), _) => (ISSUE, self.issuers(ISSUE)),
        };
        // Records of other kinds restrict nothing (§4.2).
        let Some(others) = issuers else { return CaaVerdict::Permitted };
        let is_ours =
            |issuer: &String| identities.iter().any(|identity| identity.eq_ignore_ascii_case(issuer));
        if others.iter().any(is_ours) { CaaVerdict::Permitted } else { CaaVerdict::Forbidden { tag, others } }
    }

    /// Whom the records of `tag` name; an empty value names nobody (§4.2). `None` where there is no such record.
    fn issuers(&self, tag: &str) -> Option<Vec<String>> {
        let records = self.records.iter().filter(|record| record.tag.eq_ignore_ascii_case(tag));
        let domain =
            |record: &CaaRecord| record.value.split(';').next().unwrap_or_default().trim().to_owned();
        let mut records = records.map(domain).peekable();
        records.peek()?;
        Some(records.filter(|issuer| !issuer.is_empty()).take(MOST_SHOWN).collect())
    }
}

const ISSUE: &str = "issue";
const ISSUE_WILD: &str = "issuewild";
const KNOWN: [&str; 3] = [ISSUE, ISSUE_WILD, "iodef"];
/// Of more CAs than these nobody reads.
const MOST_SHOWN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str, records: &[(bool, &str, &str)]) -> CaaVerdict {
        let record = |&(is_critical, tag, value): &(bool, &str, &str)| CaaRecord {
            is_critical,
            tag: tag.to_owned(),
            value: value.to_owned(),
        };
        let records = CaaRecords { at: "example".to_owned(), records: records.iter().map(record).collect() };
        records.judge(&Pattern::parse(name).unwrap(), &["letsencrypt.org".to_owned(), "pki.goog".to_owned()])
    }

    /// The examples of RFC 8659 §4, with CAs of ours.
    #[test]
    fn records_are_read_as_the_rfc_says() {
        let by = |tag, issuers: &[&str]| CaaVerdict::Forbidden {
            tag,
            others: issuers.iter().map(ToString::to_string).collect(),
        };
        let forbidden = |issuers: &[&str]| by("issue", issuers);
        let exact = "a.example";
        for (name, records, verdict) in [
            (exact, vec![(false, "issue", "letsencrypt.org")], CaaVerdict::Permitted),
            (exact, vec![(false, "ISSUE", " PKI.goog ; policy=ev")], CaaVerdict::Permitted),
            (exact, vec![(false, "issue", "digicert.com")], forbidden(&["digicert.com"])),
            (exact, vec![(false, "issue", ";")], forbidden(&[])),
            (exact, vec![(false, "issue", "")], forbidden(&[])),
            (exact, vec![(false, "issue", ";"), (false, "issue", "pki.goog")], CaaVerdict::Permitted),
            (exact, vec![(false, "iodef", "mailto:a@example.com")], CaaVerdict::Permitted),
            (exact, vec![(false, "issuewild", ";")], CaaVerdict::Permitted),
            (exact, vec![(true, "tbs", "unknown")], forbidden(&[])),
            (exact, vec![(false, "tbs", "unknown")], CaaVerdict::Permitted),
            (
                "*.a.example",
                vec![(false, "issue", "letsencrypt.org"), (false, "issuewild", ";")],
                by("issuewild", &[]),
            ),
            (
                "*.a.example",
                vec![(false, "issue", ";"), (false, "issuewild", "pki.goog")],
                CaaVerdict::Permitted,
            ),
            ("*.a.example", vec![(false, "issue", "digicert.com")], forbidden(&["digicert.com"])),
        ] {
            assert_eq!(judged(name, &records), verdict, "{name} {records:?}");
        }
    }
}
