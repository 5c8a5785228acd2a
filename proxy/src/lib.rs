//! Gatehouse: a reverse proxy for customers' own domains, guarded in the kernel. ARCHITECTURE.md maps the rooms.

pub mod allocator;
mod aws;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod control;
pub mod domains;
pub mod forward;
pub mod guard;
pub mod instance;
mod keyed_counts;
pub mod name;
pub mod parameter;
pub mod phase;
pub mod run;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod worker;
