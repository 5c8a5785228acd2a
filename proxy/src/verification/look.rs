//! A look at a name: the questions, in the order in which their answers matter, and the findings.

use std::{
    collections::BTreeSet,
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    dns::{Dns, NoResolver},
    edge::{Edge, RecordToSet, ownership_name},
    http::edge_behind,
    https::handshake,
    judge::{self, Answer, Route},
    zone::{Zone, candidates},
};
use crate::{
    certificates::{issuer_directory, order_subject, own::is_covered},
    clock,
    config::{CertificatesConfig, Config, DomainSettings, RequiredProof},
    domains::admin::{PROBE_LABEL, Permits},
    name::{Pattern, ServerName},
    store::{
        domain_table::{
            DomainStatus,
            checks::{Check, Finding, Outcome, Reason},
        },
        state_table::OwnCertificates,
    },
};

/// An entry whose name is looked at.
#[derive(Debug, Clone, Copy)]
pub struct LookedAt<'a> {
    /// What it covers.
    pub pattern: &'a Pattern,
    /// By which it may speak for the other name of a pair.
    pub settings: DomainSettings,
    /// Whose it is.
    pub tenant: &'a str,
    /// Whether it is served.
    pub status: DomainStatus,
}

/// Takes from `findings` what CAA records say, where a certificate of the operator's `own` covers `pattern`, so that none is ordered. They are
/// asked for only where the records forbid one.
pub async fn leave_out_caa_of_own<E>(
    findings: &mut Vec<Finding>,
    pattern: &Pattern,
    own: impl Future<Output = Result<OwnCertificates, E>>,
) -> Result<(), E> {
    let is_forbidden = |finding: &Finding| finding.check == Check::Caa && finding.is_failure();
    if findings.iter().any(is_forbidden) && is_covered(&own.await?, pattern, clock::wall()) {
        findings.retain(|finding| finding.check != Check::Caa);
    }
    Ok(())
}

/// Looks at names as their clients and CAs see them.
#[derive(Clone)]
pub struct Looker {
    edge: Edge,
    dns: Dns,
    required: RequiredProof,
    certificates: CertificatesConfig,
    https_port: u16,
    permits: Permits,
}

impl Looker {
    /// By `config`; `None` where the edge has no name. Clients reach it at `https_port`; `permits` says which addresses may be connected to.
    pub fn new(config: &Config, https_port: u16, permits: Permits) -> Result<Option<Self>, NoResolver> {
        let Some(edge) = Edge::of(&config.verification) else { return Ok(None) };
        Ok(Some(Self {
            edge,
            dns: Dns::new(&config.verification.resolvers)?,
            required: config.verification.required,
            certificates: config.certificates.clone(),
            https_port,
            permits,
        }))
    }

    /// The records that the owner of `pattern` sets, for an entry with `settings`.
    pub async fn records(
        &self,
        pattern: &Pattern,
        settings: DomainSettings,
        tenant: &str,
    ) -> Vec<RecordToSet> {
        let addresses = self.edge_addresses().await;
        self.edge.records_of_entry(pattern, settings, tenant, self.required, &addresses)
    }

    /// The zone in which records of `pattern` are set, and who serves it; within a few seconds, after which its registered domain is
    /// taken for one.
    pub async fn zone(&self, pattern: &Pattern) -> Zone {
        let found = tokio::time::timeout(ZONE_DEADLINE, self.find_zone(pattern)).await;
        found.ok().flatten().unwrap_or_else(|| Zone::of_registered_domain(pattern))
    }

    async fn find_zone(&self, pattern: &Pattern) -> Option<Zone> {
        for apex in candidates(pattern) {
            if let Answer::Found(servers) = self.dns.name_servers(apex).await {
                return Some(Zone { apex: apex.to_owned(), servers });
            }
        }
        None
    }

