//! What is sent of an event (Standard Webhooks, "Payload structure").

use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::{instant::Micros, state_table::Event};

/// `{"id", "type", "timestamp", "data": {"domain", "tenant"?, ...}}`.
#[derive(Debug, Serialize)]
struct Payload<'a> {
    id: String,
    r#type: &'a str,
    timestamp: Micros,
    data: PayloadData<'a>,
}

#[derive(Debug, Serialize)]
struct PayloadData<'a> {
    domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(flatten)]
    detail: &'a Map<String, Value>,
}

/// The body of a message: the same each time it is sent.
pub(super) fn body(event: &Event) -> Vec<u8> {
    let payload = Payload {
        id: event.id.to_string(),
        r#type: &event.kind,
        timestamp: event.id.at,
        data: PayloadData {
            domain: event.domain.to_string(),
            tenant: event.tenant.as_deref(),
            detail: &event.detail,
        },
    };
    // Texts and numbers alone cannot fail to become JSON.
    serde_json::to_vec(&payload).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::EventKind;

    #[test]
    fn an_event_is_sent_as_the_specification_has_it() {
        let at = Micros::parse("2026-11-29T03:20:00.000001Z").unwrap();
        let domain = "shop.customer.test".parse().unwrap();
        let detail = json!({ "status": "active" });
        let event = Event::new(EventKind::DomainVerified, &domain, Some("acme"), &detail, at).unwrap();
        let sent: Value = serde_json::from_slice(&body(&event)).unwrap();
        let wanted = json!({
            "id": event.id.to_string(),
            "type": "domain.verified",
            "timestamp": "2026-11-29T03:20:00.000001Z",
            "data": { "domain": "shop.customer.test", "tenant": "acme", "status": "active" },
        });
        assert_eq!(sent, wanted);
    }
}
