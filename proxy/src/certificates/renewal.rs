//! Renewal: what the index `due` shows, by whoever gets the lease, never in the way of serving; and noticing what other instances
//! renewed, and what may be served no longer.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::SystemTime,
};

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{
    Inner, Refusal,
    choice::{Choice, choose},
    metrics::{Renewed, Sought},
    step::Errand,
};
use crate::{
    domains::Permission,
    name::{Pattern, ServerName},
    store::{
        StoreError,
        certificate_table::{self, Due, SHARDS},
        instant::epoch_millis,
    },
};

/// Looks for due renewals each period.
pub(super) async fn renew(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(*inner.config.renewal_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        inner.measure();
        refresh(&inner).await;
        match renew_due(&inner).await {
            Ok(()) => {
                let seconds = epoch_millis(SystemTime::now()) / 1000;
                inner.metrics.renewed_at.set(i64::try_from(seconds).unwrap_or(i64::MAX));
            }
            Err(error) => warn!(%error, "due renewals could not be read; they are tried again"),
        }
    }
}

/// Withdraws what the domain set no longer allows, at each change of it.
pub(super) async fn withdraw(inner: Arc<Inner>) {
    let mut names = inner.domains.names();
    while names.changed().await.is_ok() {
        let allowed = Arc::clone(&names.borrow_and_update().patterns);
        for pattern in inner.cache.patterns() {
            let Pattern::Exact(name) = &pattern else { continue };
            let is_allowed = allowed.contains(&pattern)
                || name.wildcard().is_some_and(|wildcard| allowed.contains(&wildcard));
            // Absence is no denial: what the ask endpoint allowed leaves the set when its answer gets old.
            if !is_allowed && matches!(inner.domains.known(name), Some(Permission::Deny(_))) {
                inner.cache.withdraw(&pattern);
                info!(server_name = %name, "certificate withdrawn");
            }
        }
    }
}

async fn renew_due(inner: &Arc<Inner>) -> Result<(), StoreError> {
    for shard in 0..SHARDS {
        let mut after: Option<Due> = None;
        loop {
            let page =
                certificate_table::due(&inner.store, shard, SystemTime::now(), after.as_ref(), PAGE).await?;
            for few in page.chunks(AT_ONCE) {
                let renewals: Vec<_> = few
                    .iter()
                    .map(|due| tokio::spawn(renew_name(Arc::clone(inner), due.name.clone())))
                    .collect();
                for renewal in renewals {
                    inner.metrics.renewals.bump(renewal.await.unwrap_or(Renewed::Fail));
                }
            }
            if page.len() < usize::from(PAGE) {
                break;
            }
            after = page.last().cloned();
        }
    }
    Ok(())
}

async fn renew_name(inner: Arc<Inner>, name: ServerName) -> Renewed {
    match inner.domains.permission(&name, OURSELVES).await {
        Permission::Deny(_) => return forget(&inner, &name).await,
        // It comes round again, and is served until then.
        Permission::Unknown(_) => return Renewed::Postpone,
        Permission::Allow(_) => {}
    }
    let Ok(seat) = inner.fly(&name, Errand::Renew) else { return Renewed::Postpone };
    match seat.outcome().await {
        Ok(_) => Renewed::Renew,
        Err(Refusal::Busy | Refusal::Slow | Refusal::BackingOff | Refusal::Unknown) => Renewed::Postpone,
        Err(Refusal::Denied | Refusal::Failed) => Renewed::Fail,
    }
}

async fn forget(inner: &Inner, name: &ServerName) -> Renewed {
    match certificate_table::forget(&inner.store, name).await {
        Ok(()) => Renewed::Forget,
        Err(error) => {
            warn!(server_name = %name, %error, "renewal of a name no longer allowed could not be ended");
            Renewed::Postpone
        }
    }
}

/// Reads anew what another instance may have renewed.
async fn refresh(inner: &Inner) {
    for pattern in inner.cache.stale(SystemTime::now()) {
        let name = match &pattern {
            Pattern::Exact(name) => name.clone(),
            Pattern::Wildcard(suffix) => match ServerName::parse(&format!("x.{suffix}")) {
                Ok(name) => name,
                Err(_) => continue,
            },
        };
        inner.metrics.reads.bump(Sought::Renewal);
        let now = SystemTime::now();
        let Ok(shelf) = certificate_table::read(&inner.store, &inner.issuer_keys, &name).await else {
            return;
        };
        if let Choice::Take(best) = choose(&shelf, now) {
            // One that nobody renewed is looked at again, but not in every round.
            let stale_at = best.pair.life.renew_at(&name).max(now + *inner.config.renewal_period * 5);
            inner.cache.keep(&best, stale_at);
        }
    }
}

const PAGE: u16 = 100;
const AT_ONCE: usize = 4;
const OURSELVES: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
