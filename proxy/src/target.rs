//! A domain's target: one or several origins (RFC 6454), parsed once.
//! Not here: which target a domain has (`domains`), which of its endpoints a request goes to (`forward`).

mod base_path;
mod endpoint;
mod error;
mod limits;
mod parameters;
mod socket_path;
mod tls_name;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::error::{MAX_ENDPOINTS, TargetReason};
pub use self::{
    base_path::BasePath,
    endpoint::{Endpoint, EndpointAddress, Location, Scheme, TargetHost},
    error::TargetError,
    limits::EndpointLimits,
    parameters::{ProxyProtocolVersion, UpstreamProtocol, Weight},
    socket_path::SocketPath,
    tls_name::{TlsName, TlsNameError},
};
pub(crate) use self::{base_path::may_step_up, socket_path::LONGEST as LONGEST_SOCKET_PATH};

/// Where a domain's requests go: endpoints that serve the same, at least one.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    endpoints: Arc<[Endpoint]>,
    /// Of the endpoints. Stored, since every request is counted and looked up by its target.
    hash: u64,
}

impl Target {
    /// Reads endpoints, separated by commas.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let refuse = |reason| TargetError { value: text.to_owned(), reason };
        let mut endpoints = Vec::<Endpoint>::new();
        for part in text.split(',') {
            if endpoints.len() == MAX_ENDPOINTS {
                return Err(refuse(TargetReason::Endpoints));
            }
            let endpoint = Endpoint::parse(part.trim_ascii())?;
            if endpoints.iter().any(|other| other.is_same(&endpoint)) {
                return Err(refuse(TargetReason::Repeated));
            }
            endpoints.push(endpoint);
        }
        let mut hasher = DefaultHasher::new();
        endpoints.hash(&mut hasher);
        Ok(Self { endpoints: endpoints.into(), hash: hasher.finish() })
    }

    /// In the order they are written.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Whether an endpoint has a base path.
    #[must_use]
    pub fn has_base_path(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.base_path.is_some())
    }

    /// Whether an endpoint is told who its clients are by a PROXY header.
    #[must_use]
    pub fn wants_proxy_header(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.proxy_protocol.is_some())
    }

    /// Whether each of its endpoints has a name and a port that `Host` can say.
    #[must_use]
    pub fn has_authority(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.host().is_some())
    }
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.endpoints == other.endpoints
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{endpoint}")?;
            if endpoint.weight != Weight::default() {
                write!(f, ";weight={}", u16::from(endpoint.weight))?;
            }
            match endpoint.protocol {
                UpstreamProtocol::Http1 => {}
                UpstreamProtocol::Http2 => f.write_str(";protocol=h2")?,
                UpstreamProtocol::Auto => f.write_str(";protocol=auto")?,
            }
            if let Some(name) = &endpoint.tls {
                write!(f, ";tls={name}")?;
            }
            if let Some(version) = endpoint.proxy_protocol {
                write!(f, ";proxy_protocol={version}")?;
            }
            if let Some(path) = &endpoint.health {
                write!(f, ";health={path}")?;
            }
            write!(f, "{}", endpoint.limits)?;
        }
        Ok(())
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
mod tests;
