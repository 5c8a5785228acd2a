//! Findings from answers: what a check says of a name, in words that its owner understands.

use std::{collections::BTreeSet, net::IpAddr, time::SystemTime};

use super::{
    caa::{CaaRecords, CaaVerdict},
    edge::{Edge, is_ownership, ownership_name},
};
use crate::{
    name::Pattern,
    store::domain_table::checks::{Check, Finding, Outcome, Reason},
};

/// What a question to DNS came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// These records.
    Found(T),
    /// There are none, whether the name exists or not.
    Nothing,
    /// No answer, and why.
    Silent(String),
}

/// What leads from a name to addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// The names on the way there, in lower case, without a final dot.
    pub(super) aliases: Vec<String>,
    /// The addresses.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Why a part of it is not known, which may lead elsewhere.
    pub(super) unanswered: Option<String>,
}

/// What a handshake for a name came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handshake {
    /// A certificate was presented.
    Certificate {
        /// Whether it is for the name.
        covers: bool,
        /// From when on it is valid.
        not_before: SystemTime,
        /// Until when.
        not_after: SystemTime,
        /// Who issued it.
        issuer: String,
    },
    /// It was refused, and how.
    Refused(String),
    /// There was no connection.
    Unreachable(String),
}

/// Whether `pattern` leads to `edge`, whose addresses are `addresses`.
pub(super) fn dns(
    pattern: &Pattern,
    edge: &Edge,
    addresses: &BTreeSet<IpAddr>,
    answer: &Answer<Route>,
) -> Finding {
    let of = |outcome, reason, detail: String| Finding {
        check: Check::Dns,
        outcome,
        reason,
        detail,
        remedy: None,
    };
    let wanted = || Some(traffic_remedy(pattern, edge, addresses));
    match answer {
        Answer::Silent(why) => silent(Check::Dns, &pattern.to_string(), why),
        Answer::Nothing => Finding {
            remedy: wanted(),
            ..of(Outcome::Failed, Reason::NoRecord, format!("`{pattern}` has no CNAME, A or AAAA record"))
        },
        Answer::Found(route) => {
            if let Some(alias) = route.aliases.iter().find(|alias| edge.is_called(alias)) {
                return of(Outcome::Passed, Reason::LeadsHere, format!("`{pattern}` leads to `{alias}`"));
            }
            if let Some(why) = &route.unanswered {
                return silent(Check::Dns, &pattern.to_string(), why);
            }
            let foreign: Vec<_> = route.addresses.difference(addresses).collect();
            if addresses.is_empty() {
                let detail = format!("`{}` has no address to compare with", edge.name);
                return of(Outcome::Unknown, Reason::EdgeUnresolved, detail);
            }
            if foreign.is_empty() && !route.addresses.is_empty() {
                return of(
                    Outcome::Passed,
                    Reason::LeadsHere,
                    format!("`{pattern}` has addresses of the edge"),
                );
            }
            let to = listed(&route.aliases, &foreign);
            let (reason, detail) = if foreign.len() == route.addresses.len() {
                (Reason::LeadsElsewhere, format!("`{pattern}` leads to {to}"))
            } else {
                (Reason::LeadsPartlyHere, format!("`{pattern}` leads here and to {to} as well"))
            };
            Finding { remedy: wanted(), ..of(Outcome::Failed, reason, detail) }
        }
    }
}

/// The edge answers for `pattern` behind another server.
pub(super) fn passed_on(pattern: &Pattern) -> Finding {
    let detail = format!("`{pattern}` leads to another server, which passes requests on to the edge");
    Finding { check: Check::Dns, outcome: Outcome::Passed, reason: Reason::PassedOn, detail, remedy: None }
}

/// What the entry of a pair comes to whose `own` name fails to lead here, by where the `other` name leads: the pair has left only while neither
/// leads here.
pub(super) fn of_pair(own: Finding, other: &Finding) -> Finding {
    match (other.outcome, other.reason) {
        // One that does not answer may lead here.
        (Outcome::Passed | Outcome::Unknown, _) | (Outcome::Failed, Reason::LeadsPartlyHere) => {
            let detail = format!("{}; {}", own.detail, other.detail);
            Finding { reason: Reason::LeadsPartlyHere, detail, ..own }
        }
        (Outcome::Failed, _) => own,
    }
}

/// Whether the ownership record of `pattern` is there, and says that `tenant` may have it.
pub(super) fn ownership(
    pattern: &Pattern,
    edge: &Edge,
    tenant: &str,
    answer: &Answer<Vec<String>>,
) -> Finding {
    let (name, value) = (ownership_name(pattern), edge.ownership_value(pattern, tenant));
    let of = |outcome, reason, detail, remedy| Finding {
        check: Check::Ownership,
        outcome,
        reason,
        detail,
        remedy,
    };
    let remedy = || Some(format!("set the TXT record `{name}` to `{value}`"));
    match answer {
        Answer::Silent(why) => silent(Check::Ownership, &name, why),
        Answer::Found(texts) if texts.contains(&value) => {
            of(Outcome::Passed, Reason::Proven, format!("the TXT record `{name}` is there"), None)
        }
        Answer::Found(texts) if texts.iter().any(|text| is_ownership(text)) => {
            let detail = format!("the TXT record `{name}` is for another tenant or another edge");
            of(Outcome::Failed, Reason::OtherValue, detail, remedy())
        }
        Answer::Found(_) | Answer::Nothing => {
            of(Outcome::Failed, Reason::NoRecord, format!("there is no TXT record `{name}`"), remedy())
        }
    }
}

