//! The transport that signs, with the credentials that AWS's own clients would take.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_call::{Call, CallLimits, RestCall, endpoint_of};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError as Cause},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Mutex;

use super::{Answer, Form, Request, Sent, Transport, error_chain};

/// AWS, or what answers at `AWS_ENDPOINT_URL`.
#[derive(Debug)]
pub(crate) struct Signed {
    provider: SharedCredentialsProvider,
    /// Until they are about to expire: a role is not assumed anew for each call.
    kept: Mutex<Credentials>,
    endpoint: Option<String>,
}

/// There are none.
#[derive(Debug, thiserror::Error)]
#[error(
    "credentials: none were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or plan with `--offline`"
)]
pub(crate) struct CredentialsError(#[source] Option<Cause>);

impl Signed {
    /// With the credentials of environment, profile or machine.
    pub(crate) async fn from_environment(endpoint: Option<String>) -> Result<Arc<Self>, CredentialsError> {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest()).load().await;
        let provider = config.credentials_provider().ok_or(CredentialsError(None))?;
        let credentials =
            provider.provide_credentials().await.map_err(|cause| CredentialsError(Some(cause)))?;
        Ok(Arc::new(Self { provider, kept: Mutex::new(credentials), endpoint }))
    }

    async fn credentials(&self) -> Result<Credentials, Cause> {
        let mut kept = self.kept.lock().await;
        let soon = SystemTime::now() + EXPIRY_MARGIN;
        if kept.expiry().is_some_and(|expiry| expiry < soon) {
            *kept = self.provider.provide_credentials().await?;
        }
        Ok(kept.clone())
    }

    async fn answer(&self, request: &Request) -> Result<Answer, aws_call::BoxedError> {
        let credentials = self.credentials().await?;
        let Request { service, region, form } = request;
        let base = self.base(service, region);
        let now = SystemTime::now();
        let answer = match form {
            Form::Query { action, version, fields } => {
                let head = [("content-type", "application/x-www-form-urlencoded")];
                let call = Call { service, region, endpoint: &base, fields: &head };
                call.send(encoded(action, version, fields), &credentials, now, LIMITS).await?
            }
            Form::Json { target, version, body } => {
                let kind = format!("application/x-amz-json-{version}");
                let head = [("content-type", kind.as_str()), ("x-amz-target", *target)];
                let call = Call { service, region, endpoint: &base, fields: &head };
                call.send(body.to_string(), &credentials, now, LIMITS).await?
            }
            Form::Rest { method, path, body } => {
                let url = format!("{}{path}", base.trim_end_matches('/'));
                let call = RestCall { method, url: &url, service, region };
                call.send(body.clone(), &credentials, now, LIMITS).await?
            }
        };
        let status = answer.status().as_u16();
        Ok(Answer { status, body: answer.body().bytes().unwrap_or_default().to_vec() })
    }

    fn base(&self, service: &str, region: &str) -> String {
        match (service, &self.endpoint) {
            // Route 53 has one address for all regions.
            ("route53", None) => "https://route53.amazonaws.com/".to_owned(),
            _ => endpoint_of(service, self.endpoint.as_deref(), region),
        }
    }
}

impl Transport for Signed {
    fn send<'a>(&'a self, request: &'a Request) -> Sent<'a> {
        let told = |error: aws_call::BoxedError| {
            request.fault("no answer", &error_chain(error.as_ref()), request.is_repeatable())
        };
        Box::pin(async move { self.answer(request).await.map_err(told) })
    }
}

/// AWS's Query protocol.
fn encoded(action: &str, version: &str, fields: &[(String, String)]) -> String {
    let all = [("Action", action), ("Version", version)].into_iter();
    let all = all.chain(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    all.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

const EXPIRY_MARGIN: Duration = Duration::from_mins(5);
const LIMITS: CallLimits = CallLimits {
    connect: Duration::from_secs(5),
    // Beyond the slowest of CloudFormation's answers, and for a package of some megabytes.
    answer: Duration::from_mins(1),
    most_bytes: 8 << 20,
};
