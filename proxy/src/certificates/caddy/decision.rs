//! Whether a certificate or an account is copied: computed from both sides, the same in both directions.

use std::time::SystemTime;

use super::report::{Judged, Outcome};
use crate::{
    certificates::{
        choice::{Candidate, candidate, unusable_of},
        key::{self, KeyError},
    },
    store::{
        certificate_table::{Account, Stored, StoredAccount},
        instant::Micros,
    },
};

/// The certificate of `from` if it is to be written where `to` is now.
pub(super) fn certificate(from: &Stored, to: Option<&Stored>, now: SystemTime) -> Result<Candidate, Judged> {
    let Ok(Some(ours)) = candidate(from) else { return Err(damaged(from)) };
    let ends = Micros::of(ours.pair.life.not_after);
    // Caddy orders anew without it.
    if from.metadata.is_none() || !unusable_of(from).is_empty() {
        return Err(damaged(from));
    }
    if !ours.pair.is_valid(now) {
        return Err(Judged::new(Outcome::Expired, format!("ended {ends}")));
    }
    let there = to.and_then(|to| candidate(to).ok().flatten());
    let Some(there) = there.filter(|there| there.pair.is_valid(now)) else { return Ok(ours) };
    if leaf(&there) == leaf(&ours) && to.is_some_and(is_complete) {
        return Err(Judged::new(Outcome::Unchanged, format!("ends {ends}")));
    }
    let (theirs, begins) = (there.pair.life.not_before, ours.pair.life.not_before);
    if leaf(&there) != leaf(&ours) && theirs >= begins {
        let (theirs, begins) = (Micros::of(theirs), Micros::of(begins));
        let detail = format!("what is there began {theirs}, and this one {begins}");
        return Err(Judged::new(Outcome::Kept, detail));
    }
    Ok(ours)
}

/// Whether the account of `from` is to be written where `to` is now.
pub(super) fn account(from: &StoredAccount, to: &StoredAccount) -> Result<(), Judged> {
    let damaged = |detail: &str| Err(Judged::new(Outcome::Damaged, detail));
    let Some(pem) = &from.key else { return damaged("its key is missing or cannot be read") };
    match key::pkcs8(pem.as_bytes()) {
        Ok(_) => {}
        // RFC 8555 §6.2: CAs take others, too, but Gatehouse has no way to sign with them.
        Err(KeyError::Kind) => {
            let detail = "its key is not of the curve P-256, with which alone Gatehouse signs; it registers an account of its own";
            return Err(Judged::new(Outcome::Foreign, detail));
        }
        Err(KeyError::Pem(_) | KeyError::Generation(_)) => {
            return damaged("its key is no private key in PEM form");
        }
    }
    let Some(location) = from.account.as_ref().and_then(Account::location) else {
        return damaged("its `.json` is missing, or names no account (`location`)");
    };
    match (&to.key, &to.account, &to.seen) {
        (None, _, None) => Ok(()),
        (Some(there), account, _) if there == pem => {
            let is_same = account.as_ref().is_some_and(|there| there.location().as_ref() == Some(&location));
            if is_same { Err(Judged::new(Outcome::Unchanged, location)) } else { Ok(()) }
        }
        _ => {
            Err(Judged::new(Outcome::Kept, "another account is there; two fleets cannot become one by this"))
        }
    }
}

/// What is wrong with the certificate of `stored`.
fn damaged(stored: &Stored) -> Judged {
    let missing = |kind: &str| format!("its `.{kind}` is missing");
    let unusable: Vec<_> = unusable_of(stored)
        .into_iter()
        .map(|unusable| {
            let file = unusable.item.rsplit('/').next().unwrap_or_default().to_owned();
            format!("`{file}` {}", unusable.problem)
        })
        .collect();
    let detail = match (unusable.is_empty(), &stored.chain, &stored.key) {
        (false, ..) => unusable.join("; "),
        (true, None, _) => missing("crt"),
        (true, _, None) => missing("key"),
        (true, Some(_), Some(_)) => format!("{}, without which Caddy does not use it", missing("json")),
    };
    Judged::new(Outcome::Damaged, detail)
}

fn is_complete(stored: &Stored) -> bool {
    stored.metadata.as_ref().is_some_and(Result::is_ok) && unusable_of(stored).is_empty()
}