    /// The addresses of the edge: those of the settings, or else of its name.
    pub async fn edge_addresses(&self) -> BTreeSet<IpAddr> {
        if !self.edge.addresses.is_empty() {
            return self.edge.addresses.clone();
        }
        match self.dns.route(self.edge.name.as_str()).await {
            Answer::Found(Route { addresses, unanswered: None, .. }) => addresses,
            Answer::Found(_) | Answer::Nothing | Answer::Silent(_) => BTreeSet::new(),
        }
    }

    /// By which identities CAA records may name our CAs (RFC 8555 §9.7.6), which is empty where their directories name none; `None`, while one of
    /// them does not answer.
    pub async fn identities(&self) -> Option<Vec<String>> {
        let mut identities = Vec::new();
        for issuer in &self.certificates.issuers {
            match issuer_directory(issuer).await {
                Ok(directory) => identities.extend(directory.caa_identities().map(str::to_owned)),
                // One that may be permitted is not to be taken for forbidden.
                Err(_) => return None,
            }
        }
        Some(identities)
    }

    /// Looks at the name of `entry`, and where it is served at both of a pair. `identities` are those of our CAs ([`Looker::identities`]).
    pub async fn look(&self, entry: LookedAt<'_>, identities: Option<&[String]>) -> Vec<Finding> {
        let LookedAt { pattern, settings, tenant, status } = entry;
        let addresses = self.edge_addresses().await;
        let mut findings = self.dns_findings(pattern, tenant, identities, &addresses).await;
        if !status.is_served() {
            return findings;
        }
        if let Some(dns) = findings.first_mut() {
            if dns.outcome == Outcome::Passed {
                findings.extend(self.https_finding(pattern, &addresses).await);
            } else if dns.outcome == Outcome::Failed
                && let Some(other) = settings.counterpart(pattern)
            {
                let other = self.traffic_finding(&Pattern::Exact(other), &addresses).await;
                *dns = judge::of_pair(dns.clone(), &other);
            }
        }
        findings
    }

    /// Where the name of an entry of `tenant` leads, first of all; then its ownership record, and CAA records.
    pub async fn look_at_dns(
        &self,
        pattern: &Pattern,
        tenant: &str,
        identities: Option<&[String]>,
    ) -> Vec<Finding> {
        self.dns_findings(pattern, tenant, identities, &self.edge_addresses().await).await
    }

    /// What the edge presents for a name; `None` under a wildcard, where there is no name that would not cost an order. The edge is
    /// asked, wherever the name leads.
    pub async fn look_at_https(&self, pattern: &Pattern) -> Option<Finding> {
        self.https_finding(pattern, &self.edge_addresses().await).await
    }

    async fn dns_findings(
        &self,
        pattern: &Pattern,
        tenant: &str,
        identities: Option<&[String]>,
        addresses: &BTreeSet<IpAddr>,
    ) -> Vec<Finding> {
        let mut findings = vec![self.traffic_finding(pattern, addresses).await];
        if self.required == RequiredProof::Txt {
            let texts = self.dns.texts(&ownership_name(pattern)).await;
            findings.push(judge::ownership(pattern, &self.edge, tenant, &texts));
        }
        match identities {
            None => findings.push(judge::caa_unknown()),
            Some([]) => {}
            Some(identities) => {
                let subject = self.order_subject(pattern);
                let records = self.dns.caa(subject.name().as_str()).await;
                findings.push(judge::caa(&subject, identities, &records));
            }
        }
        findings
    }

    /// What certificates of `pattern` are ordered for: below a wildcard that the settings do not list, each name has its own.
    fn order_subject(&self, pattern: &Pattern) -> Pattern {
        let mut wildcards = self.certificates.wildcards.iter();
        let is_listed = wildcards.any(|listed| listed.name == *pattern);
        match pattern {
            Pattern::Wildcard(suffix) if !is_listed => Pattern::Exact(suffix.clone()),
            // What the operator has brought is none that is ordered.
            Pattern::Exact(_) | Pattern::Wildcard(_) => {
                order_subject(&self.certificates, &OwnCertificates::new(), pattern, clock::wall())
            }
        }
    }

