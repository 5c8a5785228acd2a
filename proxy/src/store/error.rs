//! Why a call to a table failed, as far as callers act differently on it.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Why a call to a table failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The network, a time-out or throttling, after retries: it may work later.
    #[error("the store does not answer now; if this goes on, check `store.endpoint` and the network")]
    Unavailable(#[source] ErrorSource),
    /// A condition did not hold: somebody else wrote first.
    #[error("the item was changed by somebody else")]
    Conflict,
    /// The credentials do not permit the call.
    #[error("the store refuses these credentials; check the role's policy and `store.region`")]
    Denied(#[source] ErrorSource),
    /// The table or an index of it is not there.
    #[error("a table of the store is missing; run `gatehouse tables create`")]
    NoTable(#[source] ErrorSource),
    /// The store finds fault with the request itself.
    #[error("the store refuses the request")]
    Refused(#[source] ErrorSource),
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

/// What the SDK reports.
pub type ErrorSource = Box<dyn Error + Send + Sync>;

impl StoreError {
    /// Whether the same call may succeed later without anybody's doing.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl<E> From<SdkError<E>> for StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let fault = match &error {
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
            StoreFault::Conflict => Self::Conflict,
            StoreFault::Denied => Self::Denied(said(error)),
            StoreFault::NoTable => Self::NoTable(said(error)),
            StoreFault::Refused => Self::Refused(said(error)),
        }
    }
}

/// The service's own words, which name user, action and resource: in the SDK's they come last.
fn said<E>(error: SdkError<E>) -> ErrorSource
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let words =
        error.as_service_error().and_then(|error| Some(format!("{}: {}", error.code()?, error.message()?)));
    words.map_or_else(|| error.into(), ErrorSource::from)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreFault {
    Unavailable,
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
        ] {
            assert_eq!(fault_of(code, message), fault, "{code} {message}");
        }
    }
}
