//! Answers of the sources that are in no snapshot, each believed for a while.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{Entry, ops::compute::Op, sync::Cache};

use super::{Denial, Doubt, Permission, Site};
use crate::name::ServerName;

/// A bounded cache; concurrent, and synchronous for the data plane.
pub(super) struct Answers {
    cache: Cache<ServerName, Remembered>,
    lives: Lives,
}

/// How long answers are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lives {
    pub(super) allow: Duration,
    /// Beyond that, while the source is asked again.
    pub(super) stale: Duration,
    pub(super) deny: Duration,
}

/// An answer that may be remembered.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Allow(Arc<Site>),
    Deny(Denial),
    SourceDown,
    AskDown,
}

/// Whether an answer has to be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    Stale,
}

#[derive(Debug, Clone)]
struct Remembered {
    answer: Answer,
    fresh_until: Instant,
    usable_until: Instant,
}

impl Answers {
    pub(super) fn new(lives: Lives) -> Self {
        let longest = (lives.allow + lives.stale).max(lives.deny).max(DOUBT_LIFE);
        let cache = Cache::builder().max_capacity(MAX_ANSWERS).time_to_live(longest).build();
        Self { cache, lives }
    }

    pub(super) fn get(&self, name: &ServerName, now: Instant) -> Option<(Answer, Age)> {
        let held = self.cache.get(name)?;
        let age = held.age(now)?;
        Some((held.answer, age))
    }

    /// A doubt does not replace what was allowed and may still be used: it is asked for again a little later.
    pub(super) fn remember(&self, name: ServerName, answer: Answer, now: Instant) {
        let is_doubt = matches!(answer, Answer::SourceDown | Answer::AskDown);
        let fresh = Remembered::of(answer, self.lives, now);
        self.cache.entry(name).and_compute_with(|held| match held.map(Entry::into_value) {
            Some(held) if is_doubt && held.is_usable(now) => Op::Put(held.postponed(now)),
            Some(_) | None => Op::Put(fresh),
        });
    }

    /// A stale answer is being asked for again: until that is done it passes for fresh.
    pub(super) fn postpone(&self, name: &ServerName, now: Instant) {
        self.cache.entry_by_ref(name).and_compute_with(|held| match held.map(Entry::into_value) {
            Some(held) if held.age(now) == Some(Age::Stale) => Op::Put(held.postponed(now)),
            Some(_) | None => Op::Nop,
        });
    }
}

impl Remembered {
    fn of(answer: Answer, lives: Lives, now: Instant) -> Self {
        let (fresh, stale) = match answer {
            Answer::Allow(_) => (lives.allow, lives.stale),
            Answer::Deny(_) => (lives.deny, Duration::ZERO),
            Answer::SourceDown | Answer::AskDown => (DOUBT_LIFE, Duration::ZERO),
        };
        Self { answer, fresh_until: now + fresh, usable_until: now + fresh + stale }
    }

    fn age(&self, now: Instant) -> Option<Age> {
        match (now < self.fresh_until, now < self.usable_until) {
            (_, false) => None,
            (true, true) => Some(Age::Fresh),
            (false, true) => Some(Age::Stale),
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        matches!(self.answer, Answer::Allow(_)) && self.age(now).is_some()
    }

    fn postponed(self, now: Instant) -> Self {
        Self { fresh_until: now + ASK_AGAIN, ..self }
    }
}

impl From<Answer> for Permission {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Allow(site) => Self::Allow(site),
            Answer::Deny(denial) => Self::Deny(denial),
            Answer::SourceDown => Self::Unknown(Doubt::SourceDown),
            Answer::AskDown => Self::Unknown(Doubt::AskDown),
        }
    }
}

/// About 200 bytes each.
const MAX_ANSWERS: u64 = 100_000;
/// A source that is down is asked again soon, and not by every hello.
const DOUBT_LIFE: Duration = Duration::from_secs(1);

/// A stale answer is asked for again so soon, if nothing came of it.
const ASK_AGAIN: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::lookup::asked_site;

    #[test]
    fn each_answer_is_believed_for_its_own_time() {
        let seconds = Duration::from_secs;
        let answers = Answers::new(Lives { allow: seconds(60), stale: seconds(600), deny: seconds(10) });
        let (name, now) = (ServerName::parse("a.example").unwrap(), Instant::now());
        for (answer, life) in [(Answer::Deny(Denial::Foreign), 10), (Answer::SourceDown, 1)] {
            answers.remember(name.clone(), answer, now);
            assert!(answers.get(&name, now + seconds(life) * 9 / 10).is_some());
            assert!(answers.get(&name, now + seconds(life)).is_none());
        }
    }

    #[test]
    fn what_was_allowed_is_used_while_it_is_asked_for_again_and_not_for_ever() {
        let seconds = Duration::from_secs;
        let answers = Answers::new(Lives { allow: seconds(60), stale: seconds(600), deny: seconds(10) });
        let (name, start) = (ServerName::parse("a.example").unwrap(), Instant::now());
        let age = |at: u64| {
            answers.get(&name, start + seconds(at)).map(|(answer, age)| (Permission::from(answer), age))
        };
        answers.remember(name.clone(), Answer::Allow(Arc::new(asked_site(&name))), start);
        for (at, postpone, doubt, expected) in [
            (59, false, false, Some(Age::Fresh)),
            (60, false, false, Some(Age::Stale)),
            (61, true, false, Some(Age::Fresh)),
            (64, false, false, Some(Age::Stale)),
            (65, false, true, Some(Age::Fresh)),
            (659, true, true, Some(Age::Fresh)),
            (660, true, false, None),
        ] {
            if postpone {
                answers.postpone(&name, start + seconds(at));
            }
            if doubt {
                answers.remember(name.clone(), Answer::AskDown, start + seconds(at));
            }
            let seen = age(at);
            assert!(seen.iter().all(|(said, _)| matches!(said, Permission::Allow(_))), "{at} s: {seen:?}");
            assert_eq!(seen.map(|(_, age)| age), expected, "{at} s");
        }
        answers.remember(name.clone(), Answer::Deny(Denial::Foreign), start + seconds(70));
        answers.postpone(&name, start + seconds(71));
        assert!(matches!(age(71), Some((Permission::Deny(_), Age::Fresh))), "{:?}", age(71));
    }

    #[test]
    fn a_flood_of_names_is_forgotten_beyond_the_bound() {
        let answers = Answers::new(Lives {
            allow: Duration::from_mins(1),
            stale: Duration::ZERO,
            deny: Duration::from_secs(10),
        });
        let now = Instant::now();
        for n in 0..MAX_ANSWERS + 50_000 {
            let name = ServerName::parse(&format!("n{n}.example")).unwrap();
            answers.remember(name, Answer::Deny(Denial::Foreign), now);
        }
        answers.cache.run_pending_tasks();
        assert!(answers.cache.entry_count() <= MAX_ANSWERS);
    }
}
