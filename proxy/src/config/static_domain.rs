//! A name that the settings serve.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    DomainSettings, JsonSchema, Maintenance, RequestRate, SiteRedirect, TlsVersion, UpstreamHost, WwwPair,
};
use crate::{name::Pattern, target::Target};

/// A name of the static list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Listed")]
pub struct StaticDomain {
    /// The name, or `*.` and a suffix.
    pub name: Pattern,
    /// Its own target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// What is set for it.
    #[serde(flatten)]
    pub settings: DomainSettings,
}

/// As it is read: a flattened part would be read last, and a fault in it no longer name its field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: Pattern,
    target: Option<Target>,
    minimum_tls: Option<TlsVersion>,
    host: Option<UpstreamHost>,
    maintenance: Option<Maintenance>,
    redirect: Option<SiteRedirect>,
    www: Option<WwwPair>,
    request_rate: Option<RequestRate>,
    client_request_rate: Option<RequestRate>,
}

impl From<Listed> for StaticDomain {
    fn from(listed: Listed) -> Self {
        let Listed {
            name,
            target,
            minimum_tls,
            host,
            maintenance,
            redirect,
            www,
            request_rate,
            client_request_rate,
        } = listed;
        let settings = DomainSettings {
            minimum_tls,
            host,
            maintenance,
            redirect,
            www,
            request_rate,
            client_request_rate,
        };
        Self { name, target, settings }
    }
}

impl JsonSchema for StaticDomain {
    fn json_schema() -> Value {
        let mut properties = DomainSettings::json_schemas();
        properties.insert("name".to_owned(), Pattern::json_schema());
        properties.insert("target".to_owned(), Target::json_schema());
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "properties": properties,
        })
    }
}
