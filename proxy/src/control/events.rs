//! The event log and webhooks as commands ask for them: the same whether an instance answers or the command line itself.
//! Not here: what is sent and when (`webhooks`).
//! Invariant: a question reads a bounded part of the log, whatever it looks for (`a_question_that_finds_nothing_comes_to_an_end`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    context::ControlContext,
    server::SocketPeer,
    wire::{InstanceStatus, WireProblem},
};
use crate::{
    clock,
    config::{EventKind, WebhookName},
    name::Pattern,
    store::{
        Consistency, Store, StoreError,
        domain_table::Tenant,
        instant::Micros,
        state_table::{self, Event, EventId},
    },
    webhooks::{
        Reading, read_log,
        standing::{WebhookStanding, standings},
    },
};

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuestion {
    /// Those behind it.
    pub after: EventId,
    /// Of this name.
    #[serde(default)]
    pub name: Option<Pattern>,
    /// Of this kind.
    #[serde(default)]
    pub kind: Option<EventKind>,
    /// Of this tenant's entries, and of those that it has lost to another.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// At most so many.
    pub limit: u16,
}

/// Part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// The oldest first.
    pub events: Vec<ListedEvent>,
    /// Behind which the next part begins; absent, this was the last.
    pub next: Option<EventId>,
}

/// An event as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedEvent {
    /// As `webhook-id` has it.
    pub id: EventId,
    /// What it tells.
    pub kind: String,
    /// When it came about.
    pub at: Micros,
    /// Of which name.
    pub domain: Pattern,
    /// Whose; absent, no entry of the table says.
    pub tenant: Option<String>,
    /// What else is sent in `data`.
    pub detail: Map<String, Value>,
}

/// From where a webhook is to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewReplay {
    /// Events that came about then or later are sent, again where they were sent before; absent, from where it is.
    pub since: Option<Micros>,
}

/// Where a webhook goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Which.
    pub webhook: WebhookName,
    /// Events that came about then or later are sent.
    pub since: Micros,
}

/// Why a webhook does not go on from elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Nothing was ever sent to it.
    #[error("webhook `{0}` was never one; `gatehouse events webhooks` shows those of the settings")]
    Absent(WebhookName),
    /// What comes about until then would be sent to nobody.
    #[error(
        "since: `{since}` is to come, it is `{now}` now; give a moment of the past, like `2h` ago or `2026-11-29T03:20:00Z`"
    )]
    ToCome {
        /// From when on events were to be sent.
        since: Micros,
        /// By the clock of who was asked.
        now: Micros,
    },
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Event> for ListedEvent {
    fn from(event: Event) -> Self {
        let Event { id, kind, domain, tenant, detail } = event;
        Self { id, kind, at: id.at, domain, tenant, detail }
    }
}

impl EventQuestion {
    /// As many as one answer holds at most.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { limit: self.limit.clamp(1, MOST_LISTED), ..self }
    }

    /// How fresh the log is read. All tenants' events share a day's partition, whose reads whoever sends to webhooks needs, too; so a tenant's
    /// program, which asks as often as it likes, reads at half the price.
    fn consistency(&self, thoroughness: Thoroughness) -> Consistency {
        match (thoroughness, &self.tenant) {
            (Thoroughness::Brief, Some(_)) => Consistency::Eventual,
            (Thoroughness::Brief, None) | (Thoroughness::Thorough, _) => Consistency::Strong,
        }
    }

    /// The event as who asks may know it, if it is one that is asked for.
    fn answer(&self, event: Event) -> Option<Event> {
        let is_meant = self.name.as_ref().is_none_or(|name| *name == event.domain)
            && self.kind.is_none_or(|kind| kind.as_str() == event.kind);
        let event = Some(event).filter(|_| is_meant)?;
        match &self.tenant {
            Some(tenant) => event.seen_by(tenant.as_str()),
            None => Some(event),
        }
    }
}

impl ControlContext {
    /// The same, with how webhooks fare, where the table says it soon.
    pub(super) async fn whole_status(&self) -> InstanceStatus {
        let webhooks = tokio::time::timeout(STANDINGS, self.webhooks()).await;
        let webhooks = webhooks.ok().and_then(Result::ok).unwrap_or_default();
        InstanceStatus { webhooks, ..self.status() }
    }

    /// How webhooks fare.
    pub(super) async fn webhooks(&self) -> Result<Vec<WebhookStanding>, StoreError> {
        standings(&self.store, &self.events.load_full()).await
    }

    /// Has a webhook go on from elsewhere; the log tells who asked.
    pub(super) async fn replay(
        &self,
        webhook: &WebhookName,
        new: &NewReplay,
        caller: SocketPeer,
    ) -> Result<Replay, WireProblem> {
        let replay = replay(&self.store, webhook, new, Micros::of(clock::wall())).await?;
        tracing::info!(%webhook, since = %replay.since, %caller, "a webhook is sent events again");
        Ok(replay)
    }
}

/// How much of the log is read for one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// As much as an operator waits for.
    Thorough,
    /// As much as a request of the API may cost.
    Brief,
}

impl Thoroughness {
    /// Readings, each of up to 200 events.
    fn readings(self) -> usize {
        match self {
            Self::Thorough => 50,
            Self::Brief => 5,
        }
    }
}

