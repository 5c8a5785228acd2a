//! Settings of the checks that customers' names lead here.

use std::net::{IpAddr, SocketAddr};

use super::{enums::RequiredProof, quantity::Span};
use crate::name::ServerName;

section! {
    /// Whether customers' names lead here: what a new entry of the domains table waits for, and the checks of all entries. They begin with
    /// `verification.edge_names`.
    pub struct VerificationConfig {
        /// What a new entry waits for before it is served: `dns`, that its name leads to the edge; `txt`, the ownership record
        /// `_gatehouse.NAME`, which also keeps a stranger from adding a name that leads here and is nobody's any more; or `none`.
        required: RequiredProof = RequiredProof::None,
        /// Names of the edge, which customers' CNAME records hold; the first is the one that instructions show. Empty, nothing is checked.
        edge_names: Vec<ServerName> = Vec::new() => "[\"edge.example.net\"]",
        /// Addresses of the edge, for names at which a CNAME record cannot be; empty, those that the first of `verification.edge_names` has.
        edge_addresses: Vec<IpAddr> = Vec::new() => "[\"192.0.2.10\", \"2001:db8::10\"]",
        /// DNS servers that are asked; empty, those of `/etc/resolv.conf`. They should not keep answers for longer than records say.
        resolvers: Vec<SocketAddr> = Vec::new() => "[\"192.0.2.53:53\"]",
        /// Time between two checks of a name that is served and was found right, from `10s` to `720h`; others are checked more often.
        interval: Span = Span::secs(24 * 3600),
        /// How long an entry may wait for its proof; beyond it, it is removed. At least `1m`.
        pending_for: Span = Span::secs(7 * 24 * 3600),
        /// How long a name may lead elsewhere before its entry is removed; `0s` keeps it. Answers that do not come say nothing.
        moved_for: Span = Span::secs(7 * 24 * 3600),
        /// Whether instances make the checks, one of them at a time. `false` leaves them to the function `domain-checker`, which looks every
        /// few minutes.
        by_instances: bool = true,
        /// Checks that are begun in a second.
        per_second: u32 = 20,
    }
}
