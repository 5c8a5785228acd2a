//! A call whose operation is in method and path, as S3 and Route 53 have it.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SigningSettings, UriPathNormalizationMode,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;
use http::Request;

use super::{
    BoxedError, CallLimits,
    call::{Unsigned, send},
};

/// A request of any method.
#[derive(Debug, Clone, Copy)]
pub struct RestCall<'a> {
    /// Like `GET`.
    pub method: &'a str,
    /// With path and query, percent-encoded.
    pub url: &'a str,
    /// As signatures name it.
    pub service: &'a str,
    /// As signatures name it.
    pub region: &'a str,
}

impl RestCall<'_> {
    /// The answer to `body`, whatever it says; signed as of `now`.
    pub async fn send(
        &self,
        body: Vec<u8>,
        credentials: &Credentials,
        now: SystemTime,
        limits: CallLimits,
    ) -> Result<HttpResponse, BoxedError> {
        send(self.signed(body, credentials, now)?, limits).await
    }

    fn signed(
        &self,
        body: Vec<u8>,
        credentials: &Credentials,
        at: SystemTime,
    ) -> Result<Request<SdkBody>, BoxedError> {
        let &Self { method, url, service, region } = self;
        let unsigned = Unsigned { method, url, service, region, fields: &[] };
        unsigned.sign(body, settings(service), credentials, at)
    }
}

/// S3 signs paths as they stand, and wants the payload's hash in a field ("Signature Calculations for the Authorization Header").
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// "Authenticating Requests: Using the Authorization Header", the example of a bucket's life cycle.
    #[test]
    fn s3_is_signed_as_its_reference_shows() {
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            None,
            None,
            "the reference",
        );
        let url = "https://examplebucket.s3.amazonaws.com/?lifecycle=";
        let call = RestCall { method: "GET", url, service: "s3", region: "us-east-1" };
        let at = SystemTime::UNIX_EPOCH + Duration::from_hours(380_376);
        let request = call.signed(Vec::new(), &credentials, at).unwrap();
        let authorization = request.headers()["authorization"].to_str().unwrap();
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
    }
}
