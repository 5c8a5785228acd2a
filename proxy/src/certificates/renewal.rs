//! Renewal: certificates that the index `due` shows, by the instance that gets the lease, never in the way of serving. Also notices
//! what other instances have renewed, and what must no longer be served.

use std::{collections::HashSet, sync::Arc};

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{
    CertificateRefusal, CertificatesInner,
    choice::{CertificateChoice, choose},
    follow::name_of,
    metrics::{Renewed, Sought},
    step::Purpose,
};
use crate::{
    clock,
    domains::{Caller, Delta, Patterns, Permission},
    name::{Pattern, ServerName},
    store::{
        StoreError, certificate_table,
        instant::epoch_millis,
        state_table::{self, SHARDS},
    },
    telemetry::admit_line,
};

/// Looks for due renewals each period.
pub(super) async fn renew(inner: Arc<CertificatesInner>) {
    let mut ticks = tokio::time::interval(*inner.config.renewal_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        inner.measure();
        inner.metrics.held.measure_expiry(&inner.cache.ends(), clock::wall());
        inner.warn_of_own(clock::wall());
        inner.measure_budgets(clock::wall()).await;
        refresh(&inner).await;
        match renew_due(&inner).await {
            Ok(()) => {
                let seconds = epoch_millis(clock::wall()) / 1000;
                inner.metrics.renewed_at.set(i64::try_from(seconds).unwrap_or(i64::MAX));
            }
            Err(error) => {
                if let Some(left_out) = admit_line("renewals_unread", "") {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, left_out, "due renewals could not be read; they are tried again");
                }
            }
        }
    }
}

/// Withdraws certificates that the domain set no longer allows, at each change of it.
pub(super) async fn withdraw(inner: Arc<CertificatesInner>) {
    let mut names = inner.domains.names();
    let mut before = names.borrow_and_update().patterns.clone();
    while names.changed().await.is_ok() {
        let allowed = names.borrow_and_update().patterns.clone();
        for pattern in withdrawn(&allowed.since(&before), &allowed, || inner.cache.patterns()) {
            if inner.cache.withdraw(&pattern) {
                info!(%pattern, "certificate withdrawn");
            }
        }
        before = allowed;
    }
}

/// The certificates of names that are no longer allowed. One withdrawn by mistake costs a table read when its name comes again.
fn withdrawn(delta: &Delta, allowed: &Patterns, cached: impl Fn() -> Vec<Pattern>) -> Vec<Pattern> {
    let is_allowed = |name: &ServerName| {
        allowed.contains(&Pattern::Exact(name.clone()))
            || name.wildcard().is_some_and(|all| allowed.contains(&all))
    };
    let is_gone = |pattern: &Pattern| match pattern {
        Pattern::Exact(name) => !is_allowed(name),
        Pattern::Wildcard(_) => true,
    };
    let mut gone: Vec<_> = delta.removed.iter().filter(|pattern| is_gone(pattern)).cloned().collect();
    let wildcards: HashSet<_> =
        delta.removed.iter().filter(|pattern| matches!(pattern, Pattern::Wildcard(_))).collect();
    // Below a wildcard lie names that are in no list.
    if !wildcards.is_empty() {
        let below = |name: &ServerName| name.wildcard().is_some_and(|all| wildcards.contains(&all));
        let names = cached().into_iter().filter(|pattern| match pattern {
            Pattern::Exact(name) => below(name) && !is_allowed(name),
            Pattern::Wildcard(_) => false,
        });
        gone.extend(names);
    }
    gone
}

async fn renew_due(inner: &Arc<CertificatesInner>) -> Result<(), StoreError> {
    for shard in 0..SHARDS {
        let mut start = None;
        loop {
            let page = state_table::due(&inner.store, shard, clock::wall(), start.as_ref(), PAGE).await?;
            for few in page.names.chunks(AT_ONCE) {
                let renewals: Vec<_> = few
                    .iter()
                    .map(|due| tokio::spawn(renew_name(Arc::clone(inner), due.name.clone())))
                    .collect();
                for renewal in renewals {
                    inner.metrics.renewals.bump(renewal.await.unwrap_or(Renewed::Fail));
                }
            }
            let Some(next) = page.next else { break };
            start = Some(next);
        }
    }
    Ok(())
}

async fn renew_name(inner: Arc<CertificatesInner>, name: ServerName) -> Renewed {
    match inner.domains.permission(&name, Caller::Internal).await {
        Permission::Deny(_) => return forget(&inner, &name).await,
        // It comes round again, and is served until then.
        Permission::Unknown(_) => return Renewed::Postpone,
        Permission::Allow(_) => {}
    }
    let Ok(waiter) = inner.join_or_start(&name, Purpose::Renew, None) else { return Renewed::Postpone };
    match waiter.outcome().await.unwrap_or(Err(CertificateRefusal::Failed)) {
        Ok(_) => Renewed::Renew,
        Err(
            CertificateRefusal::Busy
            | CertificateRefusal::Slow
            | CertificateRefusal::BackingOff
            | CertificateRefusal::Unknown,
        ) => Renewed::Postpone,
        Err(CertificateRefusal::Denied | CertificateRefusal::Failed) => Renewed::Fail,
    }
}

async fn forget(inner: &CertificatesInner, name: &ServerName) -> Renewed {
    match state_table::forget(&inner.store, name).await {
        Ok(()) => Renewed::Forget,
        Err(error) => {
            if let Some(left_out) = admit_line("renewal_not_ended", "") {
                warn!(server_name = %name, %error, left_out, "the renewal record of a name that is no longer allowed could not be removed");
            }
            Renewed::Postpone
        }
    }
}

/// Reads again what another instance may have renewed.
async fn refresh(inner: &CertificatesInner) {
    for pattern in inner.cache.stale(clock::wall()) {
        let Some(name) = name_of(&pattern) else { continue };
        inner.metrics.reads.bump(Sought::Renewal);
        let now = clock::wall();
        let Ok(stored_certificates) = certificate_table::read(&inner.store, &inner.issuer_keys, &name).await
        else {
            return;
        };
        inner.warned.warn_of_unusable(&stored_certificates, clock::now());
        if let CertificateChoice::Take(best) = choose(&stored_certificates, now) {
            // One that nobody renewed is looked at again, but not in every round.
            let stale_at = best.pair.life.renew_at(&name).max(now + *inner.config.renewal_period * 5);
            inner.cache.keep(&best, stale_at, now);
        }
    }
}

const PAGE: u16 = 100;
const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn what_is_allowed_no_longer_is_withdrawn_also_below_a_wildcard() {
        let cached = ["a.example.com", "b.example.com", "c.example.org", "*.example.com"];
        for (before, after, gone) in [
            (&["a.example.com", "c.example.org"][..], &["a.example.com"][..], &["c.example.org"][..]),
            (&["a.example.com", "*.example.com"], &["*.example.com"], &[]),
            (&["*.example.com", "b.example.com"], &["b.example.com"], &["*.example.com", "a.example.com"]),
            (&["c.example.org"], &["c.example.org", "d.example.org"], &[]),
        ] {
            let set = |texts: &[&str]| patterns(texts).into_iter().collect::<Patterns>();
            let (before, after) = (set(before), set(after));
            let mut withdrawn = withdrawn(&after.since(&before), &after, || patterns(&cached));
            let mut gone = patterns(gone);
            withdrawn.sort();
            gone.sort();
            assert_eq!(withdrawn, gone);
        }
    }
}
