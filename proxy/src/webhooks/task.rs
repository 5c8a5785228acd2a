//! One webhook: reads the log, sends what is due, and keeps how far it is.
//! Not here: what is due (`course`), and who sends at all (`sender`).

use std::{convert::Infallible, time::Duration};

use tokio::{sync::watch, time::timeout};
use tracing::{debug, error, info, warn};

use super::{
    course::{Consequence, Course, EndReason, Step},
    metrics::WebhookMetrics,
    reader,
    webhook::Webhook,
};
use crate::{
    clock, random,
    store::{
        Consistency, Store, StoreError,
        instant::Micros,
        state_table::{
            Event, EventId, WebhookState, find_delivered, find_webhook, put_delivered, put_webhook,
        },
    },
    telemetry::admit_line,
};

/// What it needs.
pub(super) struct WebhookTask {
    pub(super) webhook: Webhook,
    pub(super) store: Store,
    pub(super) metrics: WebhookMetrics,
    /// Whether it is to end.
    pub(super) stopped: watch::Receiver<bool>,
}

/// Why it does not go on.
enum Ended {
    /// It goes on from elsewhere, by an operator's command.
    OtherRun,
    /// It is to end.
    Stopped,
    /// The table.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl WebhookTask {
    /// Sends until it is stopped. What it knows of the webhook outlives failures of the table: read again, the table would have it send what was
    /// accepted, and try at once what is to wait.
    pub(super) async fn run(mut self) {
        let mut course = None;
        loop {
            match self.drive(&mut course).await {
                Ended::Stopped => return,
                Ended::OtherRun => {
                    course = None;
                    info!(webhook = self.webhook.name(), "a webhook goes on from where a command said");
                }
                Ended::Store(error) => {
                    if let Some(left_out) = admit_line("webhook_table", self.webhook.name()) {
                        let error: &dyn std::error::Error = &error;
                        warn!(webhook = self.webhook.name(), error, left_out, "the table fails: events wait");
                    }
                    self.metrics.failing(self.webhook.name(), true);
                    self.pause(AFTER_FAILURE).await;
                    if self.is_stopped() {
                        return;
                    }
                }
            }
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Waits for `span`, or until it is to end.
    async fn pause(&mut self, span: Duration) {
        let _ = timeout(span, self.stopped.wait_for(|is_stopped| *is_stopped)).await;
    }

    async fn drive(&mut self, course: &mut Option<Course>) -> Ended {
        match self.try_drive(course).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_drive(&mut self, course: &mut Option<Course>) -> Result<Infallible, Ended> {
        let course = match course {
            Some(course) => course,
            None => course.insert(self.load().await?),
        };
        // A command may have come while the table failed.
        let (mut look_at, mut keep_at) = (clock::now(), clock::now() + KEEP);
        loop {
            if self.is_stopped() {
                self.keep(course).await?;
                return Err(Ended::Stopped);
            }
            let now = Micros::of(clock::wall());
            match course.next(now) {
                Step::Wait(span) => self.pause(span).await,
                Step::Read(after) => {
                    let reading = reader::read(&self.store, after, now, PART, Consistency::Strong).await?;
                    course.take(reading, |kind| self.webhook.config.wants(kind), now);
                }
                Step::Send(event) => self.send(course, &event).await?,
                Step::Mark(event) => self.mark(course, event).await?,
            }
            course.settle();
            self.measure(course);
            if clock::now() >= look_at {
                look_at = clock::now() + LOOK;
                let there = find_webhook(&self.store, self.webhook.name()).await?;
                if there.is_none_or(|there| there.run != course.state.run) {
                    return Err(Ended::OtherRun);
                }
            }
            if clock::now() >= keep_at {
                keep_at = clock::now() + KEEP;
                self.keep(course).await?;
            }
        }
    }

    /// Where it was left; one that is new is told of what comes about from now on.
    async fn load(&self) -> Result<Course, StoreError> {
        let (name, now) = (self.webhook.name(), Micros::of(clock::wall()));
        let state = if let Some(state) = find_webhook(&self.store, name).await? {
            state
        } else {
            let state = WebhookState { settled: EventId::before(now), ..WebhookState::default() };
            put_webhook(&self.store, name, &state, now).await?;
            state
        };
        let delivered = find_delivered(&self.store, name, state.marks, state.settled).await?;
        Ok(Course::new(state, delivered, now))
    }

    async fn send(&self, course: &mut Course, event: &Event) -> Result<(), Ended> {
        let name = self.webhook.name();
        let attempted = self.webhook.post(event, Micros::of(clock::wall())).await;
        self.metrics.attempted(name, attempted.outcome);
        let (now, was_failing) = (Micros::of(clock::wall()), course.state.failures > 0);
        let consequence = course.follow(event.id, &attempted, random::fraction(), now);
        self.tell(event, consequence, &attempted.problem);
        if let Step::Mark(event) = course.next(now) {
            self.mark(course, event).await?;
        }
        if consequence != Consequence::Delivered || was_failing {
            self.keep(course).await?;
        }
        Ok(())
    }

    fn tell(&self, event: &Event, consequence: Consequence, problem: &str) {
        let (webhook, id, kind) = (self.webhook.name(), event.id, &event.kind);
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

    async fn mark(&self, course: &mut Course, event: EventId) -> Result<(), StoreError> {
        let now = Micros::of(clock::wall());
        put_delivered(&self.store, self.webhook.name(), course.state.marks, event, now).await?;
        course.marked();
        Ok(())
    }

    async fn keep(&self, course: &Course) -> Result<(), Ended> {
        let now = Micros::of(clock::wall());
        let is_kept = put_webhook(&self.store, self.webhook.name(), &course.state, now).await?;
        if is_kept { Ok(()) } else { Err(Ended::OtherRun) }
    }

    fn measure(&self, course: &Course) {
        let now = Micros::of(clock::wall());
        self.metrics.behind(self.webhook.name(), course.behind(now).as_secs());
        let is_failing = course.state.failures > 0 || course.state.ended_at.is_some();
        self.metrics.failing(self.webhook.name(), is_failing);
    }
}

/// Between two looks whether a command has a webhook go on from elsewhere.
const LOOK: Duration = Duration::from_secs(5);
/// Between two writes of where a webhook is, while all goes well.
const KEEP: Duration = Duration::from_mins(1);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Events that are read at once.
const PART: u16 = 100;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus::Registry;
    use serde_json::json;
    use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::mpsc};

    use super::*;
    use crate::{
        config::{EventKind, StoreConfig},
        store::{Engine, FaultPlan, Faults, state_table::put_event, tables},
        webhooks::fixture::{SECRET, message, webhook},
    };

    /// Accepts all that it is sent, and says so.
    async fn receiver() -> (String, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (told, sent) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let text = message(&mut stream).await;
                let id = text.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap();
                told.send(id.to_owned()).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        });
        (url, sent)
    }

