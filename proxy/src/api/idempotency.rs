//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a POST that is sent again is answered as it was the first time.
//! Not here: how answers are kept (`store::state_table`).
//! Invariants: nothing is kept for who has no token that may change entries (`a_key_is_its_tokens_alone`); a key stands for one request, and
//! an answer that says "later" is not kept (`what_may_be_done_later_is_done_then`); keys, answers and waits are bounded.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use axum::{
    body::Body,
    extract::{FromRequestParts as _, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{Method, request::Parts};
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, LOCATION},
};
use utoipa::{
    IntoParams,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{
    ApiState, LONGEST_REQUEST,
    extract::collect,
    holder::{Admitted, Holder, Writes},
    problem::{Problem, ProblemKind},
};
use crate::{
    clock,
    hexadecimal::hexadecimal,
    store::{
        StoreError,
        state_table::{Claimed, KeptAnswer, RequestClaim, RequestKey, claim_request},
    },
    telemetry::{admit_line, error_chain},
};

/// The field, for descriptions of requests that may have it.
pub(super) struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(FORM)).build();
        let key = ParameterBuilder::new().name(FIELD.as_str()).parameter_in(ParameterIn::Header);
        let description =
            "Sent again within a day with the same request, it is answered as it was the first time.";
        vec![key.description(Some(description)).required(Required::False).schema(Some(text)).build()]
    }
}

/// Carries a POST with a key out once; whatever has none passes.
pub(super) async fn once(State(api): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(&FIELD) {
        return next.run(request).await;
    }
    attempt(&api, request, next).await.unwrap_or_else(Problem::into_response)
}

async fn attempt(api: &Arc<ApiState>, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let key = key(&parts.headers)?;
    let admitted = Admitted::from_request_parts(&mut parts, api).await?;
    let Holder { hash, .. } = admitted.holder::<Writes>()?;
    // It is counted once, and not again when the request is carried out.
    parts.extensions.insert(admitted);
    let body = collect(body, api.body_size).await?;
    let (of, fingerprint) = (RequestKey { token: hash, key }, fingerprint(&parts, &body));
    let request = Request::from_parts(parts, Body::from(body));
    let store = &api.instance.store;
    match claim_request(store, &of, &fingerprint, LONGEST_REQUEST * 2, clock::wall()).await? {
        Claimed::New(claim) => {
            // It goes on when its client leaves, and is answered when it comes again.
            let done = tokio::spawn(carry_out(Arc::clone(api), claim, request, next)).await;
            done.map_err(|_| Problem::new(ProblemKind::Failed, "the request was not done"))
        }
        Claimed::Answered(answer) => Ok(again(answer)),
        Claimed::Running => {
            let fault = format!("{FIELD_TEXT}: a request with this key is being carried out");
            let problem = Problem::new(ProblemKind::Conflict, fault).of(FIELD_TEXT, &of.key);
            Err(problem.mend("send it again after some seconds: it is answered as that one"))
        }
        Claimed::Other => {
            let fault =
                format!("{FIELD_TEXT}: another request of this token had this key within the last day");
            let problem = Problem::new(ProblemKind::Invalid, fault).of(FIELD_TEXT, &of.key);
            Err(problem
                .mend("give each request a key of its own, and send it again only with the same request"))
        }
    }
}

async fn carry_out(api: Arc<ApiState>, claim: RequestClaim, request: Request, next: Next) -> Response {
    let Ok(response) = tokio::time::timeout(LONGEST_REQUEST, next.run(request)).await else {
        // What it has begun may go on: the claim stays, and ends by itself.
        let problem = Problem::new(ProblemKind::Unavailable, "the request was not done in time");
        return problem.into_response();
    };
    let store = &api.instance.store;
    let (response, kept) = match to_keep(response).await {
        Ok((response, answer)) => (response, claim.keep(store, answer).await),
        Err(response) => (response, claim.release(store).await),
    };
    if let Err(error) = kept {
        tell(&error);
    }
    response
}

