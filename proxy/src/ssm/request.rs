//! The request, built without sending it.

use serde_json::json;

use crate::aws::JsonCall;

/// What is asked, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) name: &'a str,
    pub(super) region: &'a str,
    pub(super) endpoint: &'a str,
}

/// `GetParameter`, and its body.
pub(super) fn call(question: Question<'_>) -> (JsonCall<'_>, String) {
    let Question { name, region, endpoint } = question;
    let call = JsonCall { service: SERVICE, target: "AmazonSSM.GetParameter", region, endpoint };
    (call, json!({ "Name": name, "WithDecryption": true }).to_string())
}

pub(super) const SERVICE: &str = "ssm";

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use aws_sdk_dynamodb::config::Credentials;

    use super::*;
    use crate::aws::endpoint_of;

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
            let endpoint = endpoint_of(SERVICE, None, "eu-south-2");
            let question = Question { name: "/gatehouse/fleet", region: "eu-south-2", endpoint: &endpoint };
            let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let keys = Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "test");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_486_508);
            let (call, body) = call(question);
            let request = call.signed(body, &keys, at).unwrap();
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
}
