//! A seam for tests: faults of the real store that the engines here do not have, injected between the SDK and any endpoint
//! (reads up to two seconds old, throttles, conflicts, lost answers, unprocessed keys, outages, permissions that a role lacks). Compiled by the
//! feature `fault-injection` alone, and in the binary turned on by `GATEHOUSE_STORE_FAULTS`.
//! Not here: what a fault leads to; the code above must not know this exists.

mod plan;
mod rng;
mod staleness;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use serde_json::{Map, Value, json};
use tracing::warn;

use super::{Engine, Store, engine::response};
use crate::{clock, config::StoreConfig};
pub use plan::{FaultPlan, PlanError};
use rng::Rng;
use staleness::Staleness;

/// Faults of one client: its plan, and a switch for outages.
#[derive(Debug)]
pub struct Faults {
    plan: FaultPlan,
    out: AtomicBool,
    forbidden: Mutex<Vec<&'static str>>,
    dice: Mutex<Rng>,
    lag: Mutex<Staleness>,
}

impl Faults {
    /// Faults as `plan` has them.
    #[must_use]
    pub fn new(plan: FaultPlan) -> Arc<Self> {
        let dice = Mutex::new(Rng::new(plan.seed));
        let lag = Mutex::new(Staleness::new(plan.stale));
        Arc::new(Self { plan, out: AtomicBool::new(false), forbidden: Mutex::default(), dice, lag })
    }

    /// `http` behind these faults.
    pub(super) fn between(self: Arc<Self>, http: SharedHttpClient) -> SharedHttpClient {
        SharedHttpClient::new(FaultyClient { inner: http, faults: self })
    }

    /// From now on the role lacks the permission for these operations, and for no others.
    pub fn forbid(&self, operations: &[&'static str]) {
        *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner) = operations.to_vec();
    }

    fn forbids(&self, operation: &str) -> bool {
        self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).contains(&operation)
    }

    /// From now on no call is answered, or calls are answered again.
    pub fn set_outage(&self, out: bool) {
        self.out.store(out, Ordering::Relaxed);
    }

    fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed) || self.plan.outage.as_ref().is_some_and(|file| file.exists())
    }

    fn strikes(&self, per_mille: u16) -> bool {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).strikes(per_mille)
    }

    fn with_lag<T>(&self, f: impl FnOnce(&mut Staleness, &mut Rng) -> T) -> T {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut self.lag.lock().unwrap_or_else(PoisonError::into_inner), &mut dice)
    }
}

impl Store {
    /// As [`Store::on`], with `faults` between.
    #[must_use]
    pub fn on_faulty(engine: Engine, config: &StoreConfig, faults: Arc<Faults>) -> Self {
        let http = faults.between(SharedHttpClient::new(engine.clone()));
        Self::in_process(engine, http, config)
    }
}

/// `http`, behind the faults that `GATEHOUSE_STORE_FAULTS` asks for.
pub(super) fn from_environment(http: SharedHttpClient) -> Result<SharedHttpClient, PlanError> {
    let Some(plan) = FaultPlan::from_environment()? else { return Ok(http) };
    warn!(?plan, "faults are injected into the store: this is for tests only");
    Ok(Faults::new(plan).between(http))
}

/// Wraps a client of any endpoint.
#[derive(Debug)]
struct FaultyClient {
    inner: SharedHttpClient,
    faults: Arc<Faults>,
}

impl HttpClient for FaultyClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(FaultyConnector { inner, faults: Arc::clone(&self.faults) })
    }
}

#[derive(Debug, Clone)]
struct FaultyConnector {
    inner: SharedHttpConnector,
    faults: Arc<Faults>,
}

impl HttpConnector for FaultyConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.answer(request).await })
    }
}

impl FaultyConnector {
    async fn answer(&self, mut request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        if self.faults.is_out() {
            return Err(ConnectorError::io("injected outage".into()));
        }
        let operation = operation(&request);
        if self.faults.forbids(&operation) {
            return failure(
                "AccessDeniedException",
                &json!({ "message": format!("not authorized: {operation}") }),
            );
        }
        let mut body = request.body().bytes().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let Some(body) = body.as_mut() else { return self.inner.call(request).await };
        if self.faults.strikes(self.faults.plan.throttle) {
            return failure("ProvisionedThroughputExceededException", &json!({ "message": "injected" }));
        }
        match operation.as_str() {
            "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" | "BatchWriteItem" => {
                self.write(request, &operation, body).await
            }
            "BatchGetItem" => {
                let withheld = self.withhold(body);
                set_body(&mut request, body);
                let mut answer = self.read(request, body).await?;
                if let (Some(withheld), Some(answer)) = (withheld, answer.1.as_object_mut()) {
                    answer.insert("UnprocessedKeys".into(), withheld);
                }
                respond(answer)
            }
            "GetItem" | "Query" | "Scan" => respond(self.read(request, body).await?),
            _ => self.inner.call(request).await,
        }
    }

    async fn write(
        &self,
        request: HttpRequest,
        operation: &str,
        body: &Value,
    ) -> Result<HttpResponse, ConnectorError> {
        if self.faults.strikes(self.faults.plan.conflict) {
            return conflict(operation, body);
        }
        let mut before = Vec::new();
        for (table, item) in staleness::written(operation, body) {
            let Some(names) = self.key_names(&request, table).await? else { continue };
            let key = staleness::key_of(item, &names);
            let query = json!({ "TableName": table, "Key": key, "ConsistentRead": true });
            let (_, found) = self.ask(&request, "GetItem", &query).await?;
            before.push((table.to_owned(), key, found.get("Item").cloned()));
        }
        let answer = self.inner.call(request).await?;
        if answer.status().is_success() {
            let now = clock::now();
            self.faults.with_lag(|lag, dice| {
                for (table, key, item) in before {
                    lag.remember(&table, &key, item, now, dice);
                }
            });
        }
        if self.faults.strikes(self.faults.plan.lost) {
            return Err(ConnectorError::io("injected: the answer is lost".into()));
        }
        Ok(answer)
    }

