//! Certificates that operators bring: stored like those of an issuer of its own, preferred, and never renewed.
//! Not here: which certificate is presented (`choice`). Invariants: what is stored was checked (`OwnCertificate`); for a name that a
//! valid own certificate covers nothing is ordered (`for_what_an_own_certificate_covers_nothing_is_ordered`); every instance presents
//! it within a minute, whatever it presented before (`an_imported_certificate_takes_the_place_of_an_ordered_one_everywhere`).

mod certificate;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use certificate::{OwnCertificate, OwnFault, OwnFile};

use super::{Certificates, CertificatesInner, cache::PresentedCertificate};
use crate::{
    clock,
    name::{Pattern, ServerName},
    store::{
        Store, StoreError,
        certificate_table::{self, CertificateMetadata, Commit, IssuerKey},
        instant::Micros,
        state_table::{self, MOST_OWN, OwnCertificates},
    },
};

/// An own certificate that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// What it is presented for.
    pub names: Vec<Pattern>,
    /// Hexadecimal.
    pub serial: String,
    /// Beginning of its life.
    pub not_before: Micros,
    /// End of its life.
    pub not_after: Micros,
    /// Serial numbers of the own certificates before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
    /// What the operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An own certificate that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What it was presented for.
    pub name: Pattern,
    /// Serial number; absent where the list did not know it.
    pub serial: Option<String>,
    /// What the same certificate is presented for all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remaining: Vec<Pattern>,
}

/// An own certificate as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRow {
    /// What it is presented for.
    pub name: Pattern,
    /// Hexadecimal.
    pub serial: String,
    /// End of its life.
    pub not_after: Micros,
}

/// Why a command about an own certificate was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// It is not fit to be presented.
    #[error("{}: {fault}", match fault.file() { OwnFile::Chain => "the certificate's file", OwnFile::Key => "the key's file" })]
    Fault {
        /// What is wrong with it.
        fault: OwnFault,
    },
    /// There is none.
    #[error("`{0}` has no certificate of your own; `gatehouse certificate list` shows those there are")]
    Nothing(Pattern),
    /// The list is full.
    #[error("own certificates cover {MOST_OWN} names at most; remove some, or have wildcards issued")]
    TooMany,
    /// A table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores `own` for each of its names, then tells all instances by the list.
pub async fn import(store: &Store, own: &OwnCertificate) -> Result<Imported, OwnError> {
    let listed = state_table::find_own(store).await?;
    let added = own.patterns.iter().filter(|pattern| !listed.contains_key(pattern)).count();
    if listed.len() + added > MOST_OWN {
        return Err(OwnError::TooMany);
    }
    for pattern in &own.patterns {
        put(store, own, pattern).await?;
    }
    let entry = state_table::OwnCertificate { serial: own.serial.clone(), not_after: own.life.not_after };
    let insert = |list: &mut OwnCertificates| {
        list.extend(own.patterns.iter().map(|pattern| (pattern.clone(), entry.clone())));
    };
    state_table::change_own(store, insert).await?;
    let before = own.patterns.iter().filter_map(|pattern| listed.get(pattern));
    let mut replaced: Vec<_> =
        before.map(|before| before.serial.clone()).filter(|serial| *serial != own.serial).collect();
    replaced.sort();
    replaced.dedup();
    let mut warnings = own.warnings.clone();
    let left = listed
        .iter()
        .filter(|(pattern, before)| replaced.contains(&before.serial) && !own.patterns.contains(pattern));
    warnings.extend(left.map(|(pattern, before)| {
        format!("`{pattern}` is not among its names, and keeps certificate {}", before.serial)
    }));
    Ok(Imported {
        names: own.patterns.clone(),
        serial: own.serial.clone(),
        not_before: Micros::of(own.life.not_before),
        not_after: Micros::of(own.life.not_after),
        replaced,
        warnings,
    })
}

async fn put(store: &Store, own: &OwnCertificate, pattern: &Pattern) -> Result<(), StoreError> {
    let issuer = IssuerKey::own();
    let metadata = CertificateMetadata::default().renewed(&[pattern.to_string()], None).write();
    certificate_table::repeat_on_conflict(|| async {
        let there = certificate_table::read_one(store, &issuer, pattern).await?;
        let commit = Commit {
            issuer: &issuer,
            pattern,
            chain: own.chain.as_bytes(),
            key: &own.key,
            metadata: &metadata,
            replaced: there.as_ref().and_then(|there| there.seen.as_ref()),
            record: None,
            renewal_info: None,
            event: None,
        };
        certificate_table::commit(store, &commit, clock::wall()).await
    })
    .await
}

