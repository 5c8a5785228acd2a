//! Revocation (RFC 8555 §7.6), signed by the fleet's account.

use std::time::Duration;

use instant_acme::{Error, RevocationRequest};
use rustls::pki_types::CertificateDer;

use super::{Acme, Awaited, OrderError, UNAUTHORIZED, http};
use crate::certificates::revocation_reason::RevocationReason;

/// Why a CA has not revoked a certificate.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RevocationError(OrderError);

impl RevocationError {
    /// Whether the CA refuses the account: another one has ordered the certificate, before a change of `email` or elsewhere.
    pub(in crate::certificates) fn is_of_another_account(&self) -> bool {
        matches!(&self.0, OrderError::Refused(problem) if problem.is_of_kind(UNAUTHORIZED))
    }
}

impl Acme {
    /// Revokes `certificate`; whether it had been revoked before.
    pub(in crate::certificates) async fn revoke(
        &self,
        certificate: &CertificateDer<'_>,
        reason: RevocationReason,
    ) -> Result<bool, RevocationError> {
        let revoked = http::within_order(async {
            let account = self.account().await?;
            // RFC 5280 §5.3.1: instead of `unspecified`, no reason is given.
            let request = RevocationRequest { certificate, reason: code(reason) };
            match account.revoke(&request).await {
                Ok(()) => Ok(false),
                Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(ALREADY_REVOKED) => Ok(true),
                Err(error) => Err(OrderError::from(error)),
            }
        });
        let revoked = tokio::time::timeout(DEADLINE, revoked).await;
        revoked.unwrap_or(Err(OrderError::Slow { awaiting: Awaited::Ca })).map_err(RevocationError)
    }
}

fn code(reason: RevocationReason) -> Option<instant_acme::RevocationReason> {
    use instant_acme::RevocationReason as Code;
    match reason {
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(Code::KeyCompromise),
        RevocationReason::AffiliationChanged => Some(Code::AffiliationChanged),
        RevocationReason::Superseded => Some(Code::Superseded),
        RevocationReason::CessationOfOperation => Some(Code::CessationOfOperation),
        RevocationReason::PrivilegeWithdrawn => Some(Code::PrivilegeWithdrawn),
    }
}

/// Within the time that a command waits for its answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// RFC 8555 §6.7.
const ALREADY_REVOKED: &str = "urn:ietf:params:acme:error:alreadyRevoked";
