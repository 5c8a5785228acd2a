//! What may be set for one name: the same in the settings, in an item of the domains table, and on the command line.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JsonSchema, Maintenance, RequestRate, SiteRedirect, TlsVersion, UpstreamHost};

/// What an entry says of how its name is served, beside its target. What is absent is as the settings have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSettings {
    /// The oldest version of TLS that its clients may speak, if newer than `tls.minimum_version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_tls: Option<TlsVersion>,
    /// Whose authority its upstream reads in Host; absent, `upstream.host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<UpstreamHost>,
    /// Whether its requests are answered in place of its upstream; absent, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
    /// Whether its requests are led to its name with `www.` or without; absent, they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<SiteRedirect>,
    /// How many of its requests an instance answers; absent, `limits.request_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_rate: Option<RequestRate>,
    /// How many of its requests by one client an instance answers; absent, `limits.client_request_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_rate: Option<RequestRate>,
}

impl DomainSettings {
    /// These, and what they leave out as `below` has it.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            minimum_tls: self.minimum_tls.or(below.minimum_tls),
            host: self.host.or(below.host),
            maintenance: self.maintenance.or(below.maintenance),
            redirect: self.redirect.or(below.redirect),
            request_rate: self.request_rate.or(below.request_rate),
            client_request_rate: self.client_request_rate.or(below.client_request_rate),
        }
    }

    /// Each by its name, with its value as it is written; absent where nothing is said.
    #[must_use]
    pub fn texts(self) -> [(&'static str, Option<String>); COUNT] {
        [
            (MINIMUM_TLS, self.minimum_tls.map(|version| version.to_string())),
            (HOST, self.host.map(|host| host.to_string())),
            (MAINTENANCE, self.maintenance.map(|maintenance| maintenance.to_string())),
            (REDIRECT, self.redirect.map(|redirect| redirect.to_string())),
            (REQUEST_RATE, self.request_rate.map(|rate| rate.to_string())),
            (CLIENT_REQUEST_RATE, self.client_request_rate.map(|rate| rate.to_string())),
        ]
    }

    /// The JSON Schema of each, as a list of the settings may have it.
    pub(super) fn json_schemas() -> Map<String, Value> {
        let schemas = [
            (MINIMUM_TLS, TlsVersion::json_schema()),
            (HOST, UpstreamHost::json_schema()),
            (MAINTENANCE, bool::json_schema()),
            (REDIRECT, SiteRedirect::json_schema()),
            (REQUEST_RATE, RequestRate::json_schema()),
            (CLIENT_REQUEST_RATE, RequestRate::json_schema()),
        ];
        schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
    }
}

/// `minimum_tls 1.3, host client`; nothing where nothing is said.
impl fmt::Display for DomainSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said =
            self.texts().into_iter().filter_map(|(name, text)| text.map(|text| format!("{name} {text}")));
        f.write_str(&said.collect::<Vec<_>>().join(", "))
    }
}

/// `1.2` or `1.3`.
pub const MINIMUM_TLS: &str = "minimum_tls";
/// `target` or `client`.
pub const HOST: &str = "host";
/// `true` or `false`; shown as `on` or `off`.
pub const MAINTENANCE: &str = "maintenance";
/// `www`, `apex` or `off`.
pub const REDIRECT: &str = "redirect";
/// `off`, or like `100/s burst 500`.
pub const REQUEST_RATE: &str = "request_rate";
/// `off`, or like `20/s burst 200`.
pub const CLIENT_REQUEST_RATE: &str = "client_request_rate";
const COUNT: usize = 6;
