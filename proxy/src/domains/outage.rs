//! Since when the table has not answered, by feed and by look-up: a role may allow the one and not the other.

use std::time::{Duration, Instant};

use super::ListingProgress;

/// Failures in a row. Pure: `now` is an argument.
#[derive(Debug, Default)]
pub(super) struct Outage {
    feed: Option<Instant>,
    lookups: Option<Instant>,
}

impl Outage {
    /// The feed was read, or could not be.
    pub(super) fn feed_read(&mut self, failed: bool, now: Instant) {
        note(&mut self.feed, failed, now);
    }

    /// A name was looked up, or could not be.
    pub(super) fn looked_up(&mut self, failed: bool, now: Instant) {
        note(&mut self.lookups, failed, now);
    }

    /// Whether the last look-up failed while the feed is read: nobody may ask again for long, so that the outage must be looked after.
    pub(super) fn lookups_alone_fail(&self) -> bool {
        self.lookups.is_some() && self.feed.is_none()
    }

    /// Whether either has failed for longer than retries and a hand-over of the service take.
    pub(super) fn lasts(&self, now: Instant) -> bool {
        let lasts =
            |since: Option<Instant>| since.is_some_and(|since| now.saturating_duration_since(since) >= GRACE);
        lasts(self.feed) || lasts(self.lookups)
    }
}

impl ListingProgress {
    /// A first reading failed; later failures take nothing away that was read.
    pub(super) fn fail(&mut self) -> bool {
        let loading = *self == Self::Loading;
        if loading {
            *self = Self::SourceDown;
        }
        loading
    }

    /// A copy is served meanwhile; not once the lists were read.
    pub(super) fn restore(&mut self) -> bool {
        let is_unread = matches!(self, Self::Loading | Self::SourceDown);
        if is_unread {
            *self = Self::Restored;
        }
        is_unread
    }

    /// Once the lists were read, whether an outage of the table lasts decides.
    pub(super) fn follow(&mut self, lasts: bool) -> bool {
        let next = match *self {
            Self::Loaded | Self::Degraded if lasts => Self::Degraded,
            Self::Loaded | Self::Degraded => Self::Loaded,
            Self::Loading | Self::SourceDown | Self::Restored => *self,
        };
        std::mem::replace(self, next) != next
    }
}

fn note(since: &mut Option<Instant>, failed: bool, now: Instant) {
    *since = if failed { since.or(Some(now)) } else { None };
}

const GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_either_is_one_once_it_lasts_and_over_with_the_first_answer() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!outage.lasts(at(100)));
        outage.feed_read(true, at(0));
        outage.feed_read(true, at(9));
        assert!(!outage.lasts(at(9)) && outage.lasts(at(10)));
        outage.feed_read(false, at(11));
        assert!(!outage.lasts(at(30)) && !outage.lookups_alone_fail());
        outage.looked_up(true, at(30));
        outage.feed_read(false, at(40));
        assert!(outage.lasts(at(40)) && outage.lookups_alone_fail(), "the feed says nothing of look-ups");
        outage.looked_up(false, at(41));
        assert!(!outage.lasts(at(60)));
    }
}
