//! Services of AWS that a machine meets and the testbed has not: instance metadata, and a table it may not read.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use testbed::{
    namespace::Namespace,
    network::HOST,
    service::{self, Body, Service},
};

/// Instance metadata, version 2: a PUT gives a token, and without it nothing is told
/// (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>).
pub(crate) struct Metadata {
    state: Arc<Mutex<&'static str>>,
    _service: Service,
}

impl Metadata {
    pub(crate) fn start(edge: &Namespace) -> anyhow::Result<Self> {
        let state = Arc::new(Mutex::new("InService"));
        let told = Arc::clone(&state);
        let service = Service::start(edge, METADATA, move |listener| {
            service::http(listener, None, move |request| {
                let state = *told.lock().unwrap_or_else(PoisonError::into_inner);
                async move { metadata(&request, state) }
            })
        })?;
        Ok(Self { state, _service: service })
    }

    pub(crate) fn url() -> String {
        format!("http://{METADATA}")
    }

    /// The target lifecycle state that the instance's group wants.
    pub(crate) fn set_target_state(&self, state: &'static str) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn metadata(request: &Request<Incoming>, state: &str) -> anyhow::Result<Response<Body>> {
    let path = request.uri().path();
    if request.method() == Method::PUT && path == "/latest/api/token" {
        return answer(StatusCode::OK, ("x-aws-ec2-metadata-token-ttl-seconds", "21600"), TOKEN);
    }
    let token = request.headers().get("x-aws-ec2-metadata-token");
    let plain = ("content-type", "text/plain");
    if token.is_none_or(|token| token != TOKEN) {
        return answer(StatusCode::UNAUTHORIZED, plain, "");
    }
    match path.strip_prefix("/latest/meta-data/") {
        Some("instance-id") => answer(StatusCode::OK, plain, "i-0123456789abcdef0"),
        Some("placement/availability-zone") => answer(StatusCode::OK, plain, "eu-central-1b"),
        Some("placement/region") => answer(StatusCode::OK, plain, "eu-central-1"),
        Some("autoscaling/target-lifecycle-state") => answer(StatusCode::OK, plain, state),
        _ => answer(StatusCode::NOT_FOUND, plain, ""),
    }
}

/// DynamoDB, to a role without permission
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>).
pub(crate) struct Closed {
    _service: Service,
}

impl Closed {
    pub(crate) fn start(edge: &Namespace) -> anyhow::Result<Self> {
        let service = Service::start(edge, CLOSED, |listener| {
            service::http(listener, None, |_| async {
                answer(StatusCode::BAD_REQUEST, ("content-type", "application/x-amz-json-1.0"), DENIED)
            })
        })?;
        Ok(Self { _service: service })
    }

    pub(crate) fn endpoint() -> String {
        format!("http://{CLOSED}")
    }
}

fn answer(status: StatusCode, field: (&str, &str), body: &str) -> anyhow::Result<Response<Body>> {
    Ok(Response::builder().status(status).header(field.0, field.1).body(service::full(body.to_owned()))?)
}

const TOKEN: &str = "a-token";
const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), 1338);
const CLOSED: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), 8002);
const DENIED: &str = r#"{"__type": "com.amazon.coral.service#AccessDeniedException", "message": "User: arn:aws:sts::111122223333:assumed-role/edge/i-0 is not authorized to perform this operation"}"#;
