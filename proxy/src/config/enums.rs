//! Settings whose value is one of a few words.

use std::{fmt, net::SocketAddr, str::FromStr};

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::name::{ServerName, WWW};

macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    };
}

/// The one of `words` that is written so.
fn named<T: Copy + fmt::Display>(words: &[T], text: &str) -> Option<T> {
    words.iter().find(|word| word.to_string() == text).copied()
}

words! {
    /// How workers do network I/O.
    pub enum Io {
        /// Whichever takes less time for the same work.
        Auto,
        /// `io_uring` or nothing.
        Uring,
        /// epoll.
        Epoll,
    }
}

words! {
    /// Where in the interface the program runs.
    pub enum Attach {
        /// In the driver.
        Native,
        /// In the kernel's generic receive path.
        Generic,
    }
}

words! {
    /// The guard's mode.
    pub enum GuardMode {
        /// Count unknown names, reject none.
        Observe,
        /// Reject when the budget of unknown names is spent.
        Adaptive,
        /// Reject all that is not allowed.
        Strict,
    }
}

words! {
    /// How a response is encoded on its way to a client (RFC 9110 §8.4.1).
    pub enum ContentCoding {
        /// RFC 1952.
        Gzip,
    }
}

impl ContentCoding {
    /// What clients call it; `x-gzip` is the same (RFC 9110 §8.4.1.3).
    pub(crate) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Gzip => &["gzip", "x-gzip"],
        }
    }

    /// As `Content-Encoding` says it.
    pub(crate) const fn field_value(self) -> http::HeaderValue {
        match self {
            Self::Gzip => http::HeaderValue::from_static("gzip"),
        }
    }
}

words! {
    /// Which endpoint of a target a request goes to.
    pub enum Balance {
        /// Of two at random, the one with fewer requests.
        LeastRequests,
        /// The same for each client address.
        ClientAddress,
    }
}

words! {
    /// Whose authority an upstream reads in Host.
    pub enum UpstreamHost {
        /// The target's endpoint's own.
        Target,
        /// The one that the client named.
        Client,
    }
}

words! {
    /// What proves that a new entry's name may be served.
    pub enum RequiredProof {
        /// Nothing has to.
        None,
        /// That the name leads to the edge.
        Dns,
        /// The ownership record, for which the name need not lead here yet.
        Txt,
    }
}

impl FromStr for UpstreamHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        named(Self::ALL, text)
            .ok_or_else(|| format!("`{text}` is none of the two; write `target` or `client`"))
    }
}

words! {
    /// Whether a site is at its name with `www.` in front or without it; requests for the other are led there.
    pub enum SiteRedirect {
        /// At both.
        Off,
        /// With it.
        Www,
        /// Without it.
        Apex,
    }
}

impl FromStr for SiteRedirect {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        named(Self::ALL, text)
            .ok_or_else(|| format!("`{text}` is none of the three; write `www`, `apex` or `off`"))
    }
}

impl SiteRedirect {
    /// The name that requests for `name` are led to, if it is another.
    #[must_use]
    pub fn leads(self, name: &ServerName) -> Option<ServerName> {
        let other = match (self, name.as_str().strip_prefix(WWW)) {
            (Self::Www, None) => format!("{WWW}{name}"),
            // `www.com` is a site of its own.
            (Self::Apex, Some(apex)) if apex.contains('.') => apex.to_owned(),
            (Self::Off | Self::Www | Self::Apex, _) => return None,
        };
        ServerName::parse(&other).ok()
    }
}

words! {
    /// What becomes of requests for the other name of an entry's pair: the one with `www.` in front, or without.
    pub enum WwwPair {
        /// The entry does not speak for it.
        Off,
        /// They are led to the entry's own.
        Redirect,
        /// They are forwarded as those for the entry's own.
        Serve,
    }
}

impl FromStr for WwwPair {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        named(Self::ALL, text)
            .ok_or_else(|| format!("`{text}` is none of the three; write `redirect`, `serve` or `off`"))
    }
}

/// Whether requests are answered in place of the upstream, which is being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Maintenance {
    /// They are forwarded.
    Off,
    /// They are answered with 503.
    On,
}

