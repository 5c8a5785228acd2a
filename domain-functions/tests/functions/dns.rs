//! A DNS server of this test's own: `pebble-challtestsrv`, which is told its records over HTTP.

use std::{net::Ipv4Addr, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

pub(crate) struct Dns {
    pub(crate) address: String,
    management: String,
    _server: Child,
}

impl Dns {
    /// Every name has an address of loopback, at which no check may look, until told otherwise.
    pub(crate) async fn start() -> Self {
        let [address, management] = [free().await, free().await];
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-dns01", &address, "-management", &management, "-defaultIPv4", "127.0.0.9"]);
        command.args(["-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let dns = Self { address, management, _server: command.spawn().unwrap() };
        for _ in 0..100 {
            if TcpStream::connect(&dns.management).await.is_ok() {
                return dns;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("pebble-challtestsrv does not answer at {}", dns.management);
    }

    /// Makes `name` an alias of `target`.
    pub(crate) async fn alias(&self, name: &str, target: &str) {
        let body = json!({ "host": format!("{name}."), "target": format!("{target}.") });
        self.tell("/set-cname", &body).await;
    }

    async fn tell(&self, call: &str, body: &Value) {
        let mut stream = TcpStream::connect(&self.management).await.unwrap();
        let body = body.to_string();
        let length = body.len();
        let request = format!(
            "POST {call} HTTP/1.1\r\nhost: dns\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{call}: {answer}");
    }
}

/// An address of loopback that nobody listens at.
pub(crate) async fn free() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().to_string()
}
