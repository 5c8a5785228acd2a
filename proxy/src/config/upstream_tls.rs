//! How upstreams that want something of their own are spoken to over TLS.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JsonSchema;
use crate::name::ServerName;

/// TLS for the endpoints with `;tls=NAME`; what is absent is as for those without it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// PEM file of the only roots that certificates are verified with; absent, the system's and `upstream.roots`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
    /// PEM file of the certificate that is presented, with its chain; goes with `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Whom to ask for (SNI) and whose certificate to expect, in place of the endpoint's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<ServerName>,
    /// Whether targets of domain entries may use it: a certificate opens what it was made for to whoever may name it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub entries: bool,
}

impl UpstreamTls {
    /// The files it names, each with the key that names it.
    pub(super) fn files(&self) -> [(&'static str, Option<&PathBuf>); 3] {
        [
            ("roots", self.roots.as_ref()),
            ("certificate", self.certificate.as_ref()),
            ("key", self.key.as_ref()),
        ]
    }
}

impl JsonSchema for UpstreamTls {
    fn json_schema() -> Value {
        let path = PathBuf::json_schema;
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "certificate": path(),
                "entries": bool::json_schema(),
                "key": path(),
                "roots": path(),
                "server_name": { "type": "string" },
            },
        })
    }
}
