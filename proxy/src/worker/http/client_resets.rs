//! How many requests an HTTP/2 client may begin and give up. A stream that is reset counts for no limit on open streams, but its request has
//! taken an upstream connection with it by then (RFC 9113 §10.5; CVE-2023-44487).

use std::{cell::Cell, rc::Rc};

use proxy_common::budget::BudgetRate;

use crate::{
    clock::{BudgetClock, now},
    worker::{connections::Clients, metrics::LimitReached, response_buffer::ConnectionBuffer},
};

/// The requests that the client of one connection may give up yet. Requests that it lets be answered count for nothing: among those that
/// cost it little, resets would have no bound.
pub(super) struct ClientResets {
    rate: BudgetRate,
    clock: BudgetClock,
    full_at_ns: Cell<u64>,
    connection: Rc<ConnectionBuffer>,
}

impl ClientResets {
    /// `a_minute` of them, at once or one after another; beyond it, `connection` is cut.
    pub(super) fn new(a_minute: usize, connection: Rc<ConnectionBuffer>) -> Rc<Self> {
        let burst = u32::try_from(a_minute).unwrap_or(u32::MAX);
        let rate = BudgetRate { per_second: burst.div_ceil(60), burst };
        Rc::new(Self { rate, clock: BudgetClock::new(now()), full_at_ns: Cell::new(0), connection })
    }

    /// A request has come.
    pub(super) fn begin(self: &Rc<Self>) -> Unanswered {
        Unanswered(Some(Rc::clone(self)))
    }

    fn give_up(&self) {
        // What one client of a proxy gives up is no reason to end the others' requests.
        if self.connection.clients() == Clients::Many {
            return;
        }
        match self.rate.take(self.full_at_ns.get(), self.clock.at(now())) {
            Some(full_at_ns) => self.full_at_ns.set(full_at_ns),
            None => self.connection.cut(LimitReached::Resets),
        }
    }
}

/// A request that is not answered whole yet. Dropped as it is, it was given up by its client.
pub(super) struct Unanswered(Option<Rc<ClientResets>>);

impl Unanswered {
    /// It was answered, or could not be, which was not its client's doing.
    pub(super) fn end(mut self) {
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