/// The answer, and what of it is kept; or the answer alone, where it says that the request may be done later, or is too long.
async fn to_keep(response: Response) -> Result<(Response, KeptAnswer), Response> {
    if !is_last_word(response.status()) {
        return Err(response);
    }
    let (parts, body) = response.into_parts();
    // Bodies of our own are in memory: this neither waits nor fails.
    let body = collect(body, usize::MAX).await.unwrap_or_default();
    let fields = KEPT_FIELDS.iter().filter_map(|name| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let answer = KeptAnswer { status: parts.status.as_u16(), fields: fields.collect(), body: body.to_vec() };
    let response = Response::from_parts(parts, Body::from(body));
    if answer.body.len() > LONGEST_ANSWER { Err(response) } else { Ok((response, answer)) }
}

/// Whether the same request would be answered so again, however late.
fn is_last_word(status: StatusCode) -> bool {
    !status.is_server_error() && !LATER.contains(&status)
}

fn again(answer: KeptAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.fields {
        // Of those that we kept, whatever the table says now.
        let known = KEPT_FIELDS.iter().find(|known| known.as_str() == name);
        headers.extend(known.cloned().zip(HeaderValue::try_from(value).ok()));
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// What makes a request another one: all that decides what it does.
fn fingerprint(parts: &Parts, body: &Bytes) -> String {
    let mut context = Context::new(&SHA256);
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let versions = parts.headers.get_all(IF_MATCH).iter().map(HeaderValue::as_bytes);
    for part in [target.as_bytes()].into_iter().chain(versions).chain([body.as_ref()]) {
        // Each behind its length, so that no two lists of parts are the same bytes.
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    hexadecimal(context.finish().as_ref())
}

/// The key: a string of structured fields (RFC 8941 §3.3.3), or its characters alone, as other APIs have it.
fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(&FIELD).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(no_key("it is there more than once"));
    };
    let text = value.to_str().map_err(|_| no_key("it is not of printable characters"))?.trim();
    let quoted = text.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or_default());
    let key = quoted.unwrap_or(text);
    let permitted = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if key.is_empty() || key.len() > LONGEST_KEY || !key.bytes().all(permitted) {
        return Err(no_key("it has not the form of a key"));
    }
    Ok(key.to_owned())
}

fn no_key(fault: &str) -> Problem {
    let remedy =
        "send 1 to 128 printable characters without spaces, like `\"8e03978e-40d5-43dd-bc93-6894a57f9324\"`";
    Problem::new(ProblemKind::Malformed, format!("{FIELD_TEXT}: {fault}")).about(FIELD_TEXT).mend(remedy)
}

fn tell(error: &StoreError) {
    if let Some(left_out) = admit_line("idempotency", "") {
        tracing::warn!(
            error = error_chain(error),
            left_out,
            "an answer was not kept; sent again, its request is carried out again"
        );
    }
}

const FIELD: HeaderName = HeaderName::from_static("idempotency-key");
const FIELD_TEXT: &str = "Idempotency-Key";
const FORM: &str = "^(\"[!#-\\[\\]-~]{1,128}\"|[!#-\\[\\]-~]{1,128})$";
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Refusals that may end without the request being another one.
const LATER: [StatusCode; 4] = [
    StatusCode::UNAUTHORIZED,
    StatusCode::CONFLICT,
    // The media type makes no request another one.
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::TOO_MANY_REQUESTS,
];
const KEPT_FIELDS: [HeaderName; 3] = [CONTENT_TYPE, ETAG, LOCATION];
const LONGEST_KEY: usize = 128;
/// Each is written once for each key: a tenant that sends long imports again and again must not cost more than they do.
const LONGEST_ANSWER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, ProblemKind> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FIELD, value.parse().unwrap());
        }
        key(&headers).map_err(|problem| problem.kind())
    }

    #[test]
    fn a_key_is_a_string_with_or_without_quotes() {
        let (longest, longer) = ("k".repeat(LONGEST_KEY), "k".repeat(LONGEST_KEY + 1));
        for (values, expected) in [
            (&["\"8e03978e\""][..], Ok("8e03978e")),
            (&["8e03978e"], Ok("8e03978e")),
            (&[" a-b_c.d:e "], Ok("a-b_c.d:e")),
            (&[&longest], Ok(&longest)),
            (&[&longer], Err(ProblemKind::Malformed)),
            (&[""], Err(ProblemKind::Malformed)),
            (&["\"\""], Err(ProblemKind::Malformed)),
            (&["\"a"], Err(ProblemKind::Malformed)),
            (&["a\""], Err(ProblemKind::Malformed)),
            (&["\""], Err(ProblemKind::Malformed)),
            (&["a b"], Err(ProblemKind::Malformed)),
            (&["\"a\\\\b\""], Err(ProblemKind::Malformed)),
            (&["a", "a"], Err(ProblemKind::Malformed)),
        ] {
            assert_eq!(read(values).as_deref(), expected.as_ref().map(|key| *key), "{values:?}");
        }
    }

    #[test]
    fn requests_differ_by_path_query_version_and_body() {
        let of = |target: &str, version: &[&str], body: &'static str| {
            let request =
                version.iter().fold(Request::post(target), |request, tag| request.header(IF_MATCH, *tag));
            let (parts, ()) = request.body(()).unwrap().into_parts();
            fingerprint(&parts, &Bytes::from_static(body.as_bytes()))
        };
        let all = [
            of("/a", &[], ""),
            of("/b", &[], ""),
            of("/a?dry_run=true", &[], ""),
            of("/a", &["1"], ""),
            of("/a", &["1", "2"], ""),
            of("/a", &["12"], ""),
            of("/a", &[], "1"),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
        assert_eq!(of("/a", &["1"], "x"), of("/a", &["1"], "x"));
    }

    #[tokio::test]
    async fn what_may_be_done_later_is_done_then() {
        for (status, is_kept) in [
            (200, true),
            (201, true),
            (422, true),
            (409, false),
            (401, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let mut response = Response::new(Body::from("text"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(ETAG, HeaderValue::from_static("\"7\""));
            match to_keep(response).await {
                Ok((response, kept)) => {
                    assert!(is_kept && response.status() == status, "{status}");
                    let again = again(kept);
                    assert_eq!(
                        (again.status().as_u16(), &again.headers()[ETAG]),
                        (status, &response.headers()[ETAG])
                    );
                    assert_eq!(again.headers()[REPLAYED], "true");
                }
                Err(response) => assert!(!is_kept && response.status() == status, "{status}"),
            }
        }
        let long = Response::new(Body::from("t".repeat(LONGEST_ANSWER + 1)));
        let body = to_keep(long).await.unwrap_err().into_body();
        assert_eq!(collect(body, usize::MAX).await.unwrap().len(), LONGEST_ANSWER + 1);
    }
}
