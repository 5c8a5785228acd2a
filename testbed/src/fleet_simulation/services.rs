//! What runs all the time on AWS's side: the API, health checks, and the fleet's function, which is the product's own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::ensure;
use fleet_function::Settings;
use http_body_util::BodyExt;
use hyper::{Request, Response, body::Incoming};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::UnboundedReceiver,
    time::{interval, timeout},
};

use super::{api, cloud::Cloud};
use crate::{
    edge::Edge,
    network::HOST,
    service::{self, Body, Service},
};

/// The cloud as everybody sees it.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<Cloud>>);

impl Shared {
    pub(super) fn new(cloud: Cloud) -> Self {
        Self(Arc::new(Mutex::new(cloud)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Cloud> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts them; each of `events` names the region whose function is invoked.
pub(super) fn start(edge: &Edge, cloud: Shared, events: UnboundedReceiver<usize>) -> anyhow::Result<Service> {
    Service::start(&edge.network.edge, API, move |listener| serve(listener, cloud, events))
}

async fn serve(listener: TcpListener, cloud: Shared, mut events: UnboundedReceiver<usize>) {
    tokio::task::spawn_local(check_health(cloud.clone()));
    tokio::task::spawn_local(schedule(cloud.clone()));
    let invoked = cloud.clone();
    tokio::task::spawn_local(async move {
        while let Some(region) = events.recv().await {
            tokio::task::spawn_local(invoke(invoked.clone(), region));
        }
    });
    let cloud = Rc::new(cloud);
    service::http(listener, None, move |request| answer(Rc::clone(&cloud), request)).await;
}

async fn answer(cloud: Rc<Shared>, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (status, body) =
        api::answer(&mut cloud.lock(), &head.headers, &String::from_utf8_lossy(&body), Instant::now());
    Ok(Response::builder().status(status).body(service::full(body))?)
}

/// As `ScheduleRule` of the template wakes it.
async fn schedule(cloud: Shared) {
    let mut ticks = interval(cloud.lock().times.schedule);
    loop {
        ticks.tick().await;
        let regions = cloud.lock().regions.len();
        for region in 0..regions {
            tokio::task::spawn_local(invoke(cloud.clone(), region));
        }
    }
}

/// One invocation. Those of events and of the schedule run side by side, as they do on Lambda.
async fn invoke(cloud: Shared, region: usize) {
    let (settings, pace) = {
        let cloud = cloud.lock();
        let Some(region) = cloud.regions.get(region) else { return };
        let endpoint = format!("http://{API}");
        (Settings::read(|name| region.variable(&endpoint, name)), cloud.times.function)
    };
    let outcome = match settings {
        Ok(settings) => fleet_function::invoke(&settings, pace).await.map_err(|fault| fault.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let mut cloud = cloud.lock();
    match outcome {
        Ok(report) => {
            let said = serde_json::to_value(&report).unwrap_or_default();
            if said.get("done").and_then(Value::as_array).is_some_and(|done| !done.is_empty())
                || report.fault().is_some()
            {
                cloud.note(&format!("function: {said}"));
            }
        }
        Err(fault) => cloud.note(&format!("function: {fault}")),
    }
}

async fn check_health(cloud: Shared) {
    let mut ticks = interval(cloud.lock().times.check);
    loop {
        ticks.tick().await;
        for (region, state) in cloud.lock().regions.iter().enumerate() {
            for (id, endpoint) in state.endpoint_group.endpoints() {
                let check = check(cloud.clone(), region, id.clone(), endpoint.address);
                tokio::task::spawn_local(check);
            }
        }
    }
}

async fn check(cloud: Shared, region: usize, id: String, address: Ipv4Addr) {
    let found = match timeout(CHECK, health(address)).await {
        Ok(found) => found,
        Err(_) => Err(anyhow::anyhow!("no answer")),
    };
    let mut cloud = cloud.lock();
    let Some(state) = cloud.regions.get_mut(region) else { return };
    if let Some(health) = state.endpoint_group.checked(&id, found.is_ok()) {
        let why = found.map_or_else(|error| format!(": {error}"), |()| String::new());
        cloud.note(&format!("accelerator: {id} is {health:?}{why}"));
    }
}

async fn health(address: Ipv4Addr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect((address, 80)).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    ensure!(&status == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&status));
    Ok(())
}

const API: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), 4_566);
/// For an answer. Not divided: a machine that builds beside it is slow, and not ill.
const CHECK: Duration = Duration::from_secs(1);
