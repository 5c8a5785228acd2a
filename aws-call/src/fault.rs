//! What services say when they do not do what was asked.

use aws_smithy_xml::decode::{Document, ScopedDecoder, try_data};
use serde::Deserialize;

/// A fault as AWS's protocols write it ("Common Error Types" of the API references).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFault {
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

impl ServiceFault {
    /// Reads an answer's body, in JSON (protocol 1.1) or in XML; `None` when it is of another form.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        Self::read_json(body).or_else(|| Self::read_xml(body))
    }

    fn read_json(body: &[u8]) -> Option<Self> {
        let Body { code, message, capital } = serde_json::from_slice(body).ok()?;
        // Some write the namespace of the service's model before it.
        let code = code.rsplit('#').next().unwrap_or(&code).to_owned();
        Some(Self { code, message: message.or(capital).unwrap_or_default() })
    }

    /// `<ErrorResponse><Error><Code/><Message/></Error></ErrorResponse>`, or an element of the fault's name with messages
    /// (`InvalidChangeBatch` of Route 53).
    fn read_xml(body: &[u8]) -> Option<Self> {
        let mut document = Document::new(std::str::from_utf8(body).ok()?);
        let mut root = document.root_element().ok()?;
        let outermost = root.start_el().local().to_owned();
        let mut found = CodeAndMessage::default();
        found.look(&mut root, DEEPEST);
        match (found.code, found.message) {
            (Some(code), message) => Some(Self { code, message: message.unwrap_or_default() }),
            (None, Some(message)) => Some(Self { code: outermost, message }),
            (None, None) => None,
        }
    }
}

/// The first of each in an answer.
#[derive(Default)]
struct CodeAndMessage {
    code: Option<String>,
    message: Option<String>,
}

impl CodeAndMessage {
    fn look(&mut self, element: &mut ScopedDecoder<'_, '_>, deeper: u32) {
        while let Some(mut child) = element.next_tag() {
            let sought = match child.start_el().local() {
                "Code" => &mut self.code,
                "Message" => &mut self.message,
                _ if deeper > 0 => {
                    self.look(&mut child, deeper - 1);
                    continue;
                }
                _ => continue,
            };
            if sought.is_none() {
                *sought = try_data(&mut child).ok().map(std::borrow::Cow::into_owned);
            }
        }
    }
}

/// What is told of an answer, without control characters: serde quotes it in full where it is of another shape.
#[must_use]
pub fn shortened(said: &str) -> String {
    said.chars().filter(|char| !char.is_control()).take(LONGEST_WORDS).collect()
}

/// Elements around code and message, in any service's form.
const DEEPEST: u32 = 4;
/// Of what a service says in an error.
pub const LONGEST_WORDS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_however_its_service_writes_it() {
        let fault = |code: &str, message: &str| {
            Some(ServiceFault { code: code.to_owned(), message: message.to_owned() })
        };
        for (body, expected) in [
            (r#"{"__type":"com.amazonaws.kms#Denied","Message":"no"}"#, fault("Denied", "no")),
            (r#"{"__type":"Denied","message":"no","Message":"neither"}"#, fault("Denied", "no")),
            (r#"{"__type":"Denied"}"#, fault("Denied", "")),
            (r#"{"message":"no"}"#, None),
            ("<html>", None),
            ("<html><body>busy</body></html>", None),
            (
                "<?xml version=\"1.0\"?>\n<ErrorResponse xmlns=\"https://x/\"><Error><Type>Sender</Type><Code>Denied</Code><Message>no &amp; no</Message></Error><RequestId>1</RequestId></ErrorResponse>",
                fault("Denied", "no & no"),
            ),
            (
                "<ErrorResponse><Errors><Error><Code>Denied</Code></Error></Errors></ErrorResponse>",
                fault("Denied", ""),
            ),
            (
                "<InvalidChangeBatch xmlns=\"https://x/\"><Messages><Message>it exists</Message><Message>2</Message></Messages></InvalidChangeBatch>",
                fault("InvalidChangeBatch", "it exists"),
            ),
            ("<a><b><c><d><e><f><Code>deep</Code></f></e></d></c></b></a>", None),
        ] {
            assert_eq!(ServiceFault::read(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn words_are_bounded_and_control_nothing() {
        assert_eq!(shortened("a\u{1b}[2J\nb"), "a[2Jb");
        assert_eq!(shortened(&"é".repeat(LONGEST_WORDS + 1)).chars().count(), LONGEST_WORDS);
    }
}
