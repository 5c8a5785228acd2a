//! A `DynamoDB` API for several instances: engines of the embedded kind, as consistent as the real one promises to be, behind
//! a recording layer.

mod replicas;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use dynoxide::{Database, Item};
use hyper::http::request::Parts;
use serde_json::Value;

use self::replicas::Replicas;
use crate::{
    namespace::Namespace,
    network::LOOPBACK,
    relay::{Place, Relay},
    service::Service,
};

/// A table server at the edge. It counts `<Operation> <table>`, once for each table an operation touches.
#[derive(Debug)]
pub struct Table {
    /// What stands in front of it.
    pub relay: Relay,
    address: SocketAddr,
    engines: Engines,
}

/// What answers for it.
#[derive(Debug)]
enum Engines {
    Replicas(Replicas),
    One(One),
}

/// One engine, and its server, which answers until it is dropped.
struct One {
    database: Database,
    _server: Service,
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("One").finish_non_exhaustive()
    }
}

impl Table {
    /// Starts it, empty, at `address` inside `edge`.
    pub fn start(edge: &Namespace, address: IpAddr) -> anyhow::Result<Self> {
        Self::before(edge, address, |behind| Ok(Engines::Replicas(Replicas::start(edge, behind)?)))
    }

    /// The same over one engine, whose indexes follow its items at once.
    pub fn start_over(edge: &Namespace, address: IpAddr, database: Database) -> anyhow::Result<Self> {
        Self::before(edge, address, |behind| {
            let server = replicas::engine(edge, behind, database.clone())?;
            Ok(Engines::One(One { database, _server: server }))
        })
    }

    fn before(
        edge: &Namespace,
        address: IpAddr,
        start: impl FnOnce(SocketAddr) -> anyhow::Result<Engines>,
    ) -> anyhow::Result<Self> {
        let address = SocketAddr::new(address, PORT);
        let behind = SocketAddr::new(LOOPBACK, PORT_BEHIND);
        let engines = start(behind)?;
        let place = Place { address, tls: None, behind: format!("http://{behind}"), roots: None };
        let relay = Relay::start(edge, place, classify)?;
        Ok(Self { relay, address, engines })
    }

    /// The endpoint as Gatehouse is told it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts `items` into `table` as if they had been there from the start, for more than calls could put.
    pub fn import(&self, table: &str, items: &[Item]) -> anyhow::Result<()> {
        match &self.engines {
            Engines::Replicas(replicas) => replicas.import(table, items),
            Engines::One(one) => replicas::import(&one.database, table, items),
        }
    }

    /// How many reads of `table` there were, by whichever operation.
    #[must_use]
    pub fn reads(&self, table: &str) -> u64 {
        READS.iter().map(|operation| self.relay.count(&format!("{operation} {table}"))).sum()
    }

    /// How many calls read something, those that wanted it as it is and those that took it as it was.
    #[must_use]
    pub fn read_calls(&self) -> [u64; 2] {
        [CONSISTENT, EVENTUAL].map(|kind| self.relay.count(kind))
    }
}

fn classify(parts: &Parts, body: &[u8]) -> Vec<String> {
    let operation = operation(parts);
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    let mut names: Vec<_> = tables(&body).into_iter().map(|table| format!("{operation} {table}")).collect();
    if READS.contains(&operation) {
        names.push(if replicas::insists(&body) { CONSISTENT } else { EVENTUAL }.to_owned());
    }
    names
}

/// The API's operation a request asks for.
fn operation(head: &Parts) -> &str {
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    target.rsplit('.').next().unwrap_or_default()
}

/// Tables a request names: as `TableName`, as keys of `RequestItems`, or in the parts of a transaction.
fn tables(body: &Value) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(name) = body.get("TableName").and_then(Value::as_str) {
        names.push(name.to_owned());
    }
    if let Some(items) = body.get("RequestItems").and_then(Value::as_object) {
        names.extend(items.keys().cloned());
    }
    if let Some(items) = body.get("TransactItems").and_then(Value::as_array) {
        let parts = items.iter().filter_map(Value::as_object).flat_map(|item| item.values());
        names.extend(parts.filter_map(|part| Some(part.get("TableName")?.as_str()?.to_owned())));
    }
    names.sort_unstable();
    names.dedup();
    names
}

const READS: [&str; 4] = ["GetItem", "BatchGetItem", "Query", "Scan"];
const CONSISTENT: &str = "consistent reads";
const EVENTUAL: &str = "eventually consistent reads";
const PORT: u16 = 8_000;
const PORT_BEHIND: u16 = 8_001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_a_request_is_named_once() {
        for (body, names) in [
            (r#"{"TableName":"a"}"#, &["a"][..]),
            (r#"{"RequestItems":{"b":{},"a":{}}}"#, &["a", "b"]),
            (
                r#"{"TransactItems":[{"Put":{"TableName":"a"}},{"Update":{"TableName":"b"}},{"Put":{"TableName":"a"}}]}"#,
                &["a", "b"],
            ),
            ("{}", &[]),
        ] {
            assert_eq!(tables(&serde_json::from_str(body).unwrap()), names, "{body}");
        }
    }
}
