//! Requests over the control socket answered.

use std::{error::Error, sync::Arc};

use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, body::Incoming};
use serde::Serialize;

use super::{
    exposition::with,
    instance::Instance,
    route::{Route, problem},
    server::Answer,
    wire::{NewDomain, Problem},
};
use crate::{domains::ChangeError, store::StoreError};

/// Answers one request.
pub(super) async fn answer(instance: Arc<Instance>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let outcome = match Route::of(&head.method, head.uri.path(), head.uri.query()) {
        Ok(route) => act(&instance, route, body).await,
        Err(refusal) => Err(refusal),
    };
    outcome.unwrap_or_else(|refusal| refused(&refusal))
}

async fn act(instance: &Instance, route: Route, body: Incoming) -> Result<Answer, Problem> {
    match route {
        Route::Status => told(&instance.status()),
        Route::ListDomains(part) => {
            told(&instance.domains(part.tenant.as_ref(), part.after.as_ref(), part.limit).await?)
        }
        Route::ShowDomain(name) => told(&instance.domain(&name).await?),
        Route::AddDomain(name) => {
            let NewDomain { target } = read(body).await?;
            told(&instance.add(name, target).await?)
        }
        Route::RemoveDomain(name) => told(&instance.remove(name).await?),
        Route::ReindexDomains => told(&instance.reindex().await?),
        Route::Reload => told(&instance.reload.ask().await?),
        Route::ListCertificates(part) => told(&instance.certificates(part.after.as_ref(), part.limit).await?),
        Route::ShowCertificate(name) => told(&instance.certificate(&name).await?),
        Route::RetryCertificate(name) => told(&instance.retry(&name).await?),
    }
}

async fn read(body: Incoming) -> Result<NewDomain, Problem> {
    let bad = |detail: String| problem(StatusCode::BAD_REQUEST, detail);
    let bytes = Limited::new(body, LONGEST_BODY).collect().await.map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| bad(format!("the body: {error}")))
}

fn told(answer: &impl Serialize) -> Result<Answer, Problem> {
    let text = serde_json::to_string(answer);
    let text = text.map_err(|error| problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(with(StatusCode::OK, "application/json", text))
}

fn refused(refusal: &Problem) -> Answer {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with(status, "application/problem+json", serde_json::to_string(refusal).unwrap_or_default())
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Conflict => StatusCode::CONFLICT,
            StoreError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Denied(_) | StoreError::NoTable(_) | StoreError::Refused(_) => {
                StatusCode::BAD_GATEWAY
            }
            StoreError::Misshapen { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        problem(status, whole(&error))
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let detail = whole(&error);
        match error {
            ChangeError::Absent(_) => problem(StatusCode::NOT_FOUND, detail),
            ChangeError::Static(_) | ChangeError::TableOff | ChangeError::Contended(_) => {
                problem(StatusCode::CONFLICT, detail)
            }
            ChangeError::Store(error) => error.into(),
        }
    }
}

/// An error with its causes.
pub(crate) fn whole(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

const LONGEST_BODY: usize = 16 * 1024;
