//! The server that Gatehouse replaces, at instance A's address: Debian's Caddy, which keeps files where a fleet's has a table.

use std::{fs, path::Path};

use crate::{
    edge::Edge,
    gatehouse::Place,
    process::{self, Process},
};

/// What its Caddyfile says beyond where certificates come from and where they are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Site<'a> {
    /// Lines of the global options.
    pub options: &'a str,
    /// The addresses of the one site, which answers each request with `caddy`.
    pub address: &'a str,
    /// Lines of the site.
    pub lines: &'a str,
}

/// Starts it with its storage in `files`, and does not wait.
pub fn start(edge: &Edge, files: &Path, site: &Site<'_>) -> anyhow::Result<Process> {
    let Site { options, address, lines } = site;
    let config = edge.folder().join("Caddyfile");
    let (directory, roots) = (edge.ca.directory(), edge.ca.directory_roots().display());
    let text = format!(
        "{{\n admin off\n storage file_system {}\n acme_ca {directory}\n acme_ca_root {roots}\n email operator@example.com\n{options} \
         default_bind {}\n}}\n{address} {{\n{lines} respond \"caddy\"\n}}\n",
        files.display(),
        Edge::https(Place::A).ip(),
    );
    fs::write(&config, text)?;
    let mut command = process::command("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
    command.env("HOME", edge.folder());
    Process::start(&edge.network.edge, "caddy", command, edge.folder())
}
