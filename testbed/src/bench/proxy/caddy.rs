//! Caddy as a peer: one processor, TLS in front, kept connections behind, no log, nothing of its own certificates.

use std::{fs, path::Path};

use super::subject::{Subject, free_port, pinned};
use crate::authority::Authority;

/// Starts it in front of `upstream`.
pub(super) fn start(folder: &Path, authority: &Authority, upstream: &Subject) -> anyhow::Result<Subject> {
    let files = authority.issue("caddy", &["localhost"])?;
    let own = free_port()?;
    let file = folder.join("Caddyfile");
    fs::write(
        &file,
        format!(
            "{{\n admin off\n auto_https disable_redirects\n servers {{\n protocols h1 h2\n }}\n \
             log {{\n output discard\n }}\n}}\n\
             https://localhost:{own} {{\n bind 127.0.0.1\n tls {chain} {key}\n\
             reverse_proxy 127.0.0.1:{port} {{\n transport http {{\n keepalive_idle_conns_per_host 512\n }}\n }}\n}}\n",
            chain = files.chain.display(),
            key = files.key.display(),
            port = upstream.port()
        ),
    )?;
    let mut command = pinned("caddy")?;
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
    command.env("HOME", folder).env("GOMAXPROCS", "1");
    Subject::start("caddy", own, command, &folder.join("caddy.log"), Some(authority.file().to_owned()))
}
