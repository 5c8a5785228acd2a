//! Answers of Systems Manager, distinguished by what must be done.

use serde::Deserialize;

use crate::aws::{AwsFault, shortened};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParameterResponse {
    Value(String),
    /// More bytes than settings have.
    TooLong(usize),
    Absent,
    /// With the service's message.
    Denied(String),
    /// It may succeed soon; with its message.
    Again(String),
    /// Asking again would not help; with its message.
    Refused(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ParameterFound {
    parameter: Parameter,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: String,
}

impl ParameterResponse {
    /// Of status and body.
    pub(super) fn of(status: u16, body: &[u8]) -> Self {
        match (status, serde_json::from_slice::<ParameterFound>(body)) {
            (200, Ok(ParameterFound { parameter })) if parameter.value.len() > LONGEST_VALUE => {
                Self::TooLong(parameter.value.len())
            }
            (200, Ok(ParameterFound { parameter })) => Self::Value(parameter.value),
            (200, Err(error)) => {
                Self::Refused(shortened(&format!("its answer is not a parameter ({error})")))
            }
            _ => Self::fault(AwsFault::of(status, body)),
        }
    }

    // "GetParameter", Errors, of the API reference.
    fn fault(fault: AwsFault) -> Self {
        match fault {
            AwsFault::Denied(said) => Self::Denied(said),
            AwsFault::Again(said) => Self::Again(said),
            AwsFault::Refused { code, said } => match code.as_deref() {
                Some("ParameterNotFound" | "ParameterVersionNotFound") => Self::Absent,
                _ => Self::Refused(said),
            },
        }
    }
}

/// An advanced parameter's value: 8 KiB ("Managing parameter tiers").
pub(super) const LONGEST_VALUE: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::LONGEST_WORDS;

    #[test]
    fn each_answer_is_told_apart() {
        let said = |said: &str| said.to_owned();
        for (status, body, wanted) in [
            (200, FOUND, ParameterResponse::Value(said("[limits]\nidle = \"7s\"\n"))),
            (400, ABSENT, ParameterResponse::Absent),
            (
                400,
                DENIED,
                ParameterResponse::Denied(said(
                    "AccessDeniedException: User: nobody is not authorized to perform: ssm:GetParameter",
                )),
            ),
            (
                400,
                r#"{"__type":"com.amazonaws.ssm#ThrottlingException"}"#,
                ParameterResponse::Again(said("ThrottlingException: ")),
            ),
            (503, "busy", ParameterResponse::Again(said("status 503"))),
            (
                403,
                DENIED_BY_MOTO,
                ParameterResponse::Denied(said(
                    "AccessDenied: User: arn:aws:iam::123456789012:user/nobody is not authorized to perform: ssm:GetParameter",
                )),
            ),
            (404, "<html>", ParameterResponse::Refused(said("status 404"))),
            (
                400,
                r#"{"__type":"UnrecognizedClientException","message":"a\nb"}"#,
                ParameterResponse::Refused(said("UnrecognizedClientException: ab")),
            ),
        ] {
            assert_eq!(ParameterResponse::of(status, body.as_bytes()), wanted, "{body}");
        }
        assert!(matches!(ParameterResponse::of(200, b"{}"), ParameterResponse::Refused(_)));
    }

    #[test]
    fn a_value_beyond_the_bound_is_refused() {
        for (bytes, wanted) in [(LONGEST_VALUE, None), (LONGEST_VALUE + 1, Some(LONGEST_VALUE + 1))] {
            let body = serde_json::json!({ "Parameter": { "Value": "x".repeat(bytes) } }).to_string();
            let answer = ParameterResponse::of(200, body.as_bytes());
            assert_eq!(
                if let ParameterResponse::TooLong(bytes) = answer { Some(bytes) } else { None },
                wanted
            );
        }
    }

    #[test]
    fn a_mutated_corpus_is_told_in_few_words_without_control_characters() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/parameter_answer");
        proxy_common::fixture::fuzz::Corpus::read(corpus).run(|input| {
            let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
            let (status, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
            let status =
                std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()).unwrap_or(200);
            match ParameterResponse::of(status, body) {
                ParameterResponse::Value(value) => {
                    assert!(status == 200 && value.len() <= LONGEST_VALUE, "{status}, {} bytes", value.len());
                    let body = serde_json::json!({ "Parameter": { "Value": value } }).to_string();
                    assert_eq!(ParameterResponse::of(200, body.as_bytes()), ParameterResponse::Value(value));
                }
                ParameterResponse::TooLong(bytes) => assert!(bytes > LONGEST_VALUE && bytes <= body.len()),
                ParameterResponse::Absent => assert!(body.len() >= "ParameterNotFound".len()),
                ParameterResponse::Denied(said)
                | ParameterResponse::Again(said)
                | ParameterResponse::Refused(said) => {
                    assert!(
                        said.chars().count() <= LONGEST_WORDS,
                        "{} characters: {said}",
                        said.chars().count()
                    );
                    assert!(!said.is_empty() && !said.contains(char::is_control), "{said:?}");
                }
            }
        });
    }

    // AWS's form of a fault by its JSON protocol 1.1.
    const DENIED: &str = r#"{"__type":"AccessDeniedException","Message":"User: nobody is not authorized to perform: ssm:GetParameter"}"#;
    // As moto 5 gave them, that of a user without a policy included.
    const DENIED_BY_MOTO: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<ErrorResponse><Errors><Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::123456789012:user/nobody is not authorized to perform: ssm:GetParameter</Message><Type>Sender</Type></Error></Errors></ErrorResponse>"#;
    const FOUND: &str = r#"{"Parameter": {"Name": "/gatehouse/fleet", "Type": "SecureString", "Value": "[limits]\nidle = \"7s\"\n", "Version": 1, "LastModifiedDate": 1795523180.711, "ARN": "arn:aws:ssm:eu-south-2:123456789012:parameter/gatehouse/fleet", "DataType": "text"}}"#;
    const ABSENT: &str = r#"{"__type": "ParameterNotFound", "message": "Parameter /gatehouse/none not found.", "Message": "Parameter /gatehouse/none not found."}"#;
}
