//! Whose fault a failed order is: a CA that is down must not block names, and a name that the CA refuses must not pause the CA.

use super::{Awaited, OrderError};

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::certificates) enum AcmeFault {
    /// The name: the CA has judged it.
    Name,
    /// Unknown.
    Nobody,
    /// This side's: the table, the key service or Route 53, which say nothing of the name, and which the CA does not know.
    Ours,
    /// Nobody's; the CA limits certificates for the name or its registered domain.
    Limit,
    /// The CA, or our account with it: every name would fail.
    Issuer,
}

impl OrderError {
    /// Whose fault it is; `registered_domain` is the name's.
    pub(in crate::certificates) fn fault(&self, registered_domain: &str) -> AcmeFault {
        match self {
            Self::Invalid { .. } => AcmeFault::Name,
            Self::Refused(refusal) => of_problem(
                refusal.kind.as_deref().unwrap_or_default(),
                refusal.status.unwrap_or_default(),
                &refusal.problem,
                registered_domain,
            ),
            // A name server that answers the CA slowly is the customer's, and table and Route 53 are ours: neither must pause the CA for
            // everybody.
            Self::Slow { awaiting: Awaited::Validation } | Self::NoChallenge | Self::Unusable { .. } => {
                AcmeFault::Nobody
            }
            Self::Slow { awaiting: Awaited::Challenge } | Self::Dns(_) | Self::Store(_) | Self::Key(_) => {
                AcmeFault::Ours
            }
            Self::Slow { awaiting: Awaited::Ca | Awaited::Issuance }
            | Self::Unreachable { .. }
            | Self::Unavailable { .. }
            | Self::Malformed { .. }
            | Self::BadNonce
            | Self::ExternalAccountMissing
            | Self::UnknownProfile { .. }
            | Self::ExternalAccountRefused { .. }
            | Self::AccountKey { .. } => AcmeFault::Issuer,
        }
    }
}

/// RFC 8555 §6.7 names the types, §6.6 what comes with a limit.
fn of_problem(kind: &str, status: u16, problem: &str, registered_domain: &str) -> AcmeFault {
    let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
    match kind {
        // Let's Encrypt has limits of the account, and others of a registered domain, a name or a set of names, all of this type.
        // The latter name what they limit ("too many certificates (50) already issued for \"example.com\"").
        "rateLimited" if problem.contains(registered_domain) || problem.contains("exact set of") => {
            AcmeFault::Limit
        }
        "rateLimited" | "serverInternal" => AcmeFault::Issuer,
        _ if status >= 500 || status == 429 => AcmeFault::Issuer,
        "rejectedIdentifier"
        | "unsupportedIdentifier"
        | "caa"
        | "dns"
        | "connection"
        | "tls"
        | "incorrectResponse"
        | "malformed"
        | "badCSR" => AcmeFault::Name,
        // An account that was deactivated, or never agreed to new terms.
        "unauthorized"
        | "accountDoesNotExist"
        | "externalAccountRequired"
        | "invalidProfile"
        | "userActionRequired"
        | "invalidContact"
        | "unsupportedContact"
        | "badPublicKey"
        | "badSignatureAlgorithm" => AcmeFault::Issuer,
        _ => AcmeFault::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    #[test]
    fn a_limit_of_one_domain_and_a_refused_name_do_not_stop_the_ca() {
        const ACME: &str = "urn:ietf:params:acme:error:";
        for (kind, status, problem, expected) in [
            (
                "rateLimited",
                429,
                "too many new orders (300) from this account in the last 3h0m0s",
                AcmeFault::Issuer,
            ),
            (
                "rateLimited",
                429,
                "too many certificates (50) already issued for \"customer.com\"",
                AcmeFault::Limit,
            ),
            (
                "rateLimited",
                429,
                "too many failed authorizations (5) for \"www.customer.com\"",
                AcmeFault::Limit,
            ),
            (
                "rateLimited",
                429,
                "too many certificates (5) already issued for this exact set of identifiers",
                AcmeFault::Limit,
            ),
            ("rateLimited", 503, "Service busy; retry later.", AcmeFault::Issuer),
            ("serverInternal", 500, "Error creating new order", AcmeFault::Issuer),
            ("malformed", 502, "", AcmeFault::Issuer),
            ("", 503, "", AcmeFault::Issuer),
            ("", 429, "", AcmeFault::Issuer),
            ("rejectedIdentifier", 400, "policy forbids issuing for name", AcmeFault::Name),
            ("malformed", 400, "Domain name contains an invalid character", AcmeFault::Name),
            ("unauthorized", 403, "account is deactivated", AcmeFault::Issuer),
            ("userActionRequired", 403, "new terms", AcmeFault::Issuer),
            ("invalidProfile", 400, "", AcmeFault::Issuer),
            ("unheardOf", 400, "", AcmeFault::Nobody),
        ] {
            let fault = of_problem(&format!("{ACME}{kind}"), status, problem, "customer.com");
            assert_eq!(fault, expected, "{kind} {status} {problem}");
        }
    }

    #[test]
    fn what_is_no_verdict_on_the_name_is_not_its_fault() {
        let malformed = |status| OrderError::Malformed {
            problem: "no JSON".to_owned(),
            status: Some(status),
            retry_after: None,
        };
        for (error, expected) in [
            (OrderError::Invalid { problem: "no such host".to_owned() }, AcmeFault::Name),
            (OrderError::Slow { awaiting: Awaited::Challenge }, AcmeFault::Ours),
            (OrderError::Store(StoreError::Conflict), AcmeFault::Ours),
            (OrderError::Slow { awaiting: Awaited::Issuance }, AcmeFault::Issuer),
            (OrderError::Slow { awaiting: Awaited::Validation }, AcmeFault::Nobody),
            (OrderError::Slow { awaiting: Awaited::Ca }, AcmeFault::Issuer),
            (OrderError::NoChallenge, AcmeFault::Nobody),
            (malformed(200), AcmeFault::Issuer),
            (malformed(404), AcmeFault::Issuer),
            (OrderError::BadNonce, AcmeFault::Issuer),
            (OrderError::ExternalAccountMissing, AcmeFault::Issuer),
            (instant_acme::Error::Timeout(None).into(), AcmeFault::Issuer),
        ] {
            assert_eq!(error.fault("customer.com"), expected, "{error}");
        }
    }
}
