//! Which of the certificates in the table is presented.

use std::time::SystemTime;

use super::keyed_chain::{KeyedChain, KeyedChainError};
use crate::{
    name::Pattern,
    store::certificate_table::{
        CertificateMetadata, ContentsError, IssuerKey, ItemKind, Stored, StoredCertificates,
    },
};

/// A certificate from the table.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) pair: KeyedChain,
    pub(super) issuer: IssuerKey,
    pub(super) pattern: Pattern,
}

/// The best certificate that the table holds.
#[derive(Debug)]
pub(super) enum CertificateChoice {
    /// This one, which may have expired.
    Take(Candidate),
    /// A key and a chain do not belong together: somebody is writing them one after the other. Read again.
    Torn,
    /// Nothing that can be presented.
    Nothing,
}

/// A valid one before an expired one, one that has begun before one that has not, then the operator's own, an exact name before a
/// wildcard; then the newest by its beginning, and again an exact name before a wildcard. One that has not begun is still better than an
/// order: this machine's clock may be behind.
pub(super) fn choose(stored_certificates: &StoredCertificates, now: SystemTime) -> CertificateChoice {
    let mut best: Option<Candidate> = None;
    let mut torn = false;
    for stored in &stored_certificates.stored {
        match candidate(stored) {
            Ok(Some(candidate))
                if best.as_ref().is_none_or(|best| rank(&candidate, now) > rank(best, now)) =>
            {
                best = Some(candidate);
            }
            Err(KeyedChainError::Mismatch) => torn = true,
            // A permanently broken one must not block another, nor a new one.
            Ok(_) | Err(KeyedChainError::Chain | KeyedChainError::Key | KeyedChainError::Names) => {}
        }
    }
    match best {
        Some(best) if best.pair.is_valid(now) || !torn => CertificateChoice::Take(best),
        _ if torn => CertificateChoice::Torn,
        _ => CertificateChoice::Nothing,
    }
}

/// An item of the table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    pub(super) item: String,
    /// What is wrong with it, to be read behind the item.
    pub(super) problem: String,
}

/// What cannot be used of what the table holds. A certificate that has expired is not among it.
pub(super) fn unusable(stored_certificates: &StoredCertificates) -> Vec<Unusable> {
    stored_certificates.stored.iter().flat_map(unusable_of).collect()
}

/// The same of one certificate's items.
pub(super) fn unusable_of(stored: &Stored) -> Vec<Unusable> {
    let unusable = |(kind, problem)| Unusable { item: stored.item(kind), problem };
    problems(stored).into_iter().map(unusable).collect()
}

fn problems(stored: &Stored) -> Vec<(ItemKind, String)> {
    let faults = [
        (ItemKind::Chain, fault(stored.chain.as_ref())),
        (ItemKind::Key, fault(stored.key.as_ref())),
        (ItemKind::Metadata, fault(stored.metadata.as_ref())),
    ];
    let mut problems: Vec<_> =
        faults.into_iter().filter_map(|(kind, fault)| Some((kind, fault?.to_string()))).collect();
    match (&stored.chain, &stored.key) {
        (Some(Ok(chain)), Some(Ok(key))) => {
            problems.extend(KeyedChain::read(chain, key.as_bytes(), &stored.pattern).err().map(of_pair));
        }
        (Some(_), None) => problems.push((ItemKind::Key, "is missing, but its chain is there".to_owned())),
        (None, Some(_)) => problems.push((ItemKind::Chain, "is missing, but its key is there".to_owned())),
        (Some(_), Some(_)) | (None, None) => {}
    }
    if let Some(Ok(metadata)) = &stored.metadata
        && !CertificateMetadata::is_whole(metadata)
    {
        problems.push((ItemKind::Metadata, "is not a JSON object".to_owned()));
    }
    problems
}

fn fault<T>(item: Option<&Result<T, ContentsError>>) -> Option<&ContentsError> {
    item?.as_ref().err()
}

fn of_pair(error: KeyedChainError) -> (ItemKind, String) {
    match error {
        KeyedChainError::Chain => (ItemKind::Chain, "holds no readable certificate in PEM form".to_owned()),
        KeyedChainError::Names => (ItemKind::Chain, "holds a certificate for other names".to_owned()),
        KeyedChainError::Key => (ItemKind::Key, "holds no usable private key in PEM form".to_owned()),
        KeyedChainError::Mismatch => {
            (ItemKind::Key, "holds the private key of another certificate".to_owned())
        }
    }
}

