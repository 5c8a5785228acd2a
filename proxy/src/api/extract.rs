//! Parts of a request read into types, or refused with the field at fault.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, IF_MATCH},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use utoipa::{
    IntoParams,
    openapi::{
        Object, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{
    ApiState,
    problem::{Problem, ProblemKind},
};
use crate::{domains::admin::ExpectedVersion, name::Pattern};

/// The name of a path.
pub(super) struct NamedDomain(pub(super) Pattern);

impl IntoParams for NamedDomain {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let domain = ParameterBuilder::new().name("domain").parameter_in(ParameterIn::Path);
        let domain = domain.required(Required::True).description(Some("The name, or `*.` and a name."));
        vec![domain.schema(Some(Object::with_type(Type::String))).build()]
    }
}

impl FromRequestParts<Arc<ApiState>> for NamedDomain {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, api).await.map_err(|rejection| {
            Problem::new(ProblemKind::Malformed, rejection.body_text()).of("domain", parts.uri.path())
        })?;
        Pattern::parse(&name).map(Self).map_err(|fault| {
            Problem::new(ProblemKind::Invalid, format!("domain: {fault}")).of("domain", &name)
        })
    }
}

/// The parameters of a query.
pub(super) struct Parameters<T>(pub(super) T);

/// None: one that is not known is refused, since it may ask that nothing be done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

impl<T: DeserializeOwned> FromRequestParts<Arc<ApiState>> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiState>) -> Result<Self, Problem> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        let Query(parameters) =
            read.map_err(|rejection| Problem::new(ProblemKind::Invalid, rejection.body_text()))?;
        Ok(Self(parameters))
    }
}

/// For which versions a request is (RFC 9110 §13.1.1): those of `If-Match`.
pub(super) struct IfMatch(pub(super) Option<ExpectedVersion>);

/// Where a request may do without; one that needs it says so itself.
impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let version = ParameterBuilder::new().name("If-Match").parameter_in(ParameterIn::Header);
        let version = version.description(Some("The `ETag` of the version that is meant."));
        vec![version.required(Required::False).schema(Some(Object::with_type(Type::String))).build()]
    }
}

impl FromRequestParts<Arc<ApiState>> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiState>) -> Result<Self, Problem> {
        if_match(&parts.headers).map(Self)
    }
}

impl IfMatch {
    /// Whatever is there, unless the request says otherwise.
    pub(super) fn or_any(self) -> ExpectedVersion {
        self.0.unwrap_or(ExpectedVersion::Any)
    }

    /// What the request says.
    pub(super) fn needed(self) -> Result<ExpectedVersion, Problem> {
        self.0.ok_or_else(|| {
            let remedy = "send `If-Match` with the `ETag` of what you read, or `*` for any version";
            Problem::new(ProblemKind::VersionNeeded, "there is no `If-Match`").mend(remedy)
        })
    }
}

fn if_match(headers: &HeaderMap) -> Result<Option<ExpectedVersion>, Problem> {
    let mut versions = Vec::new();
    let mut is_there = false;
    for value in headers.get_all(IF_MATCH) {
        is_there = true;
        let text = value.to_str().map_err(|_| no_entity_tag(""))?;
        if text.trim() == "*" {
            return Ok(Some(ExpectedVersion::Any));
        }
        for tag in text.split(',').map(str::trim).take(MOST_TAGS) {
            let opaque = tag.strip_prefix("W/").unwrap_or(tag);
            let opaque = opaque.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let opaque = opaque.ok_or_else(|| no_entity_tag(tag))?;
            // RFC 9110 §13.1.1: compared strongly, so that a weak one, as one that was never ours, matches nothing.
            versions.extend(opaque.parse::<u64>().ok().filter(|_| !tag.starts_with("W/")));
        }
    }
    Ok(is_there.then_some(ExpectedVersion::OneOf(versions)))
}

fn no_entity_tag(value: &str) -> Problem {
    let fault = format!("If-Match: `{value}` is not an entity tag");
    Problem::new(ProblemKind::Malformed, fault)
        .of("If-Match", value)
        .mend("send an `ETag` as it was received")
}

