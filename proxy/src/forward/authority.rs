//! The host that a request names.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::{HeaderValue, Uri, header::InvalidHeaderValue};

use crate::name::ServerName;

/// `Host` or `:authority`, parsed (RFC 9110 §7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) name: ServerName,
    /// Absent where the scheme's own port was written or implied.
    pub(crate) port: Option<u16>,
}

impl Authority {
    /// Reads `name[:port]`; `default_port` is the scheme's own.
    pub(crate) fn parse(bytes: &[u8], default_port: u16) -> Option<Self> {
        let (name, port) = split(bytes)?;
        Self::of(ServerName::parse(name).ok()?, port, default_port)
    }

    /// The same, quicker where the name is `expected`, as the Host of nearly every request is.
    pub(crate) fn parse_expected(bytes: &[u8], default_port: u16, expected: &ServerName) -> Option<Self> {
        let (name, port) = split(bytes)?;
        // User information (RFC 9110 §4.2.4) holds an `@`, which no name does.
        let name = if expected.as_str() == name { expected.clone() } else { ServerName::parse(name).ok()? };
        Self::of(name, port, default_port)
    }

    /// Reads `address[:port]` as `name`; an IPv6 address is in brackets (RFC 3986 §3.2.2).
    pub(crate) fn parse_address(bytes: &[u8], default_port: u16, name: &ServerName) -> Option<Self> {
        let (host, port) = match bytes {
            [.., b']'] => (std::str::from_utf8(bytes).ok()?, None),
            _ => split(bytes)?,
        };
        match host.strip_prefix('[') {
            Some(host) => drop(host.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
            None => drop(host.parse::<Ipv4Addr>().ok()?),
        }
        Self::of(name.clone(), port, default_port)
    }

    fn of(name: ServerName, port: Option<u16>, default_port: u16) -> Option<Self> {
        (port != Some(0)).then(|| Self { name, port: port.filter(|port| *port != default_port) })
    }

    /// Appends it as a field has it.
    pub(crate) fn put(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(self.name.as_str().as_bytes());
        if let Some(port) = self.port {
            text.push(b':');
            text.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
    }

    /// What `target` asks for, as the site here is asked for it over TLS.
    pub(crate) fn https_url(&self, target: &Uri) -> String {
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        // RFC 9112 §3.2.4: `OPTIONS *` has no address, but the site has.
        format!("https://{self}{}", if path == "*" { "/" } else { path })
    }

    /// As a field's value.
    pub(crate) fn value(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        match self.port {
            Some(_) => HeaderValue::try_from(self.to_string()),
            None => HeaderValue::from_str(self.name.as_str()),
        }
    }
}

/// `host[:port]` in its parts.
fn split(bytes: &[u8]) -> Option<(&str, Option<u16>)> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
    match text.rsplit_once(':') {
        None => Some((text, None)),
        // RFC 3986 §3.2.3: an empty port is the scheme's own.
        Some((host, "")) => Some((host, None)),
        Some((host, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(digits.parse().ok()?)))
        }
        Some(_) => None,
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod properties {
        use super::*;

        proptest::proptest! {
            #[test]
            fn whatever_a_stranger_writes_is_read_once_or_refused(bytes: Vec<u8>, name in "[a-z0-9.:@-]{0,40}") {
                for given in [bytes.as_slice(), name.as_bytes()] {
                    let read = Authority::parse(given, 443);
                    let again = read.as_ref().map(|host| Authority::parse(host.to_string().as_bytes(), 443));
                    proptest::prop_assert!(again.is_none_or(|again| again == read));
                }
            }
        }
    }

    #[test]
    fn hosts_are_names_with_at_most_a_port() {
        for (given, read) in [
            ("shop.example", Some("shop.example")),
            ("Shop.Example.:443", Some("shop.example")),
            ("shop.example:", Some("shop.example")),
            ("shop.example:8443", Some("shop.example:8443")),
            ("", None),
            (":443", None),
            ("192.0.2.1", None),
            ("[2001:db8::1]:443", None),
            ("user@shop.example", None),
            ("shop.example, other.example", None),
            ("shop.example:0", None),
            ("shop.example:65536", None),
            ("shop.example:+80", None),
            ("shop.example/path", None),
            ("bücher.example", None),
        ] {
            let authority = Authority::parse(given.as_bytes(), 443).map(|host| host.to_string());
            assert_eq!(authority.as_deref(), read, "{given:?}");
        }
        assert_eq!(Authority::parse(&[0xff, 0xfe], 443), None);
        let expected = ServerName::parse("shop.example").unwrap();
        for given in ["shop.example", "shop.example:8443", "SHOP.example", "other.example", "shop.example:0"]
        {
            let quicker = Authority::parse_expected(given.as_bytes(), 443, &expected);
            assert_eq!(quicker, Authority::parse(given.as_bytes(), 443), "{given}");
            let written = |host: Authority| {
                let mut text = Vec::new();
                host.put(&mut text);
                (host.value().unwrap() == host.to_string(), text == host.to_string().as_bytes())
            };
            assert!(quicker.is_none_or(|host| written(host) == (true, true)));
        }
    }
}
