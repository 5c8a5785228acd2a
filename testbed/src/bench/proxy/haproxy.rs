//! HAProxy as a peer: one thread, TLS in front, kept connections behind, no log.

use std::{fs, path::Path};

use super::subject::{Subject, free_port, pinned};
use crate::authority::Authority;

/// Starts it in front of `upstream`.
pub(super) fn start(folder: &Path, authority: &Authority, upstream: &Subject) -> anyhow::Result<Subject> {
    let files = authority.issue("haproxy", &["localhost"])?;
    let own = free_port()?;
    let pem = folder.join("haproxy.pem");
    fs::write(&pem, fs::read_to_string(&files.chain)? + &fs::read_to_string(&files.key)?)?;
    let file = folder.join("haproxy.conf");
    fs::write(
        &file,
        format!(
            "global\n  nbthread 1\n  maxconn 4096\n  tune.ssl.default-dh-param 2048\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend tls\n  bind 127.0.0.1:{own} ssl crt {pem} alpn h2,http/1.1\n  default_backend origin\n\
             backend origin\n  http-reuse always\n  server upstream 127.0.0.1:{port}\n",
            pem = pem.display(),
            port = upstream.port()
        ),
    )?;
    let mut command = pinned("haproxy")?;
    command.arg("-db").arg("-f").arg(&file);
    Subject::start("haproxy", own, command, &folder.join("haproxy.log"), Some(authority.file().to_owned()))
}
