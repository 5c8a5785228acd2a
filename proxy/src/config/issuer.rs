//! An ACME certificate authority as settings name it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::json_schema::JsonSchema;

/// An ACME certificate authority (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// URL of its ACME directory.
    pub directory: String,
    /// Contact address of the ACME account.
    pub email: String,
    /// PEM file of the root that signs the directory's own certificate; absent, the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
    /// The account elsewhere at the CA that the ACME account belongs to (RFC 8555 §7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eab: Option<ExternalAccountConfig>,
    /// The profile that is ordered, one of those in its directory (draft-ietf-acme-profiles); absent, the CA's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Common name of the root whose chain is presented where the CA offers several (RFC 8555 §7.4.2); absent, the CA's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_chain: Option<String>,
}

/// External account binding: what a CA gives its customers, so that their ACME accounts are known to be theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalAccountConfig {
    /// The key's identifier, as the CA gives it.
    pub key_id: String,
    /// File of the HMAC key, in base64url as CAs give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_key_file: Option<PathBuf>,
    /// Name of the environment variable that holds the HMAC key instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_key_variable: Option<String>,
}

impl IssuerConfig {
    /// The CA with this directory, and nothing else said of it.
    #[must_use]
    pub fn of(directory: &str, email: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            email: email.to_owned(),
            roots: None,
            eab: None,
            profile: None,
            preferred_chain: None,
        }
    }
}

impl JsonSchema for IssuerConfig {
    fn json_schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["directory", "email"],
            "properties": {
                "directory": String::json_schema(),
                "email": String::json_schema(),
                "roots": PathBuf::json_schema(),
                "eab": ExternalAccountConfig::json_schema(),
                "profile": String::json_schema(),
                "preferred_chain": String::json_schema(),
            },
        })
    }
}

impl JsonSchema for ExternalAccountConfig {
    fn json_schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["key_id"],
            "properties": {
                "key_id": String::json_schema(),
                "hmac_key_file": PathBuf::json_schema(),
                "hmac_key_variable": String::json_schema(),
            },
        })
    }
}
