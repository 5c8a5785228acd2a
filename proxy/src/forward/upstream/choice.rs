//! Which destination a request goes to. Pure.

use std::{fmt::Display, net::IpAddr};

use crate::config::Balance;

/// What a choice looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Requests that are there now.
    pub(super) in_flight: usize,
    /// Its share of the requests, in proportion to the others'.
    pub(super) weight: f64,
    pub(super) standing: Standing,
    /// Whether one more may go there now.
    pub(super) has_room: bool,
    /// Its place among the others for one client.
    pub(super) rank: u64,
}

/// Whether a request may go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Answers,
    /// Where nothing else is left: it may be our own network that fails.
    Ejected,
    /// This request has been there.
    Tried,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// To the one at this place.
    Take(usize),
    /// To whichever of these has room first.
    Wait(Vec<usize>),
}

/// Which of `loads` to take, or to wait for; none if all were tried. Those that answer and are full are waited for while others are ejected:
/// they have work, and the others most likely none. `draws` are random.
pub(super) fn choose(loads: &[Load], balance: Balance, draws: [f64; 2]) -> Option<Choice> {
    let standing = [Standing::Answers, Standing::Ejected]
        .into_iter()
        .find(|standing| loads.iter().any(|load| load.standing == *standing))?;
    let best = || loads.iter().enumerate().filter(move |(_, load)| load.standing == standing);
    let among = || best().filter(|(_, load)| load.has_room);
    if among().next().is_none() {
        return Some(Choice::Wait(best().map(|(index, _)| index).collect()));
    }
    let taken = match balance {
        Balance::LeastRequests => {
            // Two at random, and the less busy one: as good as the best of all, without a herd that follows it (Mitzenmacher, "The power
            // of two choices in randomized load balancing", 2001).
            let first = drawn(among(), draws[0])?;
            let second = drawn(among().filter(|(index, _)| *index != first), draws[1]).unwrap_or(first);
            let busy = |index: usize| loads.get(index).map_or(f64::MAX, Load::requests_by_weight);
            Some(if busy(second) < busy(first) { second } else { first })
        }
        Balance::ClientAddress => {
            let best = among().max_by(|(_, one), (_, other)| one.score().total_cmp(&other.score()));
            best.map(|(index, _)| index)
        }
    };
    taken.map(Choice::Take)
}

/// One of them, each by its weight.
fn drawn<'a>(among: impl Iterator<Item = (usize, &'a Load)> + Clone, draw: f64) -> Option<usize> {
    let total: f64 = among.clone().map(|(_, load)| load.weight).sum();
    let (mut left, mut last) = (draw * total, None);
    for (index, load) in among {
        last = Some(index);
        left -= load.weight;
        if left < 0.0 {
            break;
        }
    }
    last
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn requests_by_weight(&self) -> f64 {
        self.in_flight as f64 / self.weight
    }

    /// Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005): when one goes, only its clients
    /// move.
    #[expect(clippy::cast_precision_loss, reason = "of a hash, the upper bits are as good as all")]
    fn score(&self) -> f64 {
        let place = self.rank as f64 / u64::MAX as f64;
        -self.weight / place.min(1.0 - f64::EPSILON).ln()
    }
}

/// What tells a destination from others in ranks, by its endpoint's URL and its address: several endpoints may have one address.
pub(super) fn identity(endpoint: &impl Display, address: &impl Display) -> u64 {
    hash(&[format!("{endpoint} {address}").as_bytes()])
}

/// Where the destination with `identity` stands for one client: the same on every instance of the fleet, and after a restart.
pub(super) fn rank(client: IpAddr, identity: u64) -> u64 {
    let identity = identity.to_be_bytes();
    match client {
        IpAddr::V4(client) => hash(&[&client.octets(), &identity]),
        IpAddr::V6(client) => hash(&[&client.octets(), &identity]),
    }
}

