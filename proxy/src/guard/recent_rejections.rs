//! The names that the guard rejected lately, as far as it told of them, and which of them come most often.
//! Not here: how the kernel tells of them (`rejections`).
//! Invariant: strangers choose names and sources, and neither makes this grow beyond [`MOST`] of them
//! (`what_is_remembered_is_bounded_in_number_and_age`).

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use proxy_common::maps::{RejectCause, RejectedName};
use serde::{Deserialize, Serialize};

use crate::keyed_counts::network;

/// A rejected name that the kernel told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    /// As the guard compares it: in lower case, without a trailing dot. Its bytes may be any.
    name: Box<[u8]>,
    source: IpAddr,
    cause: RejectCause,
}

/// Rejections in the order in which they happened.
#[derive(Debug, Default)]
pub(super) struct RecentRejections(VecDeque<(Instant, Rejection)>);

/// What was rejected lately, most frequent first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRejected {
    /// How many rejections are counted here: a sample, by `guard.sampled_rejections`.
    pub sampled: usize,
    /// How long ago the first of them was.
    pub since_seconds: u64,
    /// Names, as hellos say them; bytes that are no text are escaped.
    pub names: Vec<RejectedRow>,
    /// Networks of clients: IPv4 addresses, and IPv6 networks of 64 bits.
    pub sources: Vec<RejectingRow>,
}

/// A name that is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedRow {
    /// The name.
    pub name: String,
    /// How often it was rejected.
    pub count: usize,
    /// How often of these because user space had denied it.
    pub denied: usize,
    /// From how many networks.
    pub sources: usize,
}

/// Where rejected names come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectingRow {
    /// The address, or the first one of the network.
    pub source: IpAddr,
    /// How often a name of theirs was rejected.
    pub count: usize,
    /// How many names.
    pub names: usize,
}

impl Rejection {
    pub(super) fn of(told: &RejectedName) -> Self {
        let name = told.name().to_ascii_lowercase();
        let name = name.strip_suffix(b".").unwrap_or(&name).into();
        Self { name, source: told.source().ip(), cause: told.cause() }
    }

    /// The name for a log or a terminal.
    pub(super) fn name(&self) -> String {
        self.name.escape_ascii().to_string()
    }

    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) fn cause(&self) -> RejectCause {
        self.cause
    }
}

impl RecentRejections {
    /// Remembers one, and forgets the oldest.
    pub(super) fn add(&mut self, rejection: Rejection, now: Instant) {
        self.forget(now);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, rejection));
    }

    /// What comes most often.
    pub(super) fn top(&mut self, now: Instant) -> TopRejected {
        self.forget(now);
        let (mut names, mut sources) = (Groups::default(), Groups::default());
        for (_, rejection) in &self.0 {
            let network = network(rejection.source);
            names.count(&*rejection.name, network, rejection.cause);
            sources.count(network, &*rejection.name, rejection.cause);
        }
        let names = names.most_frequent().into_iter().map(|(name, group)| RejectedRow {
            name: name.escape_ascii().to_string(),
            count: group.count,
            denied: group.denied,
            sources: group.others.len(),
        });
        let sources = sources.most_frequent().into_iter().map(|(source, group)| RejectingRow {
            source,
            count: group.count,
            names: group.others.len(),
        });
        TopRejected {
            sampled: self.0.len(),
            since_seconds: self.0.front().map_or(0, |(at, _)| now.saturating_duration_since(*at).as_secs()),
            names: names.collect(),
            sources: sources.collect(),
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > OLDEST) {
            self.0.pop_front();
        }
    }
}

/// Rejections by a key, each with how many others came with it.
struct Groups<K, O>(HashMap<K, Group<O>>);

struct Group<O> {
    count: usize,
    denied: usize,
    others: HashSet<O>,
}

impl<K, O> Default for Groups<K, O> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Ord + Copy, O: Hash + Eq> Groups<K, O> {
    fn count(&mut self, key: K, other: O, cause: RejectCause) {
        let group =
            self.0.entry(key).or_insert_with(|| Group { count: 0, denied: 0, others: HashSet::new() });
        group.count += 1;
        group.denied += usize::from(cause == RejectCause::Denied);
        group.others.insert(other);
    }

    /// Those that are shown; of equal ones the first by key.
    fn most_frequent(self) -> Vec<(K, Group<O>)> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_unstable_by_key(|(key, group)| (Reverse(group.count), *key));
        all.truncate(SHOWN);
        all
    }
}

/// At ten a second, those of seven minutes; a megabyte and a half if all names are as long as they can be.
const MOST: usize = 4096;
const OLDEST: Duration = Duration::from_hours(1);
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use proxy_common::{maps::SourceAddress, name_hash::NameBuffer};

    use super::*;

    fn rejection(name: &[u8], source: [u8; 4], cause: RejectCause) -> Rejection {
        let (mut buffer, mut told) = (NameBuffer::new(), RejectedName::new());
        buffer.bytes_mut()[..name.len()].copy_from_slice(name);
        let source = SourceAddress::ipv4(u32::from_be_bytes(source));
        told.fill(&buffer, u32::try_from(name.len()).unwrap(), cause, source);
        Rejection::of(&told)
    }

    #[test]
    fn the_most_frequent_names_and_sources_come_first() {
        let (mut recent, now) = (RecentRejections::default(), Instant::now());
        for (name, host, cause) in [
            (&b"one.example"[..], 1, RejectCause::Foreign),
            (b"often.example", 1, RejectCause::Foreign),
            (b"OFTEN.example.", 2, RejectCause::Denied),
            (b"often.example", 2, RejectCause::Denied),
            (b"\x1b[2J\n.example", 2, RejectCause::Foreign),
        ] {
            recent.add(rejection(name, [192, 0, 2, host], cause), now);
        }
        let top = recent.top(now + Duration::from_secs(9));
        assert_eq!((top.sampled, top.since_seconds), (5, 9));
        let rows: Vec<_> =
            top.names.iter().map(|row| (row.name.as_str(), row.count, row.denied, row.sources)).collect();
        assert_eq!(
            rows,
            [("often.example", 3, 2, 2), ("\\x1b[2j\\n.example", 1, 0, 1), ("one.example", 1, 0, 1)]
        );
        let rows: Vec<_> =
            top.sources.iter().map(|row| (row.source.to_string(), row.count, row.names)).collect();
        assert_eq!(rows, [("192.0.2.2".to_owned(), 3, 2), ("192.0.2.1".to_owned(), 2, 2)]);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_age() {
        let (mut recent, now) = (RecentRejections::default(), Instant::now());
        for number in 0..3 * MOST {
            let name = format!("n{number}.example");
            recent.add(rejection(name.as_bytes(), [192, 0, 2, 1], RejectCause::Foreign), now);
        }
        let top = recent.top(now + OLDEST);
        assert_eq!((top.sampled, top.names.len(), top.sources.len()), (MOST, SHOWN, 1));
        assert_eq!(recent.top(now + OLDEST + Duration::from_secs(1)), TopRejected::default());
    }
}
