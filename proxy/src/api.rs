//! The HTTP API by which programs manage the entries of the domains table: tokens, requests, answers.
//! Not here: what a change makes of an entry, and who may ask for it (`domains::admin`); how tokens are made (`control::tokens`).
//! Invariants: nothing is read or changed for who has no token with the scope for it, nor of another tenant
//! (`no_verb_reads_or_changes_anything_without_its_scope_or_of_another_tenant`); a revoked token permits nothing after ten seconds
//! (`a_revoked_token_is_refused_within_ten_seconds`); every answer is one that the description has
//! (`whatever_is_asked_the_answers_are_those_of_the_description`), which is `docs/openapi.json` (`checked_in_description_is_the_apis`).

mod audit;
mod cursor;
mod domains;
mod events;
mod extract;
mod holder;
mod idempotency;
mod import;
mod instances;
mod metrics;
mod openapi;
mod problem;
mod rate;
mod resource;
mod retry;
mod search;
mod server;
mod setup;
#[cfg(test)]
mod tests;
mod tls;
mod token_cache;
mod wanted;
mod words;

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{Json, Router, middleware, response::IntoResponse};
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use prometheus::Registry;
use tokio::{net::TcpListener, sync::Semaphore};
use tower::ServiceExt as _;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

#[cfg(test)]
pub(crate) use self::resource::ChangeResource;
pub(crate) use self::{
    audit::part as audit_part,
    domains::{administer, entry, in_a_path, part as domain_part, records_to_set},
    extract::{collect, media_type, read_json},
    holder::{Admitted, Audits, Reads, Writes, caller},
    import::carry_out as import,
    instances::whole_fleet,
    problem::{Problem, ProblemBody, ProblemKind},
    resource::{AuditEntry, DnsRecord, DomainResource},
    retry::end_back_off,
    setup::{NewSetupLink, SetupLinkResource, SetupResource, SetupState, link_entry, linked},
    wanted::{AuditParameters, DomainPatch, ListParameters, NewDomain, few_enough},
};
use self::{
    holder::Tokens,
    metrics::{Answer, ApiMetrics},
    openapi::ApiDocument,
    rate::RequestRates,
    resource::Health,
    setup::SetupLinks,
    tls::Tls,
};
pub use server::ApiServer;

use crate::{
    clock,
    config::Config,
    control::{self, ControlContext, ControlPortError, HandedSockets},
    domains::Caller,
    verification::{Looker, NoResolver},
};

/// Why there is no API.
#[derive(Debug, thiserror::Error)]
pub enum ApiStartError {
    /// DNS servers.
    #[error(transparent)]
    Resolver(#[from] NoResolver),
    /// A metric is registered already.
    #[error("metrics of `api` cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// What requests are answered from.
pub struct ApiState {
    pub(crate) instance: Arc<ControlContext>,
    tokens: Tokens,
    looker: Option<Looker>,
    links: SetupLinks,
    pub(crate) body_size: usize,
    /// One import at a time: the table's writes are everybody's.
    imports: Semaphore,
}

/// Answers requests.
#[derive(Clone)]
struct Api {
    router: Router,
    metrics: ApiMetrics,
}

/// Registers this module's metrics for a list of all.
pub(crate) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    ApiMetrics::register(registry).map(drop)
}

/// Binds the address of `config`, if there is one; its socket may have been `handed` over. Call it on the control runtime.
pub async fn bind(
    config: &Config,
    handed: &mut HandedSockets,
) -> Result<Option<TcpListener>, ControlPortError> {
    control::bind(SETTING, config.api.listen, handed).await
}

/// A descriptor of `port`, if there is one, for a successor.
pub fn share(port: Option<&TcpListener>) -> io::Result<Option<(&'static str, OwnedFd)>> {
    control::share(SETTING, port)
}

/// Answers at `listener` for `instance`, whose clients reach it at `https_port`, with `pages` of the same state beside its own paths. Call
/// it on the control runtime.
pub fn start(
    config: &Config,
    listener: TcpListener,
    instance: &Arc<ControlContext>,
    https_port: u16,
    registry: &Registry,
    pages: impl FnOnce(Arc<ApiState>) -> Router,
) -> Result<ApiServer, ApiStartError> {
    let (store, now) = (&instance.store, clock::now());
    let state = ApiState {
        tokens: Tokens::new(store.clone(), RequestRates::new(&config.api, now)),
        links: SetupLinks::new(store.clone(), RequestRates::new(&config.api, now)),
        looker: Looker::new(config, https_port, instance.address_policy.entry_permits())?,
        body_size: usize::try_from(config.api.body_size.bytes()).unwrap_or(usize::MAX),
        instance: Arc::clone(instance),
        imports: Semaphore::new(1),
    };
    let tls = config.api.name.clone().map(|name| Tls::new(name, instance));
    let state = Arc::new(state);
    let router = router(Arc::clone(&state)).merge(pages(state));
    let api = Api { router, metrics: ApiMetrics::register(registry)? };
    Ok(ApiServer::start(listener, tls, api))
}

/// The description of the API, as JSON (`OpenAPI` 3.1).
#[must_use]
pub fn description() -> String {
    let (_, document) = routes().split_for_parts();
    document.to_pretty_json().map(|text| format!("{text}\n")).unwrap_or_default()
}

fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(domains::list, domains::add))
        .routes(routes!(domains::read, domains::patch, domains::remove))
        .routes(routes!(domains::suspend))
        .routes(routes!(domains::resume))
        .routes(routes!(domains::begin_maintenance, domains::end_maintenance))
        .routes(routes!(domains::records))
        .routes(routes!(setup::link))
        .routes(routes!(retry::retry))
        .routes(routes!(import::import))
        .routes(routes!(audit::list))
        .routes(routes!(events::list))
        .routes(routes!(instances::list))
        .routes(routes!(health))
        .routes(routes!(described))
}

