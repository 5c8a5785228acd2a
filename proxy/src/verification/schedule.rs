//! When which name is looked at: those that wait or fail by their pauses, all others once in an interval, each at its own time of it.
//! Which names there are is told by the feed, so the schedule holds what is due soon and nothing else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::fair_queue::{FairQueue, UnderWay};
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
    /// Since when.
    began: Micros,
    entries: HashMap<Pattern, Entry>,
    queue: FairQueue,
    /// Those whose first look somebody waits for.
    first: FairQueue,
    under_way: UnderWay,
}

/// A name whose look begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DueName {
    pub(super) pattern: Pattern,
    /// Whose it was then.
    tenant: Arc<str>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Of the entry that is known.
    version: u64,
    tenant: Arc<str>,
    /// None while it is being looked at.
    due: Option<Micros>,
    /// Until when it is not forgotten: what the feed tells once more must not be taken for news.
    kept_until: Micros,
}

impl Schedule {
    /// Nothing is due; names are looked at once in `interval`, by this instance since `began`, so many `at_once`.
    #[must_use]
    pub(super) fn new(interval: Duration, at_once: usize, began: Micros) -> Self {
        let (queue, first) = Default::default();
        Self { interval, began, entries: HashMap::new(), queue, first, under_way: UnderWay::new(at_once) }
    }

    /// An entry as the feed has it, perhaps once more.
    pub(super) fn told(&mut self, record: &DomainRecord, now: Micros) {
        let known = self.entries.get(&record.pattern);
        let is_news = known.is_none_or(|known| record.version > known.version);
        let due = match record.status {
            DomainStatus::Suspended | DomainStatus::Removed => return self.forget(&record.pattern),
            _ if !is_news => return,
            DomainStatus::Pending => now,
            // After a change of holders many are told at once.
            DomainStatus::Failing => now.more(SPREAD.mul_f64(fraction(&record.pattern))),
            DomainStatus::Active if is_fresh(record, now) => now.more(FIRST),
            DomainStatus::Active if known.is_none() && self.may_be_unconfirmed(&record.pattern, now) => {
                now.more(SPREAD.mul_f64(fraction(&record.pattern)))
            }
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
            let place = if is_fresh(record, now) { Place::First } else { Place::Queue };
            let entry = Entry::of(record.version, Arc::from(record.tenant.as_str()), due, now);
            self.set(&record.pattern, entry, place);
        }
    }

    /// Up to `most` names that are due at `now`; each is left alone until [`Schedule::ended`]. First looks come first, so that nobody
    /// waits behind many names that lead nowhere, and leave half to the others; each kind is shared between the tenants.
    pub(super) fn take(&mut self, most: usize, now: Micros) -> Vec<DueName> {
        let mut taken = self.first.take(most.div_ceil(2), now, &mut self.under_way);
        for queue in [&mut self.queue, &mut self.first] {
            taken.extend(queue.take(most - taken.len(), now, &mut self.under_way));
        }
        for (_, pattern) in &taken {
            if let Some(entry) = self.entries.get_mut(pattern) {
                entry.due = None;
            }
        }
        taken.into_iter().map(|(tenant, pattern)| DueName { pattern, tenant }).collect()
    }

    /// The look at a name has ended: its entry is of a version now, and looked at again after a pause or, without one, at its turn; or `next` is
    /// none, and it needs no look any more.
    pub(super) fn ended(&mut self, name: &DueName, next: Option<(u64, Option<Duration>)>, now: Micros) {
        self.under_way.end(&name.tenant);
        let Some((version, pause)) = next else { return self.forget(&name.pattern) };
        let due = pause.map_or_else(|| self.turn(&name.pattern, now), |pause| now.more(pause));
        let entry = Entry::of(version, Arc::clone(&name.tenant), due, now);
        self.set(&name.pattern, entry, Place::Queue);
    }

    /// A name needs no look any more.
    fn forget(&mut self, pattern: &Pattern) {
        if let Some(Entry { due: Some(due), tenant, .. }) = self.entries.remove(pattern) {
            self.queue.remove(&tenant, due, pattern);
            self.first.remove(&tenant, due, pattern);
        }
    }

