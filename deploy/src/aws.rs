//! Calls of AWS: a transport that can be replaced, and what each answer means.
//! Not here: what is called when (`look`, `execute`).

mod cloudformation;
mod inventory;
mod regional;
mod s3;
mod signed;
mod xml;

use std::{error::Error, fmt, pin::Pin, sync::Arc, time::Duration};

use serde_json::Value;

pub(crate) use self::{
    cloudformation::{ChangeSet, Ended},
    regional::{Alarm, Endpoint, Group},
    signed::Signed,
};
use crate::wanted::Region;

/// What carries requests to AWS.
pub(crate) trait Transport: Send + Sync {
    /// The answer, whatever it says; a fault where there is none.
    fn send<'a>(&'a self, request: &'a Request) -> Sent<'a>;
}

/// An answer to come.
pub(crate) type Sent<'a> = Pin<Box<dyn Future<Output = Result<Answer, Fault>> + Send + 'a>>;

/// A request, before it is signed.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// As host names and signatures name it.
    pub(crate) service: &'static str,
    pub(crate) region: String,
    pub(crate) form: Form,
}

/// How a service is spoken to.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// AWS's Query protocol: CloudFormation, EC2, Auto Scaling, STS and alarms.
    Query { action: &'static str, version: &'static str, fields: Vec<(String, String)> },
    /// AWS's JSON protocols.
    Json { target: &'static str, version: &'static str, body: Value },
    /// S3 and Route 53; the path with its query, percent-encoded.
    Rest { method: &'static str, path: String, body: Vec<u8> },
}

/// What a service said.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Why a service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{region}: {call}: {code}: {said}")]
pub(crate) struct Fault {
    pub(crate) region: String,
    /// Service and operation, as IAM names them where it does.
    pub(crate) call: String,
    /// As the API reference names it, or what else is the matter.
    pub(crate) code: String,
    pub(crate) said: String,
    /// Whether the same call may succeed a little later.
    pub(crate) passes: bool,
}

impl Fault {
    /// Whether the service says that there is no such thing. CloudFormation says so in words alone.
    pub(crate) fn is_absence(&self) -> bool {
        let absent = ["NotFound", "NoSuch", "ParameterNotFound", "InvalidAMIID", "InvalidInstanceType"];
        absent.iter().any(|word| self.code.contains(word)) || self.said.contains("does not exist")
    }

    /// Whether the caller may not ask.
    pub(crate) fn is_denial(&self) -> bool {
        ["AccessDenied", "UnauthorizedOperation"].iter().any(|word| self.code.contains(word))
    }
}

impl Request {
    /// For people.
    fn call(&self) -> String {
        let operation = match &self.form {
            Form::Query { action, .. } => (*action).to_owned(),
            Form::Json { target, .. } => target.rsplit('.').next().unwrap_or(target).to_owned(),
            Form::Rest { method, path, .. } => format!("{method} {path}"),
        };
        format!("{}:{operation}", self.service)
    }

    /// Whether it may be made twice where it is not known if it was made once: what looks, and S3's, which name what shall be.
    fn is_repeatable(&self) -> bool {
        let looks = |name: &str| ["Describe", "Get", "List"].iter().any(|verb| name.starts_with(verb));
        match &self.form {
            Form::Query { action, .. } => looks(action),
            Form::Json { target, .. } => target.rsplit('.').next().is_some_and(looks),
            Form::Rest { .. } => true,
        }
    }

    fn fault(&self, code: &str, said: &str, passes: bool) -> Fault {
        let (region, said) = (self.region.clone(), aws_call::shortened(said));
        Fault { region, call: self.call(), code: code.to_owned(), said, passes }
    }
}

/// AWS: calls are repeated where the service is busy.
#[derive(Clone)]
pub(crate) struct Aws {
    transport: Arc<dyn Transport>,
    /// Between two looks at what is under way, and before a call is repeated.
    pub(crate) pause: Duration,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws").field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Aws {
    pub(crate) fn new(transport: Arc<dyn Transport>, pause: Duration) -> Self {
        Self { transport, pause }
    }

    async fn send(&self, request: Request) -> Result<Vec<u8>, Fault> {
        let mut last = None;
        for _ in 0..MOST_TRIES {
            let sent = self.transport.send(&request).await;
            let fault = match sent.and_then(|answer| judge(&request, answer)) {
                Ok(body) => return Ok(body),
                Err(fault) if fault.passes => fault,
                Err(fault) => return Err(fault),
            };
            last = Some(fault);
            tokio::time::sleep(self.pause).await;
        }
        Err(last.unwrap_or_else(|| request.fault("not sent", "", false)))
    }

    async fn query(
        &self,
        service: &'static str,
        region: &Region,
        (action, version): (&'static str, &'static str),
        fields: &[(&str, &str)],
    ) -> Result<xml::Tree, Fault> {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let form = Form::Query { action, version, fields };
        let request = Request { service, region: region.to_string(), form };
        let unreadable = request.fault("an answer of another form", "", false);
        xml::Tree::parse(&self.send(request).await?).ok_or(unreadable)
    }

    async fn json(
        &self,
        service: &'static str,
        region: &str,
        (target, version): (&'static str, &'static str),
        body: Value,
    ) -> Result<Value, Fault> {
        let form = Form::Json { target, version, body };
        let request = Request { service, region: region.to_owned(), form };
        let unreadable = request.fault("an answer of another form", "", false);
        let body = self.send(request).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| unreadable)
    }

    async fn rest(
        &self,
        service: &'static str,
        region: &str,
        method: &'static str,
        path: String,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Fault> {
        self.send(Request { service, region: region.to_owned(), form: Form::Rest { method, path, body } })
            .await
    }
}

fn judge(request: &Request, answer: Answer) -> Result<Vec<u8>, Fault> {
    let Answer { status, body } = answer;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let fault = aws_call::ServiceFault::read(&body).map(|fault| (fault.code, fault.message));
    let (code, said) = fault.unwrap_or_default();
    // HEAD has no body.
    let code = match (code.is_empty(), status) {
        (true, 404) => "NotFound".to_owned(),
        (true, _) => format!("status {status}"),
        (false, _) => code,
    };
    // Global Accelerator has the status 400 for it (its API reference, of each operation).
    let is_internal = status >= 500 || code.contains("InternalServiceError");
    let passes = (is_internal && request.is_repeatable()) || PASSING.iter().any(|word| code.contains(word));
    Err(request.fault(&code, &said, passes))
}

/// An error with its causes.
pub(crate) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

const MOST_TRIES: u32 = 5;
const PASSING: &[&str] =
    &["Throttling", "RequestLimitExceeded", "TransactionInProgress", "SlowDown", "TooManyRequests"];

#[cfg(test)]
mod tests;
