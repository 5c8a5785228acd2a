use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn scope(name: &str) -> TicketScope {
    TicketScope::of(&ServerName::parse(name).unwrap(), TlsVersion::Tls12)
}

fn key() -> TicketKey {
    TicketKey::random(at(0), at(10), at(20)).unwrap()
}

#[test]
fn a_ticket_opens_for_its_name_alone() {
    let (key, other) = (key(), key());
    let (a, b) = (scope("a.example"), scope("b.example"));
    let ticket = key.seal(&a, b"session").unwrap();
    let (name, rest) = KeyName::split(&ticket).unwrap();
    assert_eq!(name, key.name);
    assert_eq!(key.open(&a, rest).as_deref(), Some(&b"session"[..]));
    assert_eq!(key.open(&b, rest), None);
    assert_eq!(other.open(&a, rest), None);
    let raised = TicketScope::of(&ServerName::parse("a.example").unwrap(), TlsVersion::Tls13);
    assert_eq!(key.open(&raised, rest), None);
    assert_ne!(key.seal(&a, b"session").unwrap(), ticket, "a ticket is never made twice");
}

#[test]
fn no_secret_is_shown() {
    let key = key();
    let shown = format!("{:?}", KeySet::from_iter([key]));
    assert!(shown.contains("TicketSecret(32 bytes)"), "{shown}");
}

#[test]
fn what_no_instance_sealed_is_counted_as_that() {
    let keys = TicketKeys::new(Duration::from_hours(12), &Registry::new()).unwrap();
    let scope = scope("a.example");
    let (how, ticket) = keys.seal(&scope, b"session");
    let ticket = ticket.unwrap();
    assert_eq!(how, TicketUse::SealLocal);
    assert_eq!(keys.open(&scope, &ticket).unwrap().0, TicketUse::OpenLocal);
    let now = clock::wall();
    let period = Duration::from_hours(1);
    let shared = || [TicketKey::random(now - period, now + period, now + 2 * period).unwrap()].into_iter();
    keys.share(shared().collect());
    let (how, of_first) = keys.seal(&scope, b"session");
    assert_eq!(how, TicketUse::SealShared);
    assert_eq!(keys.open(&scope, of_first.as_ref().unwrap()).unwrap().0, TicketUse::OpenShared);
    assert_eq!(keys.open(&scope, &ticket).unwrap().0, TicketUse::OpenLocal);
    keys.share(shared().collect());
    assert_eq!(keys.open(&scope, &of_first.unwrap()), Err(TicketUse::UnknownKey));
    assert_eq!(keys.open(&scope, b"short"), Err(TicketUse::Invalid));
    assert_eq!(keys.open(&scope, &vec![0; 1 << 16]), Err(TicketUse::Invalid));
    assert_eq!(keys.seal(&scope, &vec![0; 1 << 16]), (TicketUse::SealNone, None));
}

#[test]
fn a_key_of_the_fleet_that_is_too_old_gives_way_to_one_of_the_process() {
    let keys = TicketKeys::new(Duration::from_hours(12), &Registry::new()).unwrap();
    let (now, hour) = (clock::wall(), Duration::from_hours(1));
    let over = TicketKey::random(now - 12 * hour, now - hour, now + 11 * hour).unwrap();
    let of_over = over.seal(&scope("a.example"), b"session").unwrap();
    keys.share([over].into_iter().collect());
    assert_eq!(keys.source(), TicketKeySource::Local);
    assert_eq!(keys.seal(&scope("a.example"), b"session").0, TicketUse::SealLocal);
    assert_eq!(keys.open(&scope("a.example"), &of_over).unwrap().0, TicketUse::OpenShared);
    let ticketer = keys.ticketer(&ServerName::parse("a.example").unwrap(), TlsVersion::Tls12);
    let life = u64::from(ticketer.lifetime());
    assert!((86_000..=86_400 - 30).contains(&life), "{life} s");
}

