//! What a copy holds: what was used last, as far as it fits.

use std::collections::HashSet;

use tracing::debug;

use super::is_current;
use crate::{
    certificates::HeldCertificate,
    domains::CopiedNames,
    name::Pattern,
    store::{
        instant::Micros,
        local_copy::{CopiedCertificate, CopiedEntry, CopyContents},
    },
};

/// A certificate from memory, or from the copy before.
enum Source {
    Held(HeldCertificate),
    Former(CopiedCertificate),
}

impl Source {
    fn pattern(&self) -> &Pattern {
        match self {
            Self::Held(held) => &held.pattern,
            Self::Former(former) => &former.pattern,
        }
    }

    fn seen_at(&self) -> Micros {
        match self {
            Self::Held(held) => held.seen_at,
            Self::Former(former) => former.seen_at,
        }
    }

    fn copied(self) -> CopiedCertificate {
        match self {
            Self::Held(held) => held.copied(),
            Self::Former(former) => former,
        }
    }
}

/// What the next copy holds: certificates in memory, and of `former` those that a memory which was lost had; those first that the table was
/// seen to hold last, as far as they fit into `most_bytes` with what `names` says of them.
pub(super) fn compose(
    held: Vec<HeldCertificate>,
    former: Option<CopyContents>,
    most_bytes: u64,
    now: Micros,
    names: impl Fn(&[Pattern], &[CopiedEntry]) -> CopiedNames,
) -> CopyContents {
    let (former_entries, former) =
        former.map_or_else(Default::default, |former| (former.entries, former.certificates));
    let are_held: HashSet<_> = held.iter().map(|held| held.pattern.clone()).collect();
    let is_wanted =
        |former: &CopiedCertificate| !are_held.contains(&former.pattern) && is_current(former.seen_at, now);
    let former = former.into_iter().filter(is_wanted).map(Source::Former);
    let mut sources: Vec<_> = held.into_iter().map(Source::Held).chain(former).collect();
    sources.sort_by_key(|source| std::cmp::Reverse(source.seen_at()));
    let patterns: Vec<_> = sources.iter().map(|source| source.pattern().clone()).collect();
    let are_served = names(&patterns, &former_entries).are_served;
    let served =
        sources.into_iter().zip(are_served).filter_map(|(source, is_served)| is_served.then_some(source));
    let mut left = most_bytes;
    // No more are turned into text than fit.
    let mut certificates: Vec<_> = served
        .map(Source::copied)
        .map_while(|copied| {
            left = left.checked_sub(cost(&copied))?;
            Some(copied)
        })
        .collect();
    let patterns: Vec<_> = certificates.iter().map(|copied| copied.pattern.clone()).collect();
    let entries_of = |count: usize| names(patterns.get(..count).unwrap_or_default(), &former_entries).entries;
    let costs: Vec<_> = certificates.iter().map(cost).collect();
    let fit = most_that_fit(certificates.len(), |count| {
        let certificates: u64 = costs.iter().take(count).sum();
        certificates + bytes_of(&entries_of(count)) <= most_bytes
    });
    if fit < patterns.len() {
        debug!(left_out = patterns.len() - fit, "not all that is served fits into the local copy");
    }
    certificates.truncate(fit);
    CopyContents { written_at: now, entries: entries_of(fit), certificates }
}

/// The largest of 0 to `all` that `fits`; what fits, fits with less.
fn most_that_fit(all: usize, fits: impl Fn(usize) -> bool) -> usize {
    if fits(all) {
        return all;
    }
    let (mut fit, mut excess) = (0, all);
    while excess - fit > 1 {
        let middle = fit.midpoint(excess);
        if fits(middle) {
            fit = middle;
        } else {
            excess = middle;
        }
    }
    fit
}

fn cost(copied: &CopiedCertificate) -> u64 {
    let text = copied.chain.len() + copied.key.as_bytes().len();
    u64::try_from(text).unwrap_or(u64::MAX).saturating_add(BESIDE_THE_TEXT)
}

fn bytes_of(entries: &[CopiedEntry]) -> u64 {
    let text = serde_json::to_vec(entries).map_or(0, |text| text.len());
    u64::try_from(text).unwrap_or(u64::MAX)
}

/// Names, lengths, and what encryption adds: with KMS half of it.
const BESIDE_THE_TEXT: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PrivateKeyPem, certificate_table::IssuerKey};

    const NOW: u64 = 1_700_000_000;
    const DAY_SECONDS: u64 = 24 * 60 * 60;

    fn at(seconds_ago: u64) -> Micros {
        Micros::of_seconds(NOW - seconds_ago)
    }

    /// One that was seen so many seconds ago, and costs some 2,000 bytes.
    fn former(name: &str, seconds_ago: u64) -> CopiedCertificate {
        CopiedCertificate {
            pattern: Pattern::parse(name).unwrap(),
            issuer: IssuerKey::internal(),
            seen_at: at(seconds_ago),
            chain: vec![b'c'; 776],
            key: PrivateKeyPem::from(vec![b'k'; 200]),
        }
    }

    fn entry(name: &str) -> CopiedEntry {
        serde_json::from_value(serde_json::json!({
            "domain": name, "settings": {}, "tenant": "t", "status": "active", "source": "table",
            "version": 1, "changed_at_micros": 1,
        }))
        .unwrap()
    }

    /// Each name is served by an entry of its own, unless it begins with `gone`.
    fn names(patterns: &[Pattern]) -> CopiedNames {
        let is_served = |pattern: &Pattern| !pattern.to_string().starts_with("gone");
        CopiedNames {
            are_served: patterns.iter().map(is_served).collect(),
            entries: patterns
                .iter()
                .filter(|pattern| is_served(pattern))
                .map(|pattern| entry(&pattern.to_string()))
                .collect(),
        }
    }

    fn composed(former: Vec<CopiedCertificate>, most_bytes: u64) -> Vec<String> {
        let before = CopyContents { written_at: at(60), entries: vec![], certificates: former };
        let contents = compose(vec![], Some(before), most_bytes, at(0), |patterns, _| names(patterns));
        assert_eq!(contents.written_at, at(0));
        let total = contents.certificates.iter().map(cost).sum::<u64>() + bytes_of(&contents.entries);
        assert!(total <= most_bytes.max(2), "{total} of {most_bytes}");
        assert_eq!(
            contents.entries.len(),
            contents.certificates.len(),
            "entries of what is copied, and no others"
        );
        contents.certificates.iter().map(|copied| copied.pattern.to_string()).collect()
    }

    #[test]
    fn names_used_last_are_copied_as_far_as_they_fit() {
        let week = 7 * DAY_SECONDS;
        let former = || {
            vec![
                former("old.example", week),
                former("older.example", week + 1),
                former("new.example", 1),
                former("gone.example", 0),
                former("middle.example", 3_600),
            ]
        };
        for (most, copied) in [
            (1 << 20, &["new.example", "middle.example", "old.example"][..]),
            // Each costs 2,000 bytes and its entry some 150.
            (6_500, &["new.example", "middle.example", "old.example"]),
            (6_100, &["new.example", "middle.example"]),
            (4_100, &["new.example"]),
            (2_000, &[]),
            (0, &[]),
        ] {
            assert_eq!(composed(former(), most), copied, "{most} bytes");
        }
        assert!(composed(vec![], 1 << 20).is_empty());
    }

    #[test]
    fn the_most_that_fits_is_found() {
        for all in 0..20 {
            for most in 0..25 {
                assert_eq!(most_that_fit(all, |count| count <= most), all.min(most), "{most} of {all}");
            }
        }
    }
}
