//! Requests over the control socket answered.

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    context::ControlContext,
    events::{self, EventQuestion, ReplayError, Thoroughness},
    exposition::with,
    fleet,
    route::{ControlRoute, problem},
    server::{ControlResponse, SocketPeer},
    setup_links::LinkError,
    tokens::{self, TokenError},
    wire::{Changed, Fault, NewDomain, WireProblem},
};
use crate::{
    certificates::{OnRequestError, own::OwnError},
    clock,
    domains::{
        ChangeError,
        admin::{self, Decision, Existing, Proof, Refusal, Requester, Wanted},
        entry_count,
    },
    guard::GuardError,
    name::Pattern,
    store::{StoreError, instant::Micros},
    telemetry::error_chain,
};

/// Answers one request.
pub(super) async fn answer(
    instance: Arc<ControlContext>,
    caller: SocketPeer,
    request: Request<Incoming>,
) -> ControlResponse {
    let (head, body) = request.into_parts();
    let outcome = match ControlRoute::of(&head.method, head.uri.path(), head.uri.query()) {
        Ok(route) if head.method == Method::GET => act(&instance, caller, route, body).await,
        Ok(route) => to_its_end(async move { act(&instance, caller, route, body).await }).await,
        Err(refusal) => Err(refusal),
    };
    outcome.unwrap_or_else(|refusal| refused(&refusal))
}

/// Does `work` to its end, whether somebody waits for it or not: a revocation, for one, is several calls, and is not to stop between them.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, WireProblem>> + Send + 'static,
) -> Result<T, WireProblem> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|ended| Err(problem(StatusCode::INTERNAL_SERVER_ERROR, ended.to_string())))
}

async fn act(
    instance: &ControlContext,
    caller: SocketPeer,
    route: ControlRoute,
    body: Incoming,
) -> Result<ControlResponse, WireProblem> {
    match route {
        ControlRoute::Status => respond(&instance.whole_status().await),
        ControlRoute::ListDomains(part) => {
            respond(&instance.domains(part.tenant.as_ref(), part.after.as_ref(), part.limit).await?)
        }
        ControlRoute::ShowDomain(name) => respond(&instance.domain(&name).await?),
        ControlRoute::AddDomain(name) => change(instance, caller, name, addition(read(body).await?)).await,
        ControlRoute::RemoveDomain(name) => change(instance, caller, name, Wanted::Absent).await,
        ControlRoute::SuspendDomain(name) => change(instance, caller, name, Wanted::Suspended).await,
        ControlRoute::ResumeDomain(name) => change(instance, caller, name, Wanted::Resumed).await,
        ControlRoute::MaintainDomain(name, maintenance) => {
            change(instance, caller, name, Wanted::Maintained(maintenance)).await
        }
        ControlRoute::PreviewDomain(name) => {
            let by = Requester::operator(caller.to_string());
            let request = admin::Request::new(name, addition(read(body).await?), by);
            respond(&instance.preview(&request).await?.report)
        }
        ControlRoute::ReindexDomains => {
            respond(&instance.reindex(read_up_to(body, LONGEST_BODY).await?).await?)
        }
        ControlRoute::Reload => respond(&instance.reload.ask().await?),
        ControlRoute::Upgrade => {
            respond(&instance.upgrade.ask(read_up_to(body, LONGEST_BODY).await?, caller).await?)
        }
        ControlRoute::ListCertificates(part) => {
            respond(&instance.certificates(part.after.as_ref(), part.limit).await?)
        }
        ControlRoute::ShowName(name) => respond(&instance.name(&name).await),
        ControlRoute::ShowCertificate(name) => respond(&instance.certificate(&name).await?),
        ControlRoute::RetryCertificate(name) => respond(&instance.retry(&name).await?),
        ControlRoute::SpreadRenewals => {
            respond(&instance.spread_renewals(&read_up_to(body, LONGEST_BODY).await?, caller).await?)
        }
        ControlRoute::OrderCertificate(name, wanted) => {
            respond(&instance.order(&name, wanted, caller).await?)
        }
        ControlRoute::RevokeCertificate(name, reason) => {
            respond(&instance.revoke(&name, reason, caller).await?)
        }
        ControlRoute::ImportCertificate => {
            respond(&instance.import_own(&read_up_to(body, LONGEST_PEM).await?, caller).await?)
        }
        ControlRoute::LinkDomain(name) => {
            respond(&instance.make_link(&name, read_up_to(body, LONGEST_BODY).await?, caller).await?)
        }
        ControlRoute::CreateToken => {
            respond(&instance.create_token(read_up_to(body, LONGEST_BODY).await?, caller).await?)
        }
        ControlRoute::ListTokens => respond(&tokens::tokens(&instance.store).await?),
        ControlRoute::CountEntries(tenant) => {
            respond(&entry_count::count(&instance.store, tenant.as_str()).await?)
        }
        ControlRoute::ListInstances => {
            respond(&fleet::fleet(&instance.store, Micros::of(clock::wall())).await?)
        }
        ControlRoute::AskGuard => {
            respond(&instance.guard_facts(read_up_to(body, LONGEST_QUESTION).await?).await?)
        }
        ControlRoute::ListEvents => {
            let question: EventQuestion = read_up_to(body, LONGEST_BODY).await?;
            let (question, now) = (question.bounded(), Micros::of(clock::wall()));
            respond(&events::events(&instance.store, &question, Thoroughness::Thorough, now).await?)
        }
        ControlRoute::ListWebhooks => respond(&instance.webhooks().await?),
        ControlRoute::Replay(webhook) => {
            respond(&instance.replay(&webhook, &read_up_to(body, LONGEST_BODY).await?, caller).await?)
        }
        ControlRoute::RevokeToken(id) => respond(&instance.revoke_token(&id, caller).await?),
        ControlRoute::RemoveCertificate(name) => respond(&instance.remove_own(&name, caller).await?),
    }
}

