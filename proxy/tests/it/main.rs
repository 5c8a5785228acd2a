//! Gatehouse against a real kernel, a real CA, a DynamoDB API, curl and openssl: one file per behaviour.
//! Not here: the surroundings, which `testbed` makes. Needs root; a case that cannot run fails and says why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests unwrap, and fixtures are tests"
)]

mod fixture;

mod acme;
mod api;
mod caddy;
mod challenges;
mod circuit_breaking;
mod compression;
mod console;

mod domain_changes;
mod drain;
mod encrypted_keys;
mod events;
mod fail_open;
mod first_handshake;
mod fleet;
mod fleet_simulation;
mod floods;
mod foreign_names;
mod grpc;
mod guard_program;
mod guard_sources;
mod guard_userspace;
mod hostile_requests;
mod load_balancers;
mod local_copy;
mod names_and_addresses;
mod origins;
mod outages;
mod own_certificates;
mod privileges;
mod protocols;
mod proxy_headers;
mod random_names;
mod session_tickets;
mod single_order;
mod slow_clients;
mod soak;
mod stacks;
mod standalone;
mod tenants;
mod unix_sockets;
mod upgrades;
mod upstream_tls;
mod verification;
mod wildcard_certificates;
mod www_pairs;