    /// Gives up what the feed tells again before it is due.
    pub(super) fn prune(&mut self, now: Micros) {
        let horizon = now.more(HORIZON);
        let is_kept = |pattern| self.entries.get(pattern).is_some_and(|entry| entry.kept_until > now);
        let gone: Vec<_> = self.queue.beyond(horizon).filter(|pattern| !is_kept(*pattern)).cloned().collect();
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

    /// Whether the holder before this one may have found a name wrong at its turn, and not have looked again: the feed does not show it.
    fn may_be_unconfirmed(&self, pattern: &Pattern, now: Micros) -> bool {
        let is_first_reading = now < self.began.more(FIRST_READING);
        is_first_reading && last_turn(self.interval, pattern, self.began).more(FRESH) > self.began
    }

    fn set(&mut self, pattern: &Pattern, entry: Entry, place: Place) {
        self.forget(pattern);
        let queue = match place {
            Place::First => &mut self.first,
            Place::Queue => &mut self.queue,
        };
        if let Some(due) = entry.due {
            queue.insert(&entry.tenant, due, pattern);
        }
        self.entries.insert(pattern.clone(), entry);
    }
}

/// Where a name waits.
#[derive(Debug, Clone, Copy)]
enum Place {
    First,
    Queue,
}

impl Entry {
    fn of(version: u64, tenant: Arc<str>, due: Micros, now: Micros) -> Self {
        Self { version, tenant, due: Some(due), kept_until: now.more(FRESH) }
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
/// How long a change is news, and a first failure not confirmed: as long as that takes, and the two minutes until a holder that died is followed.
const FRESH: Duration = Duration::from_mins(5);
/// In which a new holder is told of all entries; the next reading comes an hour after that.
const FIRST_READING: Duration = Duration::from_mins(30);
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

    /// Of an instance that has looked at names for long.
    fn schedule() -> Schedule {
        Schedule::new(DAY, 256, start().less(DAY))
    }

    fn take(schedule: &mut Schedule, most: usize, now: Micros) -> Vec<Pattern> {
        schedule.take(most, now).into_iter().map(|taken| taken.pattern).collect()
    }

    fn looked_at(
        schedule: &mut Schedule,
        pattern: &Pattern,
        version: u64,
        pause: Option<Duration>,
        now: Micros,
    ) {
        let tenant = added_for_tests(pattern).tenant.into();
        schedule.ended(&DueName { pattern: pattern.clone(), tenant }, Some((version, pause)), now);
    }

    #[test]
    fn each_name_has_its_turn_once_in_an_interval_and_no_two_hours_have_many_more() {
        const NAMES: usize = 2400;
        let mut schedule = schedule();
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
            let taken = take(&mut schedule, usize::MAX, now);
            most = most.max(taken.len());
            for found in taken {
                let i = (0..NAMES).find(|i| pattern(*i) == found).unwrap();
                looks[i] += 1;
                looked_at(&mut schedule, &found, 1, None, now);
            }
        }
        // The first and the last turn may lie at the edges of the two days.
        assert!(looks.iter().all(|looks| (1..=2).contains(looks)), "{looks:?}");
        assert!(looks.iter().sum::<i32>() > 4700, "{}", looks.iter().sum::<i32>());
        assert!(most < 40, "{most} at once, of 17 on average");
    }

    #[test]
    fn news_come_before_turns_and_what_is_told_again_is_no_news() {
        let mut schedule = schedule();
        let now = start();
        schedule.told(&record(0, DomainStatus::Pending, now), now);
        schedule.told(&record(1, DomainStatus::Active, now), now);
        assert_eq!(take(&mut schedule, 9, now), [pattern(0)]);
        schedule.told(&record(0, DomainStatus::Pending, now), now.more(Duration::from_secs(1)));
        assert_eq!(take(&mut schedule, 9, now.more(Duration::from_secs(1))), [], "being looked at");
        looked_at(&mut schedule, &pattern(0), 1, Some(Duration::from_secs(10)), now);
        let later = now.more(Duration::from_secs(5));
        schedule.told(&record(0, DomainStatus::Pending, now), later);
        assert_eq!(take(&mut schedule, 9, later), [pattern(1)]);
        assert_eq!(take(&mut schedule, 9, now.more(Duration::from_secs(10))), [pattern(0)]);
        looked_at(&mut schedule, &pattern(0), 2, None, later);
        schedule.told(&record(0, DomainStatus::Suspended, later), later);
        assert_eq!(
            take(&mut schedule, 9, later.more(DAY)),
            [],
            "suspended, and the other is still being looked at"
        );
    }

