//! Whose fault a failed order is: a CA that is down must not block names, and a name that the CA refuses must not pause the CA.

use super::{Awaited, OrderError, RefusalSubject};

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
            Self::Invalid { problem, kind } => {
                of_validation(kind.as_deref().unwrap_or_default(), problem, registered_domain)
            }
            Self::Refused(refusal) => {
                let kind = refusal.kind.as_deref().unwrap_or_default();
                match (refusal.subject, short(kind)) {
                    // Every name would fail, whatever the CA calls it.
                    (RefusalSubject::Account, _) => AcmeFault::Issuer,
                    // Accounts may be bound to domains (RFC 8555 §7.3.4), and this one is not of them.
                    (RefusalSubject::Name, "unauthorized") => AcmeFault::Name,
                    (RefusalSubject::Name | RefusalSubject::Untold, _) => of_problem(
                        kind,
                        refusal.status.unwrap_or_default(),
                        &refusal.problem,
                        registered_domain,
                    ),
                }
            }
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

fn short(kind: &str) -> &str {
    kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind)
}

/// Of an order that was placed: all that the CA says of it is of the name, save that itself has failed. Boulder answers so for a remote
/// perspective that it does not reach (`va.remoteVA`).
fn of_validation(kind: &str, problem: &str, registered_domain: &str) -> AcmeFault {
    match short(kind) {
        "serverInternal" | "rateLimited" => of_problem(kind, 0, problem, registered_domain),
        _ => AcmeFault::Name,
    }
}

/// RFC 8555 §6.7 names the types, §6.6 what comes with a limit.
fn of_problem(kind: &str, status: u16, problem: &str, registered_domain: &str) -> AcmeFault {
    match short(kind) {
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
        | "malformed" => AcmeFault::Name,
        // An account that was deactivated, or never agreed to new terms; a request for a certificate, which is the same for each name.
        "badCSR"
        | "unauthorized"
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
            ("badCSR", 400, "RSA keys only", AcmeFault::Issuer),
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
        let invalid = |kind: &str, problem: &str| OrderError::Invalid {
            problem: problem.to_owned(),
            kind: Some(format!("urn:ietf:params:acme:error:{kind}")),
        };
        for (error, expected) in [
            (invalid("dns", "no such host"), AcmeFault::Name),
            (invalid("unauthorized", "Invalid response: 404"), AcmeFault::Name),
            (OrderError::Invalid { problem: "it gives no reason".to_owned(), kind: None }, AcmeFault::Name),
            (invalid("serverInternal", "Secondary domain validation RPC failed"), AcmeFault::Issuer),
            (invalid("rateLimited", "too many failed authorizations for customer.com"), AcmeFault::Limit),
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

    /// The same words are said of an account that was deactivated and of one that may not order for the domain.
    #[test]
    fn a_refusal_is_of_what_was_asked_for() {
        let refused = |kind: &str| {
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            let problem = serde_json::json!({ "type": kind, "status": 403 });
            OrderError::from(instant_acme::Error::Api(serde_json::from_value(problem).unwrap()))
        };
        for (error, expected) in [
            (refused("unauthorized"), AcmeFault::Issuer),
            (refused("unauthorized").about_name(), AcmeFault::Name),
            (refused("userActionRequired").about_name(), AcmeFault::Issuer),
            (refused("malformed"), AcmeFault::Name),
            (refused("malformed").about_account(), AcmeFault::Issuer),
        ] {
            assert_eq!(error.fault("customer.com"), expected, "{error:?}");
        }
    }
}