    async fn https_finding(&self, pattern: &Pattern, addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
        let (Pattern::Exact(name), Some(address)) = (pattern, addresses.first()) else { return None };
        let handshake = handshake(name, SocketAddr::new(*address, self.https_port)).await;
        Some(judge::https(pattern, &handshake, clock::wall()))
    }

    /// Where the name leads.
    async fn traffic_finding(&self, pattern: &Pattern, addresses: &BTreeSet<IpAddr>) -> Finding {
        let name = probe_name(pattern);
        let route = self.dns.route(&name).await;
        let dns = judge::dns(pattern, &self.edge, addresses, &route);
        let (Reason::LeadsElsewhere, Answer::Found(route), Ok(name)) =
            (dns.reason, route, ServerName::parse(&name))
        else {
            return dns;
        };
        // The server there may pass requests on to the edge.
        let behind = edge_behind(&name, route.addresses, &self.permits).await;
        if behind.is_some_and(|edge| self.edge.is_called(&edge)) { judge::passed_on(pattern) } else { dns }
    }
}

/// A person waits for it.
const ZONE_DEADLINE: Duration = Duration::from_secs(3);

/// The name that is asked for; under a wildcard, one that nobody has.
fn probe_name(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(name) => name.to_string(),
        Pattern::Wildcard(suffix) => format!("{PROBE_LABEL}.{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::{HostedZoneId, WildcardCertificate},
        verification::fixture::{caa, dns_server},
    };

    /// Outcome and remedy of what CAA records say of `name`, where the settings list `wildcard`.
    async fn caa_of(name: &str, wildcard: Option<&str>) -> (Outcome, String) {
        let records = vec![
            caa("a.example.", "issue", "letsencrypt.org"),
            caa("a.example.", "issuewild", ";"),
            caa("b.example.", "issue", "digicert.com"),
            caa("b.example.", "issuewild", "letsencrypt.org"),
        ];
        let mut config = Config::default();
        config.verification.edge_names = vec![ServerName::parse("edge.example.net").unwrap()];
        config.verification.edge_addresses = vec!["192.0.2.10".parse().unwrap()];
        config.verification.resolvers = vec![dns_server(records).await];
        config.certificates.wildcards = wildcard
            .map(|name| WildcardCertificate {
                name: Pattern::parse(name).unwrap(),
                zone: HostedZoneId::try_from("Z1".to_owned()).unwrap(),
                record: None,
            })
            .into_iter()
            .collect();
        let looker = Looker::new(&config, 443, Arc::new(|_| true)).unwrap().unwrap();
        let pattern = Pattern::parse(name).unwrap();
        let findings = looker.look_at_dns(&pattern, "t", Some(&["letsencrypt.org".to_owned()])).await;
        let found = findings.into_iter().find(|finding| finding.check == Check::Caa).unwrap();
        (found.outcome, found.remedy.unwrap_or_default())
    }

    #[tokio::test]
    async fn caa_records_are_judged_for_the_certificates_that_are_ordered() {
        use Outcome::{Failed, Passed};
        const ISSUE: &str = "add the CAA record `b.example CAA 0 issue \"letsencrypt.org\"`";
        const ISSUE_WILD: &str = "add the CAA record `a.example CAA 0 issuewild \"letsencrypt.org\"`";
        for (name, listed, expected) in [
            ("*.a.example", None, (Passed, "")),
            ("*.a.example", Some("*.a.example"), (Failed, ISSUE_WILD)),
            ("x.a.example", Some("*.a.example"), (Failed, ISSUE_WILD)),
            ("x.a.example", Some("*.c.example"), (Passed, "")),
            ("*.b.example", None, (Failed, ISSUE)),
            ("*.b.example", Some("*.b.example"), (Passed, "")),
        ] {
            let (outcome, remedy) = caa_of(name, listed).await;
            assert_eq!((outcome, &*remedy), expected, "{name} {listed:?}");
        }
    }
}
