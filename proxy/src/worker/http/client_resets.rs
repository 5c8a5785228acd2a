//! How many requests an HTTP/2 client may begin and give up. A stream that is reset counts for no limit on open streams, but its request has
//! taken an upstream connection with it by then (RFC 9113 §10.5; CVE-2023-44487).

use std::{cell::Cell, rc::Rc};

use crate::worker::{metrics::LimitReached, response_buffer::ConnectionBuffer};

/// The requests of one connection that its client has given up, less those that were answered since.
pub(super) struct ClientResets {
    given_up: Cell<usize>,
    most: usize,
    connection: Rc<ConnectionBuffer>,
}

impl ClientResets {
    /// Beyond `most`, `connection` is cut.
    pub(super) fn new(most: usize, connection: Rc<ConnectionBuffer>) -> Rc<Self> {
        Rc::new(Self { given_up: Cell::new(0), most, connection })
    }

    /// A request has come.
    pub(super) fn begin(self: &Rc<Self>) -> Unanswered {
        Unanswered(Some(Rc::clone(self)))
    }

    fn give_up(&self) {
        self.given_up.set(self.given_up.get() + 1);
        if self.given_up.get() > self.most {
            self.connection.cut(LimitReached::Resets);
        }
    }
}

/// A request that is not answered whole yet. Dropped as it is, it was given up by its client.
pub(super) struct Unanswered(Option<Rc<ClientResets>>);

impl Unanswered {
    /// It was answered, which makes up for one that was not: who is of use to others may cancel as well.
    pub(super) fn answered(mut self) {
        if let Some(resets) = self.0.take() {
            resets.given_up.set(resets.given_up.get().saturating_sub(1));
        }
    }

    /// It was not answered, and that was not its client's doing.
    pub(super) fn failed(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(resets) = self.0.take() {
            resets.give_up();
        }
    }
}
