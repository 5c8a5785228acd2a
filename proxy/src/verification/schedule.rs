//! When which name is looked at: those that wait or fail by their pauses, all others once in an interval, each at its own time of it.
//! Which names there are is told by the feed, so the schedule holds what is due soon and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::{
    name::Pattern,
    random::fraction_of,
    store::{
        domain_table::{DomainRecord, DomainStatus},
        instant::Micros,
    },
};

/// Names by when they are to be looked at.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    entries: HashMap<Pattern, Entry>,
    queue: BTreeSet<(Micros, Pattern)>,
    /// Those of the queue whose first look somebody waits for.
    first: BTreeSet<(Micros, Pattern)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Of the entry that is known.
    version: u64,
    /// None while it is being looked at.
    due: Option<Micros>,
    /// Until when it is not forgotten: what the feed tells once more must not be taken for news.
    kept_until: Micros,
}

impl Schedule {
    /// Nothing is due; names are looked at once in `interval`.
    #[must_use]
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, entries: HashMap::new(), queue: BTreeSet::new(), first: BTreeSet::new() }
    }

    /// An entry as the feed has it, perhaps once more.
    pub(super) fn told(&mut self, record: &DomainRecord, now: Micros) {
        let known = self.entries.get(&record.pattern).copied();
        let is_news = known.is_none_or(|known| record.version > known.version);
        let due = match record.status {
            DomainStatus::Suspended | DomainStatus::Removed => return self.forget(&record.pattern),
            _ if !is_news => return,
            DomainStatus::Pending => now,
            // After a change of holders many are told at once.
            DomainStatus::Failing => now.more(SPREAD.mul_f64(fraction(&record.pattern))),
            DomainStatus::Active if is_fresh(record, now) => now.more(FIRST),
            DomainStatus::Active => {
                let turn = self.turn(&record.pattern, now);
                if turn > now.more(HORIZON) {
                    return;
                }
                turn
            }
        };
        // One that is being looked at comes again when that has ended.
        let is_running = known.is_some_and(|known| known.due.is_none());
        if !is_running && (known.is_some() || self.entries.len() < MOST) {
            self.set(&record.pattern, record.version, due, now);
            if is_fresh(record, now) {
                self.first.insert((due, record.pattern.clone()));
            }
        }
    }

    /// Up to `most` names that are due at `now`; each is left alone until [`Schedule::looked_at`]. First looks come first, so that nobody
    /// waits behind another's many names that lead nowhere, and leave half to the others.
    pub(super) fn take(&mut self, most: usize, now: Micros) -> Vec<Pattern> {
        let due = |set: &BTreeSet<(Micros, Pattern)>, most| -> Vec<_> {
            set.iter().take_while(|(due, _)| *due <= now).take(most).cloned().collect()
        };
        let mut taken = due(&self.first, most.div_ceil(2));
        for place in &taken {
            self.start(place);
        }
        let others = due(&self.queue, most - taken.len());
        for place in &others {
            self.start(place);
        }
        taken.extend(others);
        taken.into_iter().map(|(_, pattern)| pattern).collect()
    }

    fn start(&mut self, place: &(Micros, Pattern)) {
        self.queue.remove(place);
        self.first.remove(place);
        if let Some(entry) = self.entries.get_mut(&place.1) {
            entry.due = None;
        }
    }

    /// A name was looked at and its entry is of `version` now; `pause` says when again, or that its turn decides.
    pub(super) fn looked_at(
        &mut self,
        pattern: &Pattern,
        version: u64,
        pause: Option<Duration>,
        now: Micros,
    ) {
        let due = pause.map_or_else(|| self.turn(pattern, now), |pause| now.more(pause));
        self.set(pattern, version, due, now);
    }

    /// A name needs no look any more.
    pub(super) fn forget(&mut self, pattern: &Pattern) {
        if let Some(Entry { due: Some(due), .. }) = self.entries.remove(pattern) {
            let place = (due, pattern.clone());
            self.queue.remove(&place);
            self.first.remove(&place);
        }
    }

    /// Gives up what the feed tells again before it is due.
    pub(super) fn prune(&mut self, now: Micros) {
        let horizon = now.more(HORIZON);
        let far = self.queue.iter().rev().take_while(|(due, _)| *due > horizon);
        let is_kept = |pattern| self.entries.get(pattern).is_some_and(|entry| entry.kept_until > now);
        let gone: Vec<_> =
            far.map(|(_, pattern)| pattern).filter(|pattern| !is_kept(*pattern)).cloned().collect();
        for pattern in gone {
            self.forget(&pattern);
        }
    }

    /// How many are known.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When a name's turn comes next.
    fn turn(&self, pattern: &Pattern, now: Micros) -> Micros {
        last_turn(self.interval, pattern, now).more(self.interval)
    }

    fn set(&mut self, pattern: &Pattern, version: u64, due: Micros, now: Micros) {
        self.forget(pattern);
        let kept_until = now.more(FRESH);
        self.entries.insert(pattern.clone(), Entry { version, due: Some(due), kept_until });
        self.queue.insert((due, pattern.clone()));
    }
}

/// When a name had its turn last, of which each interval has one.
pub(super) fn last_turn(interval: Duration, pattern: &Pattern, now: Micros) -> Micros {
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
    let own = Duration::from_micros(micros).mul_f64(fraction(pattern));
    Micros::from_epoch(now.less(own).since_epoch() / micros * micros).more(own)
}

/// Whether an entry has just been made or changed: its first look does not wait for its turn.
fn is_fresh(record: &DomainRecord, now: Micros) -> bool {
    record.changed_at.is_some_and(|at| at.more(FRESH) > now)
}