async fn change(
    instance: &ControlContext,
    caller: SocketPeer,
    domain: Pattern,
    wanted: Wanted,
) -> Result<ControlResponse, WireProblem> {
    let by = Requester::operator(caller.to_string());
    let request = admin::Request::new(domain.clone(), wanted, by);
    let (Decision { report, .. }, reach) = instance.administer(request).await?;
    respond(&Changed { domain, report, reach })
}

fn addition(new: NewDomain) -> Wanted {
    let NewDomain { target, settings, tenant, replace, verified } = new;
    let existing = Existing::replaced(replace);
    let proof = Proof::waived(verified);
    Wanted::Present { target, settings, tenant, existing, proof }
}

async fn read(body: Incoming) -> Result<NewDomain, WireProblem> {
    read_up_to(body, LONGEST_BODY).await
}

async fn read_up_to<T: DeserializeOwned>(body: Incoming, most: usize) -> Result<T, WireProblem> {
    let bad = |detail: String| problem(StatusCode::BAD_REQUEST, detail);
    let bytes = Limited::new(body, most).collect().await.map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| bad(format!("the body: {error}")))
}

fn respond(answer: &impl Serialize) -> Result<ControlResponse, WireProblem> {
    let text = serde_json::to_string(answer);
    let text = text.map_err(|error| problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(with(StatusCode::OK, "application/json", text))
}

fn refused(refusal: &WireProblem) -> ControlResponse {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with(status, "application/problem+json", serde_json::to_string(refusal).unwrap_or_default())
}

impl From<StoreError> for WireProblem {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Conflict => StatusCode::CONFLICT,
            StoreError::Unavailable(_) | StoreError::NoCredentials | StoreError::DiskFull(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            StoreError::NotDynamoDb(_)
            | StoreError::Denied(_)
            | StoreError::NoTable(_)
            | StoreError::Refused(_)
            | StoreError::Sealing(_) => StatusCode::BAD_GATEWAY,
            StoreError::Misshapen { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        problem(status, error_chain(&error))
    }
}

impl From<TokenError> for WireProblem {
    fn from(error: TokenError) -> Self {
        let status = match &error {
            TokenError::Absent(_) => StatusCode::NOT_FOUND,
            TokenError::NoScope => StatusCode::UNPROCESSABLE_ENTITY,
            TokenError::TooMany(_) => StatusCode::CONFLICT,
            TokenError::Random => StatusCode::INTERNAL_SERVER_ERROR,
            TokenError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, error_chain(&error))
    }
}

impl From<LinkError> for WireProblem {
    fn from(error: LinkError) -> Self {
        let detail = error_chain(&error);
        match error {
            LinkError::NoApi | LinkError::NoEdgeName => problem(StatusCode::CONFLICT, detail),
            LinkError::Absent(_) => problem(StatusCode::NOT_FOUND, detail),
            LinkError::Lifetime(seconds) => {
                let field = Some("lifetime_seconds".to_owned());
                let fault = Fault { field, value: Some(seconds.to_string()), remedy: None };
                WireProblem { fault, ..problem(StatusCode::UNPROCESSABLE_ENTITY, detail) }
            }
            LinkError::Random => problem(StatusCode::INTERNAL_SERVER_ERROR, detail),
            LinkError::Store(error) => error.into(),
        }
    }
}

impl From<ReplayError> for WireProblem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Absent(_) => problem(StatusCode::NOT_FOUND, error.to_string()),
            ReplayError::ToCome { .. } => problem(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            ReplayError::Store(error) => error.into(),
        }
    }
}

