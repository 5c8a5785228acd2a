//! A whole edge on one machine: namespaces, a CA, a table, an upstream, clients, and Gatehouse between them.
//! Not here: what a case asserts (`proxy/tests/it`), the product itself, which is only ever started as a process.
//! Invariants: everything made is a value whose drop removes it; sockets exist only inside our own namespaces or on
//! loopback; every wait has a deadline and says what it saw last (`a_wait_that_fails_says_what_it_saw`).

pub mod authority;
pub mod bench;
pub mod caddy;
pub mod cleartext;
pub mod conformance;
pub mod curl;
pub mod edge;
pub mod fleet_simulation;
pub mod floor;
pub mod frame;
pub mod gatehouse;
pub mod grpc;
pub mod hello;
pub mod keep_alive_client;
pub mod kms;
pub mod load;
pub mod memory_group;
pub mod metadata;
pub mod metrics;
mod moto;
pub mod namespace;
pub mod network;
pub mod non_reader;
pub mod origin;
pub mod pebble;
pub mod process;
pub mod relay;
pub mod route53;
pub mod service;
pub mod soak;
pub mod table;
pub mod tunnel;
pub mod upgrades;
pub mod upstream;
pub mod wait;