    async fn read(&self, request: HttpRequest, body: &Value) -> Result<(u16, Value), ConnectorError> {
        let tables = staleness::stale_tables(body);
        let mut keys = Vec::new();
        for table in tables {
            if let Some(names) = self.key_names(&request, &table).await? {
                keys.push((table, names));
            }
        }
        let (status, mut answer) = parsed(self.inner.call(request).await?).await?;
        let now = clock::now();
        self.faults.with_lag(|lag, _| {
            for (table, names) in &keys {
                lag.age(&mut answer, body, table, names, now);
            }
        });
        Ok((status, answer))
    }

    /// Takes some keys out of a `BatchGetItem`, as they will be reported unprocessed.
    fn withhold(&self, body: &mut Value) -> Option<Value> {
        let tables = body.get_mut("RequestItems")?.as_object_mut()?;
        let mut withheld = Map::new();
        for (table, wanted) in tables.iter_mut() {
            let keys = wanted.get_mut("Keys")?.as_array_mut()?;
            let (out, kept): (Vec<_>, Vec<_>) =
                keys.drain(..).partition(|_| self.faults.strikes(self.faults.plan.unprocessed));
            // The API answers at least one key of a batch that it does not throttle as a whole.
            let (mut out, mut kept) = (out, kept);
            if kept.is_empty() {
                kept.extend(out.pop());
            }
            *keys = kept;
            if !out.is_empty() {
                let mut rest = wanted.clone();
                rest.as_object_mut()?.insert("Keys".into(), out.into());
                withheld.insert(table.clone(), rest);
            }
        }
        Some(Value::Object(withheld))
    }

    async fn key_names(
        &self,
        like: &HttpRequest,
        table: &str,
    ) -> Result<Option<Vec<String>>, ConnectorError> {
        if let Some(names) = self.faults.with_lag(|lag, _| lag.key_names(table)) {
            return Ok(Some(names));
        }
        let (_, answer) = self.ask(like, "DescribeTable", &json!({ "TableName": table })).await?;
        let schema = answer.pointer("/Table/KeySchema").and_then(Value::as_array);
        let names = schema.map(|schema| {
            schema
                .iter()
                .filter_map(|element| element.get("AttributeName")?.as_str().map(str::to_owned))
                .collect::<Vec<_>>()
        });
        if let Some(names) = &names {
            self.faults.with_lag(|lag, _| lag.learn_key_names(table, names.clone()));
        }
        Ok(names)
    }

    /// A call of our own beside `like`, and not the instance's: who compares what that calls with its rights tells them apart by the access key.
    /// Emulators do not look at the signature.
    async fn ask(
        &self,
        like: &HttpRequest,
        operation: &str,
        body: &Value,
    ) -> Result<(u16, Value), ConnectorError> {
        let Some(mut request) = like.try_clone() else {
            return Err(ConnectorError::other("a streaming request cannot be repeated".into(), None));
        };
        request.headers_mut().insert("x-amz-target", format!("DynamoDB_20120810.{operation}"));
        request.headers_mut().insert("authorization", OWN_SIGNATURE);
        set_body(&mut request, body);
        parsed(self.inner.call(request).await?).await
    }
}

fn operation(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    target.rsplit('.').next().unwrap_or_default().to_owned()
}

fn set_body(request: &mut HttpRequest, body: &Value) {
    let text = body.to_string();
    request.headers_mut().insert("content-length", text.len().to_string());
    *request.body_mut() = SdkBody::from(text);
}

async fn parsed(response: HttpResponse) -> Result<(u16, Value), ConnectorError> {
    let status = response.status().as_u16();
    let body = ByteStream::new(response.into_body()).collect().await;
    let body = body.map_err(|error| ConnectorError::io(error.into()))?.into_bytes();
    let value = serde_json::from_slice(&body).map_err(|error| ConnectorError::other(error.into(), None))?;
    Ok((status, value))
}

fn respond((status, body): (u16, Value)) -> Result<HttpResponse, ConnectorError> {
    response(status, body.to_string().into_bytes())
}

fn failure(code: &str, fields: &Value) -> Result<HttpResponse, ConnectorError> {
    let mut body = fields.clone();
    if let Some(body) = body.as_object_mut() {
        body.insert("__type".into(), format!("com.amazonaws.dynamodb.v20120810#{code}").into());
    }
    respond((400, body))
}

/// "Transaction conflict handling in DynamoDB": a single write is refused by name, a transaction with a reason per item.
fn conflict(operation: &str, body: &Value) -> Result<HttpResponse, ConnectorError> {
    let Some(items) =
        body.get("TransactItems").and_then(Value::as_array).filter(|_| operation == "TransactWriteItems")
    else {
        return failure("TransactionConflictException", &json!({ "message": "injected" }));
    };
    let codes: Vec<_> =
        (0..items.len()).map(|index| if index == 0 { "TransactionConflict" } else { "None" }).collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    let reasons: Vec<_> = codes.iter().map(|code| json!({ "Code": code })).collect();
    failure("TransactionCanceledException", &json!({ "Message": message, "CancellationReasons": reasons }))
}

const OWN_SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=fault-injection/20260101/local/dynamodb/aws4_request, SignedHeaders=host, Signature=00";

#[cfg(test)]
mod tests;
