//! The metadata service of an EC2 instance, version 2: a PUT gives a token, and without it nothing is told
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>).

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{Method, Request, Response, StatusCode, body::Incoming};

use crate::{
    namespace::Namespace,
    service::{self, Body, Service},
};

/// Whose metadata are told.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Like `i-0123456789abcdef0`.
    pub id: String,
    /// Like `eu-central-1`.
    pub region: String,
    /// Like `eu-central-1a`.
    pub availability_zone: String,
}

/// A running service.
#[derive(Debug)]
pub struct Metadata {
    target_state: Arc<Mutex<&'static str>>,
    address: SocketAddr,
    _service: Service,
}

impl Metadata {
    /// Starts it at `address` inside `namespace`; the target lifecycle state is `InService`.
    pub fn start(namespace: &Namespace, address: SocketAddr, instance: Instance) -> anyhow::Result<Self> {
        let target_state = Arc::new(Mutex::new("InService"));
        let told = Arc::clone(&target_state);
        let service = Service::start(namespace, address, move |listener| {
            service::http(listener, None, move |request| {
                let state = *told.lock().unwrap_or_else(PoisonError::into_inner);
                let answered = answer(&request, &instance, state);
                async move { answered }
            })
        })?;
        Ok(Self { target_state, address, _service: service })
    }

    /// As Gatehouse is told it, in `instance.metadata`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The target lifecycle state that the instance's group wants.
    pub fn set_target_state(&self, state: &'static str) {
        *self.target_state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn answer(request: &Request<Incoming>, instance: &Instance, state: &str) -> anyhow::Result<Response<Body>> {
    let path = request.uri().path();
    if request.method() == Method::PUT && path == "/latest/api/token" {
        return plain(StatusCode::OK, TOKEN);
    }
    if request.headers().get("x-aws-ec2-metadata-token").is_none_or(|token| token != TOKEN) {
        return plain(StatusCode::UNAUTHORIZED, "");
    }
    match path.strip_prefix("/latest/meta-data/") {
        Some("instance-id") => plain(StatusCode::OK, &instance.id),
        Some("placement/availability-zone") => plain(StatusCode::OK, &instance.availability_zone),
        Some("placement/region") => plain(StatusCode::OK, &instance.region),
        Some("autoscaling/target-lifecycle-state") => plain(StatusCode::OK, state),
        _ => plain(StatusCode::NOT_FOUND, ""),
    }
}

fn plain(status: StatusCode, body: &str) -> anyhow::Result<Response<Body>> {
    let response = Response::builder().status(status).header("content-type", "text/plain");
    // Told with the token alone; with other answers nobody reads it.
    let response = response.header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    Ok(response.body(service::full(body.to_owned()))?)
}

const TOKEN: &str = "a-token";
