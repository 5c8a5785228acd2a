//! Answers of the sources that are in no snapshot, each believed for a while.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::sync::Cache;

use super::{Denial, Doubt, Permission, Site};
use crate::name::ServerName;

/// A bounded cache; concurrent, and synchronous for the data plane.
pub(super) struct Answers {
    cache: Cache<ServerName, (Answer, Instant)>,
    lives: Lives,
}

/// How long answers are believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lives {
    pub(super) allow: Duration,
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

impl Answers {
    pub(super) fn new(lives: Lives) -> Self {
        let longest = lives.allow.max(lives.deny).max(DOUBT_LIFE);
        let cache = Cache::builder().max_capacity(MAX_ANSWERS).time_to_live(longest).build();
        Self { cache, lives }
    }

    pub(super) fn get(&self, name: &ServerName, now: Instant) -> Option<Answer> {
        self.cache.get(name).filter(|(_, until)| now < *until).map(|(answer, _)| answer)
    }

    pub(super) fn remember(&self, name: ServerName, answer: Answer, now: Instant) {
        let life = match answer {
            Answer::Allow(_) => self.lives.allow,
            Answer::Deny(_) => self.lives.deny,
            Answer::SourceDown | Answer::AskDown => DOUBT_LIFE,
        };
        self.cache.insert(name, (answer, now + life));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_believed_for_its_own_time() {
        let seconds = Duration::from_secs;
        let answers = Answers::new(Lives { allow: seconds(60), deny: seconds(10) });
        let (name, now) = (ServerName::parse("a.example").unwrap(), Instant::now());
        for (answer, life) in [(Answer::Deny(Denial::Foreign), 10), (Answer::SourceDown, 1)] {
            answers.remember(name.clone(), answer, now);
            assert!(answers.get(&name, now + seconds(life) * 9 / 10).is_some());
            assert!(answers.get(&name, now + seconds(life)).is_none());
        }
    }

    #[test]
    fn a_flood_of_names_is_forgotten_beyond_the_bound() {
        let answers = Answers::new(Lives { allow: Duration::from_mins(1), deny: Duration::from_secs(10) });
        let now = Instant::now();
        for n in 0..MAX_ANSWERS + 50_000 {
            let name = ServerName::parse(&format!("n{n}.example")).unwrap();
            answers.remember(name, Answer::Deny(Denial::Foreign), now);
        }
        answers.cache.run_pending_tasks();
        assert!(answers.cache.entry_count() <= MAX_ANSWERS);
    }
}
