//! A connection in use, which returns to the pool.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use super::{Route, connection::Connection, demand::Demand, permits::UpstreamPermit, pool::ConnectionPool};
use crate::forward::upload::{UploadProgress, UploadState};

/// A connection that an answer's body is read from.
pub(in crate::forward) struct PooledConnection {
    pub(super) connection: Connection,
    pub(super) pool: Rc<ConnectionPool>,
    pub(super) route: Route,
    pub(super) upload: Rc<UploadProgress>,
    pub(super) _place: UpstreamPermit,
}

impl PooledConnection {
    /// Whom the response is from.
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
