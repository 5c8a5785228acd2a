//! `cargo xtask bench NAME`: measurements, published in `target/bench`.

use clap::ValueEnum;
use xshell::cmd;

use crate::{build_ebpf, cost, package, setup, shell};

/// What is measured.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// CPU per request and per connection, beside nginx and the floor
    Proxy,
    /// The same, throughput, latency and memory beside nginx, HAProxy and Caddy
    Peers,
    /// Instructions in user space per request and per connection, beside nginx: nearly the same figure on a busy machine
    Instructions,
    /// Certificates: first handshakes, the table, look-ups in memory and what it holds, a thousand new names at once beside Caddy, a cache
    /// smaller than the table
    Certificates,
    /// Nanoseconds per packet of the guard
    Guard,
    /// Lists, searches, new names and changes with many domains; a start with a million of them, and what they cost at rest
    Domains,
}

/// Builds what is shipped, and measures.
pub(crate) fn run(name: Name) -> anyhow::Result<()> {
    let shell = shell()?;
    setup::require_root(&shell, "bench")?;
    setup::run(&shell, setup::Purpose::Bench)?;
    build_ebpf::run()?;
    // Each by itself: built together they share features, and the testbed's tokio has a clock that tests can stop, which costs each request.
    let gatehouse = package::program(&shell)?;
    cmd!(shell, "cargo build --release --package testbed").quiet().run()?;
    let testbed = shell.current_dir().join("target/release/testbed");
    match name {
        Name::Proxy => cmd!(shell, "{testbed} bench-proxy --binary {gatehouse}").quiet().run()?,
        Name::Peers => cmd!(shell, "{testbed} bench-peers --binary {gatehouse}").quiet().run()?,
        Name::Instructions => {
            cmd!(shell, "{testbed} bench-instructions --binary {gatehouse}").quiet().run()?;
        }
        Name::Certificates => {
            cmd!(shell, "cargo bench --package gatehouse --bench cached_certificate").quiet().run()?;
            cmd!(shell, "{testbed} bench-certificates --binary {gatehouse}").quiet().run()?;
        }
        Name::Guard => cmd!(shell, "{testbed} bench-guard").quiet().run()?,
        Name::Domains => {
            let price = cost::million_reads(&shell)?.to_string();
            cmd!(shell, "{testbed} bench-domains --binary {gatehouse} --million-reads {price}")
                .quiet()
                .run()?;
        }
    }
    Ok(())
}
