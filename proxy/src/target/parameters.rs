//! What stands behind an endpoint's URL: `;name=value`, each name once.

use std::fmt;

use http::uri::PathAndQuery;

use super::{
    error::TargetReason,
    limits::{self, EndpointLimits},
    tls_name::TlsName,
};

/// The version of HTTP that an endpoint speaks, or how it is found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, in cleartext by prior knowledge (RFC 9113 §3.3). gRPC needs it.
    Http2,
    /// What its server chooses of both for each connection, by ALPN (RFC 7301). Over TLS alone.
    Auto,
}

/// The version of a PROXY header (HAProxy, proxy-protocol.txt).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// An endpoint's share of the requests: 1 to 256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Weight(u16);

#[derive(Default)]
pub(super) struct Parameters {
    pub(super) weight: Weight,
    pub(super) protocol: UpstreamProtocol,
    pub(super) tls: Option<TlsName>,
    pub(super) proxy_protocol: Option<ProxyProtocolVersion>,
    pub(super) health: Option<PathAndQuery>,
    pub(super) limits: EndpointLimits,
}

impl Parameters {
    /// Reads `name=value`, separated by `;`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, TargetReason> {
        let (mut weight, mut protocol, mut tls) = (None, None, None);
        let (mut proxy_protocol, mut health) = (None, None);
        let mut limits = EndpointLimits::default();
        for parameter in text.into_iter().flat_map(|text| text.split(';')) {
            let (name, value) = parameter.trim_ascii().split_once('=').ok_or(TargetReason::Parameter)?;
            let bound = || limits::bound(value).ok_or(TargetReason::Bound);
            let is_repeated = match name {
                "weight" => weight.replace(Weight::parse(value).ok_or(TargetReason::Weight)?).is_some(),
                "protocol" => {
                    protocol.replace(UpstreamProtocol::parse(value).ok_or(TargetReason::Protocol)?).is_some()
                }
                "tls" => tls.replace(TlsName::parse(value).ok_or(TargetReason::Tls)?).is_some(),
                "proxy_protocol" => {
                    let version = ProxyProtocolVersion::parse(value).ok_or(TargetReason::ProxyProtocol)?;
                    proxy_protocol.replace(version).is_some()
                }
                "health" => health.replace(health_path(value).ok_or(TargetReason::Health)?).is_some(),
                limits::MAX_CONNECTIONS => limits.connections.replace(bound()?).is_some(),
                limits::MAX_REQUESTS => limits.requests.replace(bound()?).is_some(),
                limits::MAX_PENDING => {
                    limits.pending.replace(limits::pending(value).ok_or(TargetReason::Pending)?).is_some()
                }
                _ => return Err(TargetReason::Parameter),
            };
            if is_repeated {
                return Err(TargetReason::Parameter);
            }
        }
        let (weight, protocol) = (weight.unwrap_or_default(), protocol.unwrap_or_default());
        Ok(Self { weight, protocol, tls, proxy_protocol, health, limits })
    }
}

/// In origin form (RFC 9112 §3.2.1).
fn health_path(text: &str) -> Option<PathAndQuery> {
    text.parse().ok().filter(|_| text.starts_with('/') && !text.contains('#'))
}

impl Weight {
    fn parse(digits: &str) -> Option<Self> {
        digits.parse().ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight)).map(Self)
    }
}

impl ProxyProtocolVersion {
    fn parse(text: &str) -> Option<Self> {
        [Self::V1, Self::V2].into_iter().find(|version| version.as_str() == text)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

impl fmt::Display for ProxyProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl UpstreamProtocol {
    /// By the names of ALPN (RFC 7301 §6), or `auto`.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "http/1.1" => Some(Self::Http1),
            "h2" => Some(Self::Http2),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

const MAX_WEIGHT: u16 = 256;