#[test]
fn keys_that_open_nothing_any_more_are_dropped() {
    let keys = TicketKeys::new(Duration::from_hours(12), &Registry::new()).unwrap();
    let (now, hour) = (clock::wall(), Duration::from_hours(1));
    let key = |opens_until| TicketKey::random(now - 24 * hour, now - 12 * hour, opens_until).unwrap();
    keys.share([key(now - hour), key(now + hour)].into_iter().collect());
    keys.drop_expired();
    let left: Vec<_> = keys.shared().iter().map(|key| key.opens_until).collect();
    assert_eq!(left, [now + hour]);
    assert_eq!(keys.shared().without_expired(now), None);
}

proptest! {
    #[test]
    fn a_ticket_with_a_changed_byte_opens_nothing(
        session in proptest::collection::vec(any::<u8>(), 0..300), place: prop::sample::Index, flip in 1_u8..,
    ) {
        let (key, scope) = (key(), scope("a.example"));
        let mut ticket = key.seal(&scope, &session).unwrap();
        for cut in 0..ticket.len() {
            let opened = KeyName::split(&ticket[..cut]).and_then(|(_, rest)| key.open(&scope, rest));
            prop_assert_eq!(opened, None);
        }
        let place = place.index(ticket.len());
        ticket[place] ^= flip;
        let (name, rest) = KeyName::split(&ticket).unwrap();
        prop_assert!(name != key.name || key.open(&scope, rest).is_none());
    }
}

/// An instance: a clock that is ahead by so much, what it read last, and when it reads again by that clock.
struct Instance {
    ahead: Duration,
    known: KeySet,
    reads_at: SystemTime,
}

/// Deterministic, from 0 to 1.
struct Fractions(u64);

impl Fractions {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

struct Ticket {
    key: KeyName,
    dies_at: SystemTime,
}

/// What the fleet of a simulation holds in common.
struct Fleet {
    rotation: Rotation,
    table: KeySet,
    instances: Vec<Instance>,
    fractions: Fractions,
}

impl Fleet {
    fn of(instances: u32, period: Duration, difference: Duration) -> Self {
        let mut fractions = Fractions(42);
        let instance = |n| {
            // The first and the last clock are as far apart as is allowed.
            let ahead = difference * n / (instances - 1);
            Instance { ahead, known: KeySet::default(), reads_at: at(0) + Duration::from_secs(u64::from(n)) }
        };
        let instances = (0..instances).map(instance).collect();
        fractions.next();
        Self { rotation: Rotation::shared(period), table: KeySet::default(), instances, fractions }
    }

    /// All instances whose time has come read the table, and replace its keys where that is due.
    fn turn(&mut self, real: SystemTime, table_is_up: bool) {
        for instance in &mut self.instances {
            let now = real + instance.ahead;
            if now < instance.reads_at {
                continue;
            }
            if table_is_up {
                if let RotationStep::Publish { seals_from, seals_until, opens_until } =
                    self.rotation.step(&self.table, now)
                {
                    let key = TicketKey::random(seals_from, seals_until, opens_until).unwrap();
                    self.table = self.table.followed_by(key, now);
                }
                instance.known = self.table.clone();
            }
            let pause = self.rotation.pause(&instance.known, now, self.fractions.next());
            instance.reads_at = now + pause;
        }
    }

    /// The key with which each instance seals at `real`; by how many instances each is used.
    fn sealing(&self, real: SystemTime) -> BTreeMap<[u8; 16], (usize, Duration)> {
        let mut used = BTreeMap::new();
        for instance in &self.instances {
            let now = real + instance.ahead;
            if let Some(key) = instance.known.sealing(now) {
                let life = self.rotation.life(key, now);
                let entry = used.entry(key.name.0).or_insert((0, life));
                *entry = (entry.0 + 1, entry.1.max(life));
            }
        }
        used
    }

