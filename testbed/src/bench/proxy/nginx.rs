//! nginx as the upstream of all subjects, and as the peer they are held against.
//!
//! The peer does what Gatehouse does and no more: the same fields to the upstream over kept connections, one session
//! ticket, bodies streamed both ways and never spooled to disk, no access log, one worker on the core Gatehouse's has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{client::BODY_BYTES, subject::Subject};
use crate::{
    authority::Authority,
    bench::proxy::subject::{first_core, free_port},
};

/// A configuration, the port it listens on, and who signs what it presents.
pub(super) struct Nginx {
    pub(super) port: u16,
    pub(super) text: String,
    pub(super) roots: Option<PathBuf>,
}

impl Nginx {
    /// Answers `/` at once, `/body` with a large file, and `/upload` once it has read the request's body whole.
    pub(super) fn upstream(folder: &Path) -> anyhow::Result<Self> {
        fs::write(folder.join("body"), vec![b'x'; BODY_BYTES])?;
        let port = free_port()?;
        let server = format!(
            "listen 127.0.0.1:{port}; sendfile on; root {folder};\n\
             location / {{ return 200 'ok'; }}\n\
             location = /body {{ }}\n\
             location = /upload {{ client_max_body_size 0; client_body_buffer_size {BODY_BYTES};\n\
             proxy_pass_request_body off; proxy_set_header Content-Length '';\n\
             proxy_pass http://127.0.0.1:{port}/; }}",
            folder = folder.display()
        );
        Ok(Self { port, text: text(port, "", &server, ""), roots: None })
    }

    /// Terminates TLS and passes on to `upstream`. It presents a P-256 leaf and its root, as Gatehouse's own issuer does.
    pub(super) fn peer(authority: &Authority, upstream: &Subject) -> anyhow::Result<Self> {
        let files = authority.issue("peer", &["localhost"])?;
        let chain = fs::read_to_string(&files.chain)? + &fs::read_to_string(authority.file())?;
        fs::write(&files.chain, chain)?;
        let port = free_port()?;
        let server = format!(
            "listen 127.0.0.1:{port} ssl http2 backlog=4096; server_name localhost;\n\
             ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_conf_command NumTickets 1;\n\
             client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;\n\
             location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n\
             proxy_set_header Host $proxy_host; proxy_set_header User-Custom-Domain $host;\n\
             proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;\n\
             proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port; }}",
            chain = files.chain.display(),
            key = files.key.display()
        );
        let origin = format!(
            "upstream origin {{ server 127.0.0.1:{}; keepalive 512; keepalive_requests 1000000; }}",
            upstream.port()
        );
        let affinity = format!("worker_cpu_affinity 1{};", "0".repeat(first_core()?));
        let text = text(port, &affinity, &server, &origin);
        Ok(Self { port, text, roots: Some(authority.file().to_owned()) })
    }
}

fn text(port: u16, affinity: &str, server: &str, upstream: &str) -> String {
    format!(
        "worker_processes 1; {affinity} pid nginx-{port}.pid; error_log stderr warn;\n\
         events {{ worker_connections 16384; }}\n\
         http {{ access_log off; keepalive_requests 1000000; {upstream}\nserver {{ {server} }} }}\n"
    )
}
