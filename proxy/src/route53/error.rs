//! Why a record was not written, with what has to be done.

use super::TxtPlace;
use crate::{aws::AwsFault, config::HostedZoneId, name::ServerName, telemetry::BoxedError};

/// Why a TXT record was not written, or not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("there are no credentials for Route 53; give the instance a role with {RIGHTS}")]
    Credentials(#[source] BoxedError),
    #[error("there is no hosted zone `{zone}` in this account; correct `zone` in `certificates.wildcards`")]
    NoZone { zone: HostedZoneId },
    #[error("access to hosted zone `{zone}` is denied for `{record}`; the role needs {RIGHTS} ({said})")]
    Denied { zone: HostedZoneId, record: ServerName, said: String },
    #[error(
        "Route 53 refuses `{record}` in hosted zone `{zone}`: {said}; check that the record is of this zone, and is TXT without a routing policy"
    )]
    Refused { zone: HostedZoneId, record: ServerName, said: String },
    #[error("others have written `{record}` whenever it was to be written ({said}); it is tried again later")]
    Changed { record: ServerName, said: String },
    #[error("Route 53 did not bring `{record}` to all its servers in time; it is tried again later")]
    Slow { record: ServerName },
    #[error(
        "Route 53 at {endpoint} does not answer ({source}); check that outgoing connections to port 443 are allowed"
    )]
    Silent { endpoint: String, source: BoxedError },
}

/// The same of a single call.
#[derive(Debug)]
pub(super) enum CallError {
    Credentials(BoxedError),
    NoZone,
    Denied(String),
    Refused(String),
    /// The record is not what it was read as.
    Changed(String),
    /// The change is pending still.
    Slow,
    Silent(BoxedError),
}

impl CallError {
    /// Of a fault that another attempt would not mend.
    pub(super) fn of(fault: AwsFault) -> Self {
        match fault {
            AwsFault::Denied(said) => Self::Denied(said),
            AwsFault::Again(said) => Self::Silent(said.into()),
            // "ChangeResourceRecordSets", Errors, of the API reference.
            AwsFault::Refused { code, said } => match code.as_deref() {
                Some("NoSuchHostedZone") => Self::NoZone,
                Some("InvalidChangeBatch") if is_conflict(&said) => Self::Changed(said),
                // The key is not known, or its secret is another.
                Some("InvalidClientTokenId" | "SignatureDoesNotMatch" | "ExpiredToken") => Self::Denied(said),
                _ => Self::Refused(said),
            },
        }
    }

    pub(super) fn explain(self, place: &TxtPlace, endpoint: &str) -> RecordError {
        let (zone, record) = (place.zone.clone(), place.record.clone());
        match self {
            Self::Credentials(source) => RecordError::Credentials(source),
            Self::NoZone => RecordError::NoZone { zone },
            Self::Denied(said) => RecordError::Denied { zone, record, said },
            Self::Refused(said) => RecordError::Refused { zone, record, said },
            Self::Changed(said) => RecordError::Changed { record, said },
            Self::Slow => RecordError::Slow { record },
            Self::Silent(source) => RecordError::Silent { endpoint: endpoint.to_owned(), source },
        }
    }
}

/// Route 53 has one code for whatever is wrong with a change, and tells by words that a record is not as the change says.
fn is_conflict(said: &str) -> bool {
    ["already exists", "not found", "do not match the current values"]
        .iter()
        .any(|words| said.contains(words))
}

const RIGHTS: &str =
    "route53:ChangeResourceRecordSets and route53:ListResourceRecordSets for the zone, and route53:GetChange";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_remedy() {
        let place = TxtPlace {
            zone: HostedZoneId::try_from("Z1".to_owned()).unwrap(),
            record: ServerName::parse("_acme-challenge.app.example").unwrap(),
        };
        let wrapped = |code: &str, message: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            )
        };
        for (status, body, expected) in [
            (
                403,
                wrapped("AccessDenied", "User: nobody is not authorized to perform: route53:ChangeResourceRecordSets"),
                "access to hosted zone `Z1` is denied for `_acme-challenge.app.example`; the role needs route53:Change",
            ),
            (403, wrapped("InvalidClientTokenId", "The security token is invalid"), "is denied"),
            (403, wrapped("SignatureDoesNotMatch", "Signature expired"), "is denied"),
            (404, wrapped("NoSuchHostedZone", "No hosted zone found with ID: Z1"), "no hosted zone `Z1`"),
            (400, wrapped("InvalidChangeBatch", "[Tried to create resource record set [name='a.', type='TXT'] but it already exists]"), "others have written"),
            (
                400,
                "<InvalidChangeBatch><Messages><Message>Tried to delete resource record set [name='a.', type='TXT'] but it was not found</Message></Messages></InvalidChangeBatch>".to_owned(),
                "others have written",
            ),
            (400, wrapped("InvalidChangeBatch", "[RRSet with DNS name a. is not permitted in zone b.]"), "check that the record is of this zone"),
            (400, wrapped("InvalidInput", "wrong"), "refuses"),
            (400, wrapped("PriorRequestNotComplete", "wait"), "does not answer (PriorRequestNotComplete: wait)"),
            (400, wrapped("Throttling", "Rate exceeded"), "does not answer (Throttling: Rate exceeded)"),
            (503, "busy".to_owned(), "does not answer (status 503)"),
        ] {
            let error = CallError::of(AwsFault::of(status, body.as_bytes())).explain(&place, "https://x/");
            assert!(error.to_string().contains(expected), "{body}: {error}");
        }
        for (error, expected) in [
            (CallError::Credentials("none".into()), "no credentials for Route 53; give the instance a role"),
            (CallError::Slow, "did not bring `_acme-challenge.app.example` to all its servers"),
        ] {
            assert!(error.explain(&place, "https://x/").to_string().contains(expected));
        }
    }
}
