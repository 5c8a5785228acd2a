//! Following the table: a certificate that is replaced or deleted there before it expires is presented for a minute at most. Presented
//! certificates are read again in the background, a hundred chains per call; those nobody asks for cost nothing until somebody does, or until
//! they would have been renewed: what is measured of certificates in memory is to be so of the fleet's.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::time::MissedTickBehavior;
use tracing::{debug, info};

use super::{
    Certificate, CertificatesInner,
    cache::PresentedCertificate,
    choice::{CertificateChoice, choose},
    keyed_chain::leaf,
    metrics::Sought,
};
use crate::{
    clock,
    name::Pattern,
    store::{
        StoreError,
        certificate_table::{self, CHAINS, StoredItem},
    },
};

/// Reads what is presented again, three times a minute.
pub(super) async fn follow(inner: Arc<CertificatesInner>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = 0_u32;
    loop {
        ticks.tick().await;
        if let Err(error) = inner.follow_own(clock::wall()).await {
            let error: &dyn std::error::Error = &error;
            debug!(error, "the list of own certificates could not be read; what it said last counts");
        }
        round(&inner, clock::wall()).await;
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(ROUNDS_OF_AN_HOUR) {
            look_at_aged(&inner, clock::wall()).await;
        }
    }
}

/// Confirms what was presented since the last round. While the table does not answer, memory is used.
pub(super) async fn round(inner: &CertificatesInner, now: SystemTime) {
    let presented = inner.cache.presented(now, PERIOD, MOST);
    for batch in presented.chunks(CHAINS) {
        if let Err(error) = confirm(inner, batch, now).await {
            // A call may use all of its time-out: a table that does not answer is not asked again in this round.
            let error: &dyn std::error::Error = &error;
            debug!(
                error,
                "presented certificates could not be compared with the table; they are still presented"
            );
            for held in &presented {
                held.slot.confirm(now);
            }
            return;
        }
    }
}

/// Looks for what nobody asks for and would have been renewed by now. What has ended and was replaced by nothing stays for a while: it is
/// missed, and told of.
pub(super) async fn look_at_aged(inner: &CertificatesInner, now: SystemTime) {
    let aged = inner.cache.aged(now, MOST);
    for batch in aged.chunks(CHAINS) {
        if let Err(error) = replace_aged(inner, batch, now).await {
            let error: &dyn std::error::Error = &error;
            debug!(error, "certificates that nobody asks for could not be compared with the table");
            return;
        }
    }
}

async fn replace_aged(
    inner: &CertificatesInner,
    aged: &[PresentedCertificate],
    now: SystemTime,
) -> Result<(), StoreError> {
    let places: Vec<_> = aged.iter().map(|held| (held.issuer.clone(), held.pattern.clone())).collect();
    inner.metrics.reads.bump(Sought::Follow);
    let chains = certificate_table::read_chains(&inner.store, &places).await?;
    for (held, chain) in aged.iter().zip(chains) {
        let Some(before) = held.slot.current.load_full() else { continue };
        let has_ended = before.not_after <= now;
        // A wildcard's may have taken its place.
        if has_ended || compare(&before, &chain) != TableFinding::Same {
            adopt(inner, held, now).await?;
        }
        let is_left = before.not_after + ENDED_KEPT <= now;
        let is_covered =
            matches!(&held.pattern, Pattern::Exact(name) if inner.cache.find(name, now).is_some());
        if has_ended && held.slot.valid(now).is_none() && (is_left || is_covered) {
            inner.cache.withdraw(&held.pattern);
        }
    }
    Ok(())
}

/// Looks for `held` in the table, [`CHAINS`] at most.
pub(super) async fn confirm(
    inner: &CertificatesInner,
    held: &[PresentedCertificate],
    now: SystemTime,
) -> Result<(), StoreError> {
    let places: Vec<_> = held.iter().map(|held| (held.issuer.clone(), held.pattern.clone())).collect();
    inner.metrics.reads.bump(Sought::Follow);
    let chains = certificate_table::read_chains(&inner.store, &places).await?;
    for (held, chain) in held.iter().zip(chains) {
        let Some(presented) = held.slot.valid(now) else { continue };
        let followed = match compare(&presented, &chain) {
            TableFinding::Same => {
                // Whoever wrote it: from now on the table decides whether it is presented.
                held.slot.is_unwritten.store(false, Ordering::Relaxed);
                held.slot.is_restored.store(false, Ordering::Relaxed);
                Ok(())
            }
            TableFinding::Other | TableFinding::Gone => adopt(inner, held, now).await,
        };
        // What could not be read completely is read again in the next round.
        if followed.is_ok() {
            held.slot.confirm(now);
        }
    }
    Ok(())
}

/// What the table now holds instead of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableFinding {
    Same,
    Other,
    Gone,
}

fn compare(presented: &Certificate, chain: &StoredItem) -> TableFinding {
    match chain {
        None => TableFinding::Gone,
        Some(Ok(chain)) if leaf(chain).as_ref() == presented.key.cert.first() => TableFinding::Same,
        Some(_) => TableFinding::Other,
    }
}

/// Presents what the table holds by now. Something unusable there, such as half of a write, removes nothing.
async fn adopt(
    inner: &CertificatesInner,
    held: &PresentedCertificate,
    now: SystemTime,
) -> Result<(), StoreError> {
    inner.metrics.reads.bump(Sought::Follow);
    let found = certificate_table::read(&inner.store, &inner.issuer_keys, &held.pattern).await?;
    inner.warned.warn_of_unusable(&found, clock::now());
    let mut is_replaced = false;
    if let CertificateChoice::Take(best) = choose(&found, now)
        && best.pair.is_valid(now)
        && best.pair.life.not_before <= now
    {
        is_replaced = best.pattern == held.pattern;
        inner.cache.replace(&best, now);
    }
    let is_there = found.stored.iter().any(|stored| stored.pattern == held.pattern && stored.chain.is_some());
    let is_unwritten = held.slot.is_unwritten.load(Ordering::Relaxed);
    if !is_replaced && !is_there && !is_unwritten && inner.cache.withdraw(&held.pattern) {
        info!(pattern = %held.pattern, "certificate was deleted from the table, and is no longer presented");
    }
    Ok(())
}

/// Twice in this is less than a minute: what is presented all the time never waits for the table.
const PERIOD: Duration = Duration::from_secs(20);
const ROUNDS_OF_AN_HOUR: u32 = 180;
/// How long a certificate that has ended is told of where nobody asks for it any more.
const ENDED_KEPT: Duration = Duration::from_hours(24);
/// A hundred a second; what comes too late waits a moment for its own look when it is next asked for.
const MOST: usize = 2_000;
