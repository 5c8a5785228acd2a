//! Errors of any kind, and an error with its causes as one text.

use std::error::Error;

/// An error of any kind, from a library or from an answer that was read.
pub type BoxedError = Box<dyn Error + Send + Sync>;

/// An error with its causes.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
