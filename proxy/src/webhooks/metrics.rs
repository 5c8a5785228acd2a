//! Metrics of webhooks. The label `webhook` has the names of the settings, of which there are at most 16.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::{
    label,
    telemetry::metrics::{Label, gauge, registered},
};

label! {
    /// What became of an attempt to send an event.
    pub enum Outcome["outcome"] {
        /// The receiver accepted it (2xx).
        Delivered = "delivered",
        /// It answered with another status, which is its word on the event.
        Refused = "refused",
        /// It, or what stands before it, can take nothing now (408, 425, 429, 502, 503, 504).
        Unavailable = "unavailable",
        /// It answered with a redirect, which is not followed.
        Redirected = "redirected",
        /// It wants no more (410).
        Gone = "gone",
        /// It did not answer in time.
        TimedOut = "timed_out",
        /// No connection, or none that lasted.
        Unreachable = "unreachable",
    }
}

#[derive(Clone)]
pub(super) struct WebhookMetrics {
    attempts: IntCounterVec,
    given_up: IntCounterVec,
    behind: IntGaugeVec,
    failing: IntGaugeVec,
    pub(super) is_sender: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let attempts =
            Opts::new("gatehouse_webhook_attempts_total", "Events sent to webhooks, by what came of it.");
        let given_up = Opts::new(
            "gatehouse_webhook_given_up_total",
            "Events that a webhook refused for a day, and that are not sent any more.",
        );
        let behind = Opts::new(
            "gatehouse_webhook_behind_seconds",
            "Age of the oldest event that waits for this webhook, at the instance that sends.",
        );
        let failing = Opts::new(
            "gatehouse_webhook_failing",
            "1 while the last attempt of this webhook has failed, the table fails, or nothing is sent any more, at the instance that sends.",
        );
        let is_sender = gauge(
            registry,
            "gatehouse_webhook_sender",
            "Whether this instance sends the events of the fleet to webhooks.",
        )?;
        Ok(Self {
            attempts: registered(registry, IntCounterVec::new(attempts, &[WEBHOOK, Outcome::NAME])?)?,
            given_up: registered(registry, IntCounterVec::new(given_up, &[WEBHOOK])?)?,
            behind: registered(registry, IntGaugeVec::new(behind, &[WEBHOOK])?)?,
            failing: registered(registry, IntGaugeVec::new(failing, &[WEBHOOK])?)?,
            is_sender,
        })
    }

    /// Makes the series of a webhook, so that they are there before anything happens.
    pub(super) fn show(&self, webhook: &str) {
        for outcome in Outcome::ALL {
            self.attempts.with_label_values(&[webhook, outcome.as_str()]);
        }
        self.given_up.with_label_values(&[webhook]);
        self.behind(webhook, 0);
        self.failing(webhook, false);
    }

    pub(super) fn attempted(&self, webhook: &str, outcome: Outcome) {
        self.attempts.with_label_values(&[webhook, outcome.as_str()]).inc();
    }

    pub(super) fn gave_up(&self, webhook: &str) {
        self.given_up.with_label_values(&[webhook]).inc();
    }

    pub(super) fn behind(&self, webhook: &str, seconds: u64) {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        self.behind.with_label_values(&[webhook]).set(seconds);
    }

    pub(super) fn failing(&self, webhook: &str, is_failing: bool) {
        self.failing.with_label_values(&[webhook]).set(is_failing.into());
    }

    /// Another instance sends, and says so.
    pub(super) fn forget(&self, webhook: &str) {
        let _ = self.behind.remove_label_values(&[webhook]);
        let _ = self.failing.remove_label_values(&[webhook]);
    }
}

const WEBHOOK: &str = "webhook";
