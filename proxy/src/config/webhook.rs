//! Where an operator's own program is told of events, as settings name it.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JsonSchema, event_kind::EventKind};

section! {
    /// Who is told of what becomes of domains and certificates.
    pub struct EventsConfig {
        /// URLs that events are sent to by POST, signed as Standard Webhooks has it; each also as `[[events.webhooks]]` with `name`, `url`
        /// (https, or http to a loopback address), `secret_file` or `secret_variable` (`whsec_` and 24 to 64 bytes in base64), and
        /// optionally `events` (which kinds; absent, all). One instance of the fleet sends.
        webhooks: Vec<WebhookConfig> = Vec::new()
            => "[{ name = \"crm\", url = \"https://crm.example.com/gatehouse\", secret_file = \"/etc/gatehouse/crm.secret\" }]",
    }
}

/// A URL that events are sent to, signed (Standard Webhooks).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// What it is called in commands, the log, metrics and the state table.
    pub name: WebhookName,
    /// Where events are sent: https, or http to a loopback address.
    pub url: String,
    /// File of the secret that signs them: `whsec_` and 24 to 64 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Name of the environment variable that holds the secret instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_variable: Option<String>,
    /// Which events; empty, all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
}

impl WebhookConfig {
    /// Whether it is told of events of `kind`, which another release may have written.
    #[must_use]
    pub fn wants(&self, kind: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|wanted| wanted.as_str() == kind)
    }
}

impl JsonSchema for WebhookConfig {
    fn json_schema() -> Value {
        let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["name", "url"],
            "properties": {
                "name": { "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,31}$" },
                "url": String::json_schema(),
                "secret_file": PathBuf::json_schema(),
                "secret_variable": String::json_schema(),
                "events": { "type": "array", "items": { "type": "string", "enum": kinds } },
            },
        })
    }
}

/// What a webhook is called: up to 32 lower-case letters, digits, `-` and `_`, so that it may label metrics and be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookName(String);

/// What cannot name a webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a webhook; write up to 32 lower-case letters, digits, `-` or `_`, like `crm`")]
pub struct NoWebhookName(String);

impl WebhookName {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WebhookName {
    type Error = NoWebhookName;
    fn try_from(text: String) -> Result<Self, NoWebhookName> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let permitted = |byte: u8| is_plain(byte) || b"-_".contains(&byte);
        let is_name = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(permitted)
            && text.bytes().next().is_some_and(is_plain);
        if is_name { Ok(Self(text)) } else { Err(NoWebhookName(text)) }
    }
}

impl FromStr for WebhookName {
    type Err = NoWebhookName;
    fn from_str(text: &str) -> Result<Self, NoWebhookName> {
        Self::try_from(text.to_owned())
    }
}

impl From<WebhookName> for String {
    fn from(name: WebhookName) -> String {
        name.0
    }
}

impl fmt::Display for WebhookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for (text, is_name) in [
            ("crm", true),
            ("crm-2_eu", true),
            ("", false),
            ("-crm", false),
            ("CRM", false),
            ("a#b", false),
            ("a b", false),
            (&"a".repeat(32), true),
            (&"a".repeat(33), false),
        ] {
            assert_eq!(text.parse::<WebhookName>().is_ok(), is_name, "{text}");
        }
    }
}