fn leaf(candidate: &Candidate) -> Option<&rustls::pki_types::CertificateDer<'static>> {
    candidate.pair.certificate.key.cert.first()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{certificates::keyed_chain::tests::pems, name::Pattern, store::certificate_table::IssuerKey};

    const HOUR: Duration = Duration::from_hours(1);

    fn stored(begins: SystemTime, life: Duration) -> Stored {
        let (chain, key) = pems(&["a.example"], begins, life);
        Stored {
            issuer: IssuerKey::parse("ca.example-dir").unwrap(),
            pattern: Pattern::parse("a.example").unwrap(),
            chain: Some(Ok(chain.into_bytes().into())),
            key: Some(Ok(key.into_bytes().into())),
            metadata: Some(Ok(b"{}".to_vec().into())),
            seen: None,
        }
    }

    fn again(stored: &Stored) -> Stored {
        Stored {
            issuer: stored.issuer.clone(),
            pattern: stored.pattern.clone(),
            chain: stored.chain.clone(),
            key: stored.key.clone(),
            metadata: stored.metadata.clone(),
            seen: None,
        }
    }

    #[test]
    fn a_certificate_is_copied_unless_what_is_there_is_as_new() {
        let now = SystemTime::now();
        let (long, from) = (HOUR * 9, stored(now - HOUR * 2, HOUR * 9));
        let half = Stored { key: None, ..again(&from) };
        for (case, to, expected) in [
            ("nothing", None, None),
            ("the same", Some(again(&from)), Some(Outcome::Unchanged)),
            ("the same without metadata", Some(Stored { metadata: None, ..again(&from) }), None),
            ("an older one", Some(stored(now - HOUR * 3, long)), None),
            ("a newer one", Some(stored(now - HOUR, long)), Some(Outcome::Kept)),
            ("one as new", Some(stored(now - HOUR * 2, long)), Some(Outcome::Kept)),
            ("a newer one that has ended", Some(stored(now - HOUR, HOUR / 2)), None),
            ("half of one", Some(half), None),
        ] {
            let judged = certificate(&from, to.as_ref(), now).err().map(|judged| judged.outcome);
            assert_eq!(judged, expected, "{case}");
        }
        let ended = certificate(&stored(now - HOUR * 2, HOUR), None, now).err().unwrap();
        assert_eq!(ended.outcome, Outcome::Expired);
    }

    #[test]
    fn what_is_damaged_is_named_with_its_file() {
        let now = SystemTime::now();
        let good = || stored(now - HOUR, HOUR * 9);
        let read = |text: &str| Some(Ok(text.as_bytes().to_vec().into()));
        for (from, detail) in [
            (Stored { chain: None, ..good() }, "`a.example.crt` is missing, but its key is there"),
            (Stored { key: None, ..good() }, "`a.example.key` is missing, but its chain is there"),
            (Stored { chain: None, key: None, ..good() }, "its `.crt` is missing"),
            (
                Stored { metadata: None, ..good() },
                "its `.json` is missing, without which Caddy does not use it",
            ),
            (Stored { metadata: read("{"), ..good() }, "`a.example.json` is not a JSON object"),
            (
                Stored { chain: read("chain"), ..good() },
                "`a.example.crt` holds no readable certificate in PEM form",
            ),
            (
                Stored { key: good().key, ..good() },
                "`a.example.key` holds the private key of another certificate",
            ),
        ] {
            let judged = certificate(&from, None, now).err();
            assert_eq!(judged, Some(Judged::new(Outcome::Damaged, detail)));
        }
    }

    fn account_of(location: Option<&str>, key: Option<&str>) -> StoredAccount {
        StoredAccount {
            account: location.map(|location| Account::new("ops@example.com", location)),
            key: key.map(|key| key.as_bytes().to_vec().into()),
            seen: None,
        }
    }

    #[test]
    fn an_account_is_copied_unless_another_is_there() {
        let pem = |kind| rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem();
        let (one, other) = (pem(&rcgen::PKCS_ECDSA_P256_SHA256), pem(&rcgen::PKCS_ECDSA_P256_SHA256));
        let p384 = pem(&rcgen::PKCS_ECDSA_P384_SHA384);
        let (url, none) = (Some("https://ca.example/1"), || account_of(None, None));
        for (case, from, to, expected) in [
            ("nothing there", account_of(url, Some(&one)), none(), None),
            (
                "the same there",
                account_of(url, Some(&one)),
                account_of(url, Some(&one)),
                Some(Outcome::Unchanged),
            ),
            (
                "its key there, not registered",
                account_of(url, Some(&one)),
                account_of(None, Some(&one)),
                None,
            ),
            (
                "another there",
                account_of(url, Some(&one)),
                account_of(url, Some(&other)),
                Some(Outcome::Kept),
            ),
            ("no key", account_of(url, None), none(), Some(Outcome::Damaged)),
            ("no PEM", account_of(url, Some("key")), none(), Some(Outcome::Damaged)),
            ("not registered", account_of(None, Some(&one)), none(), Some(Outcome::Damaged)),
            ("another kind of key", account_of(url, Some(&p384)), none(), Some(Outcome::Foreign)),
        ] {
            let judged = account(&from, &to).err().map(|judged| judged.outcome);
            assert_eq!(judged, expected, "{case}");
        }
    }
}
