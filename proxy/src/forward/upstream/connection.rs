//! One HTTP/1.1 connection to an upstream, and the task that drives it.

use std::{
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{Method, Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use tokio::task::JoinHandle;

use super::{
    Route,
    demand::{Demand, OnDemand},
    failure::{Retry, UpstreamFailure},
    permits::UpstreamPermit,
    pool::ConnectionPool,
};
use crate::forward::{
    body::{Upload, UploadProgress, UploadState},
    min_rate::now,
};

/// An open connection. Dropping it closes it, whatever is in flight.
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    driver: JoinHandle<()>,
    demand: Demand,
    peer: SocketAddr,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An exchange that came to no answer.
pub(super) struct Unanswered {
    pub(super) failure: UpstreamFailure,
    /// The request once more, when it may be sent again.
    pub(super) request: Option<Box<Request<Upload>>>,
}

impl Unanswered {
    /// The request, if it may go out once more.
    pub(super) fn retry(self) -> Result<Request<Upload>, UpstreamFailure> {
        match (self.failure.retry(), self.request) {
            (Retry::OnFreshConnection, Some(request)) => Ok(*request),
            (Retry::OnFreshConnection | Retry::Never, _) => Err(self.failure),
        }
    }
}

impl Connection {
    /// Speaks HTTP/1.1 over `stream`, whose other end is `peer`.
    pub(super) async fn open<S>(stream: S, peer: SocketAddr) -> Result<Self, UpstreamFailure>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    {
        let demand = Demand::new();
        let mut builder = http1::Builder::new();
        builder.max_headers(RESPONSE_FIELDS).max_buf_size(READ_BUFFER);
        let stream = OnDemand::new(stream, demand.clone());
        let (sender, connection) = builder.handshake(stream).await.map_err(UpstreamFailure::Closed)?;
        let driver = tokio::task::spawn_local(async move {
            // How it ended is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { sender, driver, demand, peer })
    }

    /// Whether a request can go out at once.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Cancel safety
    /// A dropped future drops the upload; the connection is unusable then, and closed by its own drop.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Upload>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Unanswered> {
        let (progress, copy) = (request.body().progress(), repeated(&request));
        let sending = self.sender.try_send_request(request);
        match within(limit, &progress, sending).await {
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Err(Unanswered { failure: UpstreamFailure::Switched, request: None })
            }
            Ok(Ok(response)) => {
                self.demand.close();
                Ok(response)
            }
            Ok(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                Err(Unanswered {
                    failure: blame(error.into_error(), progress.state()),
                    request: unsent.or(copy),
                })
            }
            Err(UpstreamLate) => Err(Unanswered { failure: UpstreamFailure::ResponseTimeout, request: None }),
        }
    }
}

/// A connection that an answer's body is read from.
pub(in crate::forward) struct PooledConnection {
    pub(super) connection: Connection,
    pub(super) pool: Rc<ConnectionPool>,
    pub(super) route: Route,
    pub(super) upload: Rc<UploadProgress>,
    pub(super) _place: UpstreamPermit,
}

impl PooledConnection {
    /// Whom the answer is from.
    pub(in crate::forward) fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    /// How far the connection is read from.
    pub(in crate::forward) fn demand(&self) -> Demand {
        self.connection.demand.clone()
    }

    /// The answer has been read to its end: the connection can carry another, unless it still carries the request.
    pub(in crate::forward) fn release(self, now: Instant) {
        if let UploadState::Complete { .. } = self.upload.state() {
            self.connection.demand.reset();
            self.pool.put(self.route, self.connection, now);
        }
    }
}

/// RFC 9110 §9.2.2: a proxy repeats by itself only what is idempotent; a body that went out cannot be had again.
fn repeated(request: &Request<Upload>) -> Option<Box<Request<Upload>>> {
    if !IDEMPOTENT.contains(request.method()) {
        return None;
    }
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}

fn blame(error: hyper::Error, upload: UploadState) -> UpstreamFailure {
    match upload {
        UploadState::Slow => UpstreamFailure::ClientSlow,
        UploadState::Gone => UpstreamFailure::ClientGone,
        UploadState::Awaited | UploadState::Given { .. } | UploadState::Complete { .. }
            if error.is_parse() =>
        {
            UpstreamFailure::Invalid(error)
        }
        UploadState::Awaited | UploadState::Given { .. } | UploadState::Complete { .. } => {
            UpstreamFailure::Closed(error)
        }
    }
}

/// The upstream had its time.
struct UpstreamLate;

/// Waits for `answer`; the upstream's time runs only while it has all that the client has sent.
async fn within<F: Future>(
    limit: Duration,
    upload: &UploadProgress,
    answer: F,
) -> Result<F::Output, UpstreamLate> {
    let mut answer = pin!(answer);
    loop {
        let since = match upload.state() {
            UploadState::Given { since } | UploadState::Complete { since } => Some(since),
            UploadState::Awaited | UploadState::Slow | UploadState::Gone => None,
        };
        let deadline = since.unwrap_or_else(now) + limit;
        if since.is_some() && deadline <= now() {
            return Err(UpstreamLate);
        }
        tokio::select! {
            biased;
            answer = answer.as_mut() => return Ok(answer),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

const IDEMPOTENT: &[Method] =
    &[Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
/// Fields an upstream's head may have.
const RESPONSE_FIELDS: usize = 256;
/// The largest head of an upstream, and what is read of its body at once.
const READ_BUFFER: usize = 128 * 1024;
