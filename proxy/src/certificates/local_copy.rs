//! Certificates for a copy on this machine, and from one.
//! Not here: the copy itself (`store::local_copy`), when it is written and read (`run`), the names' entries (`domains`).
//! Invariants: what the table is not known to hold is in no copy, save what came from the one before
//! (`only_what_the_table_was_seen_to_hold_is_copied`); what a copy gives is compared with the table as anything in memory is (`follow`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use tracing::debug;

use super::{Certificate, Certificates, cache::Cache, choice::Candidate, key::pem, keyed_chain::KeyedChain};
use crate::{
    name::Pattern,
    store::{PrivateKeyPem, certificate_table::IssuerKey, instant::Micros, local_copy::CopiedCertificate},
};

/// A certificate in memory that may be copied.
#[derive(Debug, Clone)]
pub struct HeldCertificate {
    /// What it was obtained for.
    pub pattern: Pattern,
    /// When the table was last seen to hold it.
    pub seen_at: Micros,
    issuer: IssuerKey,
    certificate: Arc<Certificate>,
    key: Arc<PrivateKeyPem>,
}

impl HeldCertificate {
    /// Its DER, by which it is known to be the same.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        self.certificate.key.cert.first().map_or(&[], |leaf| leaf.as_ref())
    }

    /// As a copy has it.
    #[must_use]
    pub fn copied(&self) -> CopiedCertificate {
        let chain =
            self.certificate.key.cert.iter().flat_map(|der| pem("CERTIFICATE", der).as_bytes().to_vec());
        CopiedCertificate {
            pattern: self.pattern.clone(),
            issuer: self.issuer.clone(),
            seen_at: self.seen_at,
            chain: chain.collect(),
            key: PrivateKeyPem::clone(&self.key),
        }
    }
}

impl Certificates {
    /// What memory holds that is valid, and that the table was seen to hold; in no order. Empty where `store.local_copy` is not set.
    #[must_use]
    pub fn held_for_copy(&self, now: SystemTime) -> Vec<HeldCertificate> {
        held(&self.inner.cache, now)
    }

    /// Presents `copied` from memory until the table says otherwise; says how many can be. What has ended is left out, and what no issuer of
    /// the settings has issued.
    #[must_use]
    pub fn restore(&self, copied: &[CopiedCertificate], now: SystemTime) -> usize {
        restore(&self.inner.cache, &self.inner.issuer_keys, copied, now)
    }
}

fn held(cache: &Cache, now: SystemTime) -> Vec<HeldCertificate> {
    let held = cache.entries().filter_map(|held| {
        let is_of_table = ![&held.slot.is_unwritten, &held.slot.is_restored]
            .into_iter()
            .any(|is_other| is_other.load(Ordering::Relaxed));
        let certificate = held.slot.valid(now).filter(|_| is_of_table)?;
        let retained = held.slot.retained.load_full()?;
        // Of one that is being replaced, the next round has both.
        Arc::ptr_eq(&retained.of, &certificate).then(|| HeldCertificate {
            seen_at: Micros::of(held.slot.confirmed_at()),
            pattern: held.pattern,
            issuer: held.issuer,
            certificate,
            key: Arc::clone(&retained.key),
        })
    });
    held.collect()
}

