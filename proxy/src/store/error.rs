//! Why a call to a table failed, as far as callers act differently on it.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Why a call to a table failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The network, a time-out or throttling, after retries: it may work later.
    #[error("the store does not answer now; if it goes on, check `store.endpoint` and the network")]
    Unavailable(#[source] Cause),
    /// A condition did not hold: somebody else wrote first.
    #[error("the item was changed by somebody else")]
    Conflict,
    /// The credentials do not permit the call.
    #[error("the store refuses these credentials; check the role's policy and `store.region`")]
    Denied(#[source] Cause),
    /// The table or an index of it is not there.
    #[error("a table of the store is missing; run `gatehouse tables create`")]
    NoTable(#[source] Cause),
    /// The store finds fault with the request itself.
    #[error("the store refuses the request")]
    Refused(#[source] Cause),
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
pub type Cause = Box<dyn Error + Send + Sync>;

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
            SdkError::ConstructionFailure(_) => Fault::Refused,
            // Timeouts, dispatch failures and answers that are no answer; `SdkError` is non-exhaustive.
            _ => Fault::Unavailable,
        };
        match fault {
            Fault::Unavailable => Self::Unavailable(error.into()),
            Fault::Conflict => Self::Conflict,
            Fault::Denied => Self::Denied(said(error)),
            Fault::NoTable => Self::NoTable(said(error)),
            Fault::Refused => Self::Refused(said(error)),
        }
    }
}

/// The service's own words, which name user, action and resource: in the SDK's they come last.
fn said<E>(error: SdkError<E>) -> Cause
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let words =
        error.as_service_error().and_then(|error| Some(format!("{}: {}", error.code()?, error.message()?)));
    words.map_or_else(|| error.into(), Cause::from)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Unavailable,
    Conflict,
    Denied,
    NoTable,
    Refused,
}

// "Error handling with DynamoDB", "Common errors" and "TransactWriteItems" of the API reference.
fn fault_of(code: &str, message: &str) -> Fault {
    match code {
        "ConditionalCheckFailedException" => Fault::Conflict,
        // The reasons stand in the message, one per item: a failed condition outweighs a conflict beside it.
        "TransactionCanceledException" if message.contains("ConditionalCheckFailed") => Fault::Conflict,
        "TransactionCanceledException" if message.contains("ValidationError") => Fault::Refused,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "OptInRequired" => Fault::Denied,
        "ResourceNotFoundException" => Fault::NoTable,
        "ValidationException"
        | "SerializationException"
        | "IdempotentParameterMismatchException"
        | "ItemCollectionSizeLimitExceededException"
        | "ResourceInUseException" => Fault::Refused,
        // Throttling, conflicts of transactions, internal errors, and codes not yet invented.
        _ => Fault::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_can_tell_a_lost_race_from_a_store_that_is_down() {
        for (code, message, fault) in [
            ("ConditionalCheckFailedException", "The conditional request failed", Fault::Conflict),
            ("TransactionCanceledException", "reasons [None, ConditionalCheckFailed]", Fault::Conflict),
            ("TransactionCanceledException", "reasons [TransactionConflict, None]", Fault::Unavailable),
            ("TransactionCanceledException", "reasons [ThrottlingError]", Fault::Unavailable),
            ("TransactionConflictException", "", Fault::Unavailable),
            ("ProvisionedThroughputExceededException", "", Fault::Unavailable),
            ("RequestLimitExceeded", "", Fault::Unavailable),
            ("InternalServerError", "", Fault::Unavailable),
            ("AccessDeniedException", "", Fault::Denied),
            ("ResourceNotFoundException", "", Fault::NoTable),
            ("ValidationException", "", Fault::Refused),
            ("", "", Fault::Unavailable),
        ] {
            assert_eq!(fault_of(code, message), fault, "{code} {message}");
        }
    }
}
