//! Load that wrk does not make: handshakes in full (wrk resumes sessions), and large bodies both ways.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustls::{ClientConfig, client::Resumption};

use super::subject::Subject;
use crate::{
    authority,
    keep_alive_client::{Cleartext, Kept},
};

/// Makes exchanges with one subject.
pub(super) struct Client {
    to: SocketAddr,
    /// Absent where it speaks cleartext.
    config: Option<Arc<ClientConfig>>,
}

enum Connection {
    Tls(Box<Kept>),
    Cleartext(Kept<Cleartext>),
}

impl Connection {
    fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        match self {
            Self::Tls(kept) => kept.exchange(request),
            Self::Cleartext(kept) => kept.exchange(request),
        }
    }
}

/// What one exchange is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Exchange {
    OnNewConnection,
    OnKeptConnection,
    /// With the fields that a browser sends.
    OfBrowser,
    Download,
    Upload,
}

impl Client {
    pub(super) fn new(subject: &Subject) -> anyhow::Result<Self> {
        let config = subject.roots().map(|roots| {
            let roots = authority::roots(roots)?;
            let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            config.resumption = Resumption::disabled();
            anyhow::Ok(Arc::new(config))
        });
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, subject.port()));
        Ok(Self { to, config: config.transpose()? })
    }

    /// One exchange on a connection of its own: the answer's status and body.
    pub(super) fn exchange(&self, request: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        self.connect()?.exchange(request)
    }

    /// One exchange after the other on each of some threads for `duration`; how many there were.
    pub(super) fn load(&self, exchange: Exchange, duration: Duration) -> anyhow::Result<u64> {
        let until = Instant::now() + duration;
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|_| scope.spawn(move || self.exchange_until(until, exchange))).collect();
            threads.into_iter().try_fold(0, |sum, thread| {
                let count = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
                anyhow::Ok(sum + count)
            })
        })
    }

    fn exchange_until(&self, until: Instant, exchange: Exchange) -> anyhow::Result<u64> {
        self.exchange_while(exchange, |_| Instant::now() < until)
    }

    /// One exchange after the other as long as `goes_on`, which is told how many there were; how many there were in the end.
    pub(super) fn exchange_while(
        &self,
        exchange: Exchange,
        goes_on: impl Fn(u64) -> bool,
    ) -> anyhow::Result<u64> {
        let request = exchange.request();
        let mut connection = self.connect()?;
        let mut count = 0;
        while goes_on(count) {
            if exchange == Exchange::OnNewConnection && count > 0 {
                connection = self.connect()?;
            }
            let (status, _) = connection.exchange(&request)?;
            ensure!(status == 200, "answered with {status}");
            count += 1;
        }
        Ok(count)
    }

    fn connect(&self) -> anyhow::Result<Connection> {
        Ok(match &self.config {
            Some(config) => {
                Connection::Tls(Kept::connect_with(self.to, "localhost", Arc::clone(config))?.into())
            }
            None => Connection::Cleartext(Kept::cleartext(self.to, "localhost")?),
        })
    }
}

impl Exchange {
    fn request(self) -> Vec<u8> {
        let head = match self {
            Self::OnNewConnection => "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            Self::OnKeptConnection => "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Self::OfBrowser => BROWSER,
            Self::Download => "GET /body HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Self::Upload => {
                let head = format!(
                    "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
                );
                return [head.into_bytes(), vec![b'x'; BODY_BYTES]].concat();
            }
        };
        head.as_bytes().to_vec()
    }
}

/// What a large body is.
pub(super) const BODY_BYTES: usize = 16 << 20;
const THREADS: usize = 4;
/// As Chromium 130 asks for a page it was at before.
const BROWSER: &str = concat!(
    "GET /posts/2026/11/on-proxies?page=2 HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n",
    "Cache-Control: max-age=0\r\n",
    "sec-ch-ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n",
    "sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n",
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n",
    "Referer: https://localhost/posts\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n",
    "Cookie: session=7f3c1a9e5b2d4c68; theme=dark; consent=analytics%2Cpreferences\r\n",
    "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT\r\n\r\n",
);
