//! Settings of the API for programs.

use std::net::SocketAddr;

use super::quantity::ByteSize;
use crate::name::ServerName;

section! {
    /// The API by which programs manage the entries of the domains table, with tokens that `gatehouse token create` makes.
    pub struct ApiConfig {
        /// Address of the API; absent, there is none.
        listen: Option<SocketAddr> = None => "\"127.0.0.1:9466\"",
        /// Name whose certificate the API presents: one that is served as others are, with an entry or a certificate of your own. Absent,
        /// the API speaks cleartext, which only a loopback address may.
        name: Option<ServerName> = None => "\"api.example.net\"",
        /// URL by which customers reach the paths `/setup/` of the API, for links that show which DNS records a name needs: of your own site,
        /// which passes them on, like `https://www.example.com`. Absent, that of `api.name` or `api.listen`.
        setup_url: Option<String> = None => "\"https://www.example.com\"",
        /// Whether people may sign in with a token at `/console` of the same address, and manage entries by pages.
        console: bool = false,
        /// Requests of one token, or by setup links of one entry, in a second; beyond it, 429.
        requests_per_second: u32 = 20,
        /// The same at once, after a time without any; beyond it, 429.
        requests_burst: u32 = 100,
        /// Size of a request's body, from `4KiB` to `1MiB`; beyond it, 413.
        body_size: ByteSize = ByteSize::kib(64),
    }
}

impl ApiConfig {
    /// Before `/setup/` in the links of customers; absent, there is no API that would answer them.
    #[must_use]
    pub fn setup_base(&self) -> Option<String> {
        let listen = self.listen?;
        Some(match (&self.setup_url, &self.name) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(name)) if listen.port() == HTTPS => format!("https://{name}"),
            (None, Some(name)) => format!("https://{name}:{}", listen.port()),
            (None, None) => format!("http://{listen}"),
        })
    }
}

const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_where_customers_reach_the_api() {
        for (listen, name, url, base) in [
            (Some("127.0.0.1:9466"), None, None, Some("http://127.0.0.1:9466")),
            (Some("[::1]:9466"), None, None, Some("http://[::1]:9466")),
            (Some("0.0.0.0:9443"), Some("api.example.net"), None, Some("https://api.example.net:9443")),
            (Some("0.0.0.0:443"), Some("api.example.net"), None, Some("https://api.example.net")),
            (
                Some("0.0.0.0:443"),
                Some("api.example.net"),
                Some("https://a.example/x/"),
                Some("https://a.example/x"),
            ),
            (None, None, Some("https://a.example"), None),
        ] {
            let config = ApiConfig {
                listen: listen.map(|text| text.parse().unwrap()),
                name: name.map(|text| ServerName::parse(text).unwrap()),
                setup_url: url.map(str::to_owned),
                ..ApiConfig::default()
            };
            assert_eq!(config.setup_base().as_deref(), base, "{listen:?} {name:?} {url:?}");
        }
    }
}
