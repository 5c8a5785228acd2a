//! A master key in AWS KMS: two calls, `GenerateDataKey` and `Decrypt`. The key itself never leaves KMS.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::{ProvideCredentials as _, SharedCredentialsProvider};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    envelope::{KEY_BYTES, Wrapped},
    error::SealError,
};
use crate::{
    aws::{AwsFault, CallLimits, JsonCall, service_endpoint},
    telemetry::BoxedError,
};

/// A key of KMS.
pub(super) struct Kms {
    /// As the settings name it.
    key: String,
    region: Region,
    endpoint: String,
    credentials: Option<SharedCredentialsProvider>,
}

/// What both calls answer, as far as it is used.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KmsAnswer {
    key_id: String,
    #[serde(deserialize_with = "wiped")]
    plaintext: Zeroizing<String>,
    ciphertext_blob: Option<String>,
}

/// An answer that is none, by what must be done.
#[derive(Debug, PartialEq, Eq)]
enum KmsFault {
    Again(String),
    Refused(String),
    /// What was to be decrypted is not what the key has encrypted.
    Damaged,
}

impl Kms {
    /// At a port that nobody listens on.
    #[cfg(test)]
    pub(super) fn silent_for_tests() -> Self {
        let credentials = aws_sdk_dynamodb::config::Credentials::new("id", "secret", None, None, "test");
        Self {
            key: "alias/gatehouse".to_owned(),
            region: Region::new("eu-central-1"),
            endpoint: "http://127.0.0.1:9/".to_owned(),
            credentials: Some(SharedCredentialsProvider::new(credentials)),
        }
    }

    pub(super) async fn connect(key: &str, region: Region) -> Self {
        let sdk = aws_config::defaults(BehaviorVersion::latest()).region(region.clone()).load().await;
        let endpoint = service_endpoint(SERVICE, &sdk, region.as_ref());
        Self { key: key.to_owned(), region, endpoint, credentials: sdk.credentials_provider() }
    }

    /// A new data key, and the same encrypted.
    pub(super) async fn generate(&self) -> Result<(Zeroizing<[u8; KEY_BYTES]>, Wrapped), SealError> {
        let wanted =
            json!({ "KeyId": self.key, "KeySpec": "AES_256", "EncryptionContext": encryption_context() });
        let answer = self.call("TrentService.GenerateDataKey", &wanted).await;
        let answer = answer.map_err(|fault| self.explain(fault))?;
        let foreign = || self.silent("its answer is no data key".into());
        let (mut key, plain) = (Zeroizing::new([0; KEY_BYTES]), self.plaintext(&answer)?);
        *key = *<&[u8; KEY_BYTES]>::try_from(plain.as_slice()).map_err(|_| foreign())?;
        let blob = answer.ciphertext_blob.as_ref().and_then(|blob| STANDARD.decode(blob).ok());
        let bytes = blob.ok_or_else(foreign)?;
        Ok((key, Wrapped { master: format!("{PREFIX}{}", answer.key_id), bytes }))
    }

    /// The data key; `None` when it was changed.
    pub(super) async fn decrypt(&self, wrapped: &Wrapped) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        let key = wrapped.master.strip_prefix(PREFIX).ok_or_else(|| SealError::unknown(wrapped))?;
        let wanted = json!({
            "KeyId": key,
            "CiphertextBlob": STANDARD.encode(&wrapped.bytes),
            "EncryptionContext": encryption_context(),
        });
        match self.call("TrentService.Decrypt", &wanted).await {
            Ok(answer) => self.plaintext(&answer).map(Some),
            Err(KmsFault::Damaged) => Ok(None),
            Err(fault) => Err(self.explain(fault)),
        }
    }

    fn plaintext(&self, answer: &KmsAnswer) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let decoded = STANDARD.decode(answer.plaintext.as_bytes());
        decoded.map(Zeroizing::new).map_err(|_| self.silent("its answer is no data key".into()))
    }

    async fn call(&self, target: &'static str, wanted: &Value) -> Result<KmsAnswer, KmsFault> {
        let mut last = KmsFault::Again("it was not asked".to_owned());
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            let attempt = tokio::time::timeout(ATTEMPT, self.attempt(target, wanted)).await;
            match attempt.unwrap_or_else(|_| Ok(Err(KmsFault::Again("no answer in time".to_owned())))) {
                Ok(Err(KmsFault::Again(said))) => last = KmsFault::Again(said),
                Ok(settled) => return settled,
                Err(error) => last = KmsFault::Again(error.to_string()),
            }
        }
        Err(last)
    }

    async fn attempt(
        &self,
        target: &'static str,
        wanted: &Value,
    ) -> Result<Result<KmsAnswer, KmsFault>, BoxedError> {
        let provider = self.credentials.as_ref().ok_or("no credentials are set up")?;
        let credentials = provider.provide_credentials().await?;
        let call =
            JsonCall { service: SERVICE, target, region: self.region.as_ref(), endpoint: &self.endpoint };
        let answer = call.send(wanted.to_string(), &credentials, LIMITS).await?;
        Ok(read(answer.status().as_u16(), answer.body().bytes().unwrap_or_default()))
    }

    fn explain(&self, fault: KmsFault) -> SealError {
        match fault {
            KmsFault::Again(said) => self.silent(said.into()),
            KmsFault::Refused(said) => SealError::Refused { said },
            KmsFault::Damaged => SealError::Refused { said: "it cannot decrypt its own data key".to_owned() },
        }
    }

    fn silent(&self, source: BoxedError) -> SealError {
        SealError::Silent { endpoint: self.endpoint.clone(), source }
    }
}

