//! A call whose operation is in method and path, as S3 and Route 53 have it.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SigningSettings, UriPathNormalizationMode,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

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
        let &Self { method, url, service, region } = self;
        let unsigned = Unsigned { method, url, service, region, fields: &[] };
        send(unsigned.sign(body, settings(service), credentials, now)?, limits).await
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
