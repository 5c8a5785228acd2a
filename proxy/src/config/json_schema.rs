//! What a type of settings is to JSON Schema.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A type of settings, as JSON Schema describes its values.
pub trait JsonSchema {
    /// The schema of a value.
    fn json_schema() -> Value;
}

impl<T: JsonSchema> JsonSchema for Option<T> {
    /// TOML knows no null: what is absent is not written.
    fn json_schema() -> Value {
        T::json_schema()
    }
}

impl<T: JsonSchema> JsonSchema for Vec<T> {
    fn json_schema() -> Value {
        json!({ "type": "array", "items": T::json_schema() })
    }
}

impl<K, T: JsonSchema> JsonSchema for BTreeMap<K, T> {
    fn json_schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::json_schema() })
    }
}

impl JsonSchema for bool {
    fn json_schema() -> Value {
        json!({ "type": "boolean" })
    }
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl JsonSchema for $type {
            fn json_schema() -> Value {
                json!({ "type": "integer", "minimum": 0, "maximum": <$type>::MAX })
            }
        }
    )+};
}
whole_numbers!(u16, u32, u64, usize);
