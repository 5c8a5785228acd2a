//! What an answer says that is no success: problem details (RFC 9457), with field, value and remedy beside them.

use std::{borrow::Cow, collections::BTreeMap};

use axum::response::{IntoResponse, Response};
use hyper::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, HeaderBuilder, Object, Ref, RefOr, Response as ResponseSchema, ResponseBuilder, Type,
    },
};

use crate::{
    domains::{
        ChangeError,
        admin::{AuthorityRefusal, Explained, Refusal},
    },
    store::StoreError,
    telemetry::{admit_line, error_chain},
};

/// What is wrong with a request, or why it cannot be done now.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: String,
    field: Option<Cow<'static, str>>,
    value: Option<String>,
    remedy: Option<String>,
}

/// What is wrong: one status and title each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemKind {
    /// It cannot be read.
    Malformed,
    /// It has no token that holds.
    Unauthenticated,
    /// Its token may not do that.
    Forbidden,
    /// There is no such thing.
    Absent,
    /// There is, and not with this method.
    Method,
    /// Something else is there.
    Conflict,
    /// Another version is there.
    Changed,
    /// Its body is too large.
    TooLarge,
    /// Its body is of another type.
    MediaType,
    /// What it says cannot be.
    Invalid,
    /// It does not say which version it is for.
    VersionNeeded,
    /// There are too many.
    TooMany,
    /// A fault of the instance or its settings.
    Failed,
    /// It may be done later.
    Unavailable,
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// What kind of problem it is: `urn:gatehouse:problem:` and a word.
    #[serde(rename = "type")]
    #[schema(example = "urn:gatehouse:problem:conflict")]
    pub(crate) kind: String,
    /// The kind in words, the same for each of its kind.
    pub(crate) title: &'static str,
    /// The status of the response.
    #[schema(minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    /// What is wrong, for people.
    pub(crate) detail: String,
    /// Which field or parameter it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) field: Option<Cow<'static, str>>,
    /// What it held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) value: Option<String>,
    /// What to do instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) remedy: Option<String>,
}

impl ProblemKind {
    const fn describe(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "The request has no token that holds")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token may not do this"),
            Self::Absent => (StatusCode::NOT_FOUND, "absent", "There is no such thing"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "The method is not one of this path"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "Something else is there"),
            Self::Changed => (StatusCode::PRECONDITION_FAILED, "changed", "Another version is there"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::MediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is of another type")
            }
            Self::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request asks for what cannot be")
            }
            Self::VersionNeeded => (
                StatusCode::PRECONDITION_REQUIRED,
                "version-needed",
                "The request does not say which version it is for",
            ),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "There are too many requests"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed", "The request could not be done"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The request cannot be done now")
            }
        }
    }

    /// Which header fields go with it, and what they say.
    const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::TooMany | Self::Unavailable => {
                &[("Retry-After", "After how many seconds it may be tried again.")]
            }
            Self::Unauthenticated => &[("WWW-Authenticate", "How to say who asks: `Bearer`.")],
            Self::Malformed
            | Self::Method
            | Self::Forbidden
            | Self::Absent
            | Self::Conflict
            | Self::Changed
            | Self::TooLarge
            | Self::MediaType
            | Self::Invalid
            | Self::VersionNeeded
            | Self::Failed => &[],
        }
    }
}

