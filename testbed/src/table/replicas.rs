//! Eventual consistency as a whole fleet sees it ("Read consistency" of DynamoDB's developer guide): two engines, of which the
//! second gets each write [`LAG`] after the first. Reads that ask for consistency are answered by the first, all others, those
//! of an index among them, by the second.
//! Not here: faults that one instance alone meets (`GATEHOUSE_STORE_FAULTS`).
//! Invariant: the second takes the writes that succeeded, each once and in their order: it is the first as it was
//! (`only_a_reader_who_does_not_insist_sees_the_table_as_it_was`).

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dynoxide::{Database, ImportOptions, Item};
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming, http::request::Parts};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    namespace::Namespace,
    network::LOOPBACK,
    relay::{self, Client},
    service::{self, Body, Service},
};

/// The two engines and what stands before them.
pub(super) struct Replicas {
    databases: [Database; 2],
    _front: Service,
    _first: Service,
    _second: Service,
}

impl Replicas {
    /// Starts them, empty, inside `edge`; `address` is where they are spoken to.
    pub(super) fn start(edge: &Namespace, address: SocketAddr) -> anyhow::Result<Self> {
        let databases = [Database::memory()?, Database::memory()?];
        let [first, second] = databases.clone();
        let engine = |port, database| engine(edge, SocketAddr::new(LOOPBACK, port), database);
        let (first, second) = (engine(PORT_FIRST, first)?, engine(PORT_SECOND, second)?);
        let front = Service::start(edge, address, |listener| {
            let nobody = RootCertStore::empty();
            let tls = ClientConfig::builder().with_root_certificates(nobody).with_no_client_auth();
            let front = Rc::new(Front { client: relay::client(tls), late: Mutex::default() });
            service::http(listener, None, move |request| Rc::clone(&front).answer(request))
        })?;
        Ok(Self { databases, _front: front, _first: first, _second: second })
    }

    /// Puts `items` into `table` of both at once.
    pub(super) fn import(&self, table: &str, items: &[Item]) -> anyhow::Result<()> {
        self.databases.iter().try_for_each(|database| import(database, table, items))
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas").finish_non_exhaustive()
    }
}

/// Puts `items` into `table` of `database` at once.
pub(super) fn import(database: &Database, table: &str, items: &[Item]) -> anyhow::Result<()> {
    database.import_items(table, items.to_vec(), ImportOptions::default())?;
    Ok(())
}

/// A `DynamoDB` API over an engine.
pub(super) fn engine(edge: &Namespace, address: SocketAddr, database: Database) -> anyhow::Result<Service> {
    Service::start(edge, address, |listener| async {
        let ended = dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()).await;
        if let Err(error) = ended {
            eprintln!("a table's server ended: {error}");
        }
    })
}

struct Front {
    client: Client,
    /// What the second has not got yet. Held over a write to the first, so that their order is one.
    late: Mutex<VecDeque<Late>>,
}

struct Late {
    due: Instant,
    head: Parts,
    body: Bytes,
}

/// What a call is to the engines.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// It changes items.
    Write,
    /// It may be answered from the past.
    PatientRead,
    /// It may not: a consistent read, or one of the tables themselves.
    InsistentRead,
    /// It changes tables, at both at once.
    Definition,
}

impl Front {
    async fn answer(self: Rc<Self>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        match kind(&head, &body) {
            Kind::InsistentRead => self.call(PORT_FIRST, head, body).await,
            Kind::PatientRead => {
                self.catch_up(Instant::now()).await?;
                self.call(PORT_SECOND, head, body).await
            }
            Kind::Write => self.write(head, body).await,
            Kind::Definition => {
                self.call(PORT_SECOND, head.clone(), body.clone()).await?;
                self.call(PORT_FIRST, head, body).await
            }
        }
    }

    async fn write(&self, head: Parts, body: Bytes) -> anyhow::Result<Response<Body>> {
        let mut late = self.late.lock().await;
        let answer = self.call(PORT_FIRST, head.clone(), body.clone()).await?;
        if answer.status().is_success() {
            late.push_back(Late { due: Instant::now() + LAG, head, body });
        }
        Ok(answer)
    }

    async fn catch_up(&self, now: Instant) -> anyhow::Result<()> {
        let mut late = self.late.lock().await;
        while let Some(write) = late.pop_front_if(|write| write.due <= now) {
            let answer = self.call(PORT_SECOND, write.head, write.body).await?;
            anyhow::ensure!(
                answer.status().is_success(),
                "the second engine answered differently: {answer:?}"
            );
        }
        Ok(())
    }

    async fn call(&self, port: u16, head: Parts, body: Bytes) -> anyhow::Result<Response<Body>> {
        let (head, body) = relay::forward(&self.client, &format!("http://{LOOPBACK}:{port}"), head, body)
            .await?
            .into_parts();
        Ok(Response::from_parts(head, service::full(body.collect().await?.to_bytes())))
    }
}

fn kind(head: &Parts, body: &[u8]) -> Kind {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match super::operation(head) {
        "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" | "BatchWriteItem" => Kind::Write,
        "GetItem" | "Query" | "Scan" | "BatchGetItem" if !insists(&body) => Kind::PatientRead,
        "CreateTable" | "UpdateTable" | "DeleteTable" | "UpdateTimeToLive" => Kind::Definition,
        _ => Kind::InsistentRead,
    }
}

/// Whether every table that is read is read consistently.
pub(super) fn insists(body: &Value) -> bool {
    let asks = |read: &Value| read.get("ConsistentRead").and_then(Value::as_bool).unwrap_or(false);
    match body.get("RequestItems").and_then(Value::as_object) {
        Some(tables) => tables.values().all(asks),
        None => asks(body),
    }
}

/// As old as reads may be; seldom more than one second in truth, which a test cannot wait for.
const LAG: Duration = Duration::from_secs(2);
const PORT_FIRST: u16 = 8_002;
const PORT_SECOND: u16 = 8_003;
