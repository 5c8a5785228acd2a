//! Why a service did not do what was asked, by what follows from it.

use aws_call::{ServiceFault, shortened};

/// Why a service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AwsFault {
    /// With the service's message.
    Denied(String),
    /// It may succeed soon; with its message.
    Again(String),
    /// Asking again would not help.
    Refused {
        /// As the API reference names it; none if it is no answer of the service.
        code: Option<String>,
        /// With its message.
        said: String,
    },
}

impl AwsFault {
    /// Of status and body of an answer that is none. "Common Error Types" of the API references.
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        if status >= 500 {
            return Self::Again(format!("status {status}"));
        }
        let Some(ServiceFault { code, message }) = ServiceFault::read(body) else {
            let said = format!("status {status}");
            // RFC 9110 §15.5.2 and §15.5.4; who says so may be on the way there.
            let is_denial = matches!(status, 401 | 403);
            return if is_denial { Self::Denied(said) } else { Self::Refused { code: None, said } };
        };
        let said = shortened(&format!("{code}: {message}"));
        match code.as_str() {
            "AccessDeniedException" | "AccessDenied" => Self::Denied(said),
            "ThrottlingException"
            | "Throttling"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "DependencyTimeoutException"
            | "PriorRequestNotComplete"
            | "KMSInternalException" => Self::Again(said),
            _ => Self::Refused { code: Some(code), said },
        }
    }
}