    #[test]
    fn a_new_name_is_looked_at_once_however_often_the_feed_tells_it() {
        let mut schedule = schedule();
        let mut looks = 0;
        for second in 0..60 {
            let now = start().more(Duration::from_secs(second));
            schedule.told(&record(0, DomainStatus::Active, start()), now);
            schedule.prune(now);
            for pattern in take(&mut schedule, 1, now) {
                looks += 1;
                looked_at(&mut schedule, &pattern, 1, None, now);
            }
        }
        assert_eq!(looks, 1);
        schedule.prune(start().more(FRESH * 3));
        assert_eq!(schedule.len(), 0, "its turn is told by the hourly reading");
    }

    #[test]
    fn a_new_name_does_not_wait_behind_many_that_fail() {
        let (mut schedule, now) = (schedule(), start());
        for i in 1..=100 {
            schedule.told(&record(i, DomainStatus::Pending, start().less(DAY)), now.less(DAY / 2));
        }
        schedule.told(&record(0, DomainStatus::Pending, now), now);
        let taken = take(&mut schedule, 4, now);
        assert!(taken.len() == 4 && taken.contains(&pattern(0)), "{taken:?}");
        for i in 101..=200 {
            schedule.told(&record(i, DomainStatus::Pending, now), now);
        }
        let taken = take(&mut schedule, 4, now);
        let old = (1..=100).map(pattern).filter(|old| taken.contains(old)).count();
        assert_eq!((taken.len(), old), (4, 2), "nor do the others wait behind many that are new");
    }

    #[test]
    fn a_tenant_whose_names_never_answer_keeps_no_other_waiting() {
        let (mut schedule, now) = (schedule(), start());
        let of = |tenant: &str, i| DomainRecord {
            tenant: tenant.to_owned(),
            ..record(i, DomainStatus::Pending, now)
        };
        for i in 1..=1000 {
            schedule.told(&of("acme", i), now);
            schedule.told(&DomainRecord { changed_at: Some(now.less(DAY)), ..of("acme", i + 1000) }, now);
        }
        let silent = schedule.take(256, now);
        assert_eq!(silent.len(), 64, "the rest is left to others");
        schedule.told(&of("zeta", 0), now);
        assert_eq!(take(&mut schedule, 192, now), [pattern(0)]);
        // What was removed and added again while it was looked at takes another place, and frees none.
        for DueName { pattern, .. } in &silent {
            let removed =
                DomainRecord { status: DomainStatus::Removed, pattern: pattern.clone(), ..of("acme", 0) };
            schedule.told(&removed, now);
            schedule.told(&DomainRecord { status: DomainStatus::Pending, version: 9, ..removed }, now);
        }
        assert_eq!(schedule.take(191, now), []);
        schedule.ended(&silent[0], None, now);
        assert_eq!(schedule.take(191, now).len(), 1);
    }

    #[test]
    fn a_new_holder_looks_again_at_what_the_last_may_have_found_wrong_once() {
        let names = 20_000;
        let told = |began: Micros, now: Micros| {
            let mut schedule = Schedule::new(DAY, usize::MAX, began);
            (0..names).for_each(|i| schedule.told(&record(i, DomainStatus::Active, start().less(DAY)), now));
            schedule.take(usize::MAX, now.more(SPREAD)).len()
        };
        let in_a_minute = names / (24 * 60);
        let (first, later) = (told(start(), start()), told(start().less(HORIZON), start()));
        assert!((in_a_minute * 3..in_a_minute * 9).contains(&first), "{first}");
        assert!(later < in_a_minute * 3, "{later}");
        // A first look that the last holder did not come to.
        let mut schedule = Schedule::new(DAY, 256, start());
        schedule.told(&record(0, DomainStatus::Active, start().less(Duration::from_mins(3))), start());
        assert_eq!(take(&mut schedule, 9, start().more(FIRST)), [pattern(0)]);
    }

    #[test]
    fn what_changed_while_it_was_looked_at_is_due_by_the_look() {
        let mut schedule = schedule();
        schedule.told(&record(0, DomainStatus::Pending, start()), start());
        take(&mut schedule, 1, start());
        let changed = DomainRecord { version: 2, ..record(0, DomainStatus::Pending, start()) };
        schedule.told(&changed, start());
        looked_at(&mut schedule, &pattern(0), 1, Some(DAY), start());
        schedule.told(&changed, start());
        assert_eq!(take(&mut schedule, 1, start()), [pattern(0)], "the feed tells a change more than once");
    }
}
