//! Settings of the control plane.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::enums::Scrape;

section! {
    /// Metrics and the control socket.
    pub struct ControlConfig {
        /// Address of the HTTP server for Prometheus (`/metrics`); `off` opens no port.
        metrics: Scrape = Scrape::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
        /// Address of an HTTP server that other servers of the same operator ask which names are served (`/ask?domain=NAME`: 200 or 404;
        /// 503 when nothing can be said now), as Caddy does. It has no login: bind it where they alone reach it. Absent, no port is open.
        ask: Option<SocketAddr> = None => "\"127.0.0.1:9465\"",
        /// Path of the Unix socket for `gatehouse status` and other commands; absent, `control.sock` in the state directory.
        socket: Option<PathBuf> = None => "\"/run/gatehouse/control.sock\"",
    }
}
