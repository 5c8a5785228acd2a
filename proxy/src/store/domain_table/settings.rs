//! What an entry sets for its name, in its item's map `settings`, where other programs may keep more.

use std::{collections::HashMap, str::FromStr};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::config::{
    CLIENT_REQUEST_RATE, DomainSettings, HOST, MAINTENANCE, MINIMUM_TLS, REDIRECT, REQUEST_RATE, WWW,
};

/// A map of what may be set per entry.
pub(super) const SETTINGS: &str = "settings";

/// The attribute `settings` of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SettingsMap {
    /// It has none.
    #[default]
    Absent,
    /// It has one.
    Present,
}

/// A part of an update.
pub(super) enum SettingsChange {
    /// The item had no map.
    Map(AttributeValue),
    /// One setting is another.
    Set(&'static str, AttributeValue),
    /// One setting is no longer there.
    Remove(&'static str),
}

/// What of the map is ours.
pub(super) fn read(map: &HashMap<String, AttributeValue>) -> Result<DomainSettings, String> {
    Ok(DomainSettings {
        minimum_tls: text(map, MINIMUM_TLS)?,
        host: text(map, HOST)?,
        maintenance: match map.get(MAINTENANCE) {
            None | Some(AttributeValue::Null(_)) => None,
            Some(AttributeValue::Bool(is_on)) => Some((*is_on).into()),
            Some(_) => return Err(format!("{MAINTENANCE} must be of type BOOL")),
        },
        redirect: text(map, REDIRECT)?,
        www: text(map, WWW)?,
        request_rate: text(map, REQUEST_RATE)?,
        client_request_rate: text(map, CLIENT_REQUEST_RATE)?,
    })
}

fn text<T: FromStr<Err = String>>(
    map: &HashMap<String, AttributeValue>,
    name: &str,
) -> Result<Option<T>, String> {
    match map.get(name) {
        None | Some(AttributeValue::Null(_)) => Ok(None),
        Some(AttributeValue::S(text)) => text.parse().map(Some).map_err(|fault| format!("{name}: {fault}")),
        Some(_) => Err(format!("{name} must be of type S")),
    }
}

/// What an update has to say, so that an item with the settings `before` has those of `now`; a path into a map that is not there is an
/// error.
pub(super) fn changes(was: SettingsMap, before: DomainSettings, now: DomainSettings) -> Vec<SettingsChange> {
    let values = values(now).into_iter();
    if was == SettingsMap::Absent {
        let set = values.filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
        let map = Some(set.collect::<HashMap<_, _>>()).filter(|map| !map.is_empty());
        return map.map(|map| SettingsChange::Map(AttributeValue::M(map))).into_iter().collect();
    }
    let before = self::values(before).into_iter();
    let changed = values.zip(before).filter(|((_, now), (_, before))| now != before);
    changed
        .map(|((name, now), _)| match now {
            Some(value) => SettingsChange::Set(name, value),
            None => SettingsChange::Remove(name),
        })
        .collect()
}

fn values(settings: DomainSettings) -> [(&'static str, Option<AttributeValue>); 7] {
    let DomainSettings { minimum_tls, host, maintenance, redirect, www, request_rate, client_request_rate } =
        settings;
    [
        (MINIMUM_TLS, minimum_tls.map(|version| AttributeValue::S(version.to_string()))),
        (HOST, host.map(|host| AttributeValue::S(host.to_string()))),
        (MAINTENANCE, maintenance.map(|maintenance| AttributeValue::Bool(maintenance.into()))),
        (REDIRECT, redirect.map(|redirect| AttributeValue::S(redirect.to_string()))),
        (WWW, www.map(|www| AttributeValue::S(www.to_string()))),
        (REQUEST_RATE, request_rate.map(|rate| AttributeValue::S(rate.to_string()))),
        (CLIENT_REQUEST_RATE, client_request_rate.map(|rate| AttributeValue::S(rate.to_string()))),
    ]
}
