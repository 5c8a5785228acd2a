//! What a setup link shows, in words for who owns the name and does not know the edge. Pure.
//! Nothing of an entry comes here but its name, status and checks; of a finding what public DNS says, and no error of ours.

use serde::{Serialize, Serializer};

use crate::{
    name::Pattern,
    store::domain_table::{
        DomainStatus,
        checks::{Check, Checks, Finding, Outcome, Reason},
    },
    telemetry::metrics::Label,
    verification::{HintedRecord, Provider, Purpose, RecordToSet, Zone, is_private},
};

/// What a link shows of a name.
#[derive(Debug, Serialize)]
pub(crate) struct SetupResource {
    /// The name, as DNS has it.
    pub(crate) domain: String,
    /// The same as people read it.
    pub(crate) unicode: String,
    /// How it stands.
    pub(crate) state: SetupState,
    /// The same, for people.
    pub(crate) message: &'static str,
    /// The zone in which the records are set.
    pub(crate) zone: String,
    /// All that are to be set.
    pub(crate) records: Vec<SetupRecord>,
    /// When the name was looked at last; absent, it was not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checked_at: Option<String>,
    /// What was found then.
    pub(crate) findings: Vec<SetupFinding>,
    /// Where the zone is managed, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<SetupProvider>,
}

/// How a name stands, for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SetupState {
    /// It is not served until its records are there.
    Waiting,
    /// It is proven, or served without a proof, and does not lead here.
    Elsewhere,
    /// It may be served, and where it leads is not known.
    Unknown,
    /// It is served.
    Connected,
    /// It is served, and something is wrong.
    Failing,
    /// It is switched off.
    Suspended,
}

/// A record to set.
#[derive(Debug, Serialize)]
pub(crate) struct SetupRecord {
    /// `CNAME`, `A`, `AAAA` or `TXT`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Its whole name.
    pub(crate) name: String,
    /// Its name within the zone, as most providers' forms want it; `@` or nothing for the zone's own.
    pub(crate) relative_name: String,
    /// What it holds.
    pub(crate) value: String,
    /// What it is for.
    pub(crate) purpose: Purpose,
}

/// What a check found.
#[derive(Debug, Serialize)]
pub(crate) struct SetupFinding {
    /// Which.
    #[serde(serialize_with = "as_label")]
    pub(crate) check: Check,
    /// What came of it.
    #[serde(serialize_with = "as_label")]
    pub(crate) outcome: Outcome,
    /// What was found, for people.
    pub(crate) text: &'static str,
    /// What DNS says, where that helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// Where a zone is managed.
#[derive(Debug, Serialize)]
pub(crate) struct SetupProvider {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Its own page about DNS records.
    pub(crate) page: &'static str,
    /// What to mind there.
    pub(crate) hints: Vec<&'static str>,
}

/// What is known of an entry.
#[derive(Clone, Copy)]
pub(super) struct SetupFacts<'a> {
    pub(super) pattern: &'a Pattern,
    pub(super) status: DomainStatus,
    pub(super) checks: Option<&'a Checks>,
}

impl SetupResource {
    pub(super) fn of(facts: SetupFacts<'_>, records: Vec<RecordToSet>, zone: &Zone) -> Self {
        let SetupFacts { pattern, status, checks } = facts;
        let domain = pattern.to_string();
        let (unicode, _) = idna::domain_to_unicode(&domain);
        let state = SetupState::of(status, checks);
        let provider = Provider::of(&zone.servers);
        let hinted: Vec<_> = records
            .iter()
            .map(|record| HintedRecord { kind: record.kind, is_own_name: record.name == zone.apex })
            .collect();
        let findings = checks.map(|checks| checks.findings.as_slice()).unwrap_or_default();
        Self {
            message: state.message(),
            zone: zone.apex.clone(),
            checked_at: checks.map(|checks| checks.checked_at.to_string()),
            findings: findings.iter().map(SetupFinding::of).collect(),
            records: records.into_iter().map(|record| SetupRecord::of(record, zone, provider)).collect(),
            provider: provider.map(|provider| SetupProvider {
                name: provider.name,
                page: provider.page,
                hints: provider.hints(&hinted),
            }),
            domain,
            unicode,
            state,
        }
    }
}

