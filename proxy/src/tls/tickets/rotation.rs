//! Which key seals a ticket now, when the next one is due, and when the table is read again. Pure.
//!
//! A key is published one period before it seals, seals for one, and opens tickets for one more. So three are there at a time:
//! previous, current, next. All other spans are parts of the period.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::TicketKey;

/// Keys as they are kept together, in no order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Arc<TicketKey>>);

/// How long a key seals, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    period: Duration,
    lead: Duration,
}

/// What a set of keys needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationStep {
    /// Nothing yet.
    Keep,
    /// A key that seals between these times, and opens tickets until the third.
    Publish {
        /// When it begins to seal.
        seals_from: SystemTime,
        /// When it ceases to.
        seals_until: SystemTime,
        /// When it ceases to open.
        opens_until: SystemTime,
    },
}

impl Rotation {
    /// Of keys that instances share, where each seals for `period`.
    #[must_use]
    pub fn shared(period: Duration) -> Self {
        Self { period, lead: period / LEAD_PARTS }
    }

    /// Of keys that nobody else needs to learn of before they seal.
    #[must_use]
    pub fn local(period: Duration) -> Self {
        Self { period, lead: Duration::ZERO }
    }

    /// What `keys` need at `now`: the next key is published when the last one begins to seal. Where nobody did so in time, it
    /// seals after the time in which every instance without a key reads the table.
    #[must_use]
    pub fn step(self, keys: &KeySet, now: SystemTime) -> RotationStep {
        let last = keys.0.iter().max_by_key(|key| key.seals_until);
        if last.is_some_and(|last| now < last.seals_from) {
            return RotationStep::Keep;
        }
        let soonest = now + self.lead;
        let seals_from = last.map_or(soonest, |last| last.seals_until.max(soonest));
        let seals_until = seals_from + self.period;
        RotationStep::Publish { seals_from, seals_until, opens_until: seals_until + self.period }
    }

    /// How long what an instance knows may be used before it reads the table again; `fraction` is random, from 0 to 1, so that
    /// instances that started together do not read together.
    #[must_use]
    pub fn pause(self, keys: &KeySet, now: SystemTime, fraction: f64) -> Duration {
        let is_known = keys.iter().any(|key| now < key.seals_until);
        let parts = if is_known { READ_PARTS } else { SEARCH_PARTS };
        let longest = self.period / parts;
        longest / 2 + (longest / 2).mul_f64(fraction.clamp(0.0, 1.0))
    }

    /// How often a process that shares no keys looks after its own.
    #[must_use]
    pub fn pause_of_local(self) -> Duration {
        self.period / READ_PARTS
    }

    /// How long a ticket that `key` seals at `now` can be opened by every instance whose clock differs by no more than a 1440th of
    /// the period from the clock of this one, or of the one that replaces the keys.
    #[must_use]
    pub fn life(self, key: &TicketKey, now: SystemTime) -> Duration {
        let left = key.opens_until.duration_since(now).unwrap_or_default();
        left.saturating_sub(self.period / CLOCK_PARTS).min(LONGEST_LIFE)
    }
}

impl KeySet {
    /// The key that seals tickets at `now`.
    #[must_use]
    pub fn sealing(&self, now: SystemTime) -> Option<&TicketKey> {
        let seals = |key: &&Arc<TicketKey>| (key.seals_from..key.seals_until).contains(&now);
        self.0.iter().filter(seals).max_by_key(|key| key.seals_from).map(|key| &**key)
    }

    /// The key of this name, if it opens tickets at `now`.
    #[must_use]
    pub fn opening(&self, name: super::KeyName, now: SystemTime) -> Option<&TicketKey> {
        self.0.iter().find(|key| key.name == name && now < key.opens_until).map(|key| &**key)
    }

    /// With `key`, and without those that open no ticket after `now` any more: they are wiped with their last holder.
    #[must_use]
    pub fn followed_by(&self, key: TicketKey, now: SystemTime) -> Self {
        Self(self.live(now).chain([Arc::new(key)]).collect())
    }

    /// Those that still open tickets at `now`; `None` where all do.
    pub(super) fn without_expired(&self, now: SystemTime) -> Option<Self> {
        let live: Vec<_> = self.live(now).collect();
        (live.len() < self.0.len()).then_some(Self(live))
    }

    fn live(&self, now: SystemTime) -> impl Iterator<Item = Arc<TicketKey>> {
        self.0.iter().filter(move |key| now < key.opens_until).cloned()
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &TicketKey> {
        self.0.iter().map(|key| &**key)
    }
}

impl FromIterator<TicketKey> for KeySet {
    fn from_iter<T: IntoIterator<Item = TicketKey>>(keys: T) -> Self {
        Self(keys.into_iter().map(Arc::new).collect())
    }
}

/// RFC 8446 §4.6.1.
const LONGEST_LIFE: Duration = Duration::from_hours(7 * 24);

/// Every five to ten minutes at twelve hours.
const READ_PARTS: u32 = 72;
/// Every five to ten seconds at twelve hours, where no key of the fleet seals now or later.
const SEARCH_PARTS: u32 = 4320;
/// 30 seconds at twelve hours.
const CLOCK_PARTS: u32 = 1440;
/// 60 seconds at twelve hours: more than the difference of two clocks and the pause of an instance without a key together.
const LEAD_PARTS: u32 = 720;
