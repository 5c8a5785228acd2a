//! What services say when they do not do what was asked.

use serde::Deserialize;

/// A fault of AWS's JSON protocol 1.1 ("Common Error Types" of the API references).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFault {
    /// As the API reference names it.
    pub code: String,
    /// The service's words; empty where it has none.
    pub message: String,
}

/// Some services write `message`, some `Message`, some compatible ones both.
#[derive(Deserialize)]
struct Body {
    #[serde(rename = "__type")]
    code: String,
    message: Option<String>,
    #[serde(rename = "Message")]
    capital: Option<String>,
}

impl JsonFault {
    /// Reads an answer's body; `None` when it is of another form.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let Body { code, message, capital } = serde_json::from_slice(body).ok()?;
        // Some write the namespace of the service's model before it.
        let code = code.rsplit('#').next().unwrap_or(&code).to_owned();
        Some(Self { code, message: message.or(capital).unwrap_or_default() })
    }
}

/// What is told of an answer, without control characters: serde quotes it in full where it is of another shape.
#[must_use]
pub fn shortened(said: &str) -> String {
    said.chars().filter(|char| !char.is_control()).take(LONGEST_WORDS).collect()
}

/// Of what a service says in an error.
pub const LONGEST_WORDS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_however_its_service_writes_it() {
        let fault = |code: &str, message: &str| {
            Some(JsonFault { code: code.to_owned(), message: message.to_owned() })
        };
        for (body, expected) in [
            (r#"{"__type":"com.amazonaws.kms#Denied","Message":"no"}"#, fault("Denied", "no")),
            (r#"{"__type":"Denied","message":"no","Message":"neither"}"#, fault("Denied", "no")),
            (r#"{"__type":"Denied"}"#, fault("Denied", "")),
            (r#"{"message":"no"}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(JsonFault::read(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn words_are_bounded_and_control_nothing() {
        assert_eq!(shortened("a\u{1b}[2J\nb"), "a[2Jb");
        assert_eq!(shortened(&"é".repeat(LONGEST_WORDS + 1)).chars().count(), LONGEST_WORDS);
    }
}
