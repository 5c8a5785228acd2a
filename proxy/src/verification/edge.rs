//! The edge as customers' records name it, and the records that lead there.

use std::{collections::BTreeSet, net::IpAddr};

use aws_lc_rs::digest;
use psl::Psl;
use serde::Serialize;

use crate::{
    config::{DomainSettings, RequiredProof, VerificationConfig},
    domains::admin::OWNERSHIP_LABEL,
    hexadecimal::hexadecimal,
    name::{Pattern, ServerName},
};

/// The edge: the names that customers' records hold, and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// The name that instructions show.
    pub(super) name: ServerName,
    /// Others that lead here as well.
    pub(super) others: Vec<ServerName>,
    /// Its addresses; none, those that its name has.
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// A record that the owner of a name sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordToSet {
    /// Where.
    pub name: String,
    /// `CNAME`, `A`, `AAAA` or `TXT`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it holds.
    pub value: String,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It leads clients here.
    Traffic,
    /// It proves that the owner of the name wants it to be served for this tenant.
    Ownership,
}

impl Edge {
    /// The edge of `config`; `None` where it has no name, so that nothing can be compared with it.
    #[must_use]
    pub(super) fn of(config: &VerificationConfig) -> Option<Self> {
        let (name, others) = config.edge_names.split_first()?;
        let addresses = config.edge_addresses.iter().copied().collect();
        Some(Self { name: name.clone(), others: others.to_vec(), addresses })
    }

    /// Whether `alias` is one of its names.
    #[must_use]
    pub(super) fn is_called(&self, alias: &str) -> bool {
        std::iter::once(&self.name).chain(&self.others).any(|name| name.as_str() == alias)
    }

    /// The records that lead `pattern` here and, where `required` says so, prove whose it is. `addresses` are the edge's.
    #[must_use]
    pub(super) fn records(
        &self,
        pattern: &Pattern,
        tenant: &str,
        required: RequiredProof,
        addresses: &BTreeSet<IpAddr>,
    ) -> Vec<RecordToSet> {
        let traffic =
            |kind, value| RecordToSet { name: pattern.to_string(), kind, value, purpose: Purpose::Traffic };
        let mut records = Vec::new();
        if required == RequiredProof::Txt {
            let (name, value) = (ownership_name(pattern), self.ownership_value(pattern, tenant));
            records.push(RecordToSet { name, kind: "TXT", value, purpose: Purpose::Ownership });
        }
        if !is_apex(pattern) || addresses.is_empty() {
            records.push(traffic("CNAME", self.name.to_string()));
            return records;
        }
        // RFC 1034 §3.6.2: no CNAME record beside the SOA and NS records of a zone's own name.
        for address in addresses {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            records.push(traffic(kind, address.to_string()));
        }
        records
    }

    /// [`Edge::records`] of all names that the entry of `pattern` with `settings` speaks for. It is the entry's own that an ownership record
    /// proves.
    #[must_use]
    pub(super) fn records_of_entry(
        &self,
        pattern: &Pattern,
        settings: DomainSettings,
        tenant: &str,
        required: RequiredProof,
        addresses: &BTreeSet<IpAddr>,
    ) -> Vec<RecordToSet> {
        let mut records = self.records(pattern, tenant, required, addresses);
        if let Some(other) = settings.counterpart(pattern) {
            records.extend(self.records(&Pattern::Exact(other), tenant, RequiredProof::None, addresses));
        }
        records
    }

    /// What the ownership record of `pattern` holds, by which its owner agrees that this edge serves it for `tenant`. It is no secret: who
    /// can write it there owns the zone. Edges and tenants differ in it, so that a record left behind proves nothing to others.
    #[must_use]
    pub(super) fn ownership_value(&self, pattern: &Pattern, tenant: &str) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [self.name.as_str(), tenant, pattern.name().as_str()] {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        let token: String = hexadecimal(context.finish().as_ref()).chars().take(TOKEN).collect();
        format!("{PREFIX}{token}")
    }
}

/// Where the ownership record of `pattern` is.
#[must_use]
pub(super) fn ownership_name(pattern: &Pattern) -> String {
    format!("{OWNERSHIP_LABEL}.{}", pattern.name())
}