/// Part of the log at `now`; fewer than asked for, where much had to be passed over.
pub async fn events(
    store: &Store,
    question: &EventQuestion,
    thoroughness: Thoroughness,
    now: Micros,
) -> Result<EventList, StoreError> {
    let (limit, consistency) = (usize::from(question.limit), question.consistency(thoroughness));
    let (mut found, mut after): (Vec<ListedEvent>, _) = (Vec::new(), question.after);
    for _ in 0..thoroughness.readings() {
        let Reading { events, to, is_cut } = read_log(store, after, now, PART, consistency).await?;
        for event in events {
            if found.len() == limit {
                let next = found.last().map(|last| last.id);
                return Ok(EventList { events: found, next });
            }
            found.extend(question.answer(event).map(Into::into));
        }
        if !is_cut {
            return Ok(EventList { events: found, next: None });
        }
        after = to;
    }
    Ok(EventList { events: found, next: Some(after) })
}

/// Has `webhook` go on from where `new` says.
pub async fn replay(
    store: &Store,
    webhook: &WebhookName,
    new: &NewReplay,
    now: Micros,
) -> Result<Replay, ReplayError> {
    if let Some(since) = new.since.filter(|since| *since > now) {
        return Err(ReplayError::ToCome { since, now });
    }
    let since = new.since.map(EventId::before);
    let begun = state_table::begin_again(store, webhook.as_str(), since, now).await?;
    let begun = begun.ok_or_else(|| ReplayError::Absent(webhook.clone()))?;
    Ok(Replay { webhook: webhook.clone(), since: begun.settled.at })
}

/// From how long ago on events are listed for those who do not say.
pub const LISTED: Duration = Duration::from_hours(24);
/// As many as a command asks for at most.
const MOST_LISTED: u16 = 1000;
const PART: u16 = 200;
/// Whoever asks how the instance fares does not wait for a table that is down.
const STANDINGS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{
        config::StoreConfig,
        store::{Engine, tables},
    };

    fn at(seconds: u64) -> Micros {
        Micros::from_epoch((1_000_000 + seconds) * 1_000_000)
    }

    async fn store_with(names: &[&str]) -> Store {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        for (second, name) in (0..).zip(names) {
            let domain = name.parse().unwrap();
            let event = Event::new(EventKind::DomainCreated, &domain, None, &json!({}), at(second)).unwrap();
            state_table::put_event(&store, &event).await.unwrap();
        }
        store
    }

    fn question(name: Option<&str>, limit: u16) -> EventQuestion {
        let name = name.map(|name| name.parse().unwrap());
        EventQuestion { after: EventId::before(at(0)), name, kind: None, tenant: None, limit }
    }

    #[tokio::test]
    async fn events_are_listed_part_by_part_and_by_name_and_kind() {
        let store = store_with(&["a.example", "b.example", "a.example", "c.example"]).await;
        let listed = async |question: &EventQuestion| {
            events(&store, question, Thoroughness::Brief, at(9)).await.unwrap()
        };
        let names = |list: &EventList| list.events.iter().map(|e| e.domain.to_string()).collect::<Vec<_>>();
        let first = listed(&question(None, 3)).await;
        assert_eq!(names(&first), ["a.example", "b.example", "a.example"]);
        let rest = listed(&EventQuestion { after: first.next.unwrap(), ..question(None, 3) }).await;
        assert_eq!((names(&rest), rest.next), (vec!["c.example".to_owned()], None));
        let of_a = listed(&question(Some("a.example"), 9)).await;
        assert_eq!((of_a.events.len(), of_a.next), (2, None));
        let removed = EventQuestion { kind: Some(EventKind::DomainRemoved), ..question(None, 9) };
        assert_eq!(listed(&removed).await.events, []);
    }

    #[test]
    fn what_a_tenant_asks_for_is_read_at_half_the_price() {
        let of_all = question(None, 1);
        let of_one = EventQuestion { tenant: Some("acme".parse().unwrap()), ..of_all.clone() };
        for (question, thoroughness, consistency) in [
            (&of_one, Thoroughness::Brief, Consistency::Eventual),
            (&of_one, Thoroughness::Thorough, Consistency::Strong),
            (&of_all, Thoroughness::Brief, Consistency::Strong),
            (&of_all, Thoroughness::Thorough, Consistency::Strong),
        ] {
            assert_eq!(question.consistency(thoroughness), consistency, "{question:?} {thoroughness:?}");
        }
    }

    #[tokio::test]
    async fn a_question_that_finds_nothing_comes_to_an_end() {
        let store = store_with(&["a.example"; 3]).await;
        let now = at(0).more(Duration::from_hours(29 * 24));
        let list = events(&store, &question(Some("z.example"), 1), Thoroughness::Brief, now).await.unwrap();
        assert_eq!(list, EventList { events: Vec::new(), next: None });
    }

    #[tokio::test]
    async fn who_was_never_told_anything_is_told_nothing_again() {
        let store = store_with(&[]).await;
        let crm = "crm".parse().unwrap();
        let absent = replay(&store, &crm, &NewReplay { since: Some(at(0)) }, at(9)).await;
        assert!(matches!(absent, Err(ReplayError::Absent(_))), "{absent:?}");
    }

    #[tokio::test]
    async fn what_is_to_come_is_not_told_again() {
        let (store, crm, now) = (store_with(&[]).await, "crm".parse().unwrap(), at(9));
        let state = state_table::WebhookState { settled: EventId::before(at(5)), ..Default::default() };
        assert!(state_table::put_webhook(&store, "crm", &state, now).await.unwrap());
        let refused = replay(&store, &crm, &NewReplay { since: Some(now.next()) }, now).await;
        let problem = refused.unwrap_err().to_string();
        assert!(problem.starts_with(&format!("since: `{}` is to come", now.next())), "{problem}");
        let kept = state_table::find_webhook(&store, "crm").await.unwrap();
        assert_eq!(kept.as_ref(), Some(&state));
        let begun = replay(&store, &crm, &NewReplay { since: Some(now) }, now).await.unwrap();
        assert_eq!(begun.since, now);
    }
}
