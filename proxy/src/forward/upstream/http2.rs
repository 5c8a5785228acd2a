//! HTTP/2 connections to upstreams, by hyper: each carries several requests at once.
//! Not here: which destination a request goes to (`choice`), requests over HTTP/1.1 (`connection`).

mod connection;
mod request_body;
mod send_tasks;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, MutexGuard};

pub(super) use self::connection::{Http2Connection, Http2Stream};

/// Whether a server takes a WebSocket over HTTP/2 (RFC 8441 §3), as the last connection has told it; none as long as none has.
pub(super) type WebSockets = Rc<Cell<Option<bool>>>;

/// A destination's connections, in the order they were opened.
#[derive(Default)]
pub(super) struct Http2Connections {
    connections: RefCell<Vec<Rc<Http2Connection>>>,
    pub(super) websockets: WebSockets,
    opening: Mutex<()>,
}

impl Http2Connections {
    /// A place for one more request, on the first connection that has one: the others can end when there is less to do.
    pub(super) fn stream(&self, now: Instant, life: Duration) -> Option<Http2Stream> {
        let connections = self.connections.borrow();
        let with_room = connections.iter().find(|connection| connection.takes_requests(now, life))?;
        Some(Http2Connection::stream(with_room))
    }

    /// The same for a WebSocket, where servers differ in whether they take it: not on a connection whose server does not, if the last one did.
    pub(super) fn websocket_stream(&self, now: Instant, life: Duration) -> Option<Http2Stream> {
        if self.websockets.get() != Some(true) {
            return self.stream(now, life);
        }
        let connections = self.connections.borrow();
        let with_room = connections
            .iter()
            .find(|connection| connection.takes_requests(now, life) && connection.takes_websockets())?;
        Some(Http2Connection::stream(with_room))
    }

    /// The right to open a connection: requests that come at once share one, and wait for it here.
    pub(super) async fn opening(&self) -> MutexGuard<'_, ()> {
        self.opening.lock().await
    }

    /// Lets requests use `connection`, and the first one at once.
    pub(super) fn add(&self, connection: Rc<Http2Connection>) -> Http2Stream {
        let stream = Http2Connection::stream(&connection);
        self.connections.borrow_mut().push(connection);
        stream
    }

    /// Leaves alone what was closed, has been open for too long, or was not used for `idle`; whether there is none left. Requests on their way
    /// keep their connection open.
    pub(super) fn sweep(&self, now: Instant, idle: Duration, life: Duration) -> bool {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_of_use(now, idle, life));
        connections.is_empty()
    }
}
