//! Networks of addresses in CIDR notation (RFC 4632 §3.1), with errors that say which part is wrong.

use std::{fmt, net::IpAddr, ops::Deref};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A network, written `10.0.0.0/8` or `fd00::/8`: an address without host bits, and the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No `/`.
    #[error("a network needs the length of its prefix; write this one address as `{address}/{most}`")]
    NoPrefix {
        /// As written.
        address: IpAddr,
        /// Bits of such an address.
        most: u8,
    },
    /// What stands before the `/`.
    #[error("`{0}` is not an IP address; write it like `10.0.0.0/8` or `fd00::/8`")]
    Address(String),
    /// What stands behind it.
    #[error("`{prefix}` is not the length of a prefix; write 0 to {most} for an {family} address")]
    Prefix {
        /// As written.
        prefix: String,
        /// Bits of such an address.
        most: u8,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// Bits behind the prefix.
    #[error("`{given}` has host bits set; write the network that it lies in, `{network}`")]
    HostBits {
        /// As written.
        given: String,
        /// Without them.
        network: IpNet,
    },
}

impl Network {
    fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address(address.to_owned()))?;
        let (most, family) = if address.is_ipv4() { (32, "IPv4") } else { (128, "IPv6") };
        let prefix = prefix.ok_or(NetworkError::NoPrefix { address, most })?;
        let wrong = || NetworkError::Prefix { prefix: prefix.to_owned(), most, family };
        // `+8` and the like are numbers to `parse`, and to nobody else.
        let is_plain = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let length = prefix.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        let given = IpNet::new(address, length).map_err(|_| wrong())?;
        if given.addr() != given.network() {
            return Err(NetworkError::HostBits { given: text.to_owned(), network: given.trunc() });
        }
        Ok(Self(given))
    }
}

/// Whether `address` is in one of `networks`; one of IPv4 may be written in IPv6 (RFC 4291 §2.5.5.2).
#[must_use]
pub fn contain(networks: &[Network], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

impl Deref for Network {
    type Target = IpNet;
    fn deref(&self) -> &IpNet {
        &self.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_read_what_they_write() {
        for text in ["127.0.0.0/8", "0.0.0.0/0", "192.0.2.7/32", "fd00::/8", "::/0", "2001:db8::1/128"] {
            assert_eq!(Network::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_network_is_named() {
        for (text, told) in [
            ("127.0.0.0/33", "`33` is not the length of a prefix; write 0 to 32 for an IPv4 address"),
            ("fd00::/129", "`129` is not the length of a prefix; write 0 to 128 for an IPv6 address"),
            ("127.0.0.0/", "`` is not the length of a prefix; write 0 to 32"),
            ("127.0.0.0/+8", "`+8` is not the length of a prefix"),
            ("127.0.0.0/255.0.0.0", "`255.0.0.0` is not the length of a prefix"),
            ("127.0.0.0/300", "`300` is not the length of a prefix; write 0 to 32"),
            ("127.0.0.1", "needs the length of its prefix; write this one address as `127.0.0.1/32`"),
            ("::1", "write this one address as `::1/128`"),
            (
                "127.0.0.1/8",
                "`127.0.0.1/8` has host bits set; write the network that it lies in, `127.0.0.0/8`",
            ),
            ("fd00::1/8", "`fd00::1/8` has host bits set; write the network that it lies in, `fd00::/8`"),
            ("10.0.0/8", "`10.0.0` is not an IP address; write it like `10.0.0.0/8`"),
            ("", "`` is not an IP address"),
        ] {
            let error = Network::parse(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
