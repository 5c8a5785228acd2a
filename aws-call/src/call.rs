//! A call: what is sent, how it is signed, and how long an answer may take.
//! Not here: the bound on what is answered (`bounded`).

use std::{
    error::Error,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{HttpConnector as _, HttpConnectorSettings},
    orchestrator::{HttpRequest, HttpResponse},
};
use aws_smithy_types::body::SdkBody;
use http::{HeaderName, Request};

use super::read_bounded;

/// Why a call was not made, or has no answer.
pub type BoxedError = Box<dyn Error + Send + Sync>;

/// How long a call may take, and how much it may answer.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// For the connection.
    pub connect: Duration,
    /// For the answer's beginning.
    pub answer: Duration,
    /// Of the answer's body.
    pub most_bytes: usize,
}

/// A POST to a service.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// As signatures name it.
    pub service: &'a str,
    /// As signatures name it.
    pub region: &'a str,
    /// Its URL.
    pub endpoint: &'a str,
    /// What the service's protocol wants in the header section, with names in lower case; signed.
    pub fields: &'a [(&'static str, &'a str)],
}

impl Call<'_> {
    /// The answer to `body`, whatever it says; signed as of `now`.
    pub async fn send(
        &self,
        body: String,
        credentials: &Credentials,
        now: SystemTime,
        limits: CallLimits,
    ) -> Result<HttpResponse, BoxedError> {
        send(self.signed(body, credentials, now)?, limits).await
    }

    /// The request with `body`, signed as of `at`.
    pub fn signed(
        &self,
        body: String,
        credentials: &Credentials,
        at: SystemTime,
    ) -> Result<Request<SdkBody>, BoxedError> {
        let Self { service, region, endpoint, fields } = *self;
        let unsigned = Unsigned { method: "POST", url: endpoint, service, region, fields };
        unsigned.sign(body.into_bytes(), SigningSettings::default(), credentials, at)
    }
}

/// A request before it is signed.
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) fields: &'a [(&'static str, &'a str)],
}

impl Unsigned<'_> {
    /// The request with `body`, signed as of `at`.
    pub(crate) fn sign(
        &self,
        body: Vec<u8>,
        settings: SigningSettings,
        credentials: &Credentials,
        at: SystemTime,
    ) -> Result<Request<SdkBody>, BoxedError> {
        let signed_body = SignableBody::Bytes(&body);
        let signable = SignableRequest::new(self.method, self.url, self.fields.iter().copied(), signed_body)?;
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(at)
            .settings(settings)
            .build()?;
        let (instructions, _) = sign(signable, &parameters.into())?.into_parts();
        let mut request = Request::builder().method(self.method).uri(self.url);
        for (name, value) in self.fields {
            request = request.header(HeaderName::from_static(name), *value);
        }
        let mut request = request.body(SdkBody::from(body))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

/// The answer to a signed request.
pub(crate) async fn send(request: Request<SdkBody>, limits: CallLimits) -> Result<HttpResponse, BoxedError> {
    let answer = connector(limits).call(HttpRequest::try_from(request)?).await?;
    Ok(read_bounded(answer, limits.most_bytes).await?)
}

/// Where `service` is called: the endpoint that is `set`, or that of the region ("Service endpoints and quotas").
#[must_use]
pub fn endpoint_of(service: &str, set: Option<&str>, region: &str) -> String {
    match set {
        Some(url) => format!("{}/", url.trim_end_matches('/')),
        None if region.starts_with("cn-") => format!("https://{service}.{region}.amazonaws.com.cn/"),
        None => format!("https://{service}.{region}.amazonaws.com/"),
    }
}

fn connector(limits: CallLimits) -> Connector {
    let settings = HttpConnectorSettings::builder();
    let settings = settings.connect_timeout(limits.connect).read_timeout(limits.answer).build();
    Connector::builder()
        .connector_settings(settings)
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_set_goes_first() {
        for (set, region, wanted) in [
            (None, "eu-south-2", "https://ssm.eu-south-2.amazonaws.com/"),
            (None, "cn-north-1", "https://ssm.cn-north-1.amazonaws.com.cn/"),
            (Some("http://127.0.0.1:5000"), "eu-south-2", "http://127.0.0.1:5000/"),
            (Some("http://127.0.0.1:5000/"), "eu-south-2", "http://127.0.0.1:5000/"),
        ] {
            assert_eq!(endpoint_of("ssm", set, region), wanted);
        }
    }
}
