//! The API's own description (`OpenAPI` 3.1).

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        RefOr, Response,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::problem::{ProblemBody, ProblemKind, described};

/// What stands around the paths.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Gatehouse",
        description = "Manages the names that a fleet serves for its operator's customers. Each request has a token, made by \
            `gatehouse token create`; what is no success is a problem (RFC 9457).",
        license(name = "Apache-2.0 OR MIT")
    ),
    security(("token" = [])),
    tags(
        (name = "domains", description = "Entries of the domains table."),
        (name = "audit", description = "Who changed which entry."),
        (name = "events", description = "What became of domains and certificates."),
        (name = "fleet", description = "The instances that serve them."),
        (name = "meta", description = "The API itself; without a token.")
    ),
    components(schemas(ProblemBody)),
    modifiers(&Token)
)]
pub(super) struct ApiDocument;

/// How requests say who asks.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("gatehouse_...").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// What a request that reads may be answered with beside success.
pub(super) struct Queries;

/// What a request that changes may be answered with beside success.
pub(super) struct Changes;

/// What a request that changes, and has no body, may be answered with beside success.
pub(super) struct Acts;

impl IntoResponses for Queries {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        described(&QUERIES)
    }
}

impl IntoResponses for Changes {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let changes =
            [ProblemKind::Changed, ProblemKind::TooLarge, ProblemKind::MediaType, ProblemKind::VersionNeeded];
        described(&[&QUERIES[..], &changes].concat())
    }
}

impl IntoResponses for Acts {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        described(&[&QUERIES[..], &[ProblemKind::Changed]].concat())
    }
}

const QUERIES: [ProblemKind; 9] = [
    ProblemKind::Malformed,
    ProblemKind::Unauthenticated,
    ProblemKind::Forbidden,
    ProblemKind::Absent,
    ProblemKind::Conflict,
    ProblemKind::Invalid,
    ProblemKind::TooMany,
    ProblemKind::Failed,
    ProblemKind::Unavailable,
];
