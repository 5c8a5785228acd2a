//! `gatehouse events`.

use serde_json::{Map, Value};

use super::{access::Access, arguments::EventsCommand, columns::Columns, error::CommandError, print};
use crate::{
    clock,
    config::Config,
    control::events::{EventList, EventQuestion, LISTED, ListedEvent, NewReplay, Replay},
    store::{instant::Micros, state_table::EventId},
    webhooks::standing::{Condition, WebhookStanding},
};

/// Asks, and writes the answer.
pub(super) async fn events(config: &Config, command: &EventsCommand) -> Result<(), CommandError> {
    let access = Access::open(config).await?;
    let now = Micros::of(clock::wall());
    match command {
        EventsCommand::List { since, after, name, kind, tenant, limit, form } => {
            let since = since.map_or_else(|| now.less(LISTED), |since| since.at(now));
            let after = after.unwrap_or_else(|| EventId::before(since));
            let (name, tenant) = (name.clone(), tenant.clone());
            let question = EventQuestion { after, name, kind: *kind, tenant, limit: *limit };
            print(*form, &access.events(&question).await?, listed)
        }
        EventsCommand::Webhooks(form) => {
            let standings = access.webhooks().await?;
            print(*form, &standings, |standings| fared(standings))?;
            let failing = standings.iter().filter(|standing| standing.is_failing()).count();
            if failing == 0 { Ok(()) } else { Err(CommandError::WebhooksFail { failing }) }
        }
        EventsCommand::Replay { webhook, since, form } => {
            let new = NewReplay { since: since.map(|since| since.at(now)) };
            print(*form, &access.replay(webhook, &new).await?, replayed)
        }
    }
}

fn listed(list: &EventList) -> String {
    if list.events.is_empty() && list.next.is_none() {
        return "nothing has become of domains and certificates since\n".to_owned();
    }
    let mut columns = Columns::new(["TIME", "KIND", "DOMAIN", "TENANT", "DETAIL"]);
    for event in &list.events {
        let ListedEvent { kind, at, domain, tenant, detail, .. } = event;
        columns.row([
            at.to_string(),
            kind.clone(),
            domain.to_string(),
            tenant.clone().unwrap_or_default(),
            shown(detail),
        ]);
    }
    let more = list.next.map(|next| format!("more: --after {next}\n")).unwrap_or_default();
    columns.text() + &more
}

/// What can be said in a line: `status active, by uid 0`.
fn shown(detail: &Map<String, Value>) -> String {
    let plain = detail.iter().filter_map(|(key, value)| match value {
        Value::String(text) => Some(format!("{key} {text}")),
        Value::Number(number) => Some(format!("{key} {number}")),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    });
    plain.collect::<Vec<_>>().join(", ")
}

fn fared(standings: &[WebhookStanding]) -> String {
    if standings.is_empty() {
        return "there is no webhook: `events.webhooks` is empty\n".to_owned();
    }
    let mut columns = Columns::new(["WEBHOOK", "STATE", "DELIVERED", "NEXT ATTEMPT", "PROBLEM"]);
    for standing in standings {
        let state = match standing.condition {
            Condition::New => "new",
            Condition::Well => "well",
            Condition::Failing => "failing",
            Condition::Ended => "ended",
        };
        let instant = |at: Option<Micros>| at.map(|at| at.to_string()).unwrap_or_default();
        columns.row([
            standing.name.clone(),
            state.to_owned(),
            instant(standing.delivered_at),
            instant(standing.retry_at),
            standing.problem.clone().unwrap_or_default(),
        ]);
    }
    columns.text()
}

fn replayed(replay: &Replay) -> String {
    format!("{}: events since {} are sent, within seconds\n", replay.webhook, replay.since)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let id: EventId = serde_json::from_value(json!(format!("evt_{:016x}{:016x}", 7_000_000, 1))).unwrap();
        let detail = json!({ "status": "active", "by": "uid 0", "changes": [], "failures": 3 });
        let event = ListedEvent {
            id,
            kind: "domain.created".to_owned(),
            at: id.at,
            domain: "a.example".parse().unwrap(),
            tenant: None,
            detail: detail.as_object().unwrap().clone(),
        };
        let text = listed(&EventList { events: vec![event], next: Some(id) });
        let rows: Vec<_> = text.lines().collect();
        assert!(rows[1].starts_with("1970-01-01T00:00:07.000000Z  domain.created  a.example  -"), "{rows:?}");
        assert!(rows[1].ends_with("by uid 0, failures 3, status active"), "{rows:?}");
        assert_eq!(rows[2], format!("more: --after {id}"));
    }
}
