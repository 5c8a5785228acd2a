//! The tables: the embedded engine over HTTP, behind a layer that judges and notes what is called.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use aws_policy::{Call, Role, Signed};
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
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::{client::legacy::Client, rt::TokioIo};
use serde_json::json;
use tokio::net::TcpListener;

type Calls = Arc<Mutex<BTreeMap<Role, BTreeSet<Call>>>>;

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
        let endpoint = format!("http://{}", judge_in_front_of(behind, calls.clone()).await);
        let config = StoreConfig { endpoint: Endpoint::Url(endpoint.clone()), ..Default::default() };
        let store = Store::connect(&config, &IdentitySource::Off, Path::new("unused")).await.unwrap();
        tables::create(&store).await.unwrap();
        Self { store, endpoint, calls }
    }

    /// What was called so far, and what is granted, are the same.
    pub(crate) fn assert_called_as_granted(&self, role: Role) {
        let calls = self.calls.lock().unwrap().get(&role).cloned().unwrap_or_default();
        assert_eq!(aws_policy::proof::faults(role, &calls).unwrap(), Vec::<String>::new());
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
            is_unproven: false,
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

/// Notes what each role calls, and answers as IAM does to what its policy does not grant.
async fn judge_in_front_of(behind: SocketAddr, calls: Calls) -> SocketAddr {
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
                    if let Some(denied) = judge(&head, &body, &calls) {
                        return Ok(denied);
                    }
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

/// The answer to who may not make a call; none to who may, and to the test itself.
fn judge(head: &http::request::Parts, body: &[u8], calls: &Calls) -> Option<Response<Full<Bytes>>> {
    let field = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = field("authorization").unwrap_or_default();
    let signed = Signed::of(authorization).unwrap();
    let role = Role::of(signed.access_key)?;
    let (method, operation) = (head.method.as_str(), field("x-amz-target"));
    let request = aws_policy::Request { method, target: "/", authorization, operation, body };
    let made = request.calls(&signed).unwrap();
    let policy = role.policy().unwrap();
    let denied = made.iter().find(|call| policy.judge(call).unwrap().is_empty()).cloned();
    calls.lock().unwrap().entry(role).or_default().extend(made);
    denied.map(|call| {
        let fault = json!({ "__type": "AccessDeniedException", "Message": format!("not authorized to perform: {call}") });
        Response::builder().status(StatusCode::BAD_REQUEST).body(Full::from(fault.to_string())).unwrap()
    })
}

const DAY: std::time::Duration = std::time::Duration::from_hours(24);