impl Problem {
    /// One without a field.
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), field: None, value: None, remedy: None }
    }

    /// About the field or parameter `field`, which holds `value`.
    pub(crate) fn of(mut self, field: impl Into<Cow<'static, str>>, value: &str) -> Self {
        self.field = Some(field.into());
        self.value = Some(value.chars().take(LONGEST_VALUE).collect());
        self
    }

    /// About the field or parameter `field`.
    pub(crate) fn about(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// With what to do instead.
    pub(crate) fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Which status it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        self.kind.describe().0
    }

    /// As it is written.
    pub(crate) fn into_body(self) -> ProblemBody {
        let Self { kind, detail, field, value, remedy } = self;
        let (status, word, title) = kind.describe();
        ProblemBody {
            kind: format!("{TYPES}{word}"),
            title,
            status: status.as_u16(),
            detail,
            field,
            value,
            remedy,
        }
    }

    /// After how many seconds it may be tried again, where that is known.
    pub(crate) fn retry_after(&self) -> Option<HeaderValue> {
        match self.kind {
            // A rate is at least one request a second.
            ProblemKind::TooMany => Some(HeaderValue::from_static("1")),
            ProblemKind::Unavailable => Some(HeaderValue::from_static("5")),
            _ => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (kind, status, retry_after) = (self.kind, self.status(), self.retry_after());
        let mut response =
            (status, serde_json::to_vec(&self.into_body()).unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.extend(retry_after.map(|seconds| (RETRY_AFTER, seconds)));
        if kind == ProblemKind::Unauthenticated {
            // RFC 9110 §11.6.1; RFC 6750 §3.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => Self::refused(&refusal),
            ChangeError::Contended(_) => Self::new(ProblemKind::Conflict, error.to_string()),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Conflict => ProblemKind::Conflict,
            StoreError::Unavailable(_) => ProblemKind::Unavailable,
            StoreError::NoCredentials
            | StoreError::DiskFull(_)
            | StoreError::NotDynamoDb(_)
            | StoreError::Denied(_)
            | StoreError::NoTable(_)
            | StoreError::Refused(_)
            | StoreError::Sealing(_)
            | StoreError::Misshapen { .. } => ProblemKind::Failed,
        };
        store_failed(&error);
        Self::new(kind, "the store cannot be used for this now; the log of the instance says why")
    }
}

impl Problem {
    /// Why `domains::admin` refuses.
    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let Explained { field, value, fault, remedy } = refusal.explain();
        let kind = match refusal {
            Refusal::Absent(_) => ProblemKind::Absent,
            Refusal::Authority(
                AuthorityRefusal::OtherTenant(_)
                | AuthorityRefusal::Unverified(_)
                | AuthorityRefusal::RequestRate(_)
                | AuthorityRefusal::Suspension(_),
            ) => ProblemKind::Forbidden,
            Refusal::Authority(AuthorityRefusal::OtherVersion { .. }) => ProblemKind::Changed,
            refusal if refusal.is_of_request() => ProblemKind::Invalid,
            _ => ProblemKind::Conflict,
        };
        // What others say who have the command line.
        let remedy = match refusal {
            Refusal::Absent(_) => "`GET /api/v1/domains` lists those that are".to_owned(),
            Refusal::Exists { .. } => "change it by `PATCH`".to_owned(),
            Refusal::Suspended(_) => {
                "`POST` to its `resume` serves it again, with a token of all tenants".to_owned()
            }
            Refusal::Pending(_) => "`GET` its `records` says which DNS records it waits for".to_owned(),
            _ => remedy,
        };
        Self::new(kind, fault).of(field, &value).mend(remedy)
    }
}

/// Says it in the log alone: table, endpoint and items are the operator's matter, whoever asks.
pub(super) fn store_failed(error: &StoreError) {
    if let Some(left_out) = admit_line("api_store", "") {
        tracing::warn!(error = error_chain(error), left_out, "a request of the API failed at the store");
    }
}

/// How answers of these kinds are described.
pub(super) fn described(kinds: &[ProblemKind]) -> BTreeMap<String, RefOr<ResponseSchema>> {
    let responses = kinds.iter().map(|kind| {
        let (status, word, title) = kind.describe();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let description = format!("{title} (`{TYPES}{word}`).");
        let mut response = ResponseBuilder::new().description(description).content(MEDIA_TYPE, content);
        for (name, what) in kind.headers() {
            let text = Object::with_type(Type::String);
            let header = HeaderBuilder::new().schema(Some(text)).description(Some(*what));
            response = response.header(*name, header.build());
        }
        (status.as_str().to_owned(), RefOr::T(response.build()))
    });
    responses.collect()
}

const TYPES: &str = "urn:gatehouse:problem:";
const MEDIA_TYPE: &str = "application/problem+json";
const LONGEST_VALUE: usize = 300;
