//! What clients see where the proxy answers itself: its own page or one of the operator's; or the same as JSON (RFC 9457).
//! Not here: why it answers itself (`refusal`).
//! Invariants: a page shows nothing that could mean something in HTML (`what_pages_show_means_nothing_in_html`); wrong pages change nothing
//! (`every_wrong_page_is_named_with_its_remedy`).

mod directory;
mod template;

use std::{collections::BTreeMap, time::SystemTime};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

pub use self::directory::ErrorPagesError;
use self::template::{PageTemplate, Placeholder};
use super::{
    Answer, Body,
    own_response::{own_response, own_response_of},
};
use crate::{
    config::{self, ContentSecurityPolicy},
    fields::{Fields, elements},
    name::ServerName,
    telemetry::RequestId,
};

/// What happened, and who can do something about it: our own fixed texts, never untrusted input or an error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) what: &'static str,
    pub(super) advice: &'static str,
}

/// The id by which the operator finds the request in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference<'a> {
    pub(super) id: &'a RequestId,
    pub(super) at: SystemTime,
}

/// What a client is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) status: StatusCode,
    pub(super) notice: Notice,
    /// Whether the domain's owner has switched it off.
    pub(super) is_maintenance: bool,
    /// The site, where it is known.
    pub(super) host: Option<&'a ServerName>,
    pub(super) reference: Reference<'a>,
}

/// How a client wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProblemForm {
    Page,
    Json,
}

impl ProblemForm {
    /// JSON only for those who ask for it and not for HTML (`Accept`, RFC 9110 §12.5.1): what browsers send names HTML.
    pub(super) fn wanted(fields: &Fields) -> Self {
        let Some(accept) = fields.named(&header::ACCEPT) else { return Self::Page };
        let mut form = Self::Page;
        for range in elements(accept) {
            let range = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            if range.eq_ignore_ascii_case(b"text/html") {
                return Self::Page;
            }
            if JSON.iter().any(|json| range.eq_ignore_ascii_case(json)) {
                form = Self::Json;
            }
        }
        form
    }
}

/// Which requests a page of the operator's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PageKind {
    /// Those of domains in maintenance.
    Maintenance,
    /// Those with this status.
    Status(u16),
    /// All that are the client's (4) or the server's (5) fault.
    Class(u16),
}

impl PageKind {
    /// The kinds of pages that would do for `problem`, the best one first.
    fn of(problem: &Problem<'_>) -> impl Iterator<Item = Self> {
        let code = problem.status.as_u16();
        let maintenance = problem.is_maintenance.then_some(Self::Maintenance);
        maintenance.into_iter().chain([Self::Status(code), Self::Class(code / 100)])
    }
}

/// The pages in force.
#[derive(Debug)]
pub struct ErrorPages {
    own: PageTemplate,
    operators: BTreeMap<PageKind, PageTemplate>,
    policy: HeaderValue,
}

impl Default for ErrorPages {
    fn default() -> Self {
        Self::new(BTreeMap::new(), &ContentSecurityPolicy::strict())
    }
}

impl ErrorPages {
    fn new(operators: BTreeMap<PageKind, PageTemplate>, policy: &ContentSecurityPolicy) -> Self {
        // Ours is a template: `the_page_says_what_happened_who_can_act_and_how_to_ask`.
        let own = PageTemplate::parse(OWN_PAGE).unwrap_or_default();
        Self { own, operators, policy: policy.header_value() }
    }

    /// Reads the operator's pages. Blocks: for the start, and for a reload.
    ///
    /// # Errors
    /// The first page that is none, with its file and line.
    pub fn read(config: &config::ErrorPagesConfig) -> Result<Self, ErrorPagesError> {
        let operators = match &config.directory {
            Some(path) => directory::read(path)?,
            None => BTreeMap::new(),
        };
        Ok(Self::new(operators, &config.content_security_policy))
    }

    /// The response that tells a client of `problem`.
    pub(super) fn answer(&self, problem: &Problem<'_>, form: ProblemForm) -> Answer {
        let nosniff = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if form == ProblemForm::Json {
            let content_type = HeaderValue::from_static("application/problem+json");
            return own_response(
                problem.status,
                json(problem),
                &[(header::CONTENT_TYPE, content_type), nosniff],
            );
        }
        let theirs = PageKind::of(problem).find_map(|kind| self.operators.get(&kind));
        let policy = match theirs {
            Some(_) => self.policy.clone(),
            None => HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        };
        let fields = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, policy),
            nosniff,
        ];
        own_response_of(problem.status, page(theirs.unwrap_or(&self.own), problem), &fields)
    }
}

fn page(template: &PageTemplate, problem: &Problem<'_>) -> Body {
    Body::parts(template.fill(|placeholder, page| {
        let text: &str = match placeholder {
            Placeholder::Status => problem.status.as_str(),
            Placeholder::Reason => reason(problem.status),
            Placeholder::Title => problem.notice.what,
            Placeholder::Advice => problem.notice.advice,
            Placeholder::Reference => &problem.reference.id.to_string(),
            Placeholder::Time => &time(problem),
            Placeholder::Host => problem.host.map(ServerName::as_str).unwrap_or_default(),
        };
        page.extend_from_slice(text.as_bytes());
    }))
}

/// RFC 9457 §3.1. §4.2.1: what has no type of its own is called as its status.
fn json(problem: &Problem<'_>) -> Bytes {
    let Problem { status, notice, reference, .. } = problem;
    let told = serde_json::json!({
        "type": "about:blank",
        "title": reason(*status),
        "status": status.as_u16(),
        "detail": format!("{}. {}", notice.what, notice.advice),
        "reference": reference.id.to_string(),
        "time": time(problem),
    });
    format!("{told}\n").into()
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

fn time(problem: &Problem<'_>) -> String {
    OffsetDateTime::from(problem.reference.at).format(INSTANT).unwrap_or_default()
}

const OWN_PAGE: &str = include_str!("error_pages/default.html");
const JSON: [&[u8]; 2] = [b"application/json", b"application/problem+json"];
const INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");

#[cfg(test)]
mod tests;