/// FNV-1a of `parts` behind each other, mixed at the end. Who chooses the input gains nothing by a collision.
fn hash(parts: &[&[u8]]) -> u64 {
    let fnv = parts.iter().copied().flatten().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: usize, weight: f64, standing: Standing) -> Load {
        Load { in_flight, weight, standing, has_room: true, rank: 0 }
    }

    fn taken(loads: &[Load], balance: Balance, draws: [f64; 2]) -> usize {
        match choose(loads, balance, draws) {
            Some(Choice::Take(index)) => index,
            other => panic!("{other:?}"),
        }
    }

    /// How often each of `loads` is chosen.
    fn chosen(loads: &[Load], times: u32) -> Vec<u32> {
        let mut counts = vec![0; loads.len()];
        let side = f64::from(times).sqrt();
        for n in 0..times {
            let n = f64::from(n);
            let draws = [(n / side).floor() / side, (n % side) / side];
            counts[taken(loads, Balance::LeastRequests, draws)] += 1;
        }
        counts
    }

    #[test]
    fn the_idle_are_chosen_by_weight_and_the_less_busy_before_the_busy() {
        let answers = Standing::Answers;
        let counts = chosen(&[load(0, 1.0, answers), load(0, 3.0, answers)], 10_000);
        assert_eq!(counts, [2500, 7500]);
        let counts = chosen(&[load(9, 1.0, answers), load(1, 1.0, answers), load(5, 1.0, answers)], 9_000);
        assert!(counts[0] == 0 && counts[1] > counts[2] && counts[2] > 2_000, "{counts:?}");
        let counts = chosen(&[load(4, 1.0, answers), load(8, 4.0, answers)], 100);
        assert_eq!(counts[0], 0, "two by weight are less than four");
    }

    #[test]
    fn what_was_tried_is_not_chosen_and_what_is_ejected_only_last() {
        let (answers, ejected, tried) =
            (load(9, 1.0, Standing::Answers), load(0, 1.0, Standing::Ejected), load(0, 1.0, Standing::Tried));
        for balance in [Balance::LeastRequests, Balance::ClientAddress] {
            for draw in [0.0, 0.5, 0.999_999] {
                let chosen = |loads: &[Load]| choose(loads, balance, [draw; 2]);
                assert_eq!(chosen(&[ejected, answers, tried]), Some(Choice::Take(1)));
                assert_eq!(chosen(&[tried, ejected]), Some(Choice::Take(1)));
                assert_eq!(chosen(&[tried, tried]), None);
                assert_eq!(chosen(&[]), None);
            }
        }
    }

    #[test]
    fn what_is_full_is_waited_for_only_where_nothing_of_its_standing_has_room() {
        let full = |standing| Load { has_room: false, ..load(0, 1.0, standing) };
        let (answers, ejected, tried) =
            (load(9, 1.0, Standing::Answers), load(0, 1.0, Standing::Ejected), full(Standing::Tried));
        let (busy, busy_ejected) = (full(Standing::Answers), full(Standing::Ejected));
        for balance in [Balance::LeastRequests, Balance::ClientAddress] {
            for draw in [0.0, 0.5, 0.999_999] {
                let chosen = |loads: &[Load]| choose(loads, balance, [draw; 2]).unwrap();
                assert_eq!(chosen(&[busy, answers, busy]), Choice::Take(1));
                assert_eq!(chosen(&[busy, ejected, tried, busy]), Choice::Wait(vec![0, 3]));
                assert_eq!(chosen(&[tried, busy_ejected, ejected]), Choice::Take(2));
                assert_eq!(chosen(&[busy_ejected, tried]), Choice::Wait(vec![0]));
            }
        }
    }

    #[test]
    fn a_client_keeps_its_destination_unless_that_one_goes() {
        let weights = [1.0, 1.0, 2.0];
        let place = |client: IpAddr, gone: Option<usize>| {
            let loads: Vec<Load> = (0..3)
                .map(|n| {
                    let standing = if gone == Some(n) { Standing::Ejected } else { Standing::Answers };
                    Load { rank: rank(client, n as u64), ..load(0, weights[n], standing) }
                })
                .collect();
            taken(&loads, Balance::ClientAddress, [0.5; 2])
        };
        let mut counts = [0_i32; 3];
        for client in 0..20_000 {
            let client = IpAddr::from(u32::to_be_bytes(client));
            let at = place(client, None);
            counts[at] += 1;
            let moved = place(client, Some(0));
            assert!(moved != 0 && (at == 0 || moved == at));
        }
        let expected = [5_000, 5_000, 10_000];
        assert!(
            counts.iter().zip(expected).all(|(count, expected)| (*count - expected).abs() < 400),
            "{counts:?}"
        );
    }

    #[test]
    fn of_equals_a_client_goes_where_its_rank_is_highest() {
        for (lower, higher) in [(0, 1), (1, u64::MAX / 2), (u64::MAX / 2, u64::MAX)] {
            let of = |rank| Load { rank, ..load(0, 1.0, Standing::Answers) };
            let at = |loads: &[Load]| taken(loads, Balance::ClientAddress, [0.5; 2]);
            assert_eq!(
                (at(&[of(lower), of(higher)]), at(&[of(higher), of(lower)])),
                (1, 0),
                "{lower} {higher}"
            );
        }
    }

    #[test]
    fn a_rank_is_the_same_in_every_release_and_of_endpoints_at_one_address_not() {
        // Of `fmix64` of MurmurHash3 and FNV-1a's own test vector of 64 bits, 85944171f73967e8.
        assert_eq!(hash(&[b"foo", b"bar"]), 0x2c22_1949_22d1_672b);
        let one = identity(&"http://10.0.0.5/a", &"10.0.0.5:80");
        assert_eq!(rank([192, 0, 2, 1].into(), one), 0x8f48_77da_cf37_1490);
        assert_ne!(one, identity(&"http://10.0.0.5/b", &"10.0.0.5:80"));
    }
}