impl From<bool> for Maintenance {
    fn from(is_on: bool) -> Self {
        if is_on { Self::On } else { Self::Off }
    }
}

impl From<Maintenance> for bool {
    fn from(maintenance: Maintenance) -> Self {
        maintenance == Maintenance::On
    }
}

impl FromStr for Maintenance {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(format!("`{text}` is none of the two; write `on` or `off`")),
        }
    }
}

impl fmt::Display for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
        })
    }
}

words! {
    /// The form of log lines.
    pub enum LogFormat {
        /// For people.
        Text,
        /// One JSON object a line.
        Json,
    }
}

/// A version of TLS, by which older ones are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Tls12, Self::Tls13];

    /// As settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl FromStr for TlsVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|version| version.as_str() == text).copied();
        found.ok_or_else(|| format!("`{text}` is not a version of TLS that is served; write `1.2` or `1.3`"))
    }
}

impl TryFrom<String> for TlsVersion {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TlsVersion> for String {
    fn from(version: TlsVersion) -> String {
        version.as_str().to_owned()
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the DynamoDB client points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// The engine in this process.
    Embedded,
    /// DynamoDB of the configured region.
    Aws,
    /// Another endpoint that speaks the API.
    Url(String),
}

impl TryFrom<String> for Endpoint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "embedded" => Ok(Self::Embedded),
            "aws" => Ok(Self::Aws),
            url if url.starts_with("http://") || url.starts_with("https://") => Ok(Self::Url(text)),
            _ => Err(format!(
                "`{text}` is not a store; write `embedded`, `aws` or a URL like `http://127.0.0.1:8000`"
            )),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Aws => "aws",
            Self::Url(url) => url,
        })
    }
}

/// Where metrics are scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scrape {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl Scrape {
    /// The address, if there is one.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl TryFrom<String> for Scrape {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.parse()) {
            ("off", _) => Ok(Self::Off),
            (_, Ok(address)) => Ok(Self::At(address)),
            _ => Err(format!("`{text}` is not an address; write `127.0.0.1:9464`, or `off`")),
        }
    }
}

impl From<Scrape> for String {
    fn from(scrape: Scrape) -> String {
        scrape.address().map_or_else(|| "off".to_owned(), |address| address.to_string())
    }
}

/// Where the instance's metadata are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MetadataEndpoint {
    /// EC2's own endpoint, if this machine is one of EC2's.
    Auto,
    /// Nowhere.
    Off,
    /// Another endpoint that speaks `IMDSv2`.
    Url(Uri),
}

impl TryFrom<String> for MetadataEndpoint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.parse::<Uri>()) {
            ("auto", _) => Ok(Self::Auto),
            ("off", _) => Ok(Self::Off),
            (_, Ok(uri)) if uri.scheme_str() == Some("http") && uri.host().is_some() => Ok(Self::Url(uri)),
            _ => Err(format!(
                "`{text}` is not an endpoint; write `auto`, `off` or a URL like `http://169.254.169.254`"
            )),
        }
    }
}

impl From<MetadataEndpoint> for String {
    fn from(metadata: MetadataEndpoint) -> String {
        match metadata {
            MetadataEndpoint::Auto => "auto".to_owned(),
            MetadataEndpoint::Off => "off".to_owned(),
            MetadataEndpoint::Url(uri) => uri.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_led_to_its_other_name_and_no_further() {
        for (redirect, name, led) in [
            (SiteRedirect::Www, "shop.example", Some("www.shop.example")),
            (SiteRedirect::Www, "www.shop.example", None),
            (SiteRedirect::Apex, "www.shop.example", Some("shop.example")),
            (SiteRedirect::Apex, "shop.example", None),
            (SiteRedirect::Apex, "www.com", None),
            (SiteRedirect::Off, "www.shop.example", None),
        ] {
            let led_to = redirect.leads(&ServerName::parse(name).unwrap());
            assert_eq!(led_to.as_ref().map(ServerName::as_str), led, "{redirect} {name}");
            assert_eq!(led_to.and_then(|name| redirect.leads(&name)), None, "there it stays");
        }
        assert_eq!("www".parse(), Ok(SiteRedirect::Www));
        assert!("WWW".parse::<SiteRedirect>().unwrap_err().contains("write `www`, `apex` or `off`"));
    }
}
