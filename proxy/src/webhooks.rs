//! Tells the operator's own programs what became of domains and certificates: events of the state table, sent by POST to the URLs of the
//! settings, and signed (Standard Webhooks, <https://www.standardwebhooks.com>).
//! Not here: what there is to tell (`domains`, `certificates`), and how it is kept (`store`).
//! Invariants: one instance of the fleet sends, and another goes on from where it was (`two_instances_send_each_event_once_and_the_other_goes_on`); an event is sent
//! until it is accepted, or was refused for a day (`what_is_refused_for_a_day_is_given_up_and_the_next_is_sent`); a receiver that is slow or down
//! costs the others nothing (`a_receiver_that_is_slow_or_wants_no_more_stops_no_other_and_no_change`); where a redirect leads nothing is sent; what a receiver says is
//! read up to a bound, and never trusted.
//!
//! ```text
//! lease -> for each webhook: event log -> Course (which event is next, and when) -> sign -> POST -> Course -> WebhookState
//! ```
//!
//! Events sort by the clocks of who wrote them, and one may be written while a later one is read already. So the log is read again from ten
//! minutes back, and what was delivered of those is kept one by one (`store::state_table`).

mod attempt;
mod course;
#[cfg(test)]
mod fixture;
mod metrics;
mod payload;
mod reader;
mod sender;
mod signature;
pub mod standing;
mod task;
mod webhook;

use std::time::Duration;

use prometheus::Registry;
use tokio::{runtime::Handle, task::JoinHandle};

pub use course::EndReason;
pub use metrics::Outcome;
pub use reader::{Reading, read as read_log};
pub use webhook::WebhookError;

use self::{metrics::WebhookMetrics, sender::Sender, webhook::Webhook};
use crate::{
    config::{EventsConfig, Reloadable},
    phase::PhaseWatch,
    store::{Store, state_table::lease::Holder},
};

/// Why webhooks cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksStartError {
    /// A metric is registered twice.
    #[error("metrics of `webhooks` cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The kernel gives no random bytes.
    #[error("no random name for this instance")]
    Random(#[from] aws_lc_rs::error::Unspecified),
}

/// Which webhooks there are, with their secrets; a reload replaces them.
#[derive(Clone)]
pub struct Webhooks(Reloadable<Vec<Webhook>>);

impl Webhooks {
    /// Reads those of `config`.
    pub fn read(config: &EventsConfig) -> Result<Self, WebhookError> {
        Webhook::read_all(config).map(Reloadable::new).map(Self)
    }

    /// Sends to them, on `control`, until `phase` says that the instance ends.
    pub fn start(
        &self,
        store: &Store,
        phase: PhaseWatch,
        control: &Handle,
        registry: &Registry,
    ) -> Result<WebhooksEnd, WebhooksStartError> {
        let sender = Sender {
            webhooks: self.0.clone(),
            store: store.clone(),
            metrics: WebhookMetrics::register(registry)?,
            holder: Holder::random()?,
            phase,
        };
        Ok(WebhooksEnd(control.spawn(sender.run())))
    }

    /// Sends to those of `next` from now on. One that changes nothing disturbs nobody.
    pub(crate) fn follow(&self, next: &Self) {
        let next = next.0.load_full();
        if **self.0.load() != *next {
            self.0.replace(next.to_vec());
        }
    }
}

/// The task that sends.
pub struct WebhooksEnd(JoinHandle<()>);

impl WebhooksEnd {
    /// Waits, for `limit` at most, until what is on its way was answered and the lease is released: another instance goes on at once, and sends
    /// nothing twice.
    pub(crate) async fn wait(self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.0).await;
    }
}

/// Registers this module's metrics for a list of all.
pub(crate) fn declare_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    WebhookMetrics::register(registry)?.show("NAME");
    Ok(())
}
