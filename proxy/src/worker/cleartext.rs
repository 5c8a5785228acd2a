//! A connection to a cleartext port.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use hyper::{Request, body::Incoming};

use super::{
    activity::now,
    http::{self, ConnectionContext, Version},
    thread::Worker,
};
use crate::{
    forward::{Downstream, is_health},
    transport::{HyperIo, Transport},
};

/// Serves one connection to its end.
pub(super) async fn serve<T: Transport>(worker: Rc<Worker<T>>, stream: T::Stream, peer: SocketAddr) {
    let Ok(place) = worker.shared.connections.admit(peer.ip()) else { return };
    let shared = Arc::clone(&worker.shared);
    let limits = shared.limits.load_full();
    let (downstream, buffers) = (Rc::new(Downstream { peer, server_name: None }), Rc::clone(&worker.buffers));
    let terms = ConnectionContext {
        version: Version::Http1,
        limits: &limits,
        phase: shared.phase.clone(),
        metrics: &shared.metrics,
        buffers: &buffers,
        source: place.source(),
    };
    let answer = move |request: Request<Incoming>| {
        // A load balancer asks until the end, and would have this instance listen for as long as it may.
        if !is_health(request.uri()) {
            worker.note_client();
        }
        let (forwarder, downstream) = (worker.forwarder.clone(), Rc::clone(&downstream));
        async move { forwarder.serve_http(request, &downstream, now()).await }
    };
    http::serve(HyperIo::new(stream), terms, answer).await;
}