/// Whether a CA of ours, called by one of `identities`, may issue a certificate of `pattern`.
pub(super) fn caa(pattern: &Pattern, identities: &[String], answer: &Answer<CaaRecords>) -> Finding {
    let of = |outcome, reason, detail, remedy| Finding { check: Check::Caa, outcome, reason, detail, remedy };
    match answer {
        // RFC 8659 §3: a CA that gets no answer must not issue either.
        Answer::Silent(why) => silent(Check::Caa, &pattern.to_string(), why),
        Answer::Nothing => of(Outcome::Passed, Reason::Permitted, "there is no CAA record".to_owned(), None),
        Answer::Found(records) => match records.judge(pattern, identities) {
            CaaVerdict::Permitted => {
                let detail = format!("the CAA records of `{}` permit our CA", records.at);
                of(Outcome::Passed, Reason::Permitted, detail, None)
            }
            CaaVerdict::Forbidden { tag, others } => {
                let others = if others.is_empty() { "no CA".to_owned() } else { others.join(", ") };
                let ours = identities.join(" or ");
                let detail = format!(
                    "the CAA records of `{}` permit {others}; certificates here are by {ours}",
                    records.at
                );
                let identity = identities.first().map(String::as_str).unwrap_or_default();
                let remedy = format!("add the CAA record `{} CAA 0 {tag} \"{identity}\"`", records.at);
                of(Outcome::Failed, Reason::Forbidden, detail, Some(remedy))
            }
        },
    }
}

/// Nobody can say whether a CA of ours may issue.
pub(super) fn caa_unknown() -> Finding {
    let detail =
        "the CA's directory does not answer, which says by what name CAA records permit it".to_owned();
    Finding { check: Check::Caa, outcome: Outcome::Unknown, reason: Reason::NoAnswer, detail, remedy: None }
}

/// Whether `pattern` is served with a certificate of its own at `now`.
pub(super) fn https(pattern: &Pattern, handshake: &Handshake, now: SystemTime) -> Finding {
    let of = |outcome, reason, detail| Finding { check: Check::Https, outcome, reason, detail, remedy: None };
    match handshake {
        Handshake::Unreachable(why) => {
            of(Outcome::Unknown, Reason::Unreachable, format!("the edge was not reached: {why}"))
        }
        Handshake::Refused(why) => {
            let detail = format!("the edge did not present a certificate for `{pattern}`: {why}");
            of(Outcome::Failed, Reason::Refused, detail)
        }
        Handshake::Certificate { covers: false, issuer, .. } => {
            let detail = format!("the certificate, by {issuer}, is not for `{pattern}`");
            of(Outcome::Failed, Reason::OtherCertificate, detail)
        }
        Handshake::Certificate { not_before, not_after, issuer, .. }
            if now < *not_before || now >= *not_after =>
        {
            let detail = format!("the certificate, by {issuer}, is not valid now");
            of(Outcome::Failed, Reason::Expired, detail)
        }
        Handshake::Certificate { not_after, issuer, .. } => {
            let left = not_after.duration_since(now).unwrap_or_default().as_secs() / (24 * 3600);
            of(
                Outcome::Passed,
                Reason::Served,
                format!("served with a certificate by {issuer} for {left} more days"),
            )
        }
    }
}

fn silent(check: Check, name: &str, why: &str) -> Finding {
    let detail = format!("no answer from the DNS servers of `{name}`: {why}");
    Finding { check, outcome: Outcome::Unknown, reason: Reason::NoAnswer, detail, remedy: None }
}

fn traffic_remedy(pattern: &Pattern, edge: &Edge, addresses: &BTreeSet<IpAddr>) -> String {
    let records = edge.records(pattern, "", crate::config::RequiredProof::None, addresses);
    let records: Vec<_> =
        records.iter().map(|record| format!("`{} {} {}`", record.name, record.kind, record.value)).collect();
    let plural = if records.len() == 1 { "this record alone" } else { "these records alone" };
    format!("set {plural}: {}", records.join(", "))
}

/// Whether an address is none of the public internet. A resolver within our network knows such addresses, and who leads a name there is to learn
/// none of them.
pub(crate) const fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // RFC 6598: shared by providers' customers.
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || is_shared
        }
        IpAddr::V6(address) => {
            address.is_unique_local()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
        }
    }
}

/// Where a name leads, of many addresses the first.
fn listed(aliases: &[String], addresses: &[&IpAddr]) -> String {
    if addresses.iter().any(|address| is_private(**address)) {
        // Its owner has set the first alias; what follows, a resolver within our network may have said.
        let alias = aliases.first().map(|alias| format!("`{alias}`, ")).unwrap_or_default();
        return format!("{alias}an address of a private network");
    }
    let alias = aliases.last();
    let shown: Vec<_> = addresses.iter().take(MOST_SHOWN).map(ToString::to_string).collect();
    let more = if addresses.len() > MOST_SHOWN { ", ..." } else { "" };
    match alias {
        Some(alias) if shown.is_empty() => format!("`{alias}`, which has no address"),
        Some(alias) => format!("`{alias}` ({}{more})", shown.join(", ")),
        None => format!("{}{more}", shown.join(", ")),
    }
}

const MOST_SHOWN: usize = 4;

#[cfg(test)]
mod tests;
