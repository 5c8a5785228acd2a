//! `domain-verifier`: whether the domains table permits a name, for servers that ask before they order a certificate.

use gatehouse::{
    config::Config,
    domains::{
        Permission, UnknownReason,
        ask_answer::{AskAnswer, asked},
        permission_by_table,
    },
    store::Store,
};
use http::Method;
use lambda_runtime::{Error, LambdaEvent, service_fn};

use crate::{
    settings,
    url_event::{UrlAnswer, UrlEvent},
};

/// Answers until Lambda ends the process.
pub(crate) async fn run(config: &Config) -> Result<(), Error> {
    let store = settings::connect(config).await?;
    let store = &store;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<UrlEvent>| {
        Ok::<_, Error>(answer(store, &event.payload).await)
    }))
    .await
}

async fn answer(store: &Store, event: &UrlEvent) -> UrlAnswer {
    // What is no method is none that is answered.
    let method = Method::from_bytes(event.request_context.http.method.as_bytes()).unwrap_or(Method::POST);
    let answer = match asked(&method, &event.raw_path, Some(&event.raw_query_string), &["/", "/ask"]) {
        Err(answer) => answer,
        Ok(name) => {
            let permission = permission_by_table(store, &name).await.unwrap_or_else(|error| {
                let error: &dyn std::error::Error = &error;
                tracing::error!(%name, error, "the domains table does not say whether a name is served");
                Permission::Unknown(UnknownReason::SourceDown)
            });
            AskAnswer::of(&permission)
        }
    };
    UrlAnswer::text(answer.status.as_u16(), answer.text)
}
