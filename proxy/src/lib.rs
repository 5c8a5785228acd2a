//! Gatehouse: a reverse proxy for customers' own domains, guarded in the kernel. ARCHITECTURE.md maps the rooms.

pub mod certificates;
pub mod config;
pub mod domains;
pub mod forward;
pub mod guard;
pub mod name;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod worker;