/// Removes the own certificate of `pattern`; what else the table holds for its names is presented then, or ordered.
pub async fn remove(store: &Store, pattern: &Pattern) -> Result<Removed, OwnError> {
    let issuer = IssuerKey::own();
    let listed = state_table::find_own(store).await?;
    let there = certificate_table::read_one(store, &issuer, pattern).await?;
    let serial = listed.get(pattern).map(|own| own.serial.clone());
    if serial.is_none() && there.is_none() {
        return Err(OwnError::Nothing(pattern.clone()));
    }
    // Also a key that has lost its chain.
    if let Some(there) = there {
        certificate_table::remove(store, &issuer, pattern, there.seen.as_ref()).await?;
    }
    let list = state_table::change_own(store, |list| drop(list.remove(pattern))).await?;
    let is_same = |own: &state_table::OwnCertificate| Some(&own.serial) == serial.as_ref();
    let remaining = list.iter().filter(|(_, own)| is_same(own)).map(|(pattern, _)| pattern.clone()).collect();
    Ok(Removed { name: pattern.clone(), serial, remaining })
}

/// All of them.
pub async fn list(store: &Store) -> Result<Vec<OwnRow>, StoreError> {
    let list = state_table::find_own(store).await?;
    let row = |(name, own): (Pattern, state_table::OwnCertificate)| OwnRow {
        name,
        serial: own.serial,
        not_after: Micros::of(own.not_after),
    };
    Ok(list.into_iter().map(row).collect())
}

impl Certificates {
    /// Checks the contents of two PEM files, and stores them as an own certificate. This instance presents it at once, others within
    /// a minute.
    pub async fn import_own(&self, chain: &[u8], key: &[u8]) -> Result<Imported, OwnError> {
        let own =
            OwnCertificate::read(chain, key, clock::wall()).map_err(|fault| OwnError::Fault { fault })?;
        let imported = import(&self.inner.store, &own).await?;
        self.inner.follow_change().await;
        Ok(imported)
    }

    /// Removes the own certificate of `pattern`. This instance stops presenting it at once, others within a minute.
    pub async fn remove_own(&self, pattern: &Pattern) -> Result<Removed, OwnError> {
        let removed = remove(&self.inner.store, pattern).await?;
        self.inner.follow_change().await;
        Ok(removed)
    }
}

impl CertificatesInner {
    /// Reads the list, and takes out of memory what it has superseded: the next handshake reads the table.
    pub(super) async fn follow_own(&self, now: SystemTime) -> Result<(), StoreError> {
        let list = Arc::new(state_table::find_own(&self.store).await?);
        let before = self.own.swap(Arc::clone(&list));
        let ends: Vec<_> = list.values().map(|own| own.not_after).collect();
        self.metrics.held.measure_own(&ends, now);
        let changed = changed(&before, &list);
        for held in self.cache.entries() {
            if gives_way(&held, &list, &changed, now) && self.cache.withdraw(&held.pattern) {
                info!(pattern = %held.pattern, "certificate is no longer presented: another takes its place, the operator's own or one beside it");
            }
        }
        Ok(())
    }

    /// The same after a change of our own, which is in the tables whatever this gives.
    async fn follow_change(&self) {
        if let Err(error) = self.follow_own(clock::wall()).await {
            let error: &dyn std::error::Error = &error;
            warn!(
                error,
                "the list of own certificates was changed and could not be read again; it is, within half a minute"
            );
        }
    }

    /// Whether the operator has brought a certificate of exactly `name`, as far as is known.
    pub(super) fn has_own(&self, name: &ServerName, now: SystemTime) -> bool {
        let list = self.own.load();
        !list.is_empty() && is_brought(&list, &Pattern::Exact(name.clone()), now)
    }

    /// Warns of own certificates that end soon: nobody renews them but the operator.
    pub(super) fn warn_of_own(&self, now: SystemTime) {
        let list = self.own.load();
        for (pattern, own) in list.iter().filter(|(_, own)| own.not_after < now + WARNED_BEFORE) {
            if self.warned.is_due(&format!("own {pattern}"), clock::now()) {
                let (not_after, serial) = (Micros::of(own.not_after), &own.serial);
                warn!(%pattern, %not_after, serial, "an own certificate ends soon, and nobody renews it: import another by `gatehouse certificate import`");
            }
        }
    }
}

/// Whether `list` has a valid one of exactly `pattern`.
pub(super) fn is_brought(list: &OwnCertificates, pattern: &Pattern, now: SystemTime) -> bool {
    list.get(pattern).is_some_and(|own| now < own.not_after)
}

