//! A year of a fleet by the decisions alone, without a table or a clock: when names are due, what permission and failures mean, and what
//! the budgets allow. Instances die with names claimed, the CA is down at times, some names are set up wrongly for weeks, and some
//! leave.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::super::*;
use crate::{
    certificates::{
        failure::{OrderFailure, OrderFault},
        keyed_chain::Validity,
    },
    config::CertificatesConfig,
    domains::{Denial, DomainEntry},
    name::Pattern,
    store::state_table::{
        OrderRecord,
        budget::{Budget, Spend},
    },
};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const NAMES: usize = 20_000;
const CLAIM: Duration = Duration::from_mins(3);

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + HOUR * 500_000
}

/// Numbers by chance, from a seed: splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A name, and what the outside world is to it.
struct Site {
    record: OrderRecord,
    /// How long its certificates live.
    life: Duration,
    /// The CA cannot validate it in this time.
    wrong: (SystemTime, SystemTime),
    /// It is not allowed in this time.
    denied: (SystemTime, SystemTime),
    /// Whether its renewals name what they replace.
    is_exempt: bool,
    is_removed: bool,
}

impl Site {
    fn is_within(span: (SystemTime, SystemTime), now: SystemTime) -> bool {
        span.0 <= now && now < span.1
    }

    fn permission(&self, now: SystemTime) -> Permission {
        if Self::is_within(self.denied, now) {
            return Permission::Deny(Denial::NoEntry);
        }
        Permission::Allow(Arc::new(DomainEntry::for_tests(self.record.name.clone())))
    }

    /// A new certificate, from `now` on.
    fn issue(&mut self, now: SystemTime) {
        let life = Validity { not_before: now - HOUR, not_after: now - HOUR + self.life };
        self.record = OrderRecord {
            not_after: Some(life.not_after),
            renew_at: Some(life.renew_at(&self.record.name)),
            ..OrderRecord::new(&self.record.name)
        };
    }

    /// As the index shows it.
    fn due_at(&self) -> Option<SystemTime> {
        let renew_at = self.record.renew_at.filter(|_| self.record.stopped_at.is_none())?;
        Some(self.record.retry_at.map_or(renew_at, |retry_at| retry_at.max(renew_at)))
    }

    /// Whether an outage or a fault of the name's own in the last third of its life explains that it has no certificate.
    fn is_excused(&self, now: SystemTime) -> bool {
        let third = self.life / 3 + DAY * 2;
        [self.wrong, self.denied].iter().any(|span| span.0 < now && now < span.1 + third)
    }
}

/// The fleet's year, as far as it is counted.
#[derive(Debug, Default)]
struct Year {
    orders: u32,
    failed: u32,
    /// Claims, and dates written beside records.
    calls: u64,
    deaths: u32,
    deferred: u32,
    removed: u32,
    by_hour: HashMap<u64, u32>,
    counted: Vec<SystemTime>,
}