/// Whether a text at [`ownership_name`] is meant for a verification.
pub(super) fn is_ownership(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Whether `pattern` is a name that is registered, so probably its own zone's.
fn is_apex(pattern: &Pattern) -> bool {
    let Pattern::Exact(name) = pattern else { return false };
    let domain = psl::List.domain(name.as_str().as_bytes());
    domain.is_some_and(|domain| domain.as_bytes() == name.as_str().as_bytes())
}

const PREFIX: &str = "gatehouse-verification=";
/// Digits of the hash that a record holds: so many that nobody finds a second name or tenant with the same.
const TOKEN: usize = 32;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::WwwPair;

    pub(in crate::verification) fn edge() -> Edge {
        let config = VerificationConfig {
            edge_names: ["edge.example.net", "old.example.net"]
                .map(|name| ServerName::parse(name).unwrap())
                .to_vec(),
            ..VerificationConfig::default()
        };
        Edge::of(&config).unwrap()
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn instructions_are_records_that_a_zone_can_hold() {
        let addresses = BTreeSet::from(["192.0.2.10", "2001:db8::10"].map(|text| text.parse().unwrap()));
        let shown = |name: &str, required, addresses: &BTreeSet<IpAddr>| -> Vec<String> {
            let records = edge().records(&pattern(name), "default", required, addresses);
            records.iter().map(|record| format!("{} {} {}", record.name, record.kind, record.value)).collect()
        };
        assert_eq!(
            shown("shop.example.com", RequiredProof::None, &addresses),
            ["shop.example.com CNAME edge.example.net"]
        );
        assert_eq!(
            shown("*.example.com", RequiredProof::Dns, &addresses),
            ["*.example.com CNAME edge.example.net"]
        );
        let apex = ["example.co.uk A 192.0.2.10", "example.co.uk AAAA 2001:db8::10"];
        assert_eq!(shown("example.co.uk", RequiredProof::Dns, &addresses), apex);
        assert_eq!(
            shown("example.co.uk", RequiredProof::Dns, &BTreeSet::new()),
            ["example.co.uk CNAME edge.example.net"]
        );
        let [ownership, traffic] = &*shown("*.example.com", RequiredProof::Txt, &addresses) else {
            panic!("two records")
        };
        assert!(ownership.starts_with("_gatehouse.example.com TXT gatehouse-verification="), "{ownership}");
        assert_eq!(traffic, "*.example.com CNAME edge.example.net");
    }

    #[test]
    fn both_names_of_a_pair_are_led_here_and_one_is_proven() {
        let addresses = BTreeSet::from(["192.0.2.10".parse().unwrap()]);
        for (name, www, shown) in [
            (
                "example.com",
                WwwPair::Redirect,
                &["_gatehouse.example.com TXT", "example.com A", "www.example.com CNAME"][..],
            ),
            (
                "www.example.com",
                WwwPair::Serve,
                &["_gatehouse.www.example.com TXT", "www.example.com CNAME", "example.com A"],
            ),
            ("example.com", WwwPair::Off, &["_gatehouse.example.com TXT", "example.com A"]),
        ] {
            let settings = DomainSettings { www: Some(www), ..DomainSettings::default() };
            let records =
                edge().records_of_entry(&pattern(name), settings, "t", RequiredProof::Txt, &addresses);
            let found: Vec<_> =
                records.iter().map(|record| format!("{} {}", record.name, record.kind)).collect();
            assert_eq!(found, shown, "{name} {www}");
        }
    }

    #[test]
    fn an_ownership_record_is_of_one_edge_tenant_and_name() {
        let value = |edge: &Edge, name: &str, tenant: &str| edge.ownership_value(&pattern(name), tenant);
        let one = value(&edge(), "a.example", "t");
        assert!(is_ownership(&one));
        assert_eq!(one, value(&edge(), "a.example", "t"));
        assert_eq!(one, value(&edge(), "*.a.example", "t"), "the same zone, the same owner");
        let elsewhere = Edge { name: ServerName::parse("other.example.net").unwrap(), ..edge() };
        for other in [
            value(&edge(), "b.example", "t"),
            value(&edge(), "a.example", "u"),
            value(&elsewhere, "a.example", "t"),
        ] {
            assert_ne!(one, other);
        }
    }
}
