//! Logs of the state table: one partition for each day, whose items sort by when they were written.
//! Not here: what a log holds, and how long it is kept (`audit`, `events`).

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::store::{Consistency, Item, Store, StoreError, instant::Micros};

/// A day of UTC, as `2026-11-28`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogDay(String);

/// Part of a day's items.
pub(super) struct LogPage {
    /// The oldest first.
    pub(super) items: Vec<Item>,
    /// The sort key behind which the next part begins; absent, this was the last.
    pub(super) next: Option<String>,
}

impl LogDay {
    /// Of an instant.
    #[must_use]
    pub fn of(at: Micros) -> Self {
        Self(at.to_string().split('T').next().unwrap_or_default().to_owned())
    }

    /// Reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        midnight(text).map(Self::of)
    }

    /// Its first instant.
    #[must_use]
    pub fn begin(&self) -> Micros {
        midnight(&self.0).unwrap_or_default()
    }

    /// The day after it; the last of the year 9999 is its own.
    #[must_use]
    pub fn next(&self) -> Self {
        let next = self.begin().more(Duration::from_hours(24));
        Self::of(Micros::from_epoch(next.since_epoch()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn midnight(day: &str) -> Option<Micros> {
    Micros::parse(&format!("{day}T00:00:00.000000Z"))
}

/// Up to `limit` items of `partition`, those whose sort key is behind `after`. Strongly consistent, what was answered is found.
pub(super) async fn page(
    store: &Store,
    partition: &str,
    after: Option<&str>,
    limit: u16,
    consistency: Consistency,
) -> Result<LogPage, StoreError> {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let query = store.client().query().table_name(&store.tables().state);
    let query = query.consistent_read(consistency == Consistency::Strong);
    // Before all: sort keys begin with a digit.
    let query = query
        .key_condition_expression("pk = :pk AND sk > :after")
        .expression_attribute_values(":pk", text(partition))
        .expression_attribute_values(":after", text(after.unwrap_or(" ")))
        .limit(limit.into());
    let answer = query.send().await?;
    let last = answer.last_evaluated_key.filter(|key| !key.is_empty());
    let next = last.and_then(|key| key.get("sk").and_then(|sort| sort.as_s().ok().cloned()));
    Ok(LogPage { items: answer.items.unwrap_or_default(), next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_of_the_calendar() {
        for (text, is_day) in
            [("2026-11-28", true), ("2026-11-31", false), ("", false), ("2026-11-28#a", false)]
        {
            assert_eq!(LogDay::parse(text).map(|day| day.as_str() == text), is_day.then_some(true), "{text}");
        }
    }

    #[test]
    fn days_follow_each_other() {
        for (day, next) in
            [("2026-11-28", "2026-11-29"), ("2026-12-31", "2027-01-01"), ("9999-12-31", "9999-12-31")]
        {
            assert_eq!(LogDay::parse(day).unwrap().next().as_str(), next);
        }
    }
}
