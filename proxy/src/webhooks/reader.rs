//! The event log, read on from a place over the ends of days.

use std::time::Duration;

use crate::store::{
    Consistency, Store, StoreError,
    instant::{CLOCK_SKEW, Micros},
    state_table::{EVENTS_KEPT, Event, EventId, LogDay, events},
};

/// Events behind a place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The oldest first.
    pub events: Vec<Event>,
    /// Up to which all were read that there were, those of the last minute apart.
    pub to: EventId,
    /// Whether there may be more.
    pub is_cut: bool,
}

/// Up to about `limit` events behind `after`, as far as they are there at `now`.
pub async fn read(
    store: &Store,
    after: EventId,
    now: Micros,
    limit: u16,
    consistency: Consistency,
) -> Result<Reading, StoreError> {
    // What is older is forgotten; and a clock may be ahead of ours.
    let oldest = EventId::before(now.less(EVENTS_KEPT));
    let (mut to, last) = (after.max(oldest), LogDay::of(now.more(CLOCK_SKEW)));
    let (mut found, mut day) = (Vec::new(), to.day());
    for _ in 0..MOST_PAGES {
        let page = events(store, &day, Some(to), limit, consistency).await?;
        to = page.next.or_else(|| page.events.last().map(|event| event.id)).unwrap_or(to).max(to);
        found.extend(page.events);
        let is_day_read = page.next.is_none();
        if is_day_read && day >= last {
            // So that days without events are not asked for again and again.
            let to = to.max(EventId::before(now.less(LATE)));
            return Ok(Reading { events: found, to, is_cut: false });
        }
        if is_day_read {
            day = day.next();
        }
        if found.len() >= usize::from(limit) {
            break;
        }
    }
    // A day without events is passed over for good.
    Ok(Reading { events: found, to: to.max(EventId::before(day.begin())), is_cut: true })
}

/// Days of 30 and what each may hold beyond a part.
const MOST_PAGES: usize = 64;
/// Longer than it mostly takes from when an event came about until it is written.
pub(super) const LATE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        config::{EventKind, StoreConfig},
        store::{Engine, state_table::put_event, tables},
    };

    async fn store() -> Store {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        store
    }

    fn at(text: &str) -> Micros {
        Micros::parse(text).unwrap()
    }

    #[tokio::test]
    async fn events_of_several_days_are_read_in_order_and_none_twice() {
        let store = store().await;
        let mut written = Vec::new();
        for text in [
            "2026-11-01T12:00:00.000000Z",
            "2026-11-01T12:00:01.000000Z",
            "2026-11-01T12:00:02.000000Z",
            "2026-11-20T00:00:00.000000Z",
            "2026-11-28T23:59:59.999999Z",
        ] {
            let domain = "a.example".parse().unwrap();
            let event = Event::new(EventKind::DomainCreated, &domain, None, &json!({}), at(text)).unwrap();
            put_event(&store, &event).await.unwrap();
            written.push(event);
        }
        let now = at("2026-11-28T23:59:59.999999Z");
        for limit in [1, 2, 100] {
            let (mut after, mut found) = (EventId::before(at("2026-10-01T00:00:00.000000Z")), Vec::new());
            for _ in 0..20 {
                let reading = read(&store, after, now, limit, Consistency::Strong).await.unwrap();
                assert!(reading.to >= after, "{limit}");
                (after, found) = (reading.to, [found, reading.events].concat());
                if !reading.is_cut {
                    break;
                }
            }
            assert_eq!(found, written, "in parts of {limit}");
            let rest = read(&store, after, now, limit, Consistency::Strong).await.unwrap();
            assert_eq!(rest.events, []);
        }
    }
}
