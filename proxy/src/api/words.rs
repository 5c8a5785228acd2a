//! Schemas of words that have types of their own elsewhere.

use utoipa::openapi::{
    Object, ObjectBuilder,
    schema::{SchemaType, Type},
};

use crate::{
    config::RequestRate,
    store::domain_table::checks::{Check, Outcome, Reason},
    telemetry::metrics::Label,
};

fn word(values: &[&str], description: &str) -> Object {
    let word = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    word.enum_values(Some(values.iter().copied())).build()
}

fn word_or_null(values: &[&str], description: &str) -> Object {
    let values = values.iter().map(|value| Some(*value)).chain([None]);
    let either = SchemaType::from_iter([Type::String, Type::Null]);
    let word = ObjectBuilder::new().schema_type(either).description(Some(description));
    word.enum_values(Some(values)).build()
}

pub(super) fn minimum_tls() -> Object {
    word(
        &MINIMUM_TLS,
        "The oldest version of TLS that its clients may speak; absent, as the settings have it.",
    )
}

pub(super) fn minimum_tls_or_null() -> Object {
    word_or_null(&MINIMUM_TLS, "The oldest version of TLS that its clients may speak.")
}

pub(super) fn host() -> Object {
    word(
        &HOST,
        "Whose name its target reads in `Host`: its own, or the client's; absent, as the settings have it.",
    )
}

pub(super) fn host_or_null() -> Object {
    word_or_null(&HOST, "Whose name its target reads in `Host`: its own, or the client's.")
}

pub(super) fn redirect() -> Object {
    word(&REDIRECT, "Whether its requests are led to its name with `www.`, or without.")
}

pub(super) fn redirect_or_null() -> Object {
    word_or_null(&REDIRECT, "Whether its requests are led to its name with `www.`, or without.")
}

pub(super) fn www() -> Object {
    word(&WWW, WWW_TEXT)
}

pub(super) fn www_or_null() -> Object {
    word_or_null(&WWW, WWW_TEXT)
}

pub(super) fn rate() -> Object {
    rate_of(Type::String.into(), "Absent, as the settings have it.")
}

pub(super) fn rate_or_null() -> Object {
    rate_of(SchemaType::from_iter([Type::String, Type::Null]), "With a token of all tenants alone.")
}

fn rate_of(form: SchemaType, description: &str) -> Object {
    let rate = ObjectBuilder::new().schema_type(form).pattern(Some(RequestRate::PATTERN));
    rate.description(Some(description)).examples(["100/s burst 500"]).build()
}

pub(super) fn status() -> Object {
    word(
        &STATUS,
        "Whether it is served: `active` and `failing` are, `pending`, `suspended` and `removed` are not.",
    )
}

pub(super) fn listed_status() -> Object {
    word(&STATUS, "With this status; absent, with any but `removed`.")
}

pub(super) fn check() -> Object {
    labels::<Check>("Which.")
}

pub(super) fn outcome() -> Object {
    labels::<Outcome>("What came of it; `unknown`, where no answer came.")
}

pub(super) fn reason() -> Object {
    labels::<Reason>("What was found, for programs.")
}

pub(super) fn action() -> Object {
    word(&ACTION, "What was done, or would be: `keep`, where it was so already.")
}

pub(super) fn record_type() -> Object {
    word(&RECORD_TYPE, "Its type.")
}

pub(super) fn purpose() -> Object {
    word(&PURPOSE, "What it is for: `traffic` leads clients here, `ownership` proves whose the name is.")
}

fn labels<L: Label>(description: &str) -> Object {
    let values: Vec<_> = L::ALL.iter().map(|label| label.as_str()).collect();
    word(&values, description)
}

const MINIMUM_TLS: [&str; 2] = ["1.2", "1.3"];
const HOST: [&str; 2] = ["target", "client"];
const REDIRECT: [&str; 3] = ["off", "www", "apex"];
const WWW: [&str; 3] = ["off", "redirect", "serve"];
const WWW_TEXT: &str = "Whether it speaks for its name with `www.` in front, or without, as well: requests for that are led to its own, or forwarded alike.";
const ACTION: [&str; 6] = ["add", "replace", "remove", "suspend", "resume", "keep"];
const RECORD_TYPE: [&str; 4] = ["CNAME", "A", "AAAA", "TXT"];
const PURPOSE: [&str; 2] = ["traffic", "ownership"];
const STATUS: [&str; 5] = ["pending", "active", "failing", "suspended", "removed"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{SiteRedirect, TlsVersion, UpstreamHost, WwwPair},
        domains::admin::Action,
        store::domain_table::DomainStatus,
        verification::Purpose,
    };

    /// Schemas are written by hand where types have their own form.
    #[test]
    fn the_words_of_the_schema_are_those_of_the_types() {
        let read = |words: &[&str], is_one: fn(&str) -> bool| {
            assert!(words.iter().all(|word| is_one(&format!("\"{word}\""))), "{words:?}");
            assert!(!is_one("\"other\""));
        };
        read(&MINIMUM_TLS, |text| serde_json::from_str::<TlsVersion>(text).is_ok());
        read(&HOST, |text| serde_json::from_str::<UpstreamHost>(text).is_ok());
        read(&REDIRECT, |text| serde_json::from_str::<SiteRedirect>(text).is_ok());
        read(&WWW, |text| serde_json::from_str::<WwwPair>(text).is_ok());
        read(&ACTION, |text| serde_json::from_str::<Action>(text).is_ok());
        let purposes =
            [Purpose::Traffic, Purpose::Ownership].map(|purpose| serde_json::to_value(purpose).unwrap());
        assert_eq!(purposes, PURPOSE);
        read(&STATUS, |text| serde_json::from_str::<DomainStatus>(text).is_ok());
        assert_eq!(
            (MINIMUM_TLS.len(), HOST.len(), REDIRECT.len(), WWW.len()),
            (TlsVersion::ALL.len(), UpstreamHost::ALL.len(), SiteRedirect::ALL.len(), WwwPair::ALL.len())
        );
    }
}
