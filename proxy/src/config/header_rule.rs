//! A rule for a field of requests or responses: `set NAME: VALUE`, `add NAME: VALUE` or `remove NAME`.
//! Not here: its application (`forward::header_rules`).
//! Invariants: what a rule writes is a field's value (`only_what_is_a_field_and_not_ours_is_a_rule`); no rule touches what decides where a
//! message ends, whom it is for, or what this proxy says itself (`fields_of_our_own_have_no_rules`).

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::JsonSchema;
use crate::field_name::FieldName;

/// What becomes of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HeaderRule {
    /// Which field.
    pub name: HeaderName,
    /// What becomes of it.
    pub operation: HeaderOperation,
    /// As it was written.
    text: String,
}

/// What is done with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderOperation {
    /// It has this value, in place of all there were.
    Set(Template),
    /// It has this value beside those there are.
    Add(Template),
    /// It is not there.
    Remove,
}

/// A value, or how it is put together for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Template {
    /// The same for all.
    Fixed(HeaderValue),
    /// Of these parts.
    Composed(Vec<TemplatePart>),
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// Visible ASCII, spaces and tabs.
    Text(String),
    /// What is known of the request.
    Field(TemplateField),
}

/// What a template can say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateField {
    /// The host that the client named, with its port if that is not 443.
    Host,
    /// The client's address.
    ClientAddress,
    /// The version of TLS that the client speaks.
    TlsVersion,
    /// The name of the handshake.
    ServerName,
    /// Whose the domain is.
    Tenant,
    /// The id of the request.
    RequestId,
}

impl TemplateField {
    const ALL: [Self; 6] =
        [Self::Host, Self::ClientAddress, Self::TlsVersion, Self::ServerName, Self::Tenant, Self::RequestId];

    fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ClientAddress => "client.address",
            Self::TlsVersion => "tls.version",
            Self::ServerName => "server_name",
            Self::Tenant => "tenant",
            Self::RequestId => "request_id",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|field| field.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(|field| format!("`{{{}}}`", field.as_str())).join(", ");
            format!(
                "`{{{text}}}` says nothing of a request; write one of {known}, or `{{{{` for the character"
            )
        })
    }
}

impl TryFrom<String> for HeaderRule {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (operation, field) = text.trim().split_once(' ').ok_or(FORM)?;
        let (name, value) = match field.split_once(':') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (field.trim(), None),
        };
        let operation = match (operation, value) {
            ("set", Some(value)) => HeaderOperation::Set(Template::parse(value)?),
            ("add", Some(value)) => HeaderOperation::Add(Template::parse(value)?),
            ("remove", None) => HeaderOperation::Remove,
            _ => return Err(FORM.to_owned()),
        };
        let name = HeaderName::try_from(name)
            .map_err(|_| format!("`{name}` is not the name of a field; write it like `X-Tenant`"))?;
        // However it is punctuated: some servers take `X_Forwarded_For` for the same field.
        if FieldName::of(name.as_str().as_bytes()).is_ours() {
            return Err(format!(
                "`{name}` is of one connection, or what this proxy says itself; write a rule for another field"
            ));
        }
        Ok(Self { name, operation, text })
    }
}

impl From<HeaderRule> for String {
    fn from(rule: HeaderRule) -> Self {
        rule.text
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the value is empty; write one, or `remove NAME`".to_owned());
        }
        // RFC 9110 §5.5, without what older texts allow above ASCII.
        if !text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            return Err(format!(
                "`{}` is not the value of a field; write ASCII in one line",
                text.escape_debug()
            ));
        }
        let parts = parts(text)?;
        match parts.as_slice() {
            [TemplatePart::Text(text)] => {
                HeaderValue::from_str(text).map(Self::Fixed).map_err(|error| error.to_string())
            }
            _ => Ok(Self::Composed(parts)),
        }
    }
}

fn parts(text: &str) -> Result<Vec<TemplatePart>, String> {
    let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some((brace, after)) =
            [("{", "{{"), ("}", "}}")].iter().find_map(|(one, two)| Some((*one, from.strip_prefix(two)?)))
        {
            literal.push_str(brace);
            rest = after;
            continue;
        }
        let field = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (field, after) = field.ok_or_else(|| {
            format!("`{from}`: a brace without the other; write `{{{{` or `}}}}` for the character itself")
        })?;
        if !literal.is_empty() {
            parts.push(TemplatePart::Text(std::mem::take(&mut literal)));
        }
        parts.push(TemplatePart::Field(TemplateField::parse(field)?));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(TemplatePart::Text(literal));
    }
    Ok(parts)
}

