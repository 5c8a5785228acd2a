//! The request, built without sending it.

use std::time::SystemTime;

use aws_sdk_dynamodb::config::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_types::body::SdkBody;
use http::{HeaderName, Request, header::CONTENT_TYPE};
use serde_json::json;

use crate::telemetry::BoxedError;

/// What is asked, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) name: &'a str,
    pub(super) region: &'a str,
    pub(super) endpoint: &'a str,
}

/// `GetParameter` by AWS's JSON protocol 1.1, signed (Signature Version 4) as of `at`.
pub(super) fn signed(
    question: Question<'_>,
    credentials: &Credentials,
    at: SystemTime,
) -> Result<Request<SdkBody>, BoxedError> {
    let body = json!({ "Name": question.name, "WithDecryption": true }).to_string();
    let fields =
        [(CONTENT_TYPE.as_str(), "application/x-amz-json-1.1"), ("x-amz-target", "AmazonSSM.GetParameter")];
    let body_bytes = SignableBody::Bytes(body.as_bytes());
    let signable = SignableRequest::new("POST", question.endpoint, fields.into_iter(), body_bytes)?;
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(question.region)
        .name("ssm")
        .time(at)
        .settings(SigningSettings::default())
        .build()?;
    let (instructions, _) = sign(signable, &parameters.into())?.into_parts();
    let mut request = Request::post(question.endpoint);
    for (name, value) in fields {
        request = request.header(HeaderName::from_static(name), value);
    }
    let mut request = request.body(SdkBody::from(body))?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(request)
}

/// The one that was `set`, or that of the region ("AWS Systems Manager endpoints and quotas").
pub(super) fn endpoint(set: Option<&str>, region: &str) -> String {
    match set {
        Some(url) => format!("{}/", url.trim_end_matches('/')),
        None if region.starts_with("cn-") => format!("https://ssm.{region}.amazonaws.com.cn/"),
        None => format!("https://ssm.{region}.amazonaws.com/"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_signature_is_that_of_aws_own_library() {
        // botocore's SigV4Auth, of the same request at the same moment with the keys of AWS's examples.
        for (token, fields, signature) in [
            (
                None,
                "content-type;host;x-amz-date;x-amz-target",
                "333f7e5470f23261e50c8b07a1a5e84280dc797af2f0e6ccdb788ab049425203",
            ),
            (
                Some("session"),
                "content-type;host;x-amz-date;x-amz-security-token;x-amz-target",
                "07e25f416a5ad2013d59e760824505259728b128ba4d7ff0d6f5ca42e18f6ddd",
            ),
        ] {
            let endpoint = endpoint(None, "eu-south-2");
            let question = Question { name: "/gatehouse/fleet", region: "eu-south-2", endpoint: &endpoint };
            let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let keys = Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "test");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_486_508);
            let request = signed(question, &keys, at).unwrap();
            let field = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
            let scope = "AKIDEXAMPLE/20261124/eu-south-2/ssm/aws4_request";
            let wanted =
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={fields}, Signature={signature}");
            assert_eq!(field("authorization"), Some(wanted.as_str()));
            assert_eq!(
                (field("x-amz-date"), field("x-amz-security-token")),
                (Some("20261124T021508Z"), token)
            );
            assert_eq!(request.uri(), "https://ssm.eu-south-2.amazonaws.com/");
        }
    }

    #[test]
    fn an_endpoint_that_is_set_goes_first() {
        for (set, region, wanted) in [
            (None, "eu-south-2", "https://ssm.eu-south-2.amazonaws.com/"),
            (None, "cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn/"),
            (Some("http://127.0.0.1:5000"), "eu-south-2", "http://127.0.0.1:5000/"),
            (Some("http://127.0.0.1:5000/"), "eu-south-2", "http://127.0.0.1:5000/"),
        ] {
            assert_eq!(endpoint(set, region), wanted);
        }
    }
}
