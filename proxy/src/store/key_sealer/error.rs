//! Why a secret is not sealed, or not opened now.

use super::envelope::Wrapped;
use crate::telemetry::BoxedError;

/// Why a secret is not sealed, or not opened now.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// An item was encrypted by another master key.
    #[error(
        "an item is encrypted by `{master}`, which is not the key of the settings; add that key to the file, or set `store.key_encryption` to it"
    )]
    UnknownKey {
        /// Its name.
        master: String,
    },
    /// KMS refuses.
    #[error(
        "KMS refuses: {said}; the role needs kms:GenerateDataKey and kms:Decrypt for the key, which must be enabled"
    )]
    Refused {
        /// What it says.
        said: String,
    },
    /// No answer of KMS, or none that could be used.
    #[error(
        "KMS at {endpoint} does not answer; check that outgoing connections to port 443 are allowed, or that there is a VPC endpoint for kms"
    )]
    Silent {
        /// Which endpoint was asked.
        endpoint: String,
        /// How it failed.
        #[source]
        source: BoxedError,
    },
    /// The cryptographic library.
    #[error("the cryptographic library fails")]
    Library,
}

impl SealError {
    pub(super) fn unknown(wrapped: &Wrapped) -> Self {
        Self::UnknownKey { master: wrapped.master.chars().filter(|char| !char.is_control()).collect() }
    }
}
