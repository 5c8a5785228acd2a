//! What the API answered.

use hyper::StatusCode;
use prometheus::Registry;

use crate::{label, telemetry::metrics::Counters};

label! {
    /// How a request was answered.
    pub(super) enum Answer["answer"] {
        /// It was done (2xx).
        Done = "done",
        /// It has no token that holds (401).
        Unauthenticated = "unauthenticated",
        /// Its token may not do that (403).
        Forbidden = "forbidden",
        /// There were too many (429).
        TooMany = "too_many",
        /// It was wrong otherwise (4xx).
        Refused = "refused",
        /// It could not be done (5xx).
        Failed = "failed",
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct ApiMetrics {
    pub(super) answers: Counters<Answer>,
}

impl ApiMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Requests of the API, by how they were answered.";
        Ok(Self { answers: Counters::register(registry, "gatehouse_api_requests_total", help)? })
    }
}

impl Answer {
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::TOO_MANY_REQUESTS => Self::TooMany,
            status if status.is_client_error() => Self::Refused,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Done,
        }
    }
}
