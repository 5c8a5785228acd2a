//! A look at a name: the questions, in the order in which their answers matter, and the findings.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use super::{
    dns::{Dns, NoResolver},
    edge::{Edge, RecordToSet, ownership_name},
    https::handshake,
    judge::{self, Answer},
};
use crate::{
    certificates::issuer_directory,
    clock,
    config::{Config, IssuerConfig, RequiredProof},
    name::Pattern,
    store::domain_table::{
        DomainStatus,
        checks::{Finding, Outcome},
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
}

/// Whether a name is served now, so that there is a certificate to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl Served {
    /// By the status of its entry.
    #[must_use]
    pub fn of(status: DomainStatus) -> Self {
        match status {
            DomainStatus::Active | DomainStatus::Failing => Self::Yes,
            DomainStatus::Pending | DomainStatus::Suspended | DomainStatus::Removed => Self::No,
        }
    }
}

impl Looker {
    /// By `config`; `None` where the edge has no name. Clients reach it at `https_port`.
    pub fn new(config: &Config, https_port: u16) -> Result<Option<Self>, NoResolver> {
        let Some(edge) = Edge::of(&config.verification) else { return Ok(None) };
        Ok(Some(Self {
            edge,
            dns: Dns::new(&config.verification.resolvers)?,
            required: config.verification.required,
            issuers: config.certificates.issuers.clone(),
            https_port,
        }))
    }

    /// The records that the owner of `pattern` sets.
    pub async fn records(&self, pattern: &Pattern, tenant: &str) -> Vec<RecordToSet> {
        self.edge.records(pattern, tenant, self.required, &self.edge_addresses().await)
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

    /// By which identities CAA records may name our CAs (RFC 8555 §9.7.6); none, where their directories do not say.
    pub async fn identities(&self) -> Vec<String> {
        let mut identities = Vec::new();
        for issuer in &self.issuers {
            match issuer_directory(issuer).await {
                Ok(directory) => identities.extend(directory.caa_identities().map(str::to_owned)),
                // One that may be permitted is not to be taken for forbidden.
                Err(_) => return Vec::new(),
            }
        }
        identities
    }

    /// Looks at the name of an entry of `tenant`. `identities` are those of our CAs.
    pub async fn look(
        &self,
        pattern: &Pattern,
        tenant: &str,
        served: Served,
        identities: &[String],
    ) -> Vec<Finding> {
        let mut findings = self.look_at_dns(pattern, tenant, identities).await;
        let leads_here = findings.first().is_some_and(|dns| dns.outcome == Outcome::Passed);
        if leads_here && served == Served::Yes {
            findings.extend(self.look_at_https(pattern).await);
        }
        findings
    }

    /// Where the name of an entry of `tenant` leads, first of all; then its ownership record, and CAA records.
    pub async fn look_at_dns(&self, pattern: &Pattern, tenant: &str, identities: &[String]) -> Vec<Finding> {
        let probe = probe_name(pattern);
        let (route, addresses) = tokio::join!(self.dns.route(&probe), self.edge_addresses());
        let mut findings = vec![judge::dns(pattern, &self.edge, &addresses, &route)];
        if self.required == RequiredProof::Txt {
            let texts = self.dns.texts(&ownership_name(pattern)).await;
            findings.push(judge::ownership(pattern, &self.edge, tenant, &texts));
        }
        if !identities.is_empty() {
            findings.push(judge::caa(pattern, identities, &self.dns.caa(base(pattern)).await));
        }
        findings
    }

    /// What the edge presents for a name; `None` under a wildcard, where there is no name that would not cost an order. No address but the
    /// edge's is ever connected to, wherever the name leads.
    pub async fn look_at_https(&self, pattern: &Pattern) -> Option<Finding> {
        let Pattern::Exact(name) = pattern else { return None };
        let address = self.edge_addresses().await.first().copied()?;
        let handshake = handshake(name, SocketAddr::new(address, self.https_port)).await;
        Some(judge::https(pattern, &handshake, clock::wall()))
    }
}

/// The name that is asked for; under a wildcard, one that nobody has.
fn probe_name(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(name) => name.to_string(),
        Pattern::Wildcard(suffix) => format!("gatehouse-check.{suffix}"),
    }
}

fn base(pattern: &Pattern) -> &str {
    let (Pattern::Exact(name) | Pattern::Wildcard(name)) = pattern;
    name.as_str()
}