    #[tokio::test]
    async fn what_was_accepted_while_the_table_failed_is_not_sent_again() {
        let faults = Faults::new(FaultPlan::default());
        let store =
            Store::on_faulty(Engine::in_memory().unwrap(), &StoreConfig::default(), Arc::clone(&faults));
        tables::create(&store).await.unwrap();
        let ((url, mut sent), now) = (receiver().await, Micros::of(clock::wall()));
        let state = WebhookState { settled: EventId::before(now), ..WebhookState::default() };
        assert!(put_webhook(&store, "crm", &state, now).await.unwrap());
        let domain = "a.example".parse().unwrap();
        let event = |at| Event::new(EventKind::DomainCreated, &domain, None, &json!({}), at).unwrap();
        let (first, second) = (event(now.next()), event(now.next().next()));
        put_event(&store, &first).await.unwrap();

        faults.forbid(&["PutItem"]);
        let registry = Registry::new();
        let metrics = WebhookMetrics::register(&registry).unwrap();
        let (_stop, stopped) = watch::channel(false);
        let task = WebhookTask {
            webhook: webhook(url, SECRET, 0o600).unwrap(),
            store: store.clone(),
            metrics,
            stopped,
        };
        let task = tokio::spawn(task.run());
        let mut next = async || timeout(Duration::from_secs(30), sent.recv()).await.unwrap().unwrap();
        assert_eq!(next().await, first.id.to_string());
        let is_failing = || {
            let families = registry.gather();
            let failing = families.iter().find(|family| family.name() == "gatehouse_webhook_failing");
            failing.is_some_and(|family| family.get_metric()[0].get_gauge().get_value() > 0.5)
        };
        timeout(Duration::from_secs(30), async {
            while !is_failing() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        faults.forbid(&[]);
        put_event(&store, &second).await.unwrap();
        assert_eq!(next().await, second.id.to_string());
        task.abort();
    }
}