struct Fleet {
    chance: Chance,
    sites: Vec<Site>,
    due: BinaryHeap<Reverse<(SystemTime, usize)>>,
    settings: CertificatesConfig,
    /// When the budgets of renewals, of counted ones and of the account are full.
    full_at: [u64; 3],
    /// The CA does not answer in these times.
    outages: Vec<(SystemTime, SystemTime)>,
    resume_at: SystemTime,
    year: Year,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let never = (start() - DAY, start() - DAY);
        let mut sites = Vec::new();
        for n in 0..NAMES {
            let name = Pattern::parse(&format!("n{n}.example.com")).unwrap();
            let life = DAY * [6, 45, 90, 90][usize::try_from(chance.below(4)).unwrap()];
            let mut span = |per_mille, days: u64| {
                let begins = start() + HOUR * u32::try_from(chance.below(300 * 24)).unwrap();
                let lasts = HOUR * u32::try_from(1 + chance.below(days * 24)).unwrap();
                if chance.below(1_000) < per_mille { (begins, begins + lasts) } else { never }
            };
            let (wrong, denied) = (span(50, 20), span(50, 120));
            let is_exempt = chance.below(10) > 0;
            let record = OrderRecord::new(&name);
            let mut site = Site { record, life, wrong, denied, is_exempt, is_removed: false };
            // A fleet that has run for long.
            let age = life.mul_f64(f64::from(u32::try_from(chance.below(66)).unwrap()) / 100.0);
            site.issue(start() - age);
            sites.push(site);
        }
        let outages = (0..12)
            .map(|month| {
                let begins = start() + DAY * (month * 30) + HOUR * u32::try_from(chance.below(600)).unwrap();
                (begins, begins + HOUR * u32::try_from(1 + chance.below(24)).unwrap())
            })
            .collect();
        let due =
            sites.iter().enumerate().filter_map(|(n, site)| Some(Reverse((site.due_at()?, n)))).collect();
        Self {
            chance,
            sites,
            due,
            settings: CertificatesConfig::default(),
            full_at: [0; 3],
            outages,
            resume_at: start(),
            year: Year::default(),
        }
    }

    fn run(mut self) -> Year {
        while let Some(Reverse((at, n))) = self.due.pop() {
            if at >= start() + DAY * 365 {
                break;
            }
            // A look each minute, and not while nothing may be ordered.
            let now = at.max(self.resume_at) + Duration::from_secs(self.chance.below(60));
            if at < self.resume_at {
                self.due.push(Reverse((now, n)));
                continue;
            }
            self.look(n, now);
        }
        self.year
    }

    fn look(&mut self, n: usize, now: SystemTime) {
        self.year.calls += 1;
        // One in two hundred claims is of an instance that dies.
        if self.chance.below(200) == 0 {
            self.year.deaths += 1;
            self.due.push(Reverse((now + CLAIM, n)));
            return;
        }
        let site = &mut self.sites[n];
        let ends = site.record.not_after.unwrap();
        let outage = self.outages.iter().any(|span| span.0 < now && now < span.1 + DAY * 2);
        assert!(now < ends || site.is_excused(now) || outage, "{} has expired", site.record.name);
        match turn(&site.record, &site.permission(now), now) {
            Turn::Renew => self.order(n, now),
            Turn::Leave => self.due.push(Reverse((now + CLAIM, n))),
            Turn::Postpone { at, denied_since } => {
                self.year.calls += 1;
                site.record.denied_since = denied_since;
                self.due.push(Reverse((at, n)));
            }
            Turn::Remove => {
                (site.is_removed, site.record.renew_at) = (true, None);
                self.year.removed += 1;
            }
        }
    }

    fn order(&mut self, n: usize, now: SystemTime) {
        if let Some(until) = self.spend(n, now) {
            self.year.deferred += 1;
            self.due.push(Reverse((until.max(now + CLAIM), n)));
            return;
        }
        let site = &mut self.sites[n];
        self.year.orders += 1;
        let hour = now.duration_since(start()).unwrap().as_secs() / 3600;
        *self.year.by_hour.entry(hour).or_default() += 1;
        if !site.is_exempt {
            self.year.counted.push(now);
        }
        let fault = if self.outages.iter().any(|span| Site::is_within(*span, now)) {
            // The whole fleet leaves the CA alone for a while.
            self.resume_at = failure::paused_until(now, 8, None);
            Some(OrderFault::Issuer(self.resume_at))
        } else {
            Site::is_within(site.wrong, now).then_some(OrderFault::Name)
        };
        match fault {
            None => site.issue(now),
            Some(fault) => {
                self.year.failed += 1;
                let failure = OrderFailure { fault, problem: String::new() };
                site.record = failure::after(&site.record, &failure, now);
                let recent = failure::within_hour(&site.record.failed_at, now).count();
                assert!(recent <= 5, "{recent} orders of one name failed in an hour");
            }
        }
        self.due.extend(site.due_at().map(|at| Reverse((at, n))));
    }

    /// What [`renewal_limits`](crate::certificates::issue) says, by the same buckets.
    fn spend(&mut self, n: usize, now: SystemTime) -> Option<SystemTime> {
        let settings = &self.settings;
        let account = settings.orders_per_three_hours;
        let all = [(settings.renewals_per_hour, HOUR), (account / 2, HOUR * 3), (account, HOUR * 3)];
        let count = if self.sites[n].is_exempt { 1 } else { 3 };
        for ((most, per), full_at) in all.into_iter().zip(&mut self.full_at).take(count) {
            let budget = Budget { kind: "", scope: "", most, per, reserve: 0 };
            if let Spend::Until(until) = budget.spend_in_memory(full_at, 1, now) {
                return Some(until);
            }
        }
        None
    }
}

#[test]
fn no_certificate_of_a_reachable_name_expires_in_a_year_and_no_limit_is_passed() {
    for seed in 1..=2 {
        let year = Fleet::new(seed).run();
        let peak = year.by_hour.values().max().unwrap();
        for (n, first) in year.counted.iter().enumerate() {
            // The bucket is full at first, and fills again meanwhile.
            let within = year.counted[n..].iter().take_while(|at| **at < *first + HOUR * 3).count();
            assert!(within <= 300, "{within} counted orders in three hours");
        }
        let calls = year.calls * 100 / (12 * u64::try_from(NAMES).unwrap());
        println!(
            "seed {seed}: {} orders, {} failed, peak {peak} an hour, {calls} claims and dates per 100 names and month, \
             {} deaths with a name claimed, {} deferred, {} removed",
            year.orders, year.failed, year.deaths, year.deferred, year.removed
        );
        assert!(*peak <= 2_000, "{peak} orders in an hour");
        assert!(
            year.deaths > 500 && year.failed > 1_000 && year.removed > 100 && year.deferred > 0,
            "seed {seed}"
        );
    }
}
