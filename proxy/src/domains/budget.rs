//! How many names may be looked up: in total, and for one client (IPv4 /32, IPv6 /64). Pure: `now` is an argument.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::keyed_counts::network;

/// A generic cell rate algorithm (ITU-T I.371, Annex A): one instant says how far ahead of its rate a source is.
#[derive(Debug, Clone, Copy)]
struct LookupRate {
    period: Duration,
    /// How far ahead a source may be: its burst.
    tolerance: Duration,
}

/// Budgets of look-ups.
///
/// Invariant: holds at most [`MAX_SOURCES`] sources; beyond them strangers share one (`sources_are_bounded_and_strangers_share`).
#[derive(Debug)]
pub(super) struct Budgets {
    total: LookupRate,
    total_until: Option<Instant>,
    each: LookupRate,
    sources: HashMap<IpAddr, Instant>,
    swept_at: Option<Instant>,
    strangers_until: Option<Instant>,
}

/// Whether a look-up may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Admit,
    SourceSpent,
    TotalSpent,
}

impl LookupRate {
    fn new(per_second: u32) -> Self {
        // A rate of nothing admits its burst of one once in a long while instead of dividing by zero.
        let period = Duration::from_secs(1).checked_div(per_second).unwrap_or(Duration::from_hours(1));
        Self { period, tolerance: period.saturating_mul(per_second.saturating_mul(2).saturating_sub(1)) }
    }

    /// The source's new instant if it may go on at `now`.
    fn admit(self, until: Option<Instant>, now: Instant) -> Option<Instant> {
        let until = until.map_or(now, |until| until.max(now));
        (until.duration_since(now) <= self.tolerance).then(|| until + self.period)
    }
}

impl Budgets {
    pub(super) fn new(total_per_second: u32, source_per_second: u32) -> Self {
        Self {
            total: LookupRate::new(total_per_second),
            total_until: None,
            each: LookupRate::new(source_per_second),
            sources: HashMap::new(),
            swept_at: None,
            strangers_until: None,
        }
    }

    /// Charges a look-up for `from`: nothing is charged unless both budgets have room.
    pub(super) fn admit(&mut self, from: IpAddr, now: Instant) -> Admission {
        let source = network(from);
        if !self.sources.contains_key(&source) {
            self.make_room(now);
        }
        let known = self.sources.get(&source).copied();
        let is_stranger = known.is_none() && self.sources.len() >= MAX_SOURCES;
        let held = if is_stranger { self.strangers_until } else { known };
        let Some(source_until) = self.each.admit(held, now) else { return Admission::SourceSpent };
        let Some(total_until) = self.total.admit(self.total_until, now) else {
            return Admission::TotalSpent;
        };
        self.total_until = Some(total_until);
        if is_stranger {
            self.strangers_until = Some(source_until);
        } else {
            self.sources.insert(source, source_until);
        }
        Admission::Admit
    }

    /// What [`Budgets::admit`] would say, without charging anything.
    pub(super) fn would_admit(&self, from: IpAddr, now: Instant) -> bool {
        let known = self.sources.get(&network(from)).copied();
        let is_stranger = known.is_none() && self.sources.len() >= MAX_SOURCES;
        let held = if is_stranger { self.strangers_until } else { known };
        self.each.admit(held, now).is_some() && self.total.admit(self.total_until, now).is_some()
    }

    /// Forgets sources that are within their rate; not at every stranger's hello, since that is a loop over all of them.
    fn make_room(&mut self, now: Instant) {
        let is_due = self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_PERIOD);
        if self.sources.len() >= MAX_SOURCES && is_due {
            self.sources.retain(|_, until| *until > now);
            self.swept_at = Some(now);
        }
    }
}

const MAX_SOURCES: usize = 16_384;
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn admitted(budgets: &mut Budgets, from: &str, times: usize, now: Instant) -> usize {
        let from = from.parse().unwrap();
        (0..times).filter(|_| budgets.admit(from, now) == Admission::Admit).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let (mut budgets, start) = (Budgets::new(1000, 10), Instant::now());
        for (at, admissions) in [(0, 20), (0, 0), (1_000, 10), (1_050, 0), (1_100, 1), (60_000, 20)] {
            let now = start + Duration::from_millis(at);
            assert_eq!(admitted(&mut budgets, "192.0.2.1", 100, now), admissions, "at {at} ms");
        }
    }

    #[test]
    fn a_budget_is_looked_at_without_being_charged() {
        let (mut budgets, now) = (Budgets::new(1000, 10), Instant::now());
        let from = "192.0.2.1".parse().unwrap();
        for left in (1..=20).rev() {
            assert!(budgets.would_admit(from, now), "{left} left");
            assert_eq!(budgets.admit(from, now), Admission::Admit);
        }
        assert!(!budgets.would_admit(from, now));
        assert!(budgets.would_admit("192.0.2.2".parse().unwrap(), now), "another source");
        let (mut spent, other) = (Budgets::new(1, 10), "192.0.2.3".parse().unwrap());
        assert_eq!(admitted(&mut spent, "192.0.2.1", 20, now), 2);
        assert!(!spent.would_admit(other, now), "the total is spent");
    }

    #[test]
    fn many_sources_share_the_total() {
        let (mut budgets, now) = (Budgets::new(50, 10), Instant::now());
        let all: usize = (0..100).map(|n| admitted(&mut budgets, &format!("192.0.2.{n}"), 5, now)).sum();
        assert_eq!(all, 100);
        assert_eq!(budgets.admit(Ipv4Addr::LOCALHOST.into(), now), Admission::TotalSpent);
    }

    #[test]
    fn a_source_is_an_address_of_four_or_a_prefix_of_six() {
        for (a, b, same) in [
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(network(a.parse().unwrap()) == network(b.parse().unwrap()), same, "{a} {b}");
        }
    }

    #[test]
    fn sources_are_bounded_and_strangers_share() {
        let (mut budgets, now) = (Budgets::new(u32::MAX, 10), Instant::now());
        let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        for n in 0..200_000 {
            budgets.admit(address(n), now);
        }
        assert_eq!(budgets.sources.len(), MAX_SOURCES);
        assert_eq!(budgets.admit(address(300_000), now), Admission::SourceSpent);
        let later = now + Duration::from_secs(3);
        assert_eq!(budgets.admit(address(300_001), later), Admission::Admit);
        assert!(budgets.sources.len() < MAX_SOURCES, "sources within their rate are forgotten");
    }

    #[test]
    fn a_rate_of_nothing_does_not_divide_by_it() {
        let (mut budgets, now) = (Budgets::new(0, 0), Instant::now());
        assert_eq!(admitted(&mut budgets, "192.0.2.1", 10, now), 1);
    }
}
