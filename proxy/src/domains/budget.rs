//! How many names may be looked up: in total, and for one client (IPv4 /32, IPv6 /64). Pure: `now` is an argument.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use proxy_common::budget::BudgetRate;

use super::Caller;
use crate::{clock::BudgetClock, keyed_counts::network};

/// Budgets of look-ups. What is spent is stored as by [`BudgetRate::take`], on a clock that begins with the budgets.
///
/// Invariant: holds at most [`MAX_SOURCES`] sources; beyond them new sources share one (`sources_are_bounded_and_strangers_share`).
#[derive(Debug)]
pub(crate) struct LookupBudgets {
    clock: BudgetClock,
    total: BudgetRate,
    total_spent: u64,
    each: BudgetRate,
    sources: HashMap<IpAddr, u64>,
    swept_at: u64,
    strangers_spent: u64,
}

/// Which budget has no room for a look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    Source,
    Total,
}

/// Where a look-up is charged beside the total.
#[derive(Debug, Clone, Copy)]
enum LookupAccount {
    Source(IpAddr),
    /// Of those for whom there is no room.
    Strangers,
    None,
}

/// What the budgets are once a look-up was charged.
struct Charge {
    account: LookupAccount,
    account_spent: u64,
    total_spent: u64,
}

impl LookupBudgets {
    /// `start` is now.
    pub(crate) fn new(total_per_second: u32, source_per_second: u32, start: Instant) -> Self {
        let rate =
            |per_second: u32| BudgetRate { per_second, burst: per_second.saturating_mul(BURST_SECONDS) };
        Self {
            clock: BudgetClock::new(start),
            total: rate(total_per_second),
            total_spent: 0,
            each: rate(source_per_second),
            sources: HashMap::new(),
            swept_at: 0,
            strangers_spent: 0,
        }
    }

    /// Charges a look-up: nothing is charged unless both budgets have room.
    pub(crate) fn admit(&mut self, caller: Caller, now: Instant) -> Result<(), Spent> {
        let now = self.clock.at(now);
        self.make_room(caller, now);
        let Charge { account, account_spent, total_spent } = self.charge(caller, now)?;
        self.total_spent = total_spent;
        match account {
            LookupAccount::Source(source) => {
                self.sources.insert(source, account_spent);
            }
            LookupAccount::Strangers => self.strangers_spent = account_spent,
            LookupAccount::None => {}
        }
        Ok(())
    }

    /// What [`LookupBudgets::admit`] would say, without charging anything.
    pub(super) fn would_admit(&self, caller: Caller, now: Instant) -> bool {
        self.charge(caller, self.clock.at(now)).is_ok()
    }

    fn charge(&self, caller: Caller, now: u64) -> Result<Charge, Spent> {
        let (account, spent) = self.account(caller);
        let account_spent = match account {
            LookupAccount::None => 0,
            LookupAccount::Source(_) | LookupAccount::Strangers => {
                self.each.take(spent, now).ok_or(Spent::Source)?
            }
        };
        let total_spent = self.total.take(self.total_spent, now).ok_or(Spent::Total)?;
        Ok(Charge { account, account_spent, total_spent })
    }

    fn account(&self, caller: Caller) -> (LookupAccount, u64) {
        let source = match caller {
            Caller::Client(from) => network(from),
            Caller::Internal => return (LookupAccount::None, 0),
        };
        match self.sources.get(&source) {
            Some(spent) => (LookupAccount::Source(source), *spent),
            None if self.sources.len() < MAX_SOURCES => (LookupAccount::Source(source), 0),
            None => (LookupAccount::Strangers, self.strangers_spent),
        }
    }

    /// Forgets sources whose budget is full again; not at every new source's ClientHello, since that is a loop over all of them.
    fn make_room(&mut self, caller: Caller, now: u64) {
        let is_due = now.saturating_sub(self.swept_at) >= SWEEP_PERIOD_NS;
        if is_due && matches!(self.account(caller).0, LookupAccount::Strangers) {
            self.sources.retain(|_, spent| *spent > now);
            self.swept_at = now;
        }
    }
}

/// How much of its rate a budget holds at once.
const BURST_SECONDS: u32 = 2;
const MAX_SOURCES: usize = 16_384;
const SWEEP_PERIOD_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    fn client(from: &str) -> Caller {
        Caller::Client(from.parse().unwrap())
    }

    fn budgets(total: u32, each: u32) -> (LookupBudgets, Instant) {
        let now = Instant::now();
        (LookupBudgets::new(total, each, now), now)
    }

    fn admitted(budgets: &mut LookupBudgets, from: &str, times: usize, now: Instant) -> usize {
        let from = client(from);
        (0..times).filter(|_| budgets.admit(from, now).is_ok()).count()
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let (mut budgets, start) = budgets(1000, 10);
        for (at, admissions) in [(0, 20), (0, 0), (1_000, 10), (1_050, 0), (1_100, 1), (60_000, 20)] {
            let now = start + Duration::from_millis(at);
            assert_eq!(admitted(&mut budgets, "192.0.2.1", 100, now), admissions, "at {at} ms");
        }
    }

    #[test]
    fn a_budget_is_looked_at_without_being_charged() {
        let (mut budgets, now) = budgets(1000, 10);
        let from = client("192.0.2.1");
        for left in (1..=20).rev() {
            assert!(budgets.would_admit(from, now), "{left} left");
            assert_eq!(budgets.admit(from, now), Ok(()));
        }
        assert!(!budgets.would_admit(from, now));
        assert!(budgets.would_admit(client("192.0.2.2"), now), "another source");
        let (mut spent, other) = (LookupBudgets::new(1, 10, now), client("192.0.2.3"));
        assert_eq!(admitted(&mut spent, "192.0.2.1", 20, now), 2);
        assert!(!spent.would_admit(other, now), "the total is spent");
    }

    #[test]
    fn many_sources_share_the_total() {
        let (mut budgets, now) = budgets(50, 10);
        let all: usize = (0..100).map(|n| admitted(&mut budgets, &format!("192.0.2.{n}"), 5, now)).sum();
        assert_eq!(all, 100);
        assert_eq!(budgets.admit(Caller::Client(Ipv4Addr::LOCALHOST.into()), now), Err(Spent::Total));
    }

    #[test]
    fn own_look_ups_draw_on_the_total_alone() {
        let (mut budgets, now) = budgets(50, 1);
        let own = (0..1000).filter(|_| budgets.admit(Caller::Internal, now).is_ok()).count();
        assert_eq!(own, 100);
        assert_eq!(budgets.admit(client("192.0.2.1"), now), Err(Spent::Total));
    }

    #[test]
    fn sources_are_bounded_and_strangers_share() {
        let (mut budgets, now) = budgets(u32::MAX, 10);
        let address = |n: u32| Caller::Client(IpAddr::from(Ipv4Addr::from_bits(n)));
        for n in 0..200_000 {
            let _ = budgets.admit(address(n), now);
        }
        assert_eq!(budgets.sources.len(), MAX_SOURCES);
        assert_eq!(budgets.admit(address(300_000), now), Err(Spent::Source));
        let later = now + Duration::from_secs(3);
        assert_eq!(budgets.admit(address(300_001), later), Ok(()));
        assert!(budgets.sources.len() < MAX_SOURCES, "sources within their rate are forgotten");
    }

    #[test]
    fn a_rate_of_nothing_admits_nothing() {
        let (mut budgets, now) = budgets(0, 0);
        assert_eq!(admitted(&mut budgets, "192.0.2.1", 10, now), 0);
    }
}
