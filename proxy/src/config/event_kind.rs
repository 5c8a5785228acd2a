//! What events there are: the words of settings, of the event log, and of what webhooks are sent.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

macro_rules! event_kinds {
    ($($(#[$meta:meta])* $variant:ident = $text:literal,)+) => {
        /// What an event tells.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventKind { $($(#[$meta])* $variant,)+ }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As it is written everywhere.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

event_kinds! {
    /// There is a new entry of the domains table.
    DomainCreated = "domain.created",
    /// An entry says something else.
    DomainUpdated = "domain.updated",
    /// What a new entry waited for is there: it is served.
    DomainVerified = "domain.verified",
    /// Checks of a name that is served find something wrong, again and again.
    DomainFailing = "domain.failing",
    /// Checks of a name that failed find all well.
    DomainRecovered = "domain.recovered",
    /// An entry is not served until it is resumed.
    DomainSuspended = "domain.suspended",
    /// It is served again.
    DomainResumed = "domain.resumed",
    /// An entry is gone.
    DomainRemoved = "domain.removed",
    /// A name has its first certificate, or one after the last has ended.
    CertificateObtained = "certificate.obtained",
    /// An order for a name without a certificate failed.
    CertificateObtainFailed = "certificate.obtain_failed",
    /// A name's certificate was replaced by another.
    CertificateRenewed = "certificate.renewed",
    /// An order to replace a certificate failed.
    CertificateRenewalFailed = "certificate.renewal_failed",
}

/// What is no kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no kind of event; there are {}", kinds())]
pub struct NoEventKind {
    text: String,
}

impl FromStr for EventKind {
    type Err = NoEventKind;
    fn from_str(text: &str) -> Result<Self, NoEventKind> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == text).copied();
        found.ok_or_else(|| NoEventKind { text: text.to_owned() })
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

fn kinds() -> String {
    EventKind::ALL.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ")
}
