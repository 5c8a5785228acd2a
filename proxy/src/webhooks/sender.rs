//! The job of one instance of the fleet, under a lease: a task for each webhook, which sends what is due.
//! Not here: what is due (`course`).

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{debug, error, info, warn};

use super::{
    course::{Consequence, Course, EndReason, Step},
    metrics::WebhookMetrics,
    reader,
    webhook::Webhook,
};
use crate::{
    clock,
    config::Reloadable,
    phase::{Phase, PhaseWatch},
    random,
    store::{
        Store, StoreError,
        instant::Micros,
        state_table::{
            Event, EventId, WebhookState, find_delivered, find_webhook,
            lease::{Holder, Lease},
            put_delivered, put_webhook,
        },
    },
    telemetry::admit_line,
};

/// What the job needs.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) webhooks: Reloadable<Vec<Webhook>>,
    pub(super) store: Store,
    pub(super) metrics: WebhookMetrics,
    pub(super) holder: Holder,
    pub(super) phase: PhaseWatch,
}

/// Why a task for a webhook ended.
enum Ended {
    /// It goes on from elsewhere, by an operator's command.
    OtherRun,
    /// The instance ends.
    Closing,
    /// The table.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
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
        *self.phase.borrow() == Phase::Draining
    }

    /// Waits for `span`, or until the instance ends.
    async fn pause(&self, span: Duration) {
        let mut phase = self.phase.clone();
        let _ = timeout(span, phase.wait_for(|phase| *phase == Phase::Draining)).await;
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
        // They end with it.
        let mut tasks = JoinSet::new();
        for webhook in webhooks.iter() {
            self.metrics.show(webhook.name());
            let (this, webhook) = (self.clone(), webhook.clone());
            tasks.spawn(async move { Box::pin(this.follow(&webhook)).await });
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut renew_at = clock::now() + RENEW;
        let is_held = loop {
            ticks.tick().await;
            if self.is_closing() {
                // What is on its way is answered, so that nobody sends it again.
                let _ = timeout(LAST_ANSWERS, async { while tasks.join_next().await.is_some() {} }).await;
                break false;
            }
            if clock::wall() >= lease.until {
                break false;
            }
            // A task ends with the instance, or by a panic.
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
        for webhook in webhooks.iter() {
            self.metrics.forget(webhook.name());
        }
        is_held
    }

    /// Sends to one webhook until the instance ends.
    async fn follow(&self, webhook: &Webhook) {
        loop {
            match self.drive(webhook).await {
                Ended::Closing => return,
                Ended::OtherRun => {
                    info!(webhook = webhook.name(), "a webhook goes on from where a command said");
                }
                Ended::Store(error) => {
                    if let Some(left_out) = admit_line("webhook_table", webhook.name()) {
                        let error: &dyn std::error::Error = &error;
                        warn!(webhook = webhook.name(), error, left_out, "the table fails: events wait");
                    }
                    self.pause(AFTER_FAILURE).await;
                    if self.is_closing() {
                        return;
                    }
                }
            }
        }
    }

    async fn drive(&self, webhook: &Webhook) -> Ended {
        match self.try_drive(webhook).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_drive(&self, webhook: &Webhook) -> Result<std::convert::Infallible, Ended> {
        let mut course = self.load(webhook).await?;
        let (mut look_at, mut keep_at) = (clock::now() + LOOK, clock::now() + KEEP);
        loop {
            if self.is_closing() {
                self.keep(webhook, &course).await?;
                return Err(Ended::Closing);
            }
            let now = Micros::of(clock::wall());
            match course.next(now) {
                Step::Wait(span) => self.pause(span).await,
                Step::Read(after) => {
                    let reading = reader::read(&self.store, after, now, PART).await?;
                    course.take(reading, |kind| webhook.config.wants(kind), now);
                }
                Step::Send(event) => self.send(webhook, &mut course, &event).await?,
            }
            course.settle(Micros::of(clock::wall()));
            self.measure(webhook, &course);
            if clock::now() >= look_at {
                look_at = clock::now() + LOOK;
                let there = find_webhook(&self.store, webhook.name()).await?;
                if there.is_none_or(|there| there.run != course.state.run) {
                    return Err(Ended::OtherRun);
                }
            }
            if clock::now() >= keep_at {
                keep_at = clock::now() + KEEP;
                self.keep(webhook, &course).await?;
            }
        }
    }

    /// Where `webhook` was left; one that is new is told of what comes about from now on.
    async fn load(&self, webhook: &Webhook) -> Result<Course, StoreError> {
        let (name, now) = (webhook.name(), Micros::of(clock::wall()));
        let state = if let Some(state) = find_webhook(&self.store, name).await? {
            state
        } else {
            let state = WebhookState { settled: EventId::before(now), ..WebhookState::default() };
            put_webhook(&self.store, name, &state, now).await?;
            state
        };
        let delivered = find_delivered(&self.store, name, state.run, state.settled).await?;
        Ok(Course::new(state, delivered, now))
    }

    async fn send(&self, webhook: &Webhook, course: &mut Course, event: &Event) -> Result<(), Ended> {
        let name = webhook.name();
        let attempted = webhook.post(event, Micros::of(clock::wall())).await;
        self.metrics.attempted(name, attempted.outcome);
        let (now, was_failing) = (Micros::of(clock::wall()), course.state.failures > 0);
        let consequence = course.follow(event.id, &attempted, random::fraction(), now);
        match consequence {
            Consequence::Delivered | Consequence::GiveUp => {
                put_delivered(&self.store, name, course.state.run, event.id, now).await?;
            }
            Consequence::Retry(_) | Consequence::End(_) => {}
        }
        self.tell(name, event, consequence, &attempted.problem);
        if consequence != Consequence::Delivered || was_failing {
            self.keep(webhook, course).await?;
        }
        Ok(())
    }

    fn tell(&self, webhook: &str, event: &Event, consequence: Consequence, problem: &str) {
        let (id, kind) = (event.id, &event.kind);
        match consequence {
            Consequence::Delivered => debug!(webhook, %id, kind, "event delivered"),
            Consequence::Retry(retry_in) => {
                if let Some(left_out) = admit_line("webhook_failed", webhook) {
                    warn!(webhook, %id, kind, problem, ?retry_in, left_out, "a webhook does not accept an event");
                }
            }
            Consequence::GiveUp => {
                self.metrics.gave_up(webhook);
                error!(webhook, %id, kind, problem, "a webhook has refused an event for a day; it is not sent again, the next one is");
            }
            Consequence::End(EndReason::Gone) => {
                error!(
                    webhook,
                    problem,
                    "a webhook wants no more events (410): nothing is sent to it until `gatehouse events replay`"
                );
            }
            Consequence::End(EndReason::FailedForLong) => {
                error!(
                    webhook,
                    problem,
                    "a webhook has failed for five days: nothing is sent to it until `gatehouse events replay`"
                );
            }
        }
    }

    async fn keep(&self, webhook: &Webhook, course: &Course) -> Result<(), Ended> {
        let now = Micros::of(clock::wall());
        let is_kept = put_webhook(&self.store, webhook.name(), &course.state, now).await?;
        if is_kept { Ok(()) } else { Err(Ended::OtherRun) }
    }

    fn measure(&self, webhook: &Webhook, course: &Course) {
        let now = Micros::of(clock::wall());
        self.metrics.behind(webhook.name(), course.behind(now).as_secs());
        let is_failing = course.state.failures > 0 || course.state.ended_at.is_some();
        self.metrics.failing(webhook.name(), is_failing);
    }
}

/// The lease for it, of which the fleet has one.
const JOB: &str = "webhooks";
/// How long events wait when their instance dies.
const LEASE: Duration = Duration::from_mins(1);
const RENEW: Duration = Duration::from_secs(15);
const TAKE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// Between two looks whether a command has a webhook go on from elsewhere.
const LOOK: Duration = Duration::from_secs(5);
/// Between two writes of where a webhook is, while all goes well.
const KEEP: Duration = Duration::from_mins(1);
/// For a receiver that is slow, when the instance ends.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Events that are read at once.
const PART: u16 = 100;
