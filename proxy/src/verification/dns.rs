//! Questions to DNS. Answers are not kept: who has just set a record does not wait for an older answer to end.

use std::{future::Future, net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, Record, RecordType},
};

use super::{
    caa::{CaaRecord, CaaRecords},
    judge::{Answer, Route},
};

/// Asks DNS servers.
#[derive(Clone)]
pub(super) struct Dns(TokioResolver);

/// The DNS servers cannot be known.
#[derive(Debug, thiserror::Error)]
#[error("`/etc/resolv.conf` does not say which DNS servers to ask; give them in `verification.resolvers`")]
pub struct NoResolver(#[source] NetError);

impl Dns {
    /// Asks `servers`, or else those of `/etc/resolv.conf`.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, NoResolver> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(NoResolver)?
        } else {
            let servers = servers.iter().map(|server| {
                let mut config = NameServerConfig::udp_and_tcp(server.ip());
                config.connections.iter_mut().for_each(|connection| connection.port = server.port());
                config
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = TIMEOUT;
        options.attempts = ATTEMPTS;
        builder.build().map(Self).map_err(NoResolver)
    }

    /// Where `name` leads: its aliases and addresses, as far as its servers say. Some answer no question for AAAA at all.
    pub(super) async fn route(&self, name: &str) -> Answer<Route> {
        let (alias, v4, v6) = tokio::join!(
            self.ask(name, RecordType::CNAME),
            self.ask(name, RecordType::A),
            self.ask(name, RecordType::AAAA)
        );
        let mut route = Route::default();
        for answer in [alias, v4, v6] {
            match answer {
                Answer::Found(records) => records.iter().for_each(|record| route.take(record)),
                Answer::Nothing => {}
                Answer::Silent(why) => route.unanswered = Some(why),
            }
        }
        if route == Route::default() { Answer::Nothing } else { Answer::Found(route) }
    }

    /// The texts at `name`.
    pub(super) async fn texts(&self, name: &str) -> Answer<Vec<String>> {
        let text = |record: &Record| match &record.data {
            // RFC 7208 §3.3: parts of one text are read as one.
            RData::TXT(text) => Some(
                text.txt_data
                    .iter()
                    .flat_map(|part| String::from_utf8_lossy(part).chars().collect::<Vec<_>>())
                    .collect(),
            ),
            _ => None,
        };
        self.ask(name, RecordType::TXT)
            .await
            .map(|records| records.iter().filter_map(text).take(MOST_RECORDS).collect())
    }

    /// The CAA records that apply to `name`: its own, or those of the nearest name above that has any (RFC 8659 §3).
    pub(super) async fn caa(&self, name: &str) -> Answer<CaaRecords> {
        let parents =
            std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent));
        for at in parents {
            match self
                .ask(at, RecordType::CAA)
                .await
                .map(|records| records.iter().filter_map(caa).collect::<Vec<_>>())
            {
                Answer::Found(records) if !records.is_empty() => {
                    return Answer::Found(CaaRecords { at: at.to_owned(), records });
                }
                Answer::Found(_) | Answer::Nothing => {}
                Answer::Silent(why) => return Answer::Silent(why),
            }
        }
        Answer::Nothing
    }

    /// The name servers of the zone `name`; nothing, where it is none of its own.
    pub(super) async fn name_servers(&self, name: &str) -> Answer<Vec<String>> {
        let server = |record: &Record| match &record.data {
            // Where `name` is an alias, those of another zone are answered as well.
            RData::NS(server) if plain(&record.name) == name => Some(plain(&server.0)),
            _ => None,
        };
        let answer = self.ask(name, RecordType::NS).await;
        match answer.map(|records| records.iter().filter_map(server).collect::<Vec<_>>()) {
            Answer::Found(servers) if servers.is_empty() => Answer::Nothing,
            answer => answer,
        }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Answer<Vec<Record>> {
        // With a final dot, so that no domain of this machine is searched.
        let asked = self.0.lookup(format!("{name}."), kind);
        match bounded(asked).await {
            Ok(lookup) => Answer::Found(lookup.answers().iter().take(MOST_RECORDS).cloned().collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Answer::Nothing,
            Err(error) => Answer::Silent(error.to_string()),
        }
    }
}

async fn bounded(asked: impl Future<Output = Result<Lookup, NetError>>) -> Result<Lookup, NetError> {
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or(Err(NetError::Timeout))
}

impl Route {
    fn take(&mut self, record: &Record) {
        match &record.data {
            RData::A(address) => _ = self.addresses.insert(address.0.into()),
            RData::AAAA(address) => _ = self.addresses.insert(address.0.into()),
            RData::CNAME(alias) => {
                let alias = plain(&alias.0);
                if !self.aliases.contains(&alias) {
                    self.aliases.push(alias);
                }
            }
            _ => {}
        }
    }
}

/// In lower case, without a final dot.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

fn caa(record: &Record) -> Option<CaaRecord> {
    let RData::CAA(caa) = &record.data else { return None };
    let value = String::from_utf8_lossy(&caa.value).chars().take(LONGEST_VALUE).collect();
    Some(CaaRecord { is_critical: caa.issuer_critical, tag: caa.tag.clone(), value })
}

impl<T> Answer<T> {
    fn map<U>(self, found: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Found(records) => Answer::Found(found(records)),
            Self::Nothing => Answer::Nothing,
            Self::Silent(why) => Answer::Silent(why),
        }
    }
}

const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// For one question, with all that is asked on the way.
const DEADLINE: Duration = Duration::from_secs(8);
/// Of more records than anybody needs, the first.
const MOST_RECORDS: usize = 64;
const LONGEST_VALUE: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verification::fixture::{cname, dns_server, ns};

    #[tokio::test]
    async fn the_name_servers_of_a_zone_are_its_own_and_not_those_of_what_it_is_an_alias_of() {
        let records = vec![
            ns("Customer.Example.", "Ada.NS.cloudflare.com."),
            ns("customer.example.", "b.example."),
            cname("shop.customer.example.", "edge.example.net."),
            ns("edge.example.net.", "ns1.example.net."),
        ];
        let dns = Dns::new(&[dns_server(records).await]).unwrap();
        for (zone, servers) in [
            (
                "customer.example",
                Answer::Found(vec!["ada.ns.cloudflare.com".to_owned(), "b.example".to_owned()]),
            ),
            ("shop.customer.example", Answer::Nothing),
            ("other.example", Answer::Nothing),
        ] {
            assert_eq!(dns.name_servers(zone).await, servers, "{zone}");
        }
    }
}
