//! `certificate renew --all`: earlier dates for the renewals of all certificates, spread evenly over time. Once the dates are written,
//! nobody has to wait: instances renew each name at its date, as any other that is due.
//! Not here: renewals themselves (`renewal`).

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::listing::{self, Listed};
use crate::store::{
    Store, StoreError,
    instant::Micros,
    state_table::{self, Due},
};

/// Renewals within an hour, like `100/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalRate(NonZeroU32);

/// A text is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rate: write how many certificates to renew in an hour, from `1/h` to `{MOST_PER_HOUR}/h`")]
pub struct NoRenewalRate;

/// A part of the names, and the dates that they are to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpreadPart {
    /// The part begins behind this.
    pub after: Option<Listed>,
    /// The date of its first name.
    pub first: Micros,
    /// The time from one date to the next.
    pub step_millis: u64,
    /// Whether nothing is to be written.
    pub dry_run: bool,
}

/// What became of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Names that have, or would have, an earlier date.
    pub moved: u64,
    /// Names that are due earlier anyway, or that changed meanwhile.
    pub kept: u64,
    /// The latest of the new dates.
    pub last: Option<Micros>,
    /// Behind what the next part begins; absent, this was the last.
    pub next: Option<Listed>,
}

impl RenewalRate {
    /// How many in an hour.
    #[must_use]
    pub fn per_hour(self) -> u32 {
        self.0.get()
    }

    /// The time from one renewal to the next.
    #[must_use]
    pub fn step(self) -> Duration {
        HOUR / self.0.get()
    }
}

impl FromStr for RenewalRate {
    type Err = NoRenewalRate;
    fn from_str(text: &str) -> Result<Self, NoRenewalRate> {
        let number = text.strip_suffix("/h").and_then(|number| number.parse::<NonZeroU32>().ok());
        number.filter(|number| number.get() <= MOST_PER_HOUR).map(Self).ok_or(NoRenewalRate)
    }
}

/// Gives a part of the names earlier dates. Names whose orders failed keep their back-off.
pub async fn spread(store: &Store, part: &SpreadPart) -> Result<Spread, StoreError> {
    let names = listing::names(store, part.after.as_ref(), PART).await?;
    let mut done = Spread {
        next: names.last().filter(|_| names.len() >= usize::from(PART)).cloned(),
        ..Spread::default()
    };
    let mut date = part.first;
    for listed in names {
        // Nothing is renewed later than it would be.
        let is_earlier = date < listed.due_at;
        let due = Due { name: listed.server_name, at: listed.due_at };
        if is_earlier && (part.dry_run || state_table::bring_forward(store, &due, date).await?) {
            (done.moved, done.last) = (done.moved + 1, Some(date));
            date = date.more(Duration::from_millis(part.step_millis));
        } else {
            done.kept += 1;
        }
    }
    Ok(done)
}

const HOUR: Duration = Duration::from_hours(1);
const MOST_PER_HOUR: u32 = 100_000;
/// Names of a part: some seconds of writes.
const PART: u16 = 250;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        clock,
        name::Pattern,
        store::{Engine, state_table::OrderRecord, tables},
    };

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn rates_are_written_by_the_hour() {
        for (text, step) in [
            ("1/h", Some(HOUR)),
            ("100/h", Some(Duration::from_secs(36))),
            ("100000/h", Some(Duration::from_millis(36))),
            ("100001/h", None),
            ("0/h", None),
            ("-1/h", None),
            ("100", None),
            ("100/d", None),
        ] {
            assert_eq!(text.parse::<RenewalRate>().ok().map(RenewalRate::step), step, "{text}");
        }
    }

    /// A table with these names, due so many days from now.
    async fn table(days: impl IntoIterator<Item = u32>) -> (Store, SystemTime) {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let now = clock::wall();
        for (n, days) in days.into_iter().enumerate() {
            let record = OrderRecord {
                not_after: Some(now + DAY * 90),
                renew_at: Some(now + DAY * days),
                ..OrderRecord::new(&Pattern::parse(&format!("n{n}.example")).unwrap())
            };
            state_table::put_record(&store, &record, None).await.unwrap();
        }
        (store, now)
    }

    async fn spread_all(store: &Store, now: SystemTime, dry_run: bool) -> Spread {
        let step_millis = 36_000;
        let (mut after, mut all, mut first) = (None, Spread::default(), Micros::of(now));
        loop {
            let done = spread(store, &SpreadPart { after, first, step_millis, dry_run }).await.unwrap();
            (all.moved, all.kept, all.last) =
                (all.moved + done.moved, all.kept + done.kept, done.last.or(all.last));
            first = done.last.map_or(first, |last| last.more(Duration::from_millis(step_millis)));
            after = done.next;
            if after.is_none() {
                return all;
            }
        }
    }

    async fn due_by(store: &Store, at: SystemTime) -> usize {
        let listed = listing::names(store, None, 1_000).await.unwrap();
        listed.iter().filter(|listed| listed.due_at <= Micros::of(at)).count()
    }

    #[tokio::test]
    async fn all_names_get_dates_at_the_rate_and_none_a_later_one() {
        let (store, now) = table((0..600).map(|n| if n % 10 == 0 { 0 } else { 30 + n % 20 })).await;
        let failing = Pattern::parse("failing.example").unwrap();
        let record = OrderRecord {
            failures: 3,
            retry_at: Some(now + DAY),
            not_after: Some(now + DAY * 90),
            renew_at: Some(now + DAY * 30),
            ..OrderRecord::new(&failing)
        };
        state_table::put_record(&store, &record, None).await.unwrap();
        let dry = spread_all(&store, now, true).await;
        assert_eq!((dry.moved, due_by(&store, now + HOUR).await), (541, 60), "nothing is written");
        let done = spread_all(&store, now, false).await;
        assert_eq!((done.moved, done.kept), (540, 61));
        assert_eq!(done.last, Some(Micros::of(now + Duration::from_secs(36) * 539)));
        for hour in 1..6 {
            // The first of the hour, and those that were due.
            assert_eq!(
                due_by(&store, now + HOUR * hour).await,
                usize::try_from(hour * 100 + 61).unwrap().min(600)
            );
        }
    }
}