impl From<OnRequestError> for WireProblem {
    fn from(error: OnRequestError) -> Self {
        let status = match &error {
            OnRequestError::Refused { .. } | OnRequestError::Issuer { .. } | OnRequestError::Own { .. } => {
                StatusCode::CONFLICT
            }
            OnRequestError::Ordering(_) => StatusCode::CONFLICT,
            OnRequestError::Nothing(_) => StatusCode::NOT_FOUND,
            OnRequestError::Revocation { .. } => StatusCode::BAD_GATEWAY,
            OnRequestError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, error_chain(&error))
    }
}

impl From<OwnError> for WireProblem {
    fn from(error: OwnError) -> Self {
        let status = match &error {
            OwnError::Fault { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            OwnError::Nothing(_) => StatusCode::NOT_FOUND,
            OwnError::TooMany => StatusCode::CONFLICT,
            OwnError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        problem(status, error_chain(&error))
    }
}

impl From<ChangeError> for WireProblem {
    fn from(error: ChangeError) -> Self {
        let detail = error_chain(&error);
        match error {
            ChangeError::Refused(refusal) => {
                WireProblem { fault: refusal.explain().into(), ..problem(status(&refusal), detail) }
            }
            ChangeError::Contended(_) => problem(StatusCode::CONFLICT, detail),
            ChangeError::Store(error) => error.into(),
        }
    }
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Absent(_) => StatusCode::NOT_FOUND,
        refusal if refusal.is_of_request() => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::CONFLICT,
    }
}

impl From<GuardError> for WireProblem {
    fn from(error: GuardError) -> Self {
        problem(StatusCode::BAD_GATEWAY, error_chain(&error))
    }
}

/// As many names as there may be in a question, each as long as it may be.
const LONGEST_QUESTION: usize = 128 * 1024;
const LONGEST_BODY: usize = 16 * 1024;
/// A chain of ten certificates with hundreds of names, and a key.
const LONGEST_PEM: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_done_though_nobody_waits_for_it() {
        let (go, gone) = tokio::sync::oneshot::channel();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = to_its_end(async move {
            let _: Result<(), _> = gone.await;
            let _: Result<(), _> = tell.send(());
            Ok(())
        });
        assert!(tokio::time::timeout(std::time::Duration::ZERO, work).await.is_err(), "it waits");
        go.send(()).unwrap();
        told.await.unwrap();
    }
}