impl SetupState {
    fn of(status: DomainStatus, checks: Option<&Checks>) -> Self {
        let dns = checks.and_then(|checks| checks.of(Check::Dns)).map(|finding| finding.outcome);
        let has_failed = checks.is_some_and(|checks| checks.findings.iter().any(Finding::is_failure));
        match (status, dns) {
            (DomainStatus::Pending, _) => Self::Waiting,
            (DomainStatus::Active, Some(Outcome::Passed)) if has_failed => Self::Failing,
            (DomainStatus::Active, Some(Outcome::Passed)) => Self::Connected,
            (DomainStatus::Active, Some(Outcome::Failed)) => Self::Elsewhere,
            (DomainStatus::Active, Some(Outcome::Unknown) | None) => Self::Unknown,
            (DomainStatus::Failing, _) => Self::Failing,
            // One that was removed is not shown.
            (DomainStatus::Suspended | DomainStatus::Removed, _) => Self::Suspended,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Waiting => {
                "We wait for the DNS records below. Once they are found, from seconds to an hour after you have set them, the name is served."
            }
            Self::Elsewhere => {
                "The name is ready here and does not lead here yet. Set the records below when you want to move it."
            }
            Self::Unknown => "The name is ready here. Where it leads is not known yet.",
            Self::Connected => "All is well: the name leads here.",
            Self::Failing => {
                "The name is still served, but something is wrong. Set the records below so that it stays so."
            }
            Self::Suspended => "The name is switched off. Ask who sent you this page.",
        }
    }

    /// In a word or two.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Elsewhere => "not here yet",
            Self::Unknown => "ready",
            Self::Connected => "connected",
            Self::Failing => "needs attention",
            Self::Suspended => "switched off",
        }
    }

    /// Which of the colours of an entry's status it has.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Waiting | Self::Elsewhere | Self::Unknown => "pending",
            Self::Connected => "active",
            Self::Failing => "failing",
            Self::Suspended => "suspended",
        }
    }
}

impl SetupRecord {
    fn of(record: RecordToSet, zone: &Zone, provider: Option<&Provider>) -> Self {
        let RecordToSet { name, kind, value, purpose } = record;
        let own_name = provider.map_or(Zone::OWN_NAME, |provider| provider.own_name);
        let relative = match zone.relative(&name) {
            Zone::OWN_NAME => own_name,
            relative => relative,
        };
        Self { kind, relative_name: relative.to_owned(), name, value, purpose }
    }

    /// What it is for, for people.
    pub(crate) fn reason(&self) -> &'static str {
        match self.purpose {
            Purpose::Traffic => "leads visitors here",
            Purpose::Ownership => "proves that the name is yours",
        }
    }
}

impl SetupFinding {
    fn of(finding: &Finding) -> Self {
        let is_public = says_dns(finding.reason) && !has_private_address(&finding.detail);
        let found = is_public.then(|| in_plain_text(&finding.detail));
        Self {
            check: finding.check,
            outcome: finding.outcome,
            text: text(finding.check, finding.reason),
            found,
            remedy: finding.remedy.as_deref().map(in_plain_text),
        }
    }

    /// What was looked at, for people.
    pub(crate) fn title(&self) -> &'static str {
        match self.check {
            Check::Dns => "Where the name leads",
            Check::Ownership => "TXT record",
            Check::Caa => "CAA records",
            Check::Https => "HTTPS",
        }
    }

    /// Which of the colours of an outcome it has.
    pub(crate) fn class(&self) -> &'static str {
        self.outcome.as_str()
    }

    /// What came of it, for people.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.outcome {
            Outcome::Passed => "right",
            Outcome::Failed => "not right yet",
            Outcome::Unknown => "not known",
        }
    }
}

/// Without the marks that the command line puts around names.
fn in_plain_text(text: &str) -> String {
    text.replace('`', "")
}

fn as_label<L: Label, S: Serializer>(label: &L, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(label.as_str())
}

/// Whether an address in `detail` is one that the edge's resolver may know, and the public does not: an owner may lead a name to a name of our
/// own network.
fn has_private_address(detail: &str) -> bool {
    let words = detail.split(|letter: char| !letter.is_ascii_hexdigit() && letter != ':' && letter != '.');
    words.filter_map(|word| word.trim_end_matches('.').parse().ok()).any(is_private)
}

