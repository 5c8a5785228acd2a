//! Settings of a fleet from one parameter of AWS Systems Manager: one call, `GetParameter`, made by hand.
//! Not here: how the value is merged, and what is wrong with it (`config`).
//! Invariants: the request equals what AWS's own library signs (`the_signature_is_that_of_aws_own_library`); an answer is bounded, and
//! each failure has its remedy (`each_answer_is_told_apart`).

mod answer;
mod request;

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials};

use self::{answer::ParameterResponse, request::Question};
use crate::{
    aws::{CallLimits, service_endpoint},
    config::ParameterReference,
    ec2::IdentitySource,
    telemetry::BoxedError,
};

/// Why a parameter cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// No region is known.
    #[error(
        "no region is known, neither from the AWS profile nor from the instance; set store.region or AWS_REGION, or write the parameter's ARN"
    )]
    Region,
    /// There are no credentials.
    #[error("there are no credentials; give the instance a role with ssm:GetParameter")]
    Credentials(#[source] BoxedError),
    /// There is none of that name.
    #[error(
        "it does not exist in {region}; create it (`aws ssm put-parameter`), or correct its name or the region"
    )]
    Absent {
        /// Where it was looked for.
        region: String,
    },
    /// The role may not read it.
    #[error(
        "access is denied; the role needs ssm:GetParameter, and kms:Decrypt for a key of your own ({said})"
    )]
    Denied {
        /// What the service says.
        said: String,
    },
    /// The service finds another fault.
    #[error("{endpoint} refuses: {said}; check that this is the address of Systems Manager")]
    Refused {
        /// Which endpoint was asked.
        endpoint: String,
        /// What it says.
        said: String,
    },
    /// No answer, or none that could be used.
    #[error(
        "{endpoint} does not answer; check that outgoing connections to port 443 are allowed, or that there is a VPC endpoint for ssm"
    )]
    Silent {
        /// Which endpoint was asked.
        endpoint: String,
        /// How it failed.
        #[source]
        source: BoxedError,
    },
    /// All together took too long.
    #[error("no answer within {} s; check the network, and that the instance has its role", PATIENCE.as_secs())]
    Slow,
    /// Its value is larger than settings can be.
    #[error("its value has {bytes} bytes; settings have {} at most", answer::LONGEST_VALUE)]
    TooLong {
        /// So many.
        bytes: usize,
    },
}

/// The value of `wanted`, decrypted.
///
/// # Cancel safety
/// Nothing is left behind.
pub async fn read(wanted: &ParameterReference) -> Result<String, ParameterError> {
    tokio::time::timeout(PATIENCE, ask(wanted)).await.unwrap_or(Err(ParameterError::Slow))
}

async fn ask(wanted: &ParameterReference) -> Result<String, ParameterError> {
    let said = wanted.name.region().or(wanted.region.as_deref());
    let region = IdentitySource::of(&wanted.instance).region(said).await.ok_or(ParameterError::Region)?;
    let sdk = aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).load().await;
    let provider = sdk.credentials_provider();
    let provider = provider.ok_or_else(|| ParameterError::Credentials("no provider is set up".into()))?;
    let credentials =
        provider.provide_credentials().await.map_err(|error| ParameterError::Credentials(error.into()))?;
    let endpoint = service_endpoint(request::SERVICE, &sdk, region.as_ref());
    let question = Question { name: wanted.name.as_str(), region: region.as_ref(), endpoint: &endpoint };
    let mut last = None;
    for pause in PAUSES {
        tokio::time::sleep(pause).await;
        match call(question, &credentials).await {
            Ok(ParameterResponse::Again(said)) => last = Some(said.into()),
            Ok(answer) => return settled(answer, question),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| "it was not asked".into());
    Err(ParameterError::Silent { endpoint: endpoint.clone(), source })
}

async fn call(question: Question<'_>, credentials: &Credentials) -> Result<ParameterResponse, BoxedError> {
    let (call, body) = request::call(question);
    let answer = call.send(body, credentials, LIMITS).await?;
    Ok(ParameterResponse::of(answer.status().as_u16(), answer.body().bytes().unwrap_or_default()))
}

fn settled(answer: ParameterResponse, question: Question<'_>) -> Result<String, ParameterError> {
    let endpoint = || question.endpoint.to_owned();
    match answer {
        ParameterResponse::Value(text) => Ok(text),
        ParameterResponse::TooLong(bytes) => Err(ParameterError::TooLong { bytes }),
        ParameterResponse::Absent => Err(ParameterError::Absent { region: question.region.to_owned() }),
        ParameterResponse::Denied(said) => Err(ParameterError::Denied { said }),
        ParameterResponse::Refused(said) => Err(ParameterError::Refused { endpoint: endpoint(), said }),
        ParameterResponse::Again(said) => {
            Err(ParameterError::Silent { endpoint: endpoint(), source: said.into() })
        }
    }
}

/// For everything: a start and `gatehouse doctor` wait so long, a reload too.
const PATIENCE: Duration = Duration::from_secs(9);
/// Before each attempt.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1)];
/// The longest value in JSON, each of its bytes written in six.
const LONGEST_ANSWER: usize = 64 << 10;
const LIMITS: CallLimits = CallLimits {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(3),
    most_bytes: LONGEST_ANSWER,
};
