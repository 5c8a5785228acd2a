//! One endpoint of a target.

use std::{fmt, net::IpAddr, net::SocketAddr};

use http::{HeaderValue, uri::PathAndQuery};

use super::{
    base_path::BasePath,
    error::{TargetError, TargetReason},
    limits::EndpointLimits,
    parameters::{Parameters, ProxyProtocolVersion, UpstreamProtocol, Weight},
    socket_path::SocketPath,
    tls_name::TlsName,
};
use crate::name::ServerName;

/// One origin: where it listens and how it is spoken to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it listens.
    pub location: Location,
    /// What is put before the path of each request.
    pub base_path: Option<BasePath>,
    /// The version of HTTP it is spoken to with, or how that is found.
    pub protocol: UpstreamProtocol,
    /// Its share of the requests, in proportion to the other endpoints'.
    pub weight: Weight,
    /// The settings by which it is spoken to over TLS, if it names some.
    pub tls: Option<TlsName>,
    /// The PROXY header that its connections begin with, if they do.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// What it is asked for, from time to time, to see whether it is well.
    pub health: Option<PathAndQuery>,
    /// What may be there at a time.
    pub limits: EndpointLimits,
    /// Stored, since every request to the endpoint carries it.
    authority: HeaderValue,
}

/// How an upstream is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS, verified, SNI = the target's host.
    Https,
}

/// Where an endpoint listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Location {
    /// At a TCP port of a host.
    Tcp {
        /// Whom to connect to, and for HTTPS whose certificate to expect.
        host: TargetHost,
        /// TCP port.
        port: u16,
    },
    /// At a Unix socket of this machine.
    Unix(SocketPath),
}

/// A target's host.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TargetHost {
    /// A name, resolved for each new connection.
    Name(ServerName),
    /// An address literal.
    Address(IpAddr),
}

/// What a connection to an endpoint goes to: one of its addresses, or its socket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndpointAddress {
    /// Address and TCP port.
    Tcp(SocketAddr),
    /// A Unix socket of this machine.
    Unix(SocketPath),
}

impl Endpoint {
    /// Reads `http[s]://host[:port][/path]` or `unix:/path`, and behind it its [`Parameters`]; one final `/` of a URL says nothing.
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        let (place, parameters) =
            text.split_once(';').map_or((text, None), |(place, rest)| (place, Some(rest)));
        let read = || {
            let Parameters { weight, protocol, tls, proxy_protocol, health, limits } =
                Parameters::parse(parameters)?;
            let (scheme, location, base_path) = match place.strip_prefix(UNIX) {
                Some(path) => {
                    let path = SocketPath::parse(path).ok_or(TargetReason::Socket)?;
                    (Scheme::Http, Location::Unix(path), None)
                }
                None => url(place)?,
            };
            if tls.is_some() && scheme == Scheme::Http {
                return Err(TargetReason::TlsInCleartext);
            }
            if protocol == UpstreamProtocol::Auto && scheme == Scheme::Http {
                return Err(TargetReason::AutoInCleartext);
            }
            if limits.connections.is_some() && protocol == UpstreamProtocol::Http2 {
                return Err(TargetReason::ConnectionsOverHttp2);
            }
            if proxy_protocol.is_some() && protocol != UpstreamProtocol::Http1 {
                return Err(TargetReason::ProxyProtocolOverHttp2);
            }
            let authority = authority(scheme, &location)?;
            Ok(Self {
                scheme,
                location,
                base_path,
                protocol,
                weight,
                tls,
                proxy_protocol,
                health,
                limits,
                authority,
            })
        };
        read().map_err(|reason| TargetError { value: text.to_owned(), reason })
    }

    /// Whether both are the same place, however their parameters differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.scheme, &self.location, &self.base_path) == (other.scheme, &other.location, &other.base_path)
    }

    /// The value of `Host` towards this endpoint: the port only where it is not the scheme's own (RFC 9110 §7.2). A socket has none of its
    /// own: `localhost` is what health checks say.
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Its host; none at a Unix socket.
    #[must_use]
    pub fn host(&self) -> Option<&TargetHost> {
        match &self.location {
            Location::Tcp { host, .. } => Some(host),
            Location::Unix(_) => None,
        }
    }
}

/// Reads `http[s]://host[:port][/path][/]`.
fn url(text: &str) -> Result<(Scheme, Location, Option<BasePath>), TargetReason> {
    // RFC 3986 §3.5: `http::Uri` drops what stands behind it.
    if text.contains('#') {
        return Err(TargetReason::Fragment);
    }
    let uri: http::Uri = text.parse().map_err(|_| TargetReason::Uri)?;
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(TargetReason::Scheme),
    };
    let authority = uri.authority().ok_or(TargetReason::Uri)?;
    if authority.as_str().contains('@') {
        return Err(TargetReason::UserInfo);
    }
    if uri.query().is_some() {
        return Err(TargetReason::Query);
    }
    let base_path = match uri.path() {
        "" | "/" => None,
        path => Some(BasePath::parse(path).ok_or(TargetReason::BasePath)?),
    };
    let literal = authority.host().trim_start_matches('[').trim_end_matches(']');
    let host = match literal.parse() {
        Ok(address) => TargetHost::Address(address),
        Err(_) => TargetHost::Name(ServerName::parse(literal).map_err(|_| TargetReason::Host)?),
    };
    // `Authority::port` says nothing of a port beyond 65535: what stands behind the host is read here.
    let port = match authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':'))
    {
        Some(digits) => digits.parse().ok().filter(|port| *port != 0).ok_or(TargetReason::Port)?,
        None => scheme.default_port(),
    };
    Ok((scheme, Location::Tcp { host, port }, base_path))
}

fn authority(scheme: Scheme, location: &Location) -> Result<HeaderValue, TargetReason> {
    match location {
        Location::Tcp { host, port } => {
            HeaderValue::try_from(spell(scheme, host, *port)).map_err(|_| TargetReason::Host)
        }
        Location::Unix(_) => Ok(HeaderValue::from_static("localhost")),
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

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{path}"),
        }
    }
}

/// Its URL, without parameters.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        match &self.location {
            Location::Tcp { host, port } => write!(f, "{scheme}://{}", spell(self.scheme, host, *port))?,
            Location::Unix(path) => write!(f, "{UNIX}{path}")?,
        }
        self.base_path.as_ref().map_or(Ok(()), |path| write!(f, "{path}"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const UNIX: &str = "unix:";