/// A body of JSON.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ApiState>> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<ApiState>) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let media_type = media_type(&parts.headers);
        if !media_type.is_some_and(|found| MEDIA_TYPES.iter().any(|known| found.eq_ignore_ascii_case(known)))
        {
            let fault =
                format!("Content-Type: `{}` is not `application/json`", media_type.unwrap_or_default());
            return Err(Problem::new(ProblemKind::MediaType, fault).mend("send JSON, and say so"));
        }
        from_json(&collect(body, api.body_size).await?).map(Self)
    }
}

/// Without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    value.split(';').next().map(str::trim)
}

/// All of a body of at most `most` bytes.
pub(crate) async fn collect(body: Body, most: usize) -> Result<Bytes, Problem> {
    Limited::new(body, most).collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let remedy = format!("send at most {most} bytes (`api.body_size`)");
            return Problem::new(ProblemKind::TooLarge, "the body is too large").mend(remedy);
        }
        Problem::new(ProblemKind::Malformed, "the body ended before it was complete")
    })
}

fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    // serde reads a struct from an array, too.
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::new(ProblemKind::Invalid, "the body is an array and not an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = read_json(&mut json)?;
    let end = json.end();
    end.map_err(|error| Problem::new(ProblemKind::Malformed, error.to_string()))?;
    Ok(read)
}

/// What `json` says, or the field at fault.
pub(crate) fn read_json<'de, T: DeserializeOwned>(
    json: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, Problem> {
    serde_path_to_error::deserialize(json).map_err(|error| {
        let field = error.path().to_string();
        let kind = if error.inner().is_data() { ProblemKind::Invalid } else { ProblemKind::Malformed };
        let problem = Problem::new(kind, error.into_inner().to_string());
        if field == "." { problem } else { problem.about(field) }
    })
}

/// RFC 7396 §4 has a type of its own for what `PATCH` takes, which is JSON as well.
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/merge-patch+json"];
const MOST_TAGS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<ExpectedVersion>, ProblemKind> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, value.parse().unwrap());
        }
        if_match(&headers).map_err(|problem| problem.kind())
    }

    #[test]
    fn if_match_names_versions_that_were_ours() {
        let of = |versions: &[u64]| Ok(Some(ExpectedVersion::OneOf(versions.to_vec())));
        for (values, expected) in [
            (vec![], Ok(None)),
            (vec!["*"], Ok(Some(ExpectedVersion::Any))),
            (vec!["\"7\""], of(&[7])),
            (vec!["\"7\", \"8\"", "\"9\""], of(&[7, 8, 9])),
            (vec!["W/\"7\""], of(&[])),
            (vec!["\"abc\""], of(&[])),
            (vec!["7"], Err(ProblemKind::Malformed)),
            (vec![""], Err(ProblemKind::Malformed)),
            (vec!["\""], Err(ProblemKind::Malformed)),
        ] {
            assert_eq!(read(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_body_is_read_whole_or_refused_with_its_field() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Two {
            a: Option<u8>,
            b: Option<Vec<String>>,
        }
        let read = from_json::<Two>(br#"{"a": 1, "b": ["x"]}"#).unwrap();
        assert_eq!((read.a, read.b), (Some(1), Some(vec!["x".to_owned()])));
        for (text, kind) in [
            ("", ProblemKind::Malformed),
            ("{", ProblemKind::Malformed),
            ("{} {}", ProblemKind::Malformed),
            ("\u{feff}{}", ProblemKind::Malformed),
            ("null", ProblemKind::Invalid),
            ("[]", ProblemKind::Invalid),
            (r#"{"a": 300}"#, ProblemKind::Invalid),
            (r#"{"c": 1}"#, ProblemKind::Invalid),
            (r#"{"a": 1, "a": 2}"#, ProblemKind::Invalid),
            (" [1]", ProblemKind::Invalid),
            (&format!("{{\"b\":{}", "[".repeat(100_000)), ProblemKind::Invalid),
            (&format!("{{\"c\":{}", "[".repeat(100_000)), ProblemKind::Invalid),
        ] {
            assert_eq!(from_json::<Two>(text.as_bytes()).unwrap_err().kind(), kind, "{text:.40}");
        }
    }
}
