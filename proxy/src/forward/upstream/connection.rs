//! One HTTP/1.1 connection to an upstream, and the task that drives it.

use std::{net::SocketAddr, pin::pin, time::Duration};

use http::{Method, Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use tokio::task::JoinHandle;

use super::{
    demand::{Demand, OnDemand},
    failure::{Retry, UpstreamFailure},
};
use crate::clock::now;
use crate::forward::upload::{Upload, UploadProgress, UploadState};

/// An open connection. Dropping it closes it, whatever is in flight.
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    driver: JoinHandle<()>,
    pub(super) demand: Demand,
    pub(super) peer: SocketAddr,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An exchange without a response.
pub(super) struct Unanswered {
    pub(super) failure: UpstreamFailure,
    /// The request, if it may be sent again.
    pub(super) request: Option<Box<Request<Upload>>>,
}

impl Unanswered {
    /// The request, if it may be sent once more.
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
            // The task that waits for the response learns how it ended.
            let _ = connection.await;
        });
        Ok(Self { sender, driver, demand, peer })
    }

    /// Whether a request can go out at once.
    pub(super) fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Sends `request` and waits for the header section of its response.
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
            // RFC 9110 §7.8: a server must not switch to a protocol that was not asked for; Upgrade is never forwarded.
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

/// RFC 9110 §9.2.2: a proxy repeats only idempotent requests on its own; a body that was sent is no longer there.
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
        UploadState::Broken(end) => end.into(),
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

/// The upstream's time was up.
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
            UploadState::Awaited | UploadState::Broken(_) => None,
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
/// Fields that an upstream's header section may have.
const RESPONSE_FIELDS: usize = 256;
/// The largest header section of an upstream, and how much of its body is read at once.
const READ_BUFFER: usize = 128 * 1024;
