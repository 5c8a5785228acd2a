//! A connection to a cleartext port.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use super::{
    context::Worker,
    http::{self, ConnectionContext, Version},
    origin::Taken,
};
use crate::{
    cleartext::is_health, client_stream::RequestBody, clock::now, forward::Downstream, http1::RequestParts,
    transport::Transport,
};

/// Serves one connection to its end.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker<T>>, stream: T::Stream, peer: SocketAddr) {
    let shared = Arc::clone(&worker.shared);
    let limits = shared.limits.load_full();
    let taken = shared.reception(*limits.hello_timeout).take(stream, peer).await;
    let Ok(Taken { stream, client, place, .. }) = taken else { return };
    let Some(_permit) = shared.connections.admit_to_cleartext(&place) else { return };
    let from = Downstream { peer: client, local: None, through: None, server_name: None, tls: None };
    let (downstream, buffers) = (Rc::new(from.clone()), Rc::clone(&worker.buffers));
    let request_log = Rc::clone(&worker.request_log);
    let terms = ConnectionContext {
        version: Version::Http1,
        limits: &limits,
        phase: shared.phase.clone(),
        metrics: &shared.metrics,
        buffers: &buffers,
        source: place.source(),
        unparsed: Box::new(move |status| request_log.record_unparsed(&from, status)),
    };
    let answer = move |head: Box<RequestParts>, _: RequestBody| {
        // A load balancer asks until the end, and would have this instance listen for as long as it may.
        if !is_health(&head.uri) {
            worker.note_client();
        }
        let (cleartext, downstream) = (worker.cleartext.clone(), Rc::clone(&downstream));
        async move { cleartext.serve(head, &downstream, now()).await }
    };
    http::serve(stream, terms, answer).await;
}
