//! A load client that behaves as HTTP asks: it follows GOAWAY and `Connection: close`, and sends a request again on a fresh
//! connection when the one it was given to had been closed while idle (RFC 9112 §9.3.1, RFC 9113 §8.7).

use std::{
    cell::Cell,
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{http1, http2},
    header,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, sync::watch, task::LocalSet};
use tokio_rustls::TlsConnector;

use crate::{authority, namespace::Namespace};

/// What load to make.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where to.
    pub to: SocketAddr,
    /// For which name.
    pub name: String,
    /// For which path.
    pub path: String,
    /// Over which protocol.
    pub protocol: Protocol,
    /// Over how many connections at once.
    pub connections: usize,
    /// After how many requests a connection is given up for a new one.
    pub requests_per_connection: u64,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// Its name in ALPN.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// What the load saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Requests answered with 200 and a whole body.
    pub served: u64,
    /// Requests that were not, at most 1,000 of them.
    pub failures: Vec<Failure>,
    /// Connections made.
    pub connections: u64,
    /// How long each of these took, its connection's making included where it had to be made.
    pub durations: Vec<Duration>,
    /// Requests sent again.
    pub retries: u64,
    /// Connections given up because the server said so: `Connection: close`, or GOAWAY.
    pub told: u64,
}

/// A request that was not served.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Why.
    pub what: String,
    /// When its connection was begun.
    pub connected: Instant,
    /// When it failed.
    pub at: Instant,
}

/// How its clients behave beyond the protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// How long they wait for a connection or an answer; for ever where it is not said.
    pub patience: Option<Duration>,
    /// How long each of them pauses after an answer.
    pub pause: Duration,
}

impl Seen {
    /// The time within which `percent` of a hundred requests were served; zero of none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut durations = self.durations.clone();
        durations.sort();
        let last = durations.len().saturating_sub(1);
        durations.get(last * percent / 100).copied().unwrap_or_default()
    }
}

/// Load under way.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<Option<Duration>>,
    seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// Starts it from inside `namespace`, trusting `roots`.
    pub fn start(namespace: &Namespace, roots: &Path, plan: Plan) -> anyhow::Result<Self> {
        Self::start_with(namespace, roots, plan, Manner::default())
    }

    /// The same by clients of this `manner`.
    pub fn start_with(
        namespace: &Namespace,
        roots: &Path,
        plan: Plan,
        manner: Manner,
    ) -> anyhow::Result<Self> {
        let mut config =
            ClientConfig::builder().with_root_certificates(authority::roots(roots)?).with_no_client_auth();
        config.alpn_protocols = vec![plan.protocol.alpn().to_vec()];
        let (stop, stopping) = watch::channel(None);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let client = Client {
            plan,
            manner,
            connector: TlsConnector::from(Arc::new(config)),
            seen: Arc::clone(&seen),
            stopping,
        };
        let thread = namespace.thread(move || client.run())?;
        Ok(Self { stop, seen, thread: Some(thread) })
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes on, opening new connections, for `lag`; then finishes what is in flight and tells what was seen.
    pub fn stop_after(mut self, lag: Duration) -> anyhow::Result<Seen> {
        self.stop.send_replace(Some(lag));
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow::anyhow!("the load's thread panicked"))??;
        }
        Ok(self.seen())
    }
}

#[derive(Clone)]
struct Client {
    plan: Plan,
    manner: Manner,
    connector: TlsConnector,
    seen: Arc<Mutex<Seen>>,
    stopping: watch::Receiver<Option<Duration>>,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    /// With whether the server has ended the connection in an orderly way.
    Http2(http2::SendRequest<Empty<Bytes>>, Rc<Cell<bool>>),
}