impl JsonSchema for HeaderRule {
    fn json_schema() -> Value {
        json!({ "type": "string", "pattern": "^((set|add) [^ :]+:.+|remove [^ :]+)$" })
    }
}

const FORM: &str = "not a rule; write `set NAME: VALUE`, `add NAME: VALUE` or `remove NAME`";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HeaderRule, String> {
        HeaderRule::try_from(text.to_owned())
    }

    #[test]
    fn only_what_is_a_field_and_not_ours_is_a_rule() {
        for (text, fault) in [
            ("set X-A: b", None),
            ("  add  x-a:b ", None),
            ("remove X-A", None),
            ("set X-A: https://{host}/{{x}}", None),
            ("", Some("write `set NAME: VALUE`")),
            ("set", Some("write `set NAME: VALUE`")),
            ("set X-A", Some("write `set NAME: VALUE`")),
            ("remove X-A: b", Some("write `set NAME: VALUE`")),
            ("replace X-A: b", Some("write `set NAME: VALUE`")),
            ("set X-A:", Some("write one, or `remove NAME`")),
            ("set X A: b", Some("`X A` is not the name of a field; write it like")),
            ("set : b", Some("`` is not the name of a field")),
            (
                "set X-A: b\r\nX-B: c",
                Some("`b\\r\\nX-B: c` is not the value of a field; write ASCII in one line"),
            ),
            ("set X-A: b\u{fc}cher", Some("write ASCII")),
            (
                "set X-A: {port}",
                Some("`{port}` says nothing of a request; write one of `{host}`, `{client.address}`"),
            ),
            ("set X-A: {}", Some("`{}` says nothing")),
            ("set X-A: a{host", Some("`{host`: a brace without the other; write `{{` or `}}`")),
            ("set X-A: a}b", Some("`}b`: a brace without the other")),
        ] {
            match (read(text), fault) {
                (Ok(rule), None) => assert_eq!(String::from(rule), text),
                (Err(told), Some(fault)) => assert!(told.contains(fault), "{text:?}: {told}"),
                (read, fault) => panic!("{text:?}: {read:?}, not {fault:?}"),
            }
        }
    }

    #[test]
    fn fields_of_our_own_have_no_rules() {
        for name in [
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Upgrade",
            "TE",
            "Trailer",
            "Keep-Alive",
            "Proxy-Authorization",
            "Expect",
            "User-Custom-Domain",
            "User_Custom_Domain",
            "X-Forwarded-For",
            "X_Forwarded_Anything",
            "Forwarded",
            "X-Real-IP",
            "X-Request-Id",
            "traceparent",
            "CDN-Loop",
            "Sec-WebSocket-Key",
        ] {
            for rule in [format!("set {name}: a"), format!("add {name}: a"), format!("remove {name}")] {
                assert!(read(&rule).unwrap_err().contains("write a rule for another field"), "{rule}");
            }
        }
    }

    #[test]
    fn a_template_is_read_once_into_its_parts() {
        use TemplatePart::{Field, Text};
        let text = |text: &str| Text(text.to_owned());
        for (value, parts) in [
            ("{host}", vec![Field(TemplateField::Host)]),
            ("{tenant}{request_id}", vec![Field(TemplateField::Tenant), Field(TemplateField::RequestId)]),
            ("a {{{host}}} b", vec![text("a {"), Field(TemplateField::Host), text("} b")]),
        ] {
            let rule = read(&format!("set x: {value}")).unwrap();
            assert_eq!(rule.operation, HeaderOperation::Set(Template::Composed(parts)), "{value}");
        }
        let fixed = Template::Fixed(HeaderValue::from_static("{\"a\":1}"));
        assert_eq!(read("add x: {{\"a\":1}}").unwrap().operation, HeaderOperation::Add(fixed));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_a_rule_or_refused_with_a_remedy(text in "(set|add|remove)? ?[ -~\n]{0,40}", any: String) {
            for text in [text, any] {
                match HeaderRule::try_from(text.clone()) {
                    Ok(rule) => proptest::prop_assert_eq!(String::from(rule), text),
                    Err(told) => proptest::prop_assert!(told.contains("write "), "{}", told),
                }
            }
        }
    }
}
