//! What may be set for one name: the same in the settings, in an item of the domains table, and on the command line.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JsonSchema, Maintenance, RequestRate, SiteRedirect, TlsVersion, UpstreamHost, WwwPair};
use crate::name::{NoCounterpart, Pattern, ServerName};

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
    /// Whether it speaks for its name with `www.` in front, or without, as well; absent, it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub www: Option<WwwPair>,
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
            www: self.www.or(below.www),
            request_rate: self.request_rate.or(below.request_rate),
            client_request_rate: self.client_request_rate.or(below.client_request_rate),
        }
    }

    /// Whether the entry speaks for both names of its pair.
    #[must_use]
    pub fn is_pair(self) -> bool {
        matches!(self.www, Some(WwwPair::Redirect | WwwPair::Serve))
    }

    /// The other name of its pair that the entry of `pattern` speaks for, if it speaks for one.
    #[must_use]
    pub fn counterpart(self, pattern: &Pattern) -> Option<ServerName> {
        if self.is_pair() { pattern.counterpart().ok() } else { None }
    }

    /// Whether the entry of `pattern` speaks for `name`: by its pattern, or as the other name of its pair.
    #[must_use]
    pub fn speaks_for(self, pattern: &Pattern, name: &ServerName) -> bool {
        pattern.covers(name) || self.counterpart(pattern).as_ref() == Some(name)
    }

    /// Whether the entry of `pattern` can speak for a pair, where it is set to.
    pub fn check_pair(self, pattern: &Pattern) -> Result<(), PairFault> {
        if !self.is_pair() {
            return Ok(());
        }
        pattern.counterpart().map_err(PairFault::NoCounterpart)?;
        let redirect = self.redirect.unwrap_or(SiteRedirect::Off);
        if self.www == Some(WwwPair::Redirect) && redirect.leads(pattern.name()).is_some() {
            return Err(PairFault::LedBack(redirect));
        }
        Ok(())
    }

    /// Each by its name, with its value as it is written; absent where nothing is said.
    #[must_use]
    pub fn texts(self) -> [(&'static str, Option<String>); COUNT] {
        [
            (MINIMUM_TLS, self.minimum_tls.map(|version| version.to_string())),
            (HOST, self.host.map(|host| host.to_string())),
            (MAINTENANCE, self.maintenance.map(|maintenance| maintenance.to_string())),
            (REDIRECT, self.redirect.map(|redirect| redirect.to_string())),
            (WWW, self.www.map(|www| www.to_string())),
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
            (WWW, WwwPair::json_schema()),
            (REQUEST_RATE, RequestRate::json_schema()),
            (CLIENT_REQUEST_RATE, RequestRate::json_schema()),
        ];
        schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
    }
}

/// Why an entry cannot speak for both names of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairFault {
    /// There is no other name.
    NoCounterpart(NoCounterpart),
    /// Requests that were led to its own name would be led back.
    LedBack(SiteRedirect),
}

impl PairFault {
    /// What is wrong, of `pattern` and its setting, and what to do instead.
    #[must_use]
    pub fn explain(&self, pattern: &Pattern, www: WwwPair) -> (String, &'static str) {
        match self {
            Self::NoCounterpart(why) => {
                let remedy = match why {
                    NoCounterpart::Wildcard => "leave it out; give the names without it entries of their own",
                    NoCounterpart::Nested => "give it in the entry of the name without the first `www.`",
                    NoCounterpart::PublicSuffix(_) | NoCounterpart::Length => {
                        "leave it out, and give each name an entry of its own"
                    }
                };
                (format!("`{www}` needs a pair of names, and `{pattern}` makes none: {why}"), remedy)
            }
            Self::LedBack(redirect) => (
                format!(
                    "`{www}` leads requests to `{pattern}`, and `{REDIRECT}` = `{redirect}` leads them back"
                ),
                "set one of the two to `off`, or `www` to `serve`",
            ),
        }
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
/// `redirect`, `serve` or `off`.
pub const WWW: &str = "www";
/// `off`, or like `100/s burst 500`.
pub const REQUEST_RATE: &str = "request_rate";
/// `off`, or like `20/s burst 200`.
pub const CLIENT_REQUEST_RATE: &str = "client_request_rate";
const COUNT: usize = 7;
