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
        /// Whether people may sign in with a token at `/console` of the same address, and manage entries by pages.
        console: bool = false,
        /// Requests of one token in a second; beyond it, 429.
        requests_per_second: u32 = 20,
        /// Requests of one token at once, after a time without any; beyond it, 429.
        requests_burst: u32 = 100,
        /// Size of a request's body, from `4KiB` to `1MiB`; beyond it, 413.
        body_size: ByteSize = ByteSize::kib(64),
    }
}
