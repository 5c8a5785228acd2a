//! Whether CAA records let a CA issue (RFC 8659), and by its way of validation (RFC 8657). Not here: `accounturi`, which names accounts that are
//! in no setting; a record with one counts as if it named ours.

use std::fmt;

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
        let Some(issuers) = issuers else { return CaaVerdict::Permitted };
        let methods = match pattern {
            Pattern::Wildcard(_) => OF_WILDCARDS,
            Pattern::Exact(_) => OF_NAMES,
        };
        let is_ours = |issuer: &Issuer<'_>| {
            let is_one = identities.iter().any(|identity| identity.eq_ignore_ascii_case(issuer.name));
            is_one && !issuer.name.is_empty() && issuer.permits(methods)
        };
        if issuers.iter().any(is_ours) {
            return CaaVerdict::Permitted;
        }
        let named = issuers.iter().filter(|issuer| !issuer.name.is_empty()).take(MOST_SHOWN);
        CaaVerdict::Forbidden { tag, others: named.map(ToString::to_string).collect() }
    }

    /// Whom the records of `tag` name; `None` where there is no such record.
    fn issuers(&self, tag: &str) -> Option<Vec<Issuer<'_>>> {
        let records = self.records.iter().filter(|record| record.tag.eq_ignore_ascii_case(tag));
        let issuers: Vec<_> = records.map(|record| Issuer::read(&record.value)).collect();
        (!issuers.is_empty()).then_some(issuers)
    }
}

/// Whom a record names.
struct Issuer<'a> {
    /// Empty, nobody (§4.2).
    name: &'a str,
    /// By which methods alone it may validate, separated by commas (RFC 8657 §4); absent, by any.
    methods: Option<&'a str>,
}

impl<'a> Issuer<'a> {
    fn read(value: &'a str) -> Self {
        let mut parts = value.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let methods = parts.find_map(|parameter| {
            let (parameter, value) = parameter.split_once('=')?;
            (parameter.trim() == METHODS).then_some(value.trim())
        });
        Self { name, methods }
    }

    fn permits(&self, ours: &[&str]) -> bool {
        self.methods.is_none_or(|methods| methods.split(',').any(|method| ours.contains(&method.trim())))
    }
}

impl fmt::Display for Issuer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.methods {
            None => f.write_str(self.name),
            Some("") => write!(f, "{} by no method", self.name),
            Some(methods) => write!(f, "{} by {methods} alone", self.name),
        }
    }
}

const METHODS: &str = "validationmethods";
/// How a CA validates names here, and wildcards.
const OF_NAMES: &[&str] = &["http-01", "tls-alpn-01"];
const OF_WILDCARDS: &[&str] = &["dns-01"];
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
            (
                exact,
                vec![(false, "issue", "letsencrypt.org; validationmethods=dns-01")],
                forbidden(&["letsencrypt.org by dns-01 alone"]),
            ),
            (
                exact,
                vec![(false, "issue", "letsencrypt.org;validationmethods=dns-01, http-01")],
                CaaVerdict::Permitted,
            ),
            (
                exact,
                vec![(
                    false,
                    "issue",
                    "letsencrypt.org; accounturi=https://a.example/1; validationmethods=tls-alpn-01",
                )],
                CaaVerdict::Permitted,
            ),
            (
                exact,
                vec![(false, "issue", "letsencrypt.org; validationmethods=")],
                forbidden(&["letsencrypt.org by no method"]),
            ),
            (
                "*.a.example",
                vec![(false, "issuewild", "letsencrypt.org; validationmethods=http-01")],
                by("issuewild", &["letsencrypt.org by http-01 alone"]),
            ),
            (
                "*.a.example",
                vec![(false, "issuewild", "letsencrypt.org; validationmethods=dns-01")],
                CaaVerdict::Permitted,
            ),
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
