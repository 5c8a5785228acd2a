//! The job of one instance of the fleet, under a lease: a task for each webhook (`task`), for as long as the lease is held and the settings are
//! the same.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, info};

use super::{metrics::WebhookMetrics, task::WebhookTask, webhook::Webhook};
use crate::{
    clock,
    config::Reloadable,
    phase::PhaseWatch,
    store::{
        Store,
        state_table::lease::{Holder, Lease},
    },
};

/// What the job needs.
pub(super) struct Sender {
    pub(super) webhooks: Reloadable<Vec<Webhook>>,
    pub(super) store: Store,
    pub(super) metrics: WebhookMetrics,
    pub(super) holder: Holder,
    pub(super) phase: PhaseWatch,
}

impl Sender {
    /// Does the job whenever this instance has the lease, until the instance ends.
    pub(super) async fn run(self) {
        while !self.is_closing() {
            if !self.webhooks.load().is_empty() {
                match Lease::take(&self.store, JOB, &self.holder, LEASE, clock::wall()).await {
                    Ok(Some(lease)) => self.hold(lease).await,
                    Ok(None) => {}
                    Err(error) => debug!(%error, "the lease for webhooks cannot be taken"),
                }
            }
            self.pause(TAKE).await;
        }
    }

    fn is_closing(&self) -> bool {
        self.phase.borrow().is_end()
    }

    /// Waits for `span`, or until the instance ends.
    async fn pause(&self, span: Duration) {
        let mut phase = self.phase.clone();
        let _ = timeout(span, phase.wait_for(|phase| phase.is_end())).await;
    }

    /// Sends until the lease is lost or there is no webhook any more.
    async fn hold(&self, mut lease: Lease) {
        info!("this instance sends events to webhooks");
        self.metrics.is_sender.set(1);
        loop {
            let webhooks = self.webhooks.load_full();
            if webhooks.is_empty() || !self.send_while_held(&webhooks, &mut lease).await {
                break;
            }
        }
        self.metrics.is_sender.set(0);
        info!("this instance sends no events to webhooks any more");
        // So that another instance need not wait for the lease's end; nothing, where it was lost.
        let _ = lease.release(&self.store).await;
    }

    /// Sends to `webhooks` until they are others; whether the lease is held still.
    async fn send_while_held(&self, webhooks: &Arc<Vec<Webhook>>, lease: &mut Lease) -> bool {
        let (stop, stopped) = watch::channel(false);
        // Those that do not end in time are dropped with it.
        let mut tasks = JoinSet::new();
        for webhook in webhooks.iter().cloned() {
            self.metrics.show(webhook.name());
            let (store, metrics, stopped) = (self.store.clone(), self.metrics.clone(), stopped.clone());
            let task = WebhookTask { webhook, store, metrics, stopped };
            tasks.spawn(async move { Box::pin(task.run()).await });
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renew_at = clock::now() + RENEW;
        let is_held = loop {
            ticks.tick().await;
            if self.is_closing() || clock::wall() >= lease.until {
                break false;
            }
            // A task ends when it is stopped, or by a panic.
            if !Arc::ptr_eq(webhooks, &self.webhooks.load_full()) || tasks.try_join_next().is_some() {
                break true;
            }
            if clock::now() >= renew_at {
                if !lease.hold_on(&self.store, LEASE).await {
                    break false;
                }
                renew_at = clock::now() + RENEW;
            }
        };
        // What is on its way is answered, so that nobody sends it again.
        stop.send_replace(true);
        let _ = timeout(LAST_ANSWERS, async { while tasks.join_next().await.is_some() {} }).await;
        for webhook in webhooks.iter() {
            self.metrics.forget(webhook.name());
        }
        is_held
    }
}

/// The lease for it, of which the fleet has one.
const JOB: &str = "webhooks";
/// How long events wait when their instance dies.
const LEASE: Duration = Duration::from_mins(1);
const RENEW: Duration = Duration::from_secs(15);
const TAKE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// For a receiver that is slow.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
