//! Gatehouse: a reverse proxy for customers' own domains, guarded in the kernel. ARCHITECTURE.md maps the modules.

pub mod allocator;
mod aws;
mod backoff;
pub mod certificates;
pub mod cleartext;
pub mod cli;
mod client_stream;
mod clock;
pub mod config;
pub mod control;
pub mod domains;
pub mod ec2;
pub mod forward;
pub mod guard;
mod http1;
mod keyed_counts;
pub mod name;
pub mod phase;
pub mod run;
mod single_flight;
pub mod ssm;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod worker;
