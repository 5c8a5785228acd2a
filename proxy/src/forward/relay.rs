//! One request to its target and its answer back, over a pooled or a fresh connection.

use std::{rc::Rc, time::Duration};

use hyper::{
    Method, Request, Response,
    body::{Body as _, Incoming},
};

use super::{
    Admitted, Arrival, Inner,
    answer::{Answer, Streams},
    body::{Content, End, Outgoing, Pace, Paced, Progress},
    failure::Failure,
    metrics::Reuse,
    pool::Sender,
    rewrite::{Asked, towards_client, towards_upstream},
};
use crate::{target::Target, transport::Transport};

/// Forwards `request`; whatever goes wrong becomes an answer that says so.
pub(super) async fn relay<T: Transport>(
    inner: &Rc<Inner<T>>,
    request: Request<Incoming>,
    admitted: Admitted,
    arrival: &Arrival,
) -> Answer {
    match forward(inner, request, &admitted, arrival).await {
        Ok(answer) => answer,
        Err(failure) => {
            let (blame, target, server_name) = (failure.blame(), &admitted.target, &admitted.host);
            tracing::info!(%server_name, %target, ?blame, error = %failure, cause = source(&failure), "request failed");
            Answer::failed(&failure)
        }
    }
}

fn source(failure: &Failure) -> String {
    std::error::Error::source(failure).map_or_else(String::new, ToString::to_string)
}

async fn forward<T: Transport>(
    inner: &Rc<Inner<T>>,
    request: Request<Incoming>,
    admitted: &Admitted,
    arrival: &Arrival,
) -> Result<Answer, Failure> {
    let service = &inner.service;
    let (head, body) = request.into_parts();
    let port = service.public_https_port;
    let asked = Asked { host: &admitted.host, client: arrival.peer.ip(), scheme: "https", port };
    let head = towards_upstream(&head, &asked, &admitted.target).map_err(|_| Failure::Unwritable)?;
    let (body, progress) = if body.is_end_stream() {
        (None, Progress::of_body(true))
    } else {
        let (body, progress) = Paced::new(body, Pace::from(&service.limits));
        (Some(body), progress)
    };
    let (response, sender) = exchange(inner, &admitted.target, &head, body, &progress).await?;
    Ok(answer(inner, response, sender, admitted, progress))
}

/// Sends the request; once more, on a fresh connection, when a pooled one proves to have been closed while it was unused.
async fn exchange<T: Transport>(
    inner: &Rc<Inner<T>>,
    target: &Target,
    head: &Request<()>,
    mut body: Option<Paced>,
    progress: &Progress,
) -> Result<(Response<Incoming>, Sender), Failure> {
    let service = &inner.service;
    let limit = *service.upstreams.config.response_timeout;
    if let Some(mut sender) = inner.pool.take(target, tokio::time::Instant::now().into_std()) {
        let repeatable = body.is_none() && is_idempotent(head.method());
        service.metrics.upstream.bump(Reuse::Pooled);
        match send(&mut sender, head, body, progress, limit).await {
            Ok(response) => return Ok((response, sender)),
            Err(Sent::Returned(returned)) => body = returned,
            Err(Sent::Failed(Failure::Closed(_))) if repeatable => body = None,
            Err(Sent::Failed(failure)) => return Err(failure),
        }
        service.metrics.upstream.bump(Reuse::Retried);
    } else {
        service.metrics.upstream.bump(Reuse::Fresh);
    }
    let mut sender = inner.connector.connect(target, &service.upstreams).await?;
    match send(&mut sender, head, body, progress, limit).await {
        Ok(response) => Ok((response, sender)),
        Err(Sent::Failed(failure)) => Err(failure),
        Err(Sent::Returned(_)) => Err(Failure::Unreachable(std::io::ErrorKind::ConnectionReset.into())),
    }
}

/// How a request came back that got no answer.
enum Sent {
    /// Not a byte of it was sent.
    Returned(Option<Paced>),
    Failed(Failure),
}

async fn send(
    sender: &mut Sender,
    head: &Request<()>,
    body: Option<Paced>,
    progress: &Progress,
    limit: Duration,
) -> Result<Response<Incoming>, Sent> {
    let request = head.clone().map(|()| Outgoing::new(body));
    let answered = std::pin::pin!(sender.try_send_request(request));
    tokio::select! {
        answered = answered => answered.map_err(|mut error| match error.take_message() {
            Some(request) => Sent::Returned(request.into_body().into_body()),
            None if progress.has_stalled() => Sent::Failed(Failure::RequestBody),
            None => Sent::Failed(Failure::Closed(error.into_error())),
        }),
        () = overdue(progress, limit) => Err(Sent::Failed(Failure::ResponseTimeout)),
    }
}

/// Ready when the answer has not begun within `limit` of the request's end.
async fn overdue(progress: &Progress, limit: Duration) {
    while !progress.is_done() {
        tokio::time::sleep(limit.min(BODY_STEP)).await;
    }
    tokio::time::sleep(limit).await;
}

fn answer<T: Transport>(
    inner: &Rc<Inner<T>>,
    mut response: Response<Incoming>,
    sender: Sender,
    admitted: &Admitted,
    received: Progress,
) -> Answer {
    towards_client(&mut response);
    let (head, body) = response.into_parts();
    let (body, sent) = Paced::new(body, Pace::from(&inner.service.limits));
    let (pool, target) = (inner.pool.clone(), admitted.target.clone());
    let give_back = Box::new(move |end| {
        if end == End::Whole {
            pool.put(&target, sender, tokio::time::Instant::now().into_std());
        }
    });
    Answer::relayed(
        Response::from_parts(head, Content::Upstream(Box::new(body))),
        Streams { received, sent, give_back },
    )
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || matches!(*method, Method::PUT | Method::DELETE)
}

const BODY_STEP: Duration = Duration::from_secs(1);
