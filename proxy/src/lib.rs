//! Gatehouse: a reverse proxy for customers' own domains, guarded in the kernel. ARCHITECTURE.md maps the rooms.

pub mod config;
pub mod name;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod transport;