fn wiped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

fn read(status: u16, body: &[u8]) -> Result<KmsAnswer, KmsFault> {
    match (status, serde_json::from_slice::<KmsAnswer>(body)) {
        (200, Ok(answer)) => Ok(answer),
        // Its text may hold the key.
        (200, Err(_)) => Err(KmsFault::Refused("its answer is not one of KMS".to_owned())),
        _ => Err(match AwsFault::of(status, body) {
            AwsFault::Again(said) => KmsFault::Again(said),
            AwsFault::Denied(said) => KmsFault::Refused(said),
            AwsFault::Refused { code, said } => match code.as_deref() {
                // "Decrypt", Errors, of the API reference.
                Some("InvalidCiphertextException") => KmsFault::Damaged,
                Some("KeyUnavailableException") => KmsFault::Again(said),
                _ => KmsFault::Refused(said),
            },
        }),
    }
}

/// Part of what is authenticated, and what a key's policy may ask for (`kms:EncryptionContext:application`).
fn encryption_context() -> Value {
    json!({ "application": "gatehouse" })
}

const SERVICE: &str = "kms";
const PREFIX: &str = "kms:";
const ATTEMPT: Duration = Duration::from_secs(2);
/// Before each attempt.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(500)];
const LIMITS: CallLimits =
    CallLimits { connect: Duration::from_secs(1), answer: ATTEMPT, most_bytes: 16 << 10 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_told_apart() {
        let found = r#"{"KeyId": "arn:aws:kms:eu-central-1:111122223333:key/1", "Plaintext": "AAAA", "CiphertextBlob": "AQID"}"#;
        let answer = read(200, found.as_bytes()).ok().unwrap();
        assert_eq!(
            (answer.key_id.as_str(), answer.plaintext.as_str()),
            ("arn:aws:kms:eu-central-1:111122223333:key/1", "AAAA")
        );
        let refused = |said: &str| KmsFault::Refused(said.to_owned());
        for (status, body, fault) in [
            (400, r#"{"__type":"InvalidCiphertextException"}"#, KmsFault::Damaged),
            (
                400,
                r#"{"__type":"AccessDeniedException","Message":"not authorized"}"#,
                refused("AccessDeniedException: not authorized"),
            ),
            (
                400,
                r#"{"__type":"DisabledException","message":"key is disabled"}"#,
                refused("DisabledException: key is disabled"),
            ),
            (
                400,
                r#"{"__type":"NotFoundException","message":"no key"}"#,
                refused("NotFoundException: no key"),
            ),
            (500, r#"{"__type":"KMSInternalException"}"#, KmsFault::Again("status 500".to_owned())),
            (400, r#"{"__type":"ThrottlingException"}"#, KmsFault::Again("ThrottlingException: ".to_owned())),
            (200, r#"{"Plaintext": "secret"}"#, refused("its answer is not one of KMS")),
            (404, "<html>", refused("status 404")),
        ] {
            assert_eq!(read(status, body.as_bytes()).err(), Some(fault), "{body}");
        }
    }
}