    fn assert_opened_everywhere(&self, ticket: KeyName, real: SystemTime) {
        for (n, instance) in self.instances.iter().enumerate() {
            let opens = instance.known.opening(ticket, real + instance.ahead).is_some();
            assert!(opens, "instance {n} refuses a ticket at {real:?}");
        }
    }
}

#[test]
fn fifty_instances_with_skewed_clocks_open_each_others_tickets() {
    let (period, step) = (Duration::from_hours(12), Duration::from_secs(10));
    let mut fleet = Fleet::of(50, period, period / 1440);
    let mut tickets: Vec<Ticket> = Vec::new();
    let mut sealed_by: BTreeMap<[u8; 16], (SystemTime, SystemTime)> = BTreeMap::new();
    let (mut real, begun) = (at(0), at(0));
    let mut without = Duration::ZERO;
    while real < begun + 5 * period {
        fleet.turn(real, true);
        let used = fleet.sealing(real);
        if used.values().map(|(instances, _)| instances).sum::<usize>() < fleet.instances.len() {
            without += step;
        }
        for (key, (_, life)) in used {
            let first = sealed_by.entry(key).or_insert((real, real));
            first.1 = real;
            // Whoever seals, everybody opens from this moment to the ticket's end.
            fleet.assert_opened_everywhere(KeyName(key), real);
            tickets.push(Ticket { key: KeyName(key), dies_at: real + life });
        }
        // Of all that die at this moment or later, the latest matter: each is checked just before its end.
        tickets.retain(|ticket| {
            let is_dying = ticket.dies_at <= real + step;
            if is_dying && ticket.dies_at > real {
                fleet.assert_opened_everywhere(ticket.key, real);
            }
            !is_dying
        });
        assert!(fleet.table.iter().count() <= 4, "keys pile up");
        real += step;
    }
    assert!(sealed_by.len() >= 5, "{} keys in five periods", sealed_by.len());
    for (first, last) in sealed_by.values() {
        let span = last.duration_since(*first).unwrap();
        assert!(span <= period + period / 1440, "a key seals for {span:?}");
    }
    assert!(without <= Duration::from_mins(2), "{without:?} without a shared key");
}

#[test]
fn instances_go_on_while_the_table_is_down_and_stop_to_seal_with_old_keys() {
    let (period, step) = (Duration::from_hours(12), Duration::from_mins(1));
    let mut fleet = Fleet::of(10, period, Duration::from_secs(20));
    // Down for thirty hours from the middle of the second period.
    let (down, up) = (at(0) + period * 3 / 2, at(0) + period * 4);
    let mut real = at(0);
    let (mut sealed_while_down, mut silent) = (Duration::ZERO, Duration::ZERO);
    while real < at(0) + 6 * period {
        let is_down = (down..up).contains(&real);
        fleet.turn(real, !is_down);
        let used = fleet.sealing(real);
        if is_down && !used.is_empty() {
            sealed_while_down += step;
        }
        if is_down && used.is_empty() {
            silent += step;
        }
        let is_settled = real > up + Duration::from_mins(5);
        assert!(!is_settled || used.values().map(|(n, _)| n).sum::<usize>() == 10, "at {real:?}");
        for key in used.into_keys() {
            fleet.assert_opened_everywhere(KeyName(key), real);
        }
        real += step;
    }
    // The rest of the current key's period, and all of the next one's, which was known already.
    assert!(sealed_while_down > period && sealed_while_down < period * 2, "{sealed_while_down:?}");
    assert!(silent > period / 2, "{silent:?}: a key lives on");
}

#[test]
fn keys_of_the_process_seal_from_the_start_and_one_follows_another() {
    let (rotation, mut keys) = (Rotation::local(Duration::from_hours(1)), KeySet::default());
    let mut now = at(0);
    while now < at(10 * 3600) {
        for _ in 0..2 {
            if let RotationStep::Publish { seals_from, seals_until, opens_until } = rotation.step(&keys, now)
            {
                let key = TicketKey::random(seals_from, seals_until, opens_until).unwrap();
                keys = keys.followed_by(key, now);
            }
        }
        assert!(keys.sealing(now).is_some(), "no key at {now:?}");
        assert!(keys.iter().count() <= 4);
        now += Duration::from_mins(7);
    }
}
