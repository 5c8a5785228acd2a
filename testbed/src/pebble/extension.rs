//! What Debian's Pebble 2.4 lacks and CAs have: profiles (draft-ietf-acme-profiles), and orders that name the certificate they
//! replace (RFC 9773 §5). Not here: other lives for other profiles, since Pebble has one for all.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use crate::relay::{Extension, Refusal};

/// The profiles that the directory offers.
pub const PROFILES: [&str; 2] = ["classic", "shortlived"];

pub(super) const EXTENSION: Extension = Extension { refuse, complete };

/// What an order asks for beyond RFC 8555, as the relay counts it.
pub(super) fn asks(body: &[u8]) -> Vec<String> {
    let Some(order) = payload(body) else { return Vec::new() };
    let asked = |key: &str| Some(format!("newOrder {key}={}", order.get(key)?.as_str()?));
    let replaces = order.contains_key("replaces").then(|| "newOrder replaces".to_owned());
    asked("profile").into_iter().chain(replaces).collect()
}

/// A problem document (RFC 8555 §6.7) in the CA's stead.
#[must_use]
pub fn problem(status: StatusCode, kind: &str, retry_after_seconds: Option<u32>) -> Refusal {
    let detail = format!("{kind}, by the testbed");
    let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status.as_u16() });
    Refusal { status, retry_after_seconds, media_type: "application/problem+json", body: body.to_string() }
}

fn refuse(names: &[String], asked: &[u8]) -> Option<Refusal> {
    let order = payload(asked).filter(|_| is_for(names, "newOrder"))?;
    let profile = order.get("profile")?.as_str()?;
    (!PROFILES.contains(&profile)).then(|| problem(StatusCode::BAD_REQUEST, "invalidProfile", None))
}

fn complete(names: &[String], asked: &[u8], answer: Bytes) -> Bytes {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&answer) else { return answer };
    if is_for(names, "directory") {
        offer(&mut object);
    } else if is_for(names, "newOrder") && object.contains_key("identifiers") {
        // RFC 9773 §5: what is accepted is repeated.
        let order = payload(asked).unwrap_or_default();
        object.extend(order.into_iter().filter(|(key, _)| key == "profile" || key == "replaces"));
    } else {
        return answer;
    }
    Value::Object(object).to_string().into()
}

fn offer(directory: &mut Map<String, Value>) {
    let beside =
        directory.get("newOrder").and_then(Value::as_str).map(|url| url.replace("order-plz", "renewal-info"));
    directory.insert("renewalInfo".to_owned(), json!(beside));
    let profiles: Map<_, _> =
        PROFILES.iter().map(|name| ((*name).to_owned(), json!("https://ca.test/profiles"))).collect();
    let meta = directory.entry("meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        meta.insert("profiles".to_owned(), Value::Object(profiles));
    }
}

fn is_for(names: &[String], name: &str) -> bool {
    names.iter().any(|asked| asked == name)
}

/// RFC 7515 §7.2.1: what a signed request says.
fn payload(body: &[u8]) -> Option<Map<String, Value>> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let text = URL_SAFE_NO_PAD.decode(signed.get("payload")?.as_str()?).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(payload: &Value) -> Vec<u8> {
        json!({ "payload": URL_SAFE_NO_PAD.encode(payload.to_string()) }).to_string().into_bytes()
    }

    #[test]
    fn an_order_is_answered_with_its_profile_and_what_it_replaces() {
        let names = ["newOrder".to_owned()];
        let wanted = signed(&json!({ "identifiers": [], "profile": "shortlived", "replaces": "a.b" }));
        assert!(refuse(&names, &wanted).is_none());
        let answer =
            complete(&names, &wanted, Bytes::from_static(br#"{"identifiers":[],"status":"pending"}"#));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["profile"], "shortlived");
        assert_eq!(answer["replaces"], "a.b");
        assert_eq!(asks(&wanted), ["newOrder profile=shortlived", "newOrder replaces"]);
        let refused = refuse(&names, &signed(&json!({ "profile": "unheard-of" }))).unwrap();
        assert!(refused.body.contains("invalidProfile"), "{}", refused.body);
    }

    #[test]
    fn what_is_no_order_stays_as_it_is() {
        let answer = Bytes::from_static(br#"{"type":"urn:ietf:params:acme:error:malformed"}"#);
        for names in [["newOrder".to_owned()], ["authorization".to_owned()]] {
            assert_eq!(complete(&names, &signed(&json!({ "profile": "classic" })), answer.clone()), answer);
        }
    }
}