/// Whether the detail of a finding for this reason is made of DNS records. Others may hold errors of ours.
const fn says_dns(reason: Reason) -> bool {
    match reason {
        Reason::LeadsElsewhere | Reason::LeadsPartlyHere | Reason::Forbidden => true,
        Reason::LeadsHere
        | Reason::PassedOn
        | Reason::NoRecord
        | Reason::NoAnswer
        | Reason::EdgeUnresolved
        | Reason::Proven
        | Reason::OtherValue
        | Reason::Permitted
        | Reason::Served
        | Reason::Unreachable
        | Reason::Refused
        | Reason::OtherCertificate
        | Reason::Expired => false,
    }
}

const fn text(check: Check, reason: Reason) -> &'static str {
    match reason {
        Reason::LeadsHere => "The name leads here.",
        Reason::LeadsElsewhere => "The name leads elsewhere.",
        Reason::LeadsPartlyHere => {
            "Some of the name's records lead elsewhere: remove those that are not below."
        }
        Reason::PassedOn => {
            "The name leads to another server, such as a CDN's, which passes requests on to us."
        }
        Reason::NoRecord => match check {
            Check::Ownership => "There is no such TXT record yet.",
            Check::Dns | Check::Caa | Check::Https => "The name has no CNAME, A or AAAA record yet.",
        },
        Reason::NoAnswer => match check {
            Check::Caa => "It could not be looked at this time. There is nothing for you to do.",
            Check::Dns | Check::Ownership | Check::Https => {
                "The DNS servers of the name did not answer. Often this is over soon."
            }
        },
        Reason::EdgeUnresolved => "It could not be compared this time. There is nothing for you to do.",
        Reason::Proven => "The TXT record is there.",
        Reason::OtherValue => "The TXT record has another value than the one below.",
        Reason::Permitted => "Certificates may be issued for the name.",
        Reason::Forbidden => "Your CAA records keep our certificate authority from issuing for the name.",
        Reason::Served => "The name is served with a certificate of its own.",
        Reason::Unreachable | Reason::Refused | Reason::OtherCertificate | Reason::Expired => {
            "There is no certificate for the name yet. There is nothing for you to do."
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::instant::Micros;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn finding(check: Check, outcome: Outcome, reason: Reason) -> Finding {
        Finding {
            check,
            outcome,
            reason,
            detail: format!("detail of {}", reason.as_str()),
            remedy: (outcome == Outcome::Failed).then(|| "set it".to_owned()),
        }
    }

    fn checks(findings: Vec<Finding>) -> Checks {
        Checks {
            checked_at: Micros::from_epoch(1),
            failures: 0,
            away_since: None,
            unresolved: Vec::new(),
            findings,
        }
    }

    fn zone(apex: &str, server: &str) -> Zone {
        Zone { apex: apex.to_owned(), servers: vec![server.to_owned()] }
    }

    fn record(name: &str, kind: &'static str) -> RecordToSet {
        RecordToSet { name: name.to_owned(), kind, value: "value".to_owned(), purpose: Purpose::Traffic }
    }

    fn view(checks: Option<&Checks>, records: Vec<RecordToSet>, zone: &Zone) -> SetupResource {
        let pattern = pattern("shop.customer.example");
        let facts = SetupFacts { pattern: &pattern, status: DomainStatus::Pending, checks };
        SetupResource::of(facts, records, zone)
    }

    #[test]
    fn the_state_follows_from_status_and_where_the_name_leads() {
        use DomainStatus::{Active, Failing, Pending, Suspended};
        let dns = |outcome| Some(checks(vec![finding(Check::Dns, outcome, Reason::LeadsHere)]));
        for (status, checks, state) in [
            (Pending, None, SetupState::Waiting),
            (Pending, dns(Outcome::Passed), SetupState::Waiting),
            (Active, None, SetupState::Unknown),
            (Active, dns(Outcome::Unknown), SetupState::Unknown),
            (Active, dns(Outcome::Failed), SetupState::Elsewhere),
            (Active, dns(Outcome::Passed), SetupState::Connected),
            (Failing, dns(Outcome::Failed), SetupState::Failing),
            (Suspended, dns(Outcome::Passed), SetupState::Suspended),
        ] {
            assert_eq!(SetupState::of(status, checks.as_ref()), state, "{status:?} {checks:?}");
        }
        for (check, state) in [
            (Check::Caa, SetupState::Failing),
            (Check::Https, SetupState::Failing),
            // It may go once the name is served.
            (Check::Ownership, SetupState::Connected),
        ] {
            let findings = vec![
                finding(Check::Dns, Outcome::Passed, Reason::LeadsHere),
                finding(check, Outcome::Failed, Reason::Refused),
            ];
            assert_eq!(SetupState::of(Active, Some(&checks(findings))), state, "{check:?}");
        }
    }

    #[test]
    fn names_are_whole_and_as_the_provider_wants_them() {
        let names = |zone: &Zone| -> Vec<String> {
            let records = ["customer.example", "shop.customer.example", "other.example"];
            let view = view(None, records.map(|name| record(name, "A")).to_vec(), zone);
            view.records.iter().map(|record| format!("{} {}", record.name, record.relative_name)).collect()
        };
        assert_eq!(
            names(&zone("customer.example", "ns1.example.net")),
            ["customer.example @", "shop.customer.example shop", "other.example other.example"]
        );
        assert_eq!(names(&zone("customer.example", "ns-1.awsdns-00.org"))[0], "customer.example ");
        assert_eq!(names(&zone("shop.customer.example", "x"))[1], "shop.customer.example @");
        let hinted = view(
            None,
            vec![record("shop.customer.example", "CNAME")],
            &zone("customer.example", "a.ns.cloudflare.com"),
        );
        let provider = hinted.provider.unwrap();
        assert!(provider.name == "Cloudflare" && provider.hints.concat().contains("DNS only"));
    }

    #[test]
    fn an_address_of_a_network_of_ours_is_not_told() {
        for (address, is_told) in [
            ("203.0.113.9", true),
            ("2001:db8::9", true),
            ("10.0.3.7", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("::1", false),
            ("fd00::1", false),
            ("::ffff:10.0.3.7", false),
        ] {
            let detail = format!("`shop.customer.example` leads to `db.example` ({address})");
            let led = Finding { detail, ..finding(Check::Dns, Outcome::Failed, Reason::LeadsElsewhere) };
            assert_eq!(SetupFinding::of(&led).found.is_some(), is_told, "{address}");
        }
    }

    #[test]
    fn who_does_not_answer_is_named_by_the_check() {
        let said = |check| text(check, Reason::NoAnswer);
        assert!(said(Check::Dns).contains("DNS servers of the name"));
        // It is the CA that is silent.
        assert!(!said(Check::Caa).contains("DNS"));
    }

    /// Errors of our own connections, and what others than its owner may have said of a name, are in details.
    #[test]
    fn of_a_finding_nothing_is_told_but_what_anybody_can_ask_for() {
        for reason in Reason::ALL {
            let found = checks(vec![finding(Check::Dns, Outcome::Failed, *reason)]);
            let view = view(Some(&found), Vec::new(), &zone("customer.example", "x"));
            let text = serde_json::to_string(&view).unwrap();
            let is_public =
                matches!(reason, Reason::LeadsElsewhere | Reason::LeadsPartlyHere | Reason::Forbidden);
            assert_eq!(text.contains("detail of"), is_public, "{text}");
            assert!(text.contains("set it") && text.contains("\"checked_at\":\"1970"), "{text}");
            assert!(!text.contains("tenant") && !text.contains("edge"), "{text}");
        }
    }

    impl SetupResource {
        /// One that says `text` wherever others may.
        pub(crate) fn sample(text: &str) -> Self {
            let said = || text.to_owned();
            let record = SetupRecord {
                kind: "TXT",
                name: said(),
                relative_name: said(),
                value: said(),
                purpose: Purpose::Ownership,
            };
            let finding = SetupFinding {
                check: Check::Dns,
                outcome: Outcome::Failed,
                text: "The name leads elsewhere.",
                found: Some(said()),
                remedy: Some(said()),
            };
            let hints = vec!["Enter the short name."];
            Self {
                domain: said(),
                unicode: format!("{text}, as people read it"),
                state: SetupState::Waiting,
                message: SetupState::Waiting.message(),
                zone: said(),
                records: vec![record],
                checked_at: Some("2026-11-29T03:20:00.000000Z".to_owned()),
                findings: vec![finding],
                provider: Some(SetupProvider { name: "Gandi", page: "https://docs.gandi.net/", hints }),
            }
        }
    }
}