/// Where in an interval a name has its turn.
fn fraction(pattern: &Pattern) -> f64 {
    fraction_of(&pattern.to_string())
}

/// More than lies between two full readings of the feed, which tell what is due until then.
const HORIZON: Duration = Duration::from_mins(75);
const FRESH: Duration = Duration::from_mins(2);
/// Time for a new name's first handshake.
const FIRST: Duration = Duration::from_secs(5);
const SPREAD: Duration = Duration::from_mins(1);
/// Of more names, those beyond are told again an hour later.
const MOST: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::admin::added_for_tests;

    const DAY: Duration = Duration::from_hours(24);

    fn start() -> Micros {
        Micros::from_epoch(1_700_000_000_000_000)
    }

    fn pattern(i: usize) -> Pattern {
        Pattern::parse(&format!("site-{i}.example")).unwrap()
    }

    fn record(i: usize, status: DomainStatus, changed_at: Micros) -> DomainRecord {
        DomainRecord { status, changed_at: Some(changed_at), ..added_for_tests(&pattern(i)) }
    }

    #[test]
    fn each_name_has_its_turn_once_in_an_interval_and_no_two_hours_have_many_more() {
        const NAMES: usize = 2400;
        let mut schedule = Schedule::new(DAY);
        let mut looks = vec![0; NAMES];
        let mut most = 0;
        // Two days, a full reading each hour, and what is due taken each ten minutes.
        for step in 0..288_u32 {
            let now = start().more(Duration::from_mins(10) * step);
            if step % 6 == 0 {
                (0..NAMES)
                    .for_each(|i| schedule.told(&record(i, DomainStatus::Active, start().less(DAY)), now));
                schedule.prune(now);
                assert!(schedule.len() < NAMES / 10, "{} of {NAMES} are held", schedule.len());
            }
            let taken = schedule.take(usize::MAX, now);
            most = most.max(taken.len());
            for looked_at in taken {
                let i = (0..NAMES).find(|i| pattern(*i) == looked_at).unwrap();
                looks[i] += 1;
                schedule.looked_at(&looked_at, 1, None, now);
            }
        }
        // The first and the last turn may lie at the edges of the two days.
        assert!(looks.iter().all(|looks| (1..=2).contains(looks)), "{looks:?}");
        assert!(looks.iter().sum::<i32>() > 4700, "{}", looks.iter().sum::<i32>());
        assert!(most < 40, "{most} at once, of 17 on average");
    }

    #[test]
    fn news_come_before_turns_and_what_is_told_again_is_no_news() {
        let mut schedule = Schedule::new(DAY);
        let now = start();
        schedule.told(&record(0, DomainStatus::Pending, now), now);
        schedule.told(&record(1, DomainStatus::Active, now), now);
        assert_eq!(schedule.take(9, now), [pattern(0)]);
        schedule.told(&record(0, DomainStatus::Pending, now), now.more(Duration::from_secs(1)));
        assert_eq!(schedule.take(9, now.more(Duration::from_secs(1))), [], "being looked at");
        schedule.looked_at(&pattern(0), 1, Some(Duration::from_secs(10)), now);
        let later = now.more(Duration::from_secs(5));
        schedule.told(&record(0, DomainStatus::Pending, now), later);
        assert_eq!(schedule.take(9, later), [pattern(1)]);
        assert_eq!(schedule.take(9, now.more(Duration::from_secs(10))), [pattern(0)]);
        schedule.looked_at(&pattern(0), 2, None, later);
        schedule.told(&record(0, DomainStatus::Suspended, later), later);
        assert_eq!(
            schedule.take(9, later.more(DAY)),
            [],
            "suspended, and the other is still being looked at"
        );
    }

    #[test]
    fn a_new_name_is_looked_at_once_however_often_the_feed_tells_it() {
        let mut schedule = Schedule::new(DAY);
        let mut looks = 0;
        for second in 0..60 {
            let now = start().more(Duration::from_secs(second));
            schedule.told(&record(0, DomainStatus::Active, start()), now);
            schedule.prune(now);
            for pattern in schedule.take(1, now) {
                looks += 1;
                schedule.looked_at(&pattern, 1, None, now);
            }
        }
        assert_eq!(looks, 1);
        schedule.prune(start().more(FRESH * 3));
        assert_eq!(schedule.len(), 0, "its turn is told by the hourly reading");
    }

    #[test]
    fn a_new_name_does_not_wait_behind_many_that_fail() {
        let (mut schedule, now) = (Schedule::new(DAY), start());
        for i in 1..=100 {
            schedule.told(&record(i, DomainStatus::Pending, start().less(DAY)), now.less(DAY / 2));
        }
        schedule.told(&record(0, DomainStatus::Pending, now), now);
        let taken = schedule.take(4, now);
        assert!(taken.len() == 4 && taken.contains(&pattern(0)), "{taken:?}");
        for i in 101..=200 {
            schedule.told(&record(i, DomainStatus::Pending, now), now);
        }
        let taken = schedule.take(4, now);
        let old = (1..=100).map(pattern).filter(|old| taken.contains(old)).count();
        assert_eq!((taken.len(), old), (4, 2), "nor do the others wait behind many that are new");
    }

    #[test]
    fn what_changed_while_it_was_looked_at_is_due_by_the_look() {
        let mut schedule = Schedule::new(DAY);
        schedule.told(&record(0, DomainStatus::Pending, start()), start());
        schedule.take(1, start());
        let changed = DomainRecord { version: 2, ..record(0, DomainStatus::Pending, start()) };
        schedule.told(&changed, start());
        schedule.looked_at(&pattern(0), 1, Some(DAY), start());
        schedule.told(&changed, start());
        assert_eq!(schedule.take(1, start()), [pattern(0)], "the feed tells a change more than once");
    }
}
