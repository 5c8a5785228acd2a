//! Retries that the SDK leaves to its user: of a write that met a transaction in progress.

use aws_smithy_runtime_api::client::{
    interceptors::context::InterceptorContext,
    retries::classifiers::{ClassifyRetry, RetryAction},
};
use aws_smithy_types::retry::ErrorKind;

/// "`TransactWriteItems`: the SDK does not retry `TransactionCanceledException`": a conflict alone is safe to try again,
/// since the request carries its token; a failed condition beside it is an answer.
#[derive(Debug)]
pub(super) struct RetryConflicts;

impl ClassifyRetry for RetryConflicts {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let body = context.response().and_then(|response| response.body().bytes()).unwrap_or_default();
        if is_only_a_conflict(body) {
            RetryAction::retryable_error(ErrorKind::ThrottlingError)
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "gatehouse::store::RetryConflicts"
    }
}

fn is_only_a_conflict(body: &[u8]) -> bool {
    let says = |word: &str| body.windows(word.len()).any(|window| window == word.as_bytes());
    let failed = says("TransactionConflictException") || says("TransactionCanceledException");
    failed && says("TransactionConflict") && !says("ConditionalCheckFailed") && !says("ValidationError")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_condition_is_an_answer_and_a_conflict_is_not() {
        for (body, again) in [
            (r#"{"__type":"x#TransactionConflictException"}"#, true),
            (r#"{"__type":"x#TransactionCanceledException","Message":"[TransactionConflict, None]"}"#, true),
            (r#"{"__type":"x#TransactionCanceledException","Message":"[ConditionalCheckFailed]"}"#, false),
            (
                r#"{"__type":"x#TransactionCanceledException","Message":"[TransactionConflict, ConditionalCheckFailed]"}"#,
                false,
            ),
            (r#"{"Item":{"note":{"S":"TransactionConflict"}}}"#, false),
        ] {
            assert_eq!(is_only_a_conflict(body.as_bytes()), again, "{body}");
        }
    }
}
