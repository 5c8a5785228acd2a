//! How webhooks fare, for people and programs, by the table: any instance and any command can tell.

use serde::{Deserialize, Serialize};

use crate::{
    config::{EventsConfig, WebhookName},
    store::{
        Store, StoreError,
        instant::Micros,
        state_table::{WebhookState, list_webhooks},
    },
};

/// How one webhook of the settings fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookStanding {
    /// Which.
    pub name: String,
    /// Whether events reach it.
    pub condition: Condition,
    /// Since when it is so, where that is known.
    pub since: Option<Micros>,
    /// How the last attempt failed.
    pub problem: Option<String>,
    /// When the next attempt is made.
    pub retry_at: Option<Micros>,
    /// When an event was accepted last.
    pub delivered_at: Option<Micros>,
}

/// Whether events reach a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// No instance has begun to send to it.
    New,
    /// As far as there were any.
    Well,
    /// The last attempt failed; there will be another.
    Failing,
    /// Nothing is sent any more until a command says so.
    Ended,
}

impl WebhookStanding {
    /// Whether events do not reach it.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        match self.condition {
            Condition::New | Condition::Well => false,
            Condition::Failing | Condition::Ended => true,
        }
    }

    fn of(name: &WebhookName, state: Option<&WebhookState>) -> Self {
        let (condition, since) = match state {
            None => (Condition::New, None),
            Some(state) if state.ended_at.is_some() => (Condition::Ended, state.ended_at),
            Some(state) if state.failures > 0 => (Condition::Failing, state.failing_since),
            Some(_) => (Condition::Well, None),
        };
        Self {
            name: name.to_string(),
            condition,
            since,
            problem: state.and_then(|state| state.problem.clone()),
            retry_at: state.and_then(|state| state.retry_at),
            delivered_at: state.and_then(|state| state.delivered_at),
        }
    }
}

/// How those of `config` fare, in their order; a moment old.
pub async fn standings(store: &Store, config: &EventsConfig) -> Result<Vec<WebhookStanding>, StoreError> {
    if config.webhooks.is_empty() {
        return Ok(Vec::new());
    }
    let states = list_webhooks(store).await?;
    let state = |name: &WebhookName| states.iter().find(|(other, _)| other == name.as_str());
    let names = config.webhooks.iter().map(|webhook| &webhook.name);
    Ok(names.map(|name| WebhookStanding::of(name, state(name).map(|(_, state)| state))).collect())
}
