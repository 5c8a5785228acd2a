//! A service of AWS that a machine meets and the testbed has not: a table it may not read.

use std::net::{IpAddr, SocketAddr};

use hyper::{Response, StatusCode};
use testbed::{
    namespace::Namespace,
    network::HOST,
    service::{self, Body, Service},
};

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

const CLOSED: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), 8002);
const DENIED: &str = r#"{"__type": "com.amazon.coral.service#AccessDeniedException", "message": "User: arn:aws:sts::111122223333:assumed-role/edge/i-0 is not authorized to perform this operation"}"#;
