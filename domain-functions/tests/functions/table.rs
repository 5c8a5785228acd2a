//! The tables: the embedded engine over HTTP, behind a layer that notes what is called.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use gatehouse::{
    config::{Endpoint, StoreConfig},
    ec2::IdentitySource,
    name::Pattern,
    store::{
        Store,
        domain_table::{
            self, DomainRecord, DomainStatus, SettingsMap,
            checks::{Checks, get_checked},
        },
        instant::Micros,
        tables,
    },
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::{client::legacy::Client, rt::TokioIo};
use serde_json::Value;
use tokio::net::TcpListener;

/// `Operation table`, and with an index `Operation table/index`.
type Calls = Arc<Mutex<BTreeSet<String>>>;

/// Three empty tables.
pub(crate) struct Table {
    pub(crate) store: Store,
    pub(crate) endpoint: String,
    calls: Calls,
}

impl Table {
    pub(crate) async fn start() -> Self {
        let engine = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let behind = engine.local_addr().unwrap();
        let database = dynoxide::Database::memory().unwrap();
        tokio::spawn(dynoxide::server::serve_with_shutdown(engine, database, std::future::pending()));
        let calls = Calls::default();
        let endpoint = format!("http://{}", note_in_front_of(behind, calls.clone()).await);
        let config = StoreConfig { endpoint: Endpoint::Url(endpoint.clone()), ..Default::default() };
        let store = Store::connect(&config, &IdentitySource::Off, Path::new("unused")).await.unwrap();
        tables::create(&store).await.unwrap();
        let table = Self { store, endpoint, calls };
        table.calls();
        table
    }

    /// What was called since the last time.
    pub(crate) fn calls(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    /// Writes an entry that has not changed for a day.
    pub(crate) async fn put(&self, name: &str, status: DomainStatus) {
        let changed_at = Some(Micros::of(std::time::SystemTime::now()).less(DAY));
        let record = DomainRecord {
            pattern: Pattern::parse(name).unwrap(),
            target: None,
            settings: gatehouse::config::DomainSettings::default(),
            settings_map: SettingsMap::default(),
            status,
            tenant: "default".to_owned(),
            version: 1,
            created_at: changed_at,
            changed_at,
            expires_at: None,
        };
        domain_table::put(&self.store, &record, 0).await.unwrap();
    }

    /// How an entry stands, and what was found out about it.
    pub(crate) async fn get(&self, name: &str) -> (DomainStatus, Option<Checks>) {
        let found = get_checked(&self.store, &Pattern::parse(name).unwrap()).await.unwrap();
        let (record, checks) = found.unwrap_or_else(|| panic!("{name} is gone"));
        (record.status, checks)
    }
}

async fn note_in_front_of(behind: SocketAddr, calls: Calls) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client: Client<_, Full<Bytes>> = Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (calls, client) = (calls.clone(), client.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (calls, client) = (calls.clone(), client.clone());
                async move {
                    let (mut head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    calls.lock().unwrap().extend(named(&head, &body));
                    head.uri = format!("http://{behind}/").parse().unwrap();
                    let answer = client.request(Request::from_parts(head, Full::new(body))).await.unwrap();
                    let (head, body) = answer.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    Ok::<_, Infallible>(Response::from_parts(head, Full::new(body)))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// What of a call a policy would name. A transaction needs the rights to what it consists of.
fn named(head: &http::request::Parts, body: &[u8]) -> Vec<String> {
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let table = |value: &Value| value["TableName"].as_str().unwrap_or_default().to_owned();
    match operation {
        "BatchGetItem" => {
            let tables = body["RequestItems"].as_object().into_iter().flatten();
            tables.map(|(table, _)| format!("BatchGetItem {table}")).collect()
        }
        "TransactWriteItems" => {
            let parts = body["TransactItems"].as_array().into_iter().flatten();
            let writes = parts.flat_map(|part| part.as_object().into_iter().flatten());
            writes.map(|(kind, write)| format!("{kind}Item {}", table(write))).collect()
        }
        _ => {
            let index = body["IndexName"].as_str().map(|index| format!("/index/{index}"));
            vec![format!("{operation} {}{}", table(&body), index.unwrap_or_default())]
        }
    }
}

const DAY: std::time::Duration = std::time::Duration::from_hours(24);
