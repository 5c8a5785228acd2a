//! A connection that carries a response, and returns to its destination.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use tokio::task::JoinHandle;

use super::{
    connection::{Connection, Sending, send_rest},
    destination::InFlight,
    http2::Http2Stream,
    permits::UpstreamPermit,
    request_writer::RequestWriter,
    slots::Slot,
};
use crate::{
    http1::{BodyEnd, BodyReader},
    http1_stream::Http1Stream,
    http2_upgraded::UpgradedStream,
    target::EndpointAddress,
};

/// A connection that a response's body is read from.
pub(in crate::forward) struct PooledConnection {
    carrier: Carrier,
    peer: EndpointAddress,
    /// Whether the response says that the connection can carry another.
    is_persistent: bool,
    in_flight: InFlight,
    permit: UpstreamPermit,
}

/// A connection that has switched to another protocol, or a stream of HTTP/2 that carries it.
pub(in crate::forward) struct UpstreamTunnel {
    pub(in crate::forward) stream: Http1Stream,
    pub(in crate::forward) peer: EndpointAddress,
    _place: Place,
    _in_flight: InFlight,
    _permit: UpstreamPermit,
}

/// The right to what a tunnel goes over.
enum Place {
    /// To its connection, where their number is bounded.
    Connection { _slot: Option<Slot> },
    /// On a connection that it shares.
    Stream { _stream: Http2Stream },
}

impl UpstreamTunnel {
    /// Over `stream` of a connection, whose bytes are `upgraded`.
    pub(super) fn over_http2(
        upgraded: Upgraded,
        stream: Http2Stream,
        in_flight: InFlight,
        permit: UpstreamPermit,
    ) -> Self {
        Self {
            stream: Http1Stream::new(UpgradedStream::new(upgraded)),
            peer: stream.peer().clone(),
            _place: Place::Stream { _stream: stream },
            _in_flight: in_flight,
            _permit: permit,
        }
    }
}

enum Carrier {
    Reader(Box<Connection>),
    /// A task still sends the rest of the request.
    ReaderAndWriter {
        connection: Rc<RefCell<Connection>>,
        _writer: Writer,
    },
}

/// What [`send_rest`] does.
type SendsRest = Pin<Box<dyn Future<Output = ()>>>;

struct Writer {
    task: JoinHandle<()>,
    /// What the task does.
    sending: Rc<RefCell<Option<SendsRest>>>,
}

impl Writer {
    fn spawn(sending: impl Future<Output = ()> + 'static) -> Self {
        let sending: SendsRest = Box::pin(sending);
        let sending = Rc::new(RefCell::new(Some(sending)));
        let own = Rc::clone(&sending);
        let task = tokio::task::spawn_local(poll_fn(move |cx| {
            let mut sending = own.borrow_mut();
            if let Some(future) = &mut *sending {
                ready!(future.as_mut().poll(cx));
            }
            *sending = None;
            Poll::Ready(())
        }));
        Self { task, sending }
    }
}

impl Drop for Writer {
    /// What the task holds of the request is free at once, not when the task has its turn: the client's connection may go on.
    fn drop(&mut self) {
        if let Ok(mut sending) = self.sending.try_borrow_mut() {
            *sending = None;
        }
        self.task.abort();
    }
}

impl PooledConnection {
    /// Around a `connection` on which the response to `request` has begun.
    pub(super) fn new(
        connection: Box<Connection>,
        request: RequestWriter,
        is_persistent: bool,
        in_flight: InFlight,
        permit: UpstreamPermit,
    ) -> Self {
        let peer = connection.peer.clone();
        let carrier = match connection.sending() {
            Sending::Sent | Sending::Failed => Carrier::Reader(connection),
            Sending::Sends => {
                let shared = Rc::new(RefCell::new(*connection));
                let writer = Writer::spawn(send_rest(Rc::clone(&shared), request));
                Carrier::ReaderAndWriter { connection: shared, _writer: writer }
            }
        };
        Self { carrier, peer, is_persistent, in_flight, permit }
    }

    /// The next data of the response's body, at most `most` bytes; none behind its end.
    pub(in crate::forward) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut BodyReader,
        most: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        match &mut self.carrier {
            Carrier::Reader(connection) => connection.poll_body(cx, reader, most),
            Carrier::ReaderAndWriter { connection, .. } => {
                connection.borrow_mut().poll_body(cx, reader, most)
            }
        }
    }

    /// The connection without HTTP; none if the request was not sent whole.
    pub(in crate::forward) fn into_tunnel(self) -> Option<UpstreamTunnel> {
        let Carrier::Reader(connection) = self.carrier else { return None };
        let (stream, slot) = connection.into_stream()?;
        let (place, peer) = (Place::Connection { _slot: slot }, self.peer);
        let (in_flight, permit) = (self.in_flight, self.permit);
        Some(UpstreamTunnel { stream, peer, _place: place, _in_flight: in_flight, _permit: permit })
    }

    /// The response has been read to its `end`: the connection can carry another, unless it still carries the request.
    pub(in crate::forward) fn release(self, end: BodyEnd, now: Instant) {
        let connection = match self.carrier {
            Carrier::Reader(connection) => Some(connection),
            // Without a second owner, the writer's task has ended.
            Carrier::ReaderAndWriter { connection, .. } => {
                Rc::into_inner(connection).map(RefCell::into_inner).map(Box::new)
            }
        };
        let can_persist = self.is_persistent && end == BodyEnd::Marked;
        if let Some(connection) = connection.filter(|connection| can_persist && connection.is_sent()) {
            self.in_flight.destination().put(connection, now);
        }
    }
}
