//! A domain's target: an origin (RFC 6454), parsed once.
//! Not here: which target a domain has (`domains`), connecting to it (`forward`).

use std::{fmt, net::IpAddr, str::FromStr};

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::name::ServerName;

/// An upstream origin: scheme, host and port, without a path.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Whom to connect to, and for HTTPS whose certificate to expect.
    pub host: TargetHost,
    /// TCP port.
    pub port: u16,
    /// Stored, since every request to the target carries it.
    authority: HeaderValue,
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Cleartext HTTP/1.1.
    Http,
    /// HTTP over TLS, verified, SNI = the target's host.
    Https,
}

/// A target's host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TargetHost {
    /// A name, resolved for each new connection.
    Name(ServerName),
    /// An address literal.
    Address(IpAddr),
}

impl Target {
    /// Reads `http[s]://host[:port]`; one final `/` is accepted.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let refuse = |reason| TargetError { value: text.to_owned(), reason };
        // RFC 3986 §3.5: `http::Uri` drops what stands behind it.
        if text.contains('#') {
            return Err(refuse(TargetReason::Fragment));
        }
        let uri: http::Uri = text.parse().map_err(|_| refuse(TargetReason::Uri))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(refuse(TargetReason::Scheme)),
        };
        let authority = uri.authority().ok_or_else(|| refuse(TargetReason::Uri))?;
        if authority.as_str().contains('@') {
            return Err(refuse(TargetReason::UserInfo));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse(TargetReason::Path));
        }
        let literal = authority.host().trim_start_matches('[').trim_end_matches(']');
        let host = match literal.parse() {
            Ok(address) => TargetHost::Address(address),
            Err(_) => TargetHost::Name(ServerName::parse(literal).map_err(|_| refuse(TargetReason::Host))?),
        };
        // `Authority::port` says nothing of a port beyond 65535: what stands behind the host is read here.
        let port =
            match authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':')) {
                Some(digits) => {
                    digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| refuse(TargetReason::Port))?
                }
                None => scheme.default_port(),
            };
        let spelled = spell(scheme, &host, port);
        let authority = HeaderValue::try_from(spelled).map_err(|_| refuse(TargetReason::Host))?;
        Ok(Self { scheme, host, port, authority })
    }

    /// The value of `Host` towards this target: the port only where it is not the scheme's own (RFC 9110 §7.2).
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }
}

fn spell(scheme: Scheme, host: &TargetHost, port: u16) -> String {
    if port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") }
}

impl Scheme {
    /// 80 or 443 (RFC 9110 §4.2).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why a text is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a target: {reason}; write it like `https://origin.example.com` or `http://10.0.0.5:8080`"
)]
pub struct TargetError {
    value: String,
    reason: TargetReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum TargetReason {
    #[error("it is not a URL with a host")]
    Uri,
    #[error("the scheme must be http or https")]
    Scheme,
    #[error("user information is not supported")]
    UserInfo,
    #[error("a fragment never leaves the client")]
    Fragment,
    #[error("a path or query is not supported, requests keep their own")]
    Path,
    #[error("the host is neither a domain name nor an IP address")]
    Host,
    #[error("the port must be 1 to 65535")]
    Port,
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", spell(self.scheme, &self.host, self.port))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Target {
    type Err = TargetError;
    fn from_str(text: &str) -> Result<Self, TargetError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Self, TargetError> {
        Self::parse(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn what_is_a_target_parses_to_itself(text in "\\PC{0,60}|https?://[a-z0-9.:@/\\[\\]-]{0,40}") {
                if let Ok(target) = Target::parse(&text) {
                    prop_assert_eq!(Target::parse(&target.to_string()).unwrap(), target);
                }
            }
        }
    }

    #[test]
    fn targets_are_origins() {
        for (given, kept, authority) in [
            ("https://origin.example.com", "https://origin.example.com", "origin.example.com"),
            ("https://Origin.example.com:443/", "https://origin.example.com", "origin.example.com"),
            ("http://10.0.0.5:8080", "http://10.0.0.5:8080", "10.0.0.5:8080"),
            ("http://[2001:db8::1]:80", "http://[2001:db8::1]", "[2001:db8::1]"),
        ] {
            let target = Target::parse(given).unwrap();
            assert_eq!(
                (target.to_string().as_str(), target.authority().to_str().unwrap()),
                (kept, authority),
                "{given}"
            );
        }
    }

    #[test]
    fn anything_beside_an_origin_is_refused() {
        for text in [
            "",
            "origin.example.com",
            "ftp://a.example",
            "https://",
            "https://u:p@a.example",
            "https://a.example/x",
            "https://a.example/?q",
            "https://a.example#f",
            "https://a.example/#",
            "https://a.example:8443/#/x",
            "https://a.example:0",
            "https://a.example:99999",
            "https://a_-.example-",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }
}
