//! Why a call to a table failed, as far as callers act differently on it.

use std::error::Error;

use aws_sdk_dynamodb::{
    config::{ProvideCredentials, SharedCredentialsProvider},
    error::{ProvideErrorMetadata, SdkError},
};

use super::{NotDynamoDb, SealError, engine};
use crate::telemetry::BoxedError;

/// Why a call to a table failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The network, a time-out or throttling, after retries: it may work later.
    #[error("the store does not answer now; if this goes on, check `store.endpoint` and the network")]
    Unavailable(#[source] BoxedError),
    /// Something other than DynamoDB answers.
    #[error(
        "store.endpoint: {0}: that is not DynamoDB; correct the address, or leave it out for AWS (nothing was stored)"
    )]
    NotDynamoDb(NotDynamoDb),
    /// There are no credentials.
    #[error(
        "no credentials for the store; give the instance a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    NoCredentials,
    /// The embedded store's disk has no room.
    #[error(
        "the disk of the embedded store is full; free space under `state_directory`, the store itself is intact"
    )]
    DiskFull(#[source] BoxedError),
    /// A condition did not hold: somebody else wrote first.
    #[error("the item was changed by somebody else")]
    Conflict,
    /// The credentials do not permit the call.
    #[error("the store refuses these credentials; check the role's policy and `store.region`")]
    Denied(#[source] BoxedError),
    /// The table or an index of it is not there.
    #[error("a table of the store is missing; run `gatehouse tables create`")]
    NoTable(#[source] BoxedError),
    /// The store finds fault with the request itself.
    #[error("the store refuses the request")]
    Refused(#[source] BoxedError),
    /// A secret is not sealed as the settings say, or not opened.
    #[error("store.key_encryption: {0}")]
    Sealing(SealError),
    /// An item is not what its table holds.
    #[error("item `{key}`: {attribute} {fault}")]
    Misshapen {
        /// Its key.
        key: String,
        /// The attribute at fault.
        attribute: &'static str,
        /// What is wrong with it.
        fault: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// What a conditional write was answered; nothing if its condition did not hold.
pub(super) fn if_held<T, E>(sent: Result<T, E>) -> Result<Option<T>, StoreError>
where
    StoreError: From<E>,
{
    match sent.map_err(StoreError::from) {
        Ok(answer) => Ok(Some(answer)),
        Err(StoreError::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<SealError> for StoreError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Silent { .. } => Self::Unavailable(error.into()),
            error => Self::Sealing(error),
        }
    }
}

impl<E> From<SdkError<E>> for StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        if let Some(foreign) = NotDynamoDb::within(&error) {
            return Self::NotDynamoDb(foreign.clone());
        }
        let fault = match &error {
            error if lacks_credentials(error) => StoreFault::NoCredentials,
            SdkError::ServiceError(service) => fault_of(
                service.err().code().unwrap_or_default(),
                service.err().message().unwrap_or_default(),
            ),
            SdkError::ConstructionFailure(_) => StoreFault::Refused,
            // Timeouts, dispatch failures and answers that are no answer; `SdkError` is non-exhaustive.
            _ => StoreFault::Unavailable,
        };
        match fault {
            StoreFault::Unavailable => Self::Unavailable(error.into()),
            StoreFault::NoCredentials => Self::NoCredentials,
            StoreFault::DiskFull => Self::DiskFull(said(error)),
            StoreFault::Conflict => Self::Conflict,
            StoreFault::Denied => Self::Denied(said(error)),
            StoreFault::NoTable => Self::NoTable(said(error)),
            StoreFault::Refused => Self::Refused(said(error)),
        }
    }
}

/// The service's own words, which name user, action and resource: in the SDK's they come last.
fn said<E>(error: SdkError<E>) -> BoxedError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let words =
        error.as_service_error().and_then(|error| Some(format!("{}: {}", error.code()?, error.message()?)));
    words.map_or_else(|| error.into(), BoxedError::from)
}

/// Whether the SDK found nobody to sign for. Its type is not exported; the provider's own trait leads to it.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    fn among<T, E: Error + 'static, F: Future<Output = Result<T, E>>>(
        error: &(dyn Error + 'static),
        _: fn(&'static SharedCredentialsProvider) -> F,
    ) -> bool {
        std::iter::successors(Some(error), |error| (*error).source()).any(<dyn Error>::is::<E>)
    }
    among(error, SharedCredentialsProvider::provide_credentials)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreFault {
    Unavailable,
    NoCredentials,
    DiskFull,
    Conflict,
    Denied,
    NoTable,
    Refused,
}

// "Error handling with DynamoDB", "Common errors" and "TransactWriteItems" of the API reference.
fn fault_of(code: &str, message: &str) -> StoreFault {
    match code {
        "ConditionalCheckFailedException" => StoreFault::Conflict,
        // The reasons stand in the message, one per item: a failed condition outweighs a conflict beside it.
        "TransactionCanceledException" if message.contains("ConditionalCheckFailed") => StoreFault::Conflict,
        "TransactionCanceledException" if message.contains("ValidationError") => StoreFault::Refused,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "OptInRequired" => StoreFault::Denied,
        "ResourceNotFoundException" => StoreFault::NoTable,
        "ValidationException"
        | "SerializationException"
        | "IdempotentParameterMismatchException"
        | "ItemCollectionSizeLimitExceededException"
        | "ResourceInUseException" => StoreFault::Refused,
        "InternalServerError" if engine::says_disk_full(message) => StoreFault::DiskFull,
        // Throttling, conflicts of transactions, internal errors, and codes not yet invented.
        _ => StoreFault::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_can_tell_a_lost_race_from_a_store_that_is_down() {
        for (code, message, fault) in [
            ("ConditionalCheckFailedException", "The conditional request failed", StoreFault::Conflict),
            ("TransactionCanceledException", "reasons [None, ConditionalCheckFailed]", StoreFault::Conflict),
            ("TransactionCanceledException", "reasons [TransactionConflict, None]", StoreFault::Unavailable),
            ("TransactionCanceledException", "reasons [ThrottlingError]", StoreFault::Unavailable),
            ("TransactionConflictException", "", StoreFault::Unavailable),
            ("ProvisionedThroughputExceededException", "", StoreFault::Unavailable),
            ("RequestLimitExceeded", "", StoreFault::Unavailable),
            ("InternalServerError", "", StoreFault::Unavailable),
            ("AccessDeniedException", "", StoreFault::Denied),
            ("ResourceNotFoundException", "", StoreFault::NoTable),
            ("ValidationException", "", StoreFault::Refused),
            ("", "", StoreFault::Unavailable),
            ("InternalServerError", "SQLite error: database or disk is full", StoreFault::DiskFull),
        ] {
            assert_eq!(fault_of(code, message), fault, "{code} {message}");
        }
    }
}
