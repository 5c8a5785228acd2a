//! Metrics of calls to the store, each attempt counted, as the SDK reports them.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef},
        },
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use prometheus::{IntGauge, Registry};

use super::Store;
use crate::{
    clock, label,
    telemetry::metrics::{Counters, Histograms, Label, gauge},
};

label! {
    /// Calls of the API that Gatehouse makes.
    pub(super) enum Operation["operation"] {
        BatchGetItem = "BatchGetItem",
        CreateTable = "CreateTable",
        DeleteItem = "DeleteItem",
        DescribeTable = "DescribeTable",
        GetItem = "GetItem",
        PutItem = "PutItem",
        Query = "Query",
        Scan = "Scan",
        TransactWriteItems = "TransactWriteItems",
        UpdateItem = "UpdateItem",
        Other = "other",
    }
}

label! {
    /// The outcome of an attempt.
    pub(super) enum Attempt["outcome"] {
        Answer = "answered",
        Conflict = "conflict",
        Throttle = "throttled",
        Refuse = "refused",
        /// Nothing of this instance is answered: its credentials or rights are missing or have ended, or the table is not there.
        Deny = "denied",
        Fail = "failed",
    }
}

/// The store's metrics; counted into nothing until [`Store::register_metrics`].
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<OnceLock<Registered>>);

struct Registered {
    calls: Counters<Operation>,
    attempts: Counters<Attempt>,
    seconds: Histograms<Operation>,
    up: IntGauge,
}

impl Registered {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let registered = Self {
            calls: Counters::register(
                registry,
                "gatehouse_store_calls_total",
                "Calls to the store, retries included.",
            )?,
            attempts: Counters::register(
                registry,
                "gatehouse_store_outcomes_total",
                "Calls to the store, retries included, by outcome.",
            )?,
            seconds: Histograms::register(
                registry,
                "gatehouse_store_call_seconds",
                "Duration of calls to the store.",
                &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
            )?,
            up: gauge(registry, "gatehouse_store_up", "1 while the last call to the store was answered.")?,
        };
        registered.up.set(1);
        Ok(registered)
    }
}

/// Registers the store's metrics for a list of all, with nothing that counts.
pub(crate) fn declare(registry: &Registry) -> Result<(), prometheus::Error> {
    Registered::register(registry).map(drop)
}

impl Store {
    /// Counts calls of all clones into `registry` from now on.
    pub fn register_metrics(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let registered = Registered::register(registry)?;
        // A second registry is refused by the first registration of a name already taken, not here.
        self.meter.0.set(registered).map_err(|_| prometheus::Error::AlreadyReg)
    }
}

impl Operation {
    fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|operation| operation.as_str() == name).unwrap_or(Self::Other)
    }
}

impl Attempt {
    /// From the status and body of the answer, if there was one.
    fn of(answer: Option<(u16, &[u8])>) -> Self {
        let Some((status, body)) = answer else { return Self::Fail };
        let says = |word: &str| body.windows(word.len()).any(|window| window == word.as_bytes());
        match status {
            200..300 => Self::Answer,
            500.. => Self::Fail,
            _ if ["ConditionalCheckFailed", "TransactionConflict"].into_iter().any(says) => Self::Conflict,
            _ if ["Throttling", "ThroughputExceeded", "RequestLimitExceeded"].into_iter().any(says) => {
                Self::Throttle
            }
            _ if DENIALS.into_iter().any(says) => Self::Deny,
            _ => Self::Refuse,
        }
    }

    fn store_is_up(self) -> bool {
        match self {
            Self::Answer | Self::Conflict | Self::Refuse => true,
            Self::Throttle | Self::Deny | Self::Fail => false,
        }
    }
}

#[derive(Debug)]
struct CallStart(Instant);

impl Storable for CallStart {
    type Storer = StoreReplace<Self>;
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meter")
    }
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "gatehouse::store::Meter"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(CallStart(clock::now()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(registered) = self.0.get() else { return Ok(()) };
        let operation = Operation::of(bag.load::<Metadata>().map_or("", Metadata::name));
        let answer = context
            .response()
            .map(|response| (response.status().as_u16(), response.body().bytes().unwrap_or_default()));
        let attempt = Attempt::of(answer);
        registered.calls.bump(operation);
        registered.attempts.bump(attempt);
        registered.up.set(i64::from(attempt.store_is_up()));
        if let Some(CallStart(at)) = bag.load::<CallStart>() {
            registered.seconds.observe(operation, at.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// Errors of whoever is not let in at all, or whose table is not there (DynamoDB's developer guide, "Error handling").
const DENIALS: [&str; 7] = [
    "AccessDenied",
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidSignature",
    "MissingAuthenticationToken",
    "ResourceNotFound",
    "UnrecognizedClient",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Engine, tables};

    #[test]
    fn a_lost_race_does_not_say_that_the_store_is_down() {
        for (answer, up) in [
            (Some((200, &b"{}"[..])), true),
            (Some((400, b"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException")), true),
            (Some((400, b"ValidationException")), true),
            (Some((400, b"com.amazon.coral.service#ExpiredTokenException")), false),
            (Some((400, b"com.amazon.coral.service#UnrecognizedClientException")), false),
            (Some((400, b"com.amazon.coral.service#AccessDeniedException")), false),
            (Some((400, b"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException")), false),
            (Some((400, b"ProvisionedThroughputExceededException")), false),
            (Some((503, b"")), false),
            (None, false),
        ] {
            assert_eq!(Attempt::of(answer).store_is_up(), up, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn calls_are_counted_by_operation() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        let registry = Registry::new();
        store.register_metrics(&registry).unwrap();
        tables::create(&store).await.unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "gatehouse_store_calls_total{operation=\"CreateTable\"} 3",
            "gatehouse_store_call_seconds_count{operation=\"CreateTable\"} 3",
            "gatehouse_store_outcomes_total{outcome=\"denied\"} 3",
            "gatehouse_store_up 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