fn router(state: Arc<ApiState>) -> Router {
    let (router, _) = routes().split_for_parts();
    let once = middleware::from_fn_with_state(Arc::clone(&state), idempotency::once);
    let router = router.route_layer(once).fallback(nowhere).method_not_allowed_fallback(no_method);
    router.layer(middleware::from_fn(in_time)).with_state(state)
}

async fn in_time(request: axum::extract::Request, next: middleware::Next) -> axum::response::Response {
    limited_in_time(next.run(request)).await.unwrap_or_else(IntoResponse::into_response)
}

/// `answer`, or the problem that it took too long.
pub(crate) async fn limited_in_time<T>(answer: impl Future<Output = T>) -> Result<T, Problem> {
    let answered = tokio::time::timeout(LONGEST_REQUEST, answer).await;
    answered.map_err(|_| Problem::new(ProblemKind::Unavailable, "the request was not done in time"))
}

/// Say whether the API answers
#[utoipa::path(
    get, path = "/api/v1/health", tag = "meta", operation_id = "health", security(()),
    responses((status = 200, description = "It does.", body = Health))
)]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Describe the API
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "meta", operation_id = "describe", security(()),
    responses((status = 200, description = "This description.", body = serde_json::Value, content_type = "application/json"))
)]
async fn described() -> impl IntoResponse {
    static DESCRIPTION: LazyLock<Bytes> = LazyLock::new(|| description().into());
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION.clone())
}

async fn nowhere(request: axum::extract::Request) -> Problem {
    let path = request.uri().path();
    let fault = "there is nothing at this path";
    Problem::new(ProblemKind::Absent, fault)
        .of("path", path)
        .mend("`/api/v1/openapi.json` says what there is")
}

async fn no_method(request: axum::extract::Request) -> Problem {
    let method = request.method().as_str();
    let fault = format!("`{method}` is none of the methods of this path");
    Problem::new(ProblemKind::Method, fault).of("method", method).mend("`Allow` says which there are")
}

impl Api {
    async fn answer(self, mut request: Request<Incoming>, caller: Caller) -> Response<axum::body::Body> {
        request.extensions_mut().insert(caller);
        let Ok(mut response) = self.router.oneshot(request).await;
        // Whose token it was is not in the key of a cache.
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        self.metrics.answers.bump(Answer::of(response.status()));
        response
    }
}

/// More than a look-up, a change with its repetitions and the wait for the guard take together.
const LONGEST_REQUEST: Duration = Duration::from_secs(30);
/// The setting that names its address.
const SETTING: &str = "api.listen";