fn restore(cache: &Cache, issuers: &[IssuerKey], copied: &[CopiedCertificate], now: SystemTime) -> usize {
    let mut restored = 0;
    for CopiedCertificate { pattern, issuer, chain, key, .. } in copied {
        if !issuers.contains(issuer) {
            continue;
        }
        let pair = match KeyedChain::read(chain, key.as_bytes(), pattern) {
            Ok(pair) if pair.is_valid(now) => pair,
            Ok(_) => continue,
            Err(error) => {
                debug!(%pattern, %error, "a certificate of the local copy cannot be used");
                continue;
            }
        };
        let slot = cache.keep(&Candidate { pair, issuer: issuer.clone(), pattern: pattern.clone() }, now);
        slot.is_restored.store(true, Ordering::Relaxed);
        restored += 1;
    }
    restored
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::certificates::{cache::KeyRetention, keyed_chain::tests::pems};

    const HOUR: Duration = Duration::from_hours(1);

    fn candidate(name: &str, begins: SystemTime) -> Candidate {
        let (chain, key) = pems(&[name], begins, HOUR);
        let pattern = Pattern::parse(name).unwrap();
        let pair = KeyedChain::read(chain.as_bytes(), key.as_bytes(), &pattern).unwrap();
        Candidate { pair, issuer: IssuerKey::internal(), pattern }
    }

    #[test]
    fn only_what_the_table_was_seen_to_hold_is_copied() {
        let now = SystemTime::now();
        let cache = Cache::new(10, KeyRetention::On);
        for name in ["kept.example", "unwritten.example", "restored.example"] {
            cache.keep(&candidate(name, now), now - HOUR / 4);
        }
        cache.keep(&candidate("ended.example", now - HOUR * 2), now);
        let slot = |name: &str| {
            let held = cache.entries().find(|held| held.pattern.to_string() == name);
            held.unwrap().slot
        };
        slot("unwritten.example").is_unwritten.store(true, Ordering::Relaxed);
        slot("restored.example").is_restored.store(true, Ordering::Relaxed);
        let names =
            |now| held(&cache, now).into_iter().map(|held| held.pattern.to_string()).collect::<Vec<_>>();
        assert_eq!(names(now), ["kept.example"]);
        assert_eq!(held(&cache, now)[0].seen_at.seconds(), Micros::of(now - HOUR / 4).seconds());
        let newer = candidate("kept.example", now + Duration::from_secs(1));
        cache.keep(&newer, now);
        assert_eq!(
            held(&cache, now)[0].leaf(),
            newer.pair.certificate.key.cert[0].as_ref(),
            "with its own key"
        );
        cache.withdraw(&newer.pattern);
        assert!(names(now).is_empty());
        let off = Cache::new(10, KeyRetention::Off);
        off.keep(&newer, now);
        assert!(held(&off, now).is_empty(), "no key is held where none is copied");
    }

    #[test]
    fn what_was_copied_is_presented_as_it_was_until_the_table_has_another() {
        let now = SystemTime::now();
        let (from, to) = (Cache::new(10, KeyRetention::On), Cache::new(10, KeyRetention::On));
        let good = candidate("good.example", now);
        from.keep(&good, now);
        let mut copied: Vec<_> = held(&from, now).iter().map(HeldCertificate::copied).collect();
        let another = candidate("another.example", now);
        from.keep(&another, now);
        let other = held(&from, now).iter().find(|held| held.pattern == another.pattern).unwrap().copied();
        copied.extend([
            CopiedCertificate {
                issuer: IssuerKey::of_directory("https://gone.example/dir"),
                ..other.clone()
            },
            CopiedCertificate { key: copied[0].key.clone(), ..other.clone() },
            CopiedCertificate { chain: b"no chain".to_vec(), ..other.clone() },
        ]);
        let issuers = [IssuerKey::internal()];
        assert_eq!(restore(&to, &issuers, &copied, now + HOUR * 2), 0, "it has ended");
        assert_eq!(restore(&to, &issuers, &copied, now), 1);
        let presented = |name: &str| to.find(&crate::name::ServerName::parse(name).unwrap(), now);
        let slot = presented("good.example").unwrap();
        assert_eq!(slot.current(now).unwrap().key.cert, good.pair.certificate.key.cert);
        assert!(presented("another.example").is_none());
        assert!(held(&to, now).is_empty(), "the table was not seen to hold it since");
        to.replace(&candidate("good.example", now), now);
        assert_eq!(held(&to, now).len(), 1);
    }

    #[test]
    fn keys_of_each_kind_are_copied_as_they_can_be_read() {
        let now = SystemTime::now();
        let sec1 = pems(&["a.example"], now, HOUR);
        let of = |algorithm| {
            let params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        let kinds = [
            ("SEC1", sec1),
            ("P-256", of(&rcgen::PKCS_ECDSA_P256_SHA256)),
            ("P-384", of(&rcgen::PKCS_ECDSA_P384_SHA384)),
            ("RSA", of(&rcgen::PKCS_RSA_SHA256)),
        ];
        for (kind, (chain, key)) in kinds {
            let pattern = Pattern::parse("a.example").unwrap();
            let first = KeyedChain::read(chain.as_bytes(), key.as_bytes(), &pattern).unwrap();
            let again = KeyedChain::read(chain.as_bytes(), first.private_key.as_bytes(), &pattern);
            assert_eq!(again.map(|again| again.serial), Ok(first.serial), "{kind}");
        }
    }
}
