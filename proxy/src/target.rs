//! A domain's target: one or several origins (RFC 6454), parsed once.
//! Not here: which target a domain has (`domains`), which of its endpoints a request goes to (`forward`).

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    str::FromStr,
    sync::Arc,
};

use http::{HeaderValue, uri::PathAndQuery};
use serde::{Deserialize, Serialize};

use crate::name::ServerName;

/// Where a domain's requests go: endpoints that serve the same, at least one.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    endpoints: Arc<[Endpoint]>,
    /// Of the endpoints. Stored, since every request is counted and looked up by its target.
    hash: u64,
}

/// One origin: scheme, host and port, without a path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Whom to connect to, and for HTTPS whose certificate to expect.
    pub host: TargetHost,
    /// TCP port.
    pub port: u16,
    /// The version of HTTP it is spoken to with.
    pub protocol: UpstreamProtocol,
    /// Its share of the requests, in proportion to the other endpoints'.
    pub weight: Weight,
    /// What it is asked for, from time to time, to see whether it is well.
    pub health: Option<PathAndQuery>,
    /// Stored, since every request to the endpoint carries it.
    authority: HeaderValue,
}

/// The version of HTTP that an endpoint speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, in cleartext by prior knowledge (RFC 9113 §3.3). gRPC needs it.
    Http2,
}

/// An endpoint's share of the requests: 1 to 256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Weight(u16);

/// How an upstream is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS, verified, SNI = the target's host.
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

impl Endpoint {
    /// Reads `http[s]://host[:port][;weight=N][;protocol=h2][;health=/path]`; one final `/` is accepted.
    fn parse(text: &str) -> Result<Self, TargetError> {
        let refuse = |reason| TargetError { value: text.to_owned(), reason };
        let (url, parameters) = text.split_once(';').map_or((text, None), |(url, rest)| (url, Some(rest)));
        let Parameters { weight, protocol, health } = Parameters::parse(parameters).map_err(refuse)?;
        // RFC 3986 §3.5: `http::Uri` drops what stands behind it.
        if url.contains('#') {
            return Err(refuse(TargetReason::Fragment));
        }
        let uri: http::Uri = url.parse().map_err(|_| refuse(TargetReason::Uri))?;
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
        Ok(Self { scheme, host, port, protocol, weight, health, authority })
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// The value of `Host` towards this endpoint: the port only where it is not the scheme's own (RFC 9110 §7.2).
    #[must_use]
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }
}

fn spell(scheme: Scheme, host: &TargetHost, port: u16) -> String {
    if port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") }
}

/// What stands behind an endpoint's URL.
#[derive(Default)]
struct Parameters {
    weight: Weight,
    protocol: UpstreamProtocol,
    health: Option<PathAndQuery>,
}

impl Parameters {
    /// Reads `name=value`, separated by `;`, each name once.
    fn parse(text: Option<&str>) -> Result<Self, TargetReason> {
        let (mut weight, mut protocol, mut health) = (None, None, None);
        for parameter in text.into_iter().flat_map(|text| text.split(';')) {
            let (name, value) = parameter.trim_ascii().split_once('=').ok_or(TargetReason::Parameter)?;
            let is_repeated = match name {
                "weight" => weight.replace(Weight::parse(value).ok_or(TargetReason::Weight)?).is_some(),
                "protocol" => {
                    protocol.replace(UpstreamProtocol::parse(value).ok_or(TargetReason::Protocol)?).is_some()
                }
                "health" => health.replace(health_path(value).ok_or(TargetReason::Health)?).is_some(),
                _ => return Err(TargetReason::Parameter),
            };
            if is_repeated {
                return Err(TargetReason::Parameter);
            }
        }
        Ok(Self { weight: weight.unwrap_or_default(), protocol: protocol.unwrap_or_default(), health })
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

impl UpstreamProtocol {
    /// By the names of ALPN (RFC 7301 §6).
    fn parse(name: &str) -> Option<Self> {
        match name {
            "http/1.1" => Some(Self::Http1),
            "h2" => Some(Self::Http2),
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
    "`{value}` is not a target: {reason}; write it like `https://origin.example.com` or `http://10.0.0.5:8080, http://10.0.0.6:8080;weight=3`"
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
    #[error("behind `;` there may only be `weight=`, `protocol=` and `health=`, each once")]
    Parameter,
    #[error("`weight=` must be a number from 1 to 256")]
    Weight,
    #[error("`protocol=` must be `h2` or `http/1.1`")]
    Protocol,
    #[error(
        "`health=` must be a path, with a query or without, that begins with `/` and has neither `,` nor `;`"
    )]
    Health,
    #[error("it has more than {MAX_ENDPOINTS} endpoints")]
    Endpoints,
    #[error("it names an endpoint twice")]
    Repeated,
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
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{endpoint}")?;
            if endpoint.weight != Weight::default() {
                write!(f, ";weight={}", endpoint.weight.0)?;
            }
            match endpoint.protocol {
                UpstreamProtocol::Http1 => {}
                UpstreamProtocol::Http2 => f.write_str(";protocol=h2")?,
            }
            if let Some(path) = &endpoint.health {
                write!(f, ";health={path}")?;
            }
        }
        Ok(())
    }
}