/// Whether `list` has a valid one for every name of `pattern`, so that nothing is ordered for it.
#[must_use]
pub fn is_covered(list: &OwnCertificates, pattern: &Pattern, now: SystemTime) -> bool {
    pattern.patterns().any(|pattern| is_brought(list, &pattern, now))
}

/// What was added to the list, removed from it, or replaced.
fn changed<'a>(before: &'a OwnCertificates, list: &'a OwnCertificates) -> Vec<&'a Pattern> {
    before.keys().chain(list.keys()).filter(|pattern| before.get(pattern) != list.get(pattern)).collect()
}

/// Whether something else than `held` may have to be presented for one of its names, workers included, which keep it by name. Own
/// certificates give way once when they change; others whenever one is there, since an order may have been in flight when it came.
fn gives_way(
    held: &PresentedCertificate,
    list: &OwnCertificates,
    changed: &[&Pattern],
    now: SystemTime,
) -> bool {
    let is_below = |changed: &&Pattern| matches!(changed, Pattern::Exact(name) if held.pattern.covers(name));
    if matches!(held.pattern, Pattern::Wildcard(_)) && changed.iter().any(is_below) {
        return true;
    }
    if held.issuer == IssuerKey::own() {
        return changed.contains(&&held.pattern);
    }
    let wildcard = match &held.pattern {
        Pattern::Exact(name) => name.wildcard(),
        Pattern::Wildcard(_) => None,
    };
    // What the list says of one that has ended counts for nothing.
    let is_valid = |pattern: &Pattern| list.get(pattern).is_some_and(|own| now < own.not_after);
    is_valid(&held.pattern) || wildcard.is_some_and(|wildcard| is_valid(&wildcard))
}

/// Before its end, time for an operator to have another one issued.
const WARNED_BEFORE: Duration = Duration::from_hours(14 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const EXACT: (&str, Duration) = ("a.b.example", HOUR);
    const WILDCARD: (&str, Duration) = ("*.b.example", HOUR);

    /// Whether `held` gives way when the list has become `list`: own certificates, and what each has left.
    fn check(
        case: &str,
        (issuer, held): (IssuerKey, &str),
        before: &[(&str, Duration)],
        list: &[(&str, Duration)],
        expected: bool,
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let entry = |(pattern, left): &(&str, Duration)| {
            let own = state_table::OwnCertificate { serial: "01".to_owned(), not_after: now + *left };
            (Pattern::parse(pattern).unwrap(), own)
        };
        let [before, list] = [before, list].map(|list| list.iter().map(entry).collect::<OwnCertificates>());
        let pattern = Pattern::parse(held).unwrap();
        let held = PresentedCertificate { pattern, issuer, slot: Arc::default() };
        assert_eq!(gives_way(&held, &list, &changed(&before, &list), now), expected, "{case}");
    }

    #[test]
    fn what_was_ordered_gives_way_to_an_own_certificate() {
        let (ended, site, wide) = (("a.b.example", Duration::ZERO), "a.b.example", "*.b.example");
        let ordered = |pattern| (IssuerKey::internal(), pattern);
        check("nothing own", ordered(site), &[], &[], false);
        check("its own comes", ordered(site), &[], &[EXACT], true);
        check("its own is there", ordered(site), &[EXACT], &[EXACT], true);
        check("a wildcard comes", ordered(site), &[], &[WILDCARD], true);
        check("others come", ordered("a.c.example"), &[], &[WILDCARD, EXACT], false);
        check("its own has ended", ordered(site), &[], &[ended], false);
        check("a name below it gets its own", ordered(wide), &[], &[EXACT], true);
        check("it has it already", ordered(wide), &[EXACT], &[EXACT], false);
    }

    #[test]
    fn an_own_certificate_gives_way_when_it_changes_and_then_no_more() {
        let own = |pattern| (IssuerKey::own(), pattern);
        check("it stays", own("a.b.example"), &[EXACT], &[EXACT], false);
        check("it is replaced", own("a.b.example"), &[("a.b.example", HOUR * 2)], &[EXACT], true);
        check("it goes", own("a.b.example"), &[EXACT], &[], true);
        check("it is not listed", own("a.b.example"), &[], &[], false);
        check("a name below it comes", own("*.b.example"), &[WILDCARD], &[WILDCARD, EXACT], true);
        check("a name below it is there", own("*.b.example"), &[WILDCARD, EXACT], &[WILDCARD, EXACT], false);
    }
}
