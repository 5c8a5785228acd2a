//! A function URL's event and answer ("Invoking Lambda function URLs", payload format 2.0), as far as a question by GET needs them.

use serde::{Deserialize, Serialize};

/// A request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UrlEvent {
    pub(crate) raw_path: String,
    #[serde(default)]
    pub(crate) raw_query_string: String,
    pub(crate) request_context: RequestContext,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RequestContext {
    pub(crate) http: HttpContext,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HttpContext {
    pub(crate) method: String,
}

/// A response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UrlAnswer {
    status_code: u16,
    headers: Headers,
    body: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Headers {
    content_type: &'static str,
    cache_control: &'static str,
}

impl UrlAnswer {
    /// In words. Nobody is to keep it: what is served may change at any moment.
    pub(crate) fn text(status_code: u16, body: String) -> Self {
        let headers = Headers { content_type: "text/plain; charset=utf-8", cache_control: "no-store" };
        Self { status_code, headers, body }
    }
}