/// Its URL, without parameters.
impl fmt::Display for Endpoint {
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

impl fmt::Debug for Endpoint {
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

/// Endpoints that a target may have.
const MAX_ENDPOINTS: usize = 16;
const MAX_WEIGHT: u16 = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn what_is_a_target_parses_to_itself(text in "\\PC{0,60}|(https?://[a-z0-9.:@/\\[\\]-]{0,40}(;weight=[0-9]{1,3})?(;protocol=h2)?(;health=/[a-z?=#;]{0,5})?,?){1,3}") {
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
            let [endpoint] = target.endpoints() else { panic!("one endpoint") };
            assert_eq!(
                (target.to_string().as_str(), endpoint.authority().to_str().unwrap()),
                (kept, authority),
                "{given}"
            );
        }
    }

    #[test]
    fn a_target_may_have_several_endpoints_of_different_weight() {
        let target =
            Target::parse("http://10.0.0.5:8080;weight=3,https://b.example ,http://10.0.0.5;weight=1")
                .unwrap();
        let spelled = "http://10.0.0.5:8080;weight=3, https://b.example, http://10.0.0.5";
        assert_eq!(target.to_string(), spelled);
        let weights = target.endpoints().iter().map(|endpoint| u16::from(endpoint.weight));
        assert_eq!(weights.collect::<Vec<_>>(), [3, 1, 1]);
        let many =
            |count: usize| (1..=count).map(|n| format!("http://10.0.0.{n}")).collect::<Vec<_>>().join(",");
        assert!(Target::parse(&many(MAX_ENDPOINTS)).is_ok());
        let error = Target::parse(&many(MAX_ENDPOINTS + 1)).unwrap_err().to_string();
        assert!(error.contains("more than 16 endpoints"), "{error}");
    }

    #[test]
    fn an_endpoint_may_speak_another_version_of_http() {
        let target = Target::parse(
            "http://10.0.0.5:50051;protocol=h2, https://b.example; protocol=http/1.1 ,https://c.example;protocol=h2;weight=2",
        );
        let target = target.unwrap();
        let protocols: Vec<_> = target.endpoints().iter().map(|endpoint| endpoint.protocol).collect();
        assert_eq!(protocols, [UpstreamProtocol::Http2, UpstreamProtocol::Http1, UpstreamProtocol::Http2]);
        let spelled =
            "http://10.0.0.5:50051;protocol=h2, https://b.example, https://c.example;weight=2;protocol=h2";
        assert_eq!(target.to_string(), spelled);
    }

    #[test]
    fn an_endpoint_may_say_how_its_health_is_checked() {
        let target = Target::parse("http://10.0.0.5;health=/up?full=1;weight=2, http://10.0.0.6").unwrap();
        let paths =
            target.endpoints().iter().map(|endpoint| endpoint.health.as_ref().map(PathAndQuery::as_str));
        assert_eq!(paths.collect::<Vec<_>>(), [Some("/up?full=1"), None]);
        assert_eq!(target.to_string(), "http://10.0.0.5;weight=2;health=/up?full=1, http://10.0.0.6");
    }

    #[test]
    fn anything_beside_origins_is_refused() {
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
            "https://a.example,",
            "https://a.example,,https://b.example",
            "https://a.example, https://A.example:443;weight=2",
            "https://a.example;weight=0",
            "https://a.example;weight=257",
            "https://a.example;weight",
            "https://a.example;x=1",
            "https://a.example;protocol=h3",
            "https://a.example;protocol=h2;protocol=h2",
            "https://a.example;weight=2;",
            "https://a.example;health=up",
            "https://a.example;health=",
            "https://a.example;health=/#up",
            "https://a.example;health=/u p",
            "https://a.example;protocol=h2, https://a.example",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }
}
