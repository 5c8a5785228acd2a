//! How one webhook goes on: which event is next and when, and what follows from an attempt. Pure: the log, the receiver and the clock are the
//! caller's.
//! Invariants: events are sent in their order, one at a time, and the next only after the one before was accepted or given up
//! (`events_are_sent_in_order_and_the_next_waits`); what waits in memory is bounded (`what_waits_is_bounded`); an event that is written late is
//! sent, too, unless by more than ten minutes (`what_was_written_late_is_sent_and_nothing_twice`); nothing is sent before the table knows what was
//! delivered (`nothing_is_sent_until_the_table_knows_what_was_delivered`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{metrics::Outcome, reader::Reading};
use crate::{
    backoff::Backoff,
    store::{
        instant::Micros,
        state_table::{Event, EventId, RefusedEvent, WebhookState},
    },
};

/// Where one webhook is.
#[derive(Debug)]
pub(super) struct Course {
    /// What is kept in the table.
    pub(super) state: WebhookState,
    /// Those behind `state.settled` that were delivered or given up.
    delivered: BTreeSet<EventId>,
    /// The one that was done with last, until the table has it.
    unmarked: Option<EventId>,
    /// Those that wait; invariant: none is in `delivered`.
    waiting: BTreeMap<EventId, Event>,
    /// Where the log is read on.
    read_to: EventId,
    /// Up to where nothing can be written any more that was not read: it was read ten minutes after, or later.
    complete_to: EventId,
    read_at: Micros,
    look_back_at: Micros,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Read what the log has behind it.
    Read(EventId),
    /// Send it.
    Send(Box<Event>),
    /// Have the table know that it is done with.
    Mark(EventId),
    /// Nothing, for so long.
    Wait(Duration),
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempted {
    pub(super) outcome: Outcome,
    /// What the receiver said, or how it was not reached.
    pub(super) problem: String,
    /// How long the receiver wants to be left alone (RFC 9110 §10.2.3).
    pub(super) retry_after: Option<Duration>,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The event is done with.
    Delivered,
    /// It is sent again later.
    Retry(Duration),
    /// It is not sent again; the next one is, later.
    GiveUp,
    /// Nothing is sent any more until an operator says so.
    End(EndReason),
}

/// Why nothing is sent any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The receiver said so (410).
    Gone,
    /// Nothing was delivered for five days.
    FailedForLong,
}

impl Course {
    /// Goes on from `state`; `delivered` are those behind it that are done.
    pub(super) fn new(state: WebhookState, delivered: BTreeSet<EventId>, now: Micros) -> Self {
        let settled = state.settled;
        Self {
            state,
            delivered,
            unmarked: None,
            waiting: BTreeMap::new(),
            read_to: settled,
            complete_to: settled,
            read_at: now,
            look_back_at: now.more(LOOK_BACK),
        }
    }

    /// What is to be done at `now`.
    pub(super) fn next(&self, now: Micros) -> Step {
        if let Some(event) = self.unmarked {
            return Step::Mark(event);
        }
        if self.state.ended_at.is_some() {
            return Step::Wait(POLL);
        }
        let has_room = self.waiting.len() < ROOM;
        if has_room && now >= self.read_at {
            return Step::Read(self.read_to);
        }
        let read_in = if has_room { self.read_at.since(now) } else { Duration::MAX };
        let retry_in = self.state.retry_at.unwrap_or_default().since(now);
        match self.waiting.values().next() {
            Some(event) if retry_in.is_zero() => Step::Send(Box::new(event.clone())),
            Some(_) => Step::Wait(read_in.min(retry_in).min(POLL)),
            None => Step::Wait(read_in.min(POLL)),
        }
    }

    /// Takes what was read at `now`; `wants` says which kinds.
    pub(super) fn take(&mut self, reading: Reading, wants: impl Fn(&str) -> bool, now: Micros) {
        let is_new = |event: &Event| event.id > self.state.settled && !self.delivered.contains(&event.id);
        let wanted: Vec<_> =
            reading.events.into_iter().filter(|event| is_new(event) && wants(&event.kind)).collect();
        self.waiting.extend(wanted.into_iter().map(|event| (event.id, event)));
        // What lies before where this reading began may have been written since.
        if self.read_to <= self.complete_to {
            self.complete_to = self.complete_to.max(reading.to.min(EventId::before(now.less(WINDOW))));
        }
        self.read_to = reading.to.max(self.read_to);
        if reading.is_cut {
            return;
        }
        if self.waiting.is_empty() {
            self.forget_failures(now);
        }
        self.read_at = now.more(POLL);
        if now >= self.look_back_at {
            self.look_back_at = now.more(LOOK_BACK);
            self.read_to = self.complete_to;
        }
    }