pub(super) fn candidate(stored: &Stored) -> Result<Option<Candidate>, KeyedChainError> {
    let (Some(Ok(chain)), Some(Ok(key))) = (&stored.chain, &stored.key) else { return Ok(None) };
    let pair = KeyedChain::read(chain, key.as_bytes(), &stored.pattern)?;
    Ok(Some(Candidate { pair, issuer: stored.issuer.clone(), pattern: stored.pattern.clone() }))
}

fn rank(candidate: &Candidate, now: SystemTime) -> (bool, bool, Option<Breadth>, SystemTime, Breadth) {
    let breadth = match candidate.pattern {
        Pattern::Wildcard(_) => Breadth::Wildcard,
        Pattern::Exact(_) => Breadth::Exact,
    };
    let own = (candidate.issuer == IssuerKey::own()).then_some(breadth);
    let begins = candidate.pair.life.not_before;
    (candidate.pair.is_valid(now), begins <= now, own, begins, breadth)
}

/// How much a certificate is stored for; the better one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Breadth {
    Wildcard,
    Exact,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{certificates::keyed_chain::tests::pems, store::state_table::OpenOrders};

    const HOUR: Duration = Duration::from_hours(1);

    fn stored(pattern: &str, begins: SystemTime, life: Duration) -> Stored {
        let (chain, key) = pems(&[pattern], begins, life);
        Stored {
            issuer: IssuerKey::internal(),
            pattern: Pattern::parse(pattern).unwrap(),
            chain: Some(Ok(chain.into_bytes().into())),
            key: Some(Ok(key.into_bytes().into())),
            metadata: None,
            seen: None,
        }
    }

    #[test]
    fn the_newest_valid_one_is_taken_and_an_expired_one_never_before_it() {
        // Certificates begin at whole seconds.
        let now = SystemTime::UNIX_EPOCH + HOUR * 500_000;
        let (old, new) = (now - HOUR * 3, now - HOUR);
        let cases: [(&str, Vec<Stored>, Option<&str>); 9] = [
            (
                "newer, and not yet begun",
                vec![stored("*.b.example", now + HOUR, HOUR * 9), stored("a.b.example", old, HOUR * 9)],
                Some("a.b.example"),
            ),
            (
                "newer, and beginning now",
                vec![stored("*.b.example", now, HOUR * 9), stored("a.b.example", old, HOUR * 9)],
                Some("*.b.example"),
            ),
            ("not yet begun alone", vec![stored("a.b.example", now + HOUR, HOUR * 9)], Some("a.b.example")),
            ("nothing", vec![], None),
            ("one", vec![stored("a.b.example", old, HOUR * 9)], Some("a.b.example")),
            ("expired alone", vec![stored("a.b.example", old, HOUR)], Some("a.b.example")),
            (
                "expired but newer",
                vec![stored("*.b.example", new, HOUR / 2), stored("a.b.example", old, HOUR * 9)],
                Some("a.b.example"),
            ),
            (
                "newer wildcard",
                vec![stored("a.b.example", old, HOUR * 9), stored("*.b.example", new, HOUR * 9)],
                Some("*.b.example"),
            ),
            (
                "equal age",
                vec![stored("*.b.example", old, HOUR * 9), stored("a.b.example", old, HOUR * 9)],
                Some("a.b.example"),
            ),
        ];
        for (case, stored, expected) in cases {
            let mut stored_certificates =
                StoredCertificates { stored, record: None, open_orders: OpenOrders::default() };
            for order in ["in this order", "in the other"] {
                let taken = match choose(&stored_certificates, now) {
                    CertificateChoice::Take(candidate) => Some(candidate.pattern.to_string()),
                    CertificateChoice::Torn | CertificateChoice::Nothing => None,
                };
                assert_eq!(taken.as_deref(), expected, "{case}, {order}");
                stored_certificates.stored.reverse();
            }
        }
    }

    #[test]
    fn an_own_certificate_is_preferred_by_what_it_is_for_while_it_is_valid() {
        let now = SystemTime::now();
        let (old, new) = (now - HOUR * 3, now - HOUR);
        let own =
            |pattern, begins, life| Stored { issuer: IssuerKey::own(), ..stored(pattern, begins, life) };
        let (exact, wildcard) = ("a.b.example", "*.b.example");
        for (case, stored, expected) in [
            (
                "older",
                vec![own(exact, old, HOUR * 9), stored(exact, new, HOUR * 9)],
                ("gatehouse-own", exact),
            ),
            (
                "a wildcard before an ordered name",
                vec![own(wildcard, old, HOUR * 9), stored(exact, new, HOUR * 9)],
                ("gatehouse-own", wildcard),
            ),
            (
                "a name before a newer wildcard",
                vec![own(wildcard, new, HOUR * 9), own(exact, old, HOUR * 9)],
                ("gatehouse-own", exact),
            ),
            (
                "expired",
                vec![own(exact, old, HOUR), stored(exact, old, HOUR * 9)],
                ("gatehouse-internal", exact),
            ),
            (
                "not begun",
                vec![own(exact, now + HOUR, HOUR), stored(exact, old, HOUR * 9)],
                ("gatehouse-internal", exact),
            ),
        ] {
            let mut stored_certificates =
                StoredCertificates { stored, record: None, open_orders: OpenOrders::default() };
            for _ in ["in this order", "in the other"] {
                let CertificateChoice::Take(taken) = choose(&stored_certificates, now) else {
                    panic!("{case}: nothing is taken")
                };
                let taken = (taken.issuer.as_str(), taken.pattern.to_string());
                assert_eq!(taken, (expected.0, expected.1.to_owned()), "{case}");
                stored_certificates.stored.reverse();
            }
        }
    }

    #[test]
    fn a_key_of_another_chain_is_read_again_unless_a_valid_one_lies_beside_it() {
        let now = SystemTime::now();
        let chosen = |beside: Option<Stored>| {
            let torn =
                Stored { key: stored("a.b.example", now, HOUR).key, ..stored("a.b.example", now, HOUR) };
            let stored = [torn].into_iter().chain(beside).collect();
            choose(&StoredCertificates { stored, record: None, open_orders: OpenOrders::default() }, now)
        };
        assert!(matches!(chosen(None), CertificateChoice::Torn));
        let expired = chosen(Some(stored("*.b.example", now - HOUR * 2, HOUR)));
        assert!(matches!(expired, CertificateChoice::Torn), "{expired:?}");
        let valid = chosen(Some(stored("*.b.example", now, HOUR)));
        assert!(matches!(valid, CertificateChoice::Take(_)), "{valid:?}");
    }

    #[test]
    fn what_is_wrong_with_an_item_is_said_of_the_item_at_fault() {
        use crate::store::certificate_table::ContentsError::{Encoding, Type};
        const STEM: &str = "certificates/gatehouse-internal/a.b.example/a.b.example";
        let now = SystemTime::now();
        let good = || stored("a.b.example", now - HOUR * 2, HOUR);
        let other = || stored("a.b.example", now, HOUR);
        let read = |text: &str| Some(Ok(text.as_bytes().to_vec().into()));
        for (stored, expected) in [
            (good(), &[][..]),
            (
                Stored { chain: Some(Err(Type("B"))), ..good() },
                &["crt has `Contents` of type B, not of type S"],
            ),
            (Stored { key: Some(Err(Encoding)), ..good() }, &["key has `Contents` that are not base64"]),
            (Stored { chain: read("chain"), ..good() }, &["crt holds no readable certificate in PEM form"]),
            (
                Stored { key: Some(Ok(b"key".to_vec().into())), ..good() },
                &["key holds no usable private key in PEM form"],
            ),
            (
                Stored { pattern: good().pattern, ..stored("c.b.example", now, HOUR) },
                &["crt holds a certificate for other names"],
            ),
            (Stored { key: other().key, ..good() }, &["key holds the private key of another certificate"]),
            (Stored { key: None, ..good() }, &["key is missing, but its chain is there"]),
            (Stored { chain: None, ..good() }, &["crt is missing, but its key is there"]),
            (Stored { metadata: read("{"), ..good() }, &["json is not a JSON object"]),
            (Stored { metadata: read("{}"), ..good() }, &[]),
            (
                Stored { chain: Some(Err(Encoding)), metadata: Some(Err(Type("N"))), ..good() },
                &["crt has `Contents` that are not base64", "json has `Contents` of type N, not of type S"],
            ),
        ] {
            let found = unusable(&StoredCertificates {
                stored: vec![stored],
                record: None,
                open_orders: OpenOrders::default(),
            });
            let found: Vec<_> =
                found.iter().map(|found| format!("{} {}", found.item, found.problem)).collect();
            let expected: Vec<_> = expected.iter().map(|text| format!("{STEM}.{text}")).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn halves_count_as_nothing() {
        let now = SystemTime::now();
        let mut half = stored("a.b.example", now, HOUR);
        half.key = None;
        assert!(matches!(
            choose(
                &StoredCertificates { stored: vec![half], record: None, open_orders: OpenOrders::default() },
                now
            ),
            CertificateChoice::Nothing
        ));
    }
}
