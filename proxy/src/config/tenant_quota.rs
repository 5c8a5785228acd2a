//! How many entries a tenant may have.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JsonSchema;

/// A bound for one tenant, in place of the one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantQuota {
    /// Whose entries.
    pub tenant: String,
    /// How many there may be.
    pub entries: u32,
}

impl JsonSchema for TenantQuota {
    fn json_schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["tenant", "entries"],
            "properties": { "tenant": String::json_schema(), "entries": u32::json_schema() },
        })
    }
}
