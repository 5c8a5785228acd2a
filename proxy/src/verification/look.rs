//! A look at a name: the questions, in the order in which their answers matter, and the findings.

use std::{
    collections::BTreeSet,
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
    certificates::issuer_directory,
    clock,
    config::{Config, DomainSettings, IssuerConfig, RequiredProof},
    domains::admin::Permits,
    name::Pattern,
    store::domain_table::{
        DomainStatus,
        checks::{Finding, Outcome, Reason},
    },
};

/// Looks at names as their clients and CAs see them.
#[derive(Clone)]
pub struct Looker {
    edge: Edge,
    dns: Dns,
    required: RequiredProof,
    issuers: Vec<IssuerConfig>,
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
            issuers: config.certificates.issuers.clone(),
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
            Answer::Found(route) => route.addresses,
            Answer::Nothing | Answer::Silent(_) => BTreeSet::new(),
        }
    }

    /// By which identities CAA records may name our CAs (RFC 8555 §9.7.6), which is empty where their directories name none; `None`, while one of
    /// them does not answer.
    pub async fn identities(&self) -> Option<Vec<String>> {
        let mut identities = Vec::new();
        for issuer in &self.issuers {
            match issuer_directory(issuer).await {
                Ok(directory) => identities.extend(directory.caa_identities().map(str::to_owned)),
                // One that may be permitted is not to be taken for forbidden.
                Err(_) => return None,
            }
        }
        Some(identities)
    }

    /// Looks at the name of an entry of `tenant` and `status`. `identities` are those of our CAs ([`Looker::identities`]).
    pub async fn look(
        &self,
        pattern: &Pattern,
        tenant: &str,
        status: DomainStatus,
        identities: Option<&[String]>,
    ) -> Vec<Finding> {
        let addresses = self.edge_addresses().await;
        let mut findings = self.dns_findings(pattern, tenant, identities, &addresses).await;
        let leads_here = findings.first().is_some_and(|dns| dns.outcome == Outcome::Passed);
        if leads_here && status.is_served() {
            findings.extend(self.https_finding(pattern, &addresses).await);
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
        let route = self.dns.route(&probe_name(pattern)).await;
        let dns = judge::dns(pattern, &self.edge, addresses, &route);
        let mut findings = vec![self.unless_passed_on(pattern, dns, route).await];
        if self.required == RequiredProof::Txt {
            let texts = self.dns.texts(&ownership_name(pattern)).await;
            findings.push(judge::ownership(pattern, &self.edge, tenant, &texts));
        }
        match identities {
            None => findings.push(judge::caa_unknown()),
            Some([]) => {}
            Some(identities) => {
                findings.push(judge::caa(pattern, identities, &self.dns.caa(pattern.name().as_str()).await));
            }
        }
        findings
    }

    async fn https_finding(&self, pattern: &Pattern, addresses: &BTreeSet<IpAddr>) -> Option<Finding> {
        let (Pattern::Exact(name), Some(address)) = (pattern, addresses.first()) else { return None };
        let handshake = handshake(name, SocketAddr::new(*address, self.https_port)).await;
        Some(judge::https(pattern, &handshake, clock::wall()))
    }

    /// `dns`, unless the server that the name leads to passes requests on to the edge.
    async fn unless_passed_on(&self, pattern: &Pattern, dns: Finding, route: Answer<Route>) -> Finding {
        let (Pattern::Exact(name), Reason::LeadsElsewhere, Answer::Found(route)) =
            (pattern, dns.reason, route)
        else {
            return dns;
        };
        let behind = edge_behind(name, route.addresses, &self.permits).await;
        if behind.is_some_and(|edge| self.edge.is_called(&edge)) { judge::passed_on(pattern) } else { dns }
    }
}

/// A person waits for it.
const ZONE_DEADLINE: Duration = Duration::from_secs(3);

/// The name that is asked for; under a wildcard, one that nobody has.
fn probe_name(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(name) => name.to_string(),
        Pattern::Wildcard(suffix) => format!("gatehouse-check.{suffix}"),
    }
}