    /// What follows from an attempt to send `event`; `spread` is from 0 to less than 1.
    pub(super) fn follow(
        &mut self,
        event: EventId,
        attempted: &Attempted,
        spread: f64,
        now: Micros,
    ) -> Consequence {
        let state = &mut self.state;
        if attempted.outcome == Outcome::Delivered {
            *state = WebhookState { delivered_at: Some(now), ..state.without_failures() };
            self.end(event);
            return Consequence::Delivered;
        }
        state.failures = state.failures.saturating_add(1);
        state.problem = Some(attempted.problem.chars().take(LONGEST_PROBLEM).collect());
        let failing_since = *state.failing_since.get_or_insert(now);
        let ended = match attempted.outcome {
            Outcome::Gone => Some(EndReason::Gone),
            _ if now.since(failing_since) >= END_AFTER => Some(EndReason::FailedForLong),
            _ => None,
        };
        if let Some(reason) = ended {
            state.ended_at = Some(now);
            return Consequence::End(reason);
        }
        let pause = PAUSES.after(state.failures);
        let pause = pause + (pause / 5).mul_f64(spread);
        let pause = pause.max(attempted.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
        state.retry_at = Some(now.more(pause));
        if attempted.outcome == Outcome::Refused && self.refused_for(event, now) >= GIVE_UP_AFTER {
            self.end(event);
            return Consequence::GiveUp;
        }
        Consequence::Retry(pause)
    }

    /// For how long `event`, which is refused at `now`, has been so. What else failed does not count: who does not answer, or can take nothing
    /// now, may take it tomorrow.
    fn refused_for(&mut self, event: EventId, now: Micros) -> Duration {
        let before = self.state.refused.filter(|refused| refused.event == event);
        let refused = before.unwrap_or(RefusedEvent { event, since: now });
        self.state.refused = Some(refused);
        now.since(refused.since)
    }

    /// The table knows of what was done with last.
    pub(super) fn marked(&mut self) {
        self.unmarked = None;
    }

    /// Counts as settled what is older than anything that may still be written, and done.
    pub(super) fn settle(&mut self) {
        let waiting = self.waiting.keys().next().map(|first| EventId::before(first.at));
        let settled = waiting.map_or(self.complete_to, |waiting| waiting.min(self.complete_to));
        if settled > self.state.settled {
            self.state.settled = settled;
            self.delivered = self.delivered.split_off(&settled);
            self.delivered.remove(&settled);
        }
    }

    /// Since when the oldest of those waits that wait.
    pub(super) fn behind(&self, now: Micros) -> Duration {
        self.waiting.keys().next().map(|first| now.since(first.at)).unwrap_or_default()
    }

    /// What had failed is given up, or not wanted any more: it says nothing of what is sent next. A pause that was begun is kept.
    fn forget_failures(&mut self, now: Micros) {
        let retry_at = self.state.retry_at.filter(|at| *at > now);
        self.state = WebhookState { retry_at, ..self.state.without_failures() };
    }

    fn end(&mut self, event: EventId) {
        self.waiting.remove(&event);
        self.delivered.insert(event);
        self.unmarked = Some(event);
    }
}

/// Between two looks at the log.
const POLL: Duration = Duration::from_secs(1);
/// An event that is written later than this after it came about is not seen: more than a clock of a fleet is wrong and a transaction takes.
pub(super) const WINDOW: Duration = Duration::from_mins(10);
/// Between two readings of that time.
const LOOK_BACK: Duration = Duration::from_secs(30);
/// Beyond it, the log is not read on; one reading may bring as many again.
const ROOM: usize = 200;
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(5), Duration::from_mins(15));
/// A receiver may ask for more patience than our own pauses have, and for no more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);
const END_AFTER: Duration = Duration::from_hours(5 * 24);
const LONGEST_PROBLEM: usize = 300;

#[cfg(test)]
mod tests;