impl Client {
    fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (over, ended) = watch::channel(false);
        let tasks = LocalSet::new();
        let mut stopping = self.stopping.clone();
        tasks.spawn_local(async move {
            // A dropped `Load` stops at once.
            let lag = stopping.wait_for(Option::is_some).await.map_or(None, |lag| *lag);
            tokio::time::sleep(lag.unwrap_or_default()).await;
            over.send_replace(true);
        });
        for _ in 0..self.plan.connections {
            tasks.spawn_local(self.clone().make_requests(ended.clone()));
        }
        runtime.block_on(tasks);
        Ok(())
    }

    async fn make_requests(self, over: watch::Receiver<bool>) {
        let mut again = false;
        while !*over.borrow() || again {
            let begun = Instant::now();
            let mut sender = match self.in_time(self.connect()).await {
                Ok(sender) => sender,
                Err(error) => {
                    self.fail(format!("no connection: {error:#}"), begun);
                    tokio::task::yield_now().await;
                    self.pause(&over).await;
                    continue;
                }
            };
            again = self.use_up(&mut sender, &over, again, begun).await;
        }
    }

    /// Requests over one connection until it is to be given up; whether the last one has to be sent again.
    async fn use_up(
        &self,
        sender: &mut Sender,
        over: &watch::Receiver<bool>,
        mut again: bool,
        connected: Instant,
    ) -> bool {
        let mut begun = connected;
        for number in 0..self.plan.requests_per_connection {
            if *over.borrow() && !again {
                return false;
            }
            again = false;
            match self.in_time(self.request(sender, begun)).await {
                Ok(Reuse::Yes) => {
                    self.pause(over).await;
                    begun = Instant::now();
                }
                Ok(Reuse::No) => {
                    self.note(|seen| seen.told += 1);
                    return false;
                }
                Err(error) if number > 0 && was_not_processed(&error) => {
                    let told = sender.was_told_to_go_away();
                    self.note(|seen| {
                        seen.retries += 1;
                        seen.told += u64::from(told);
                    });
                    return true;
                }
                Err(error) => {
                    self.fail(format!("request {number} of its connection: {error:#}"), connected);
                    return false;
                }
            }
        }
        false
    }

    async fn request(&self, sender: &mut Sender, begun: Instant) -> anyhow::Result<Reuse> {
        let uri = match sender {
            Sender::Http1(_) => self.plan.path.clone(),
            Sender::Http2(..) => format!("https://{}{}", self.plan.name, self.plan.path),
        };
        let mut request = Request::get(uri);
        if matches!(sender, Sender::Http1(_)) {
            request = request.header(header::HOST, &self.plan.name);
        }
        let response = sender.send(request.body(Empty::new())?).await?;
        let status = response.status();
        let close = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        response.into_body().collect().await.context("the body broke off")?;
        ensure!(status == 200, "{status}");
        self.note(|seen| {
            seen.served += 1;
            seen.durations.push(begun.elapsed());
        });
        Ok(if close { Reuse::No } else { Reuse::Yes })
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let stream = TcpStream::connect(self.plan.to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.plan.name.clone())?;
        let stream = TokioIo::new(self.connector.connect(name, stream).await?);
        self.note(|seen| seen.connections += 1);
        Ok(match self.plan.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::task::spawn_local(connection);
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                // RFC 9113 §6.8: hyper ends a connection without an error only upon GOAWAY with NO_ERROR.
                let told = Rc::new(Cell::new(false));
                let tell = Rc::clone(&told);
                tokio::task::spawn_local(async move { tell.set(connection.await.is_ok()) });
                Sender::Http2(sender, told)
            }
        })
    }

    async fn in_time<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        match self.manner.patience {
            None => work.await,
            Some(patience) => tokio::time::timeout(patience, work)
                .await
                .with_context(|| format!("nothing within {patience:?}"))?,
        }
    }

    /// Cut short where the load is over.
    async fn pause(&self, over: &watch::Receiver<bool>) {
        if !self.manner.pause.is_zero() {
            let _ = tokio::time::timeout(self.manner.pause, over.clone().wait_for(|over| *over)).await;
        }
    }

    fn fail(&self, what: String, connected: Instant) {
        let failure = Failure { what, connected, at: Instant::now() };
        self.note(|seen| {
            if seen.failures.len() < MAX_FAILURES {
                seen.failures.push(failure);
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

enum Reuse {
    Yes,
    No,
}

impl Sender {
    fn was_told_to_go_away(&self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(_, told) => told.get(),
        }
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender, _) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// Whether a request on a used connection may be sent again: it was never taken, or not a byte of an answer came.
fn was_not_processed(error: &anyhow::Error) -> bool {
    let Some(error) = error.downcast_ref::<hyper::Error>() else { return false };
    // RFC 9113 §6.8 and §8.7: streams above the last one of a GOAWAY, and refused ones, were not processed.
    let told = format!("{error:?}");
    let unprocessed = ["GoAway", "REFUSED_STREAM"].iter().any(|word| told.contains(word));
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || unprocessed
}

const MAX_FAILURES: usize = 1_000;
