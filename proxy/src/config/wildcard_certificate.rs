//! A wildcard for which one certificate is ordered, as settings name it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JsonSchema;
use crate::name::{NameError, Pattern, ServerName};

/// A wildcard whose certificate is ordered by dns-01 (RFC 8555 §8.4), and served to every allowed name below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WildcardCertificate {
    /// The wildcard, like `*.app.example.com`.
    pub name: Pattern,
    /// The Route 53 hosted zone that holds the challenge's TXT record.
    pub zone: HostedZoneId,
    /// The record to write, where `_acme-challenge.NAME` is a CNAME to it; absent, `_acme-challenge.NAME` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<ServerName>,
}

impl WildcardCertificate {
    /// The name that the CA asks for (RFC 8555 §8.4).
    ///
    /// # Errors
    /// It is longer than a name can be.
    pub fn validated_name(&self) -> Result<ServerName, NameError> {
        ServerName::parse(&format!("_acme-challenge.{}", self.name.name()))
    }
}

impl JsonSchema for WildcardCertificate {
    fn json_schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["name", "zone"],
            "properties": {
                "name": Pattern::json_schema(),
                "zone": HostedZoneId::json_schema(),
                "record": ServerName::json_schema(),
            },
        })
    }
}

/// Id of a hosted zone of Route 53 (API page `GetHostedZone`): up to 32 upper-case letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostedZoneId(String);

impl HostedZoneId {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostedZoneId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let permitted = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(permitted) {
            return Ok(Self(text));
        }
        Err(format!(
            "`{text}` is no hosted zone's id; write it like `Z0123456789ABCDEFGHIJ`, as `aws route53 list-hosted-zones` shows it behind `/hostedzone/`"
        ))
    }
}

impl From<HostedZoneId> for String {
    fn from(id: HostedZoneId) -> String {
        id.0
    }
}

impl fmt::Display for HostedZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_named_by_its_id_alone() {
        for (text, is_id) in [
            ("Z0123456789ABCDEFGHIJ", true),
            ("Z1", true),
            ("", false),
            ("/hostedzone/Z1", false),
            ("z1", false),
            ("example.com", false),
            ("Z1/rrset?x=1", false),
            (&"Z".repeat(33), false),
        ] {
            assert_eq!(HostedZoneId::try_from(text.to_owned()).is_ok(), is_id, "{text}");
        }
    }
}
