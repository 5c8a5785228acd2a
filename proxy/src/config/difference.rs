//! The differences between two sets of settings, and a third made of both.

use toml::{Table, Value};

use super::{Config, reference::keys, validate::validate};

/// The settings of `new` that are not as in `old`, by name and in the order of the declaration.
#[must_use]
pub fn difference(old: &Config, new: &Config) -> Vec<String> {
    let (Ok(old), Ok(new)) = (Table::try_from(old), Table::try_from(new)) else { return Vec::new() };
    let differs = |key: &String| value(&old, key) != value(&new, key);
    keys().into_iter().filter(differs).collect()
}

/// `old` with those settings of `new` for which `takes` is true, without those that what stays of `old` contradicts.
#[must_use]
pub fn merge(old: &Config, new: &Config, takes: impl Fn(&str) -> bool) -> Config {
    let mut left = difference(old, new);
    left.retain(|key| takes(key));
    if let Some(merged) = merged(old, new, &left) {
        return merged;
    }
    // What contradicts a setting that waits, waits with it; all others are taken, each once those are that it stands on.
    let mut result = old.clone();
    loop {
        let before = left.len();
        left.retain(|key| match merged(&result, new, std::slice::from_ref(key)) {
            Some(merged) => {
                result = merged;
                false
            }
            None => true,
        });
        if left.len() == before {
            return result;
        }
    }
}

/// None where they contradict each other.
fn merged(old: &Config, new: &Config, changed: &[String]) -> Option<Config> {
    let (mut merged, new) = (Table::try_from(old).ok()?, Table::try_from(new).ok()?);
    for key in changed {
        put(&mut merged, key, value(&new, key).cloned());
    }
    let merged = Value::Table(merged).try_into().ok()?;
    validate(&merged).is_empty().then_some(merged)
}

fn value<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, key)) => table.get(section)?.get(key),
        None => table.get(key),
    }
}

/// An absent setting is one that is left out.
fn put(table: &mut Table, key: &str, value: Option<Value>) {
    let inner = match key.split_once('.') {
        Some((section, key)) => {
            table.get_mut(section).and_then(Value::as_table_mut).map(|table| (table, key))
        }
        None => Some((table, key)),
    };
    match (inner, value) {
        (Some((table, key)), Some(value)) => drop(table.insert(key.to_owned(), value)),
        (Some((table, key)), None) => drop(table.remove(key)),
        (None, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DomainSettings, Span, StaticDomain},
        name::Pattern,
    };

    #[test]
    fn what_differs_is_named_and_taken_one_by_one() {
        let old = Config::default();
        let mut new = Config { state_directory: "/var/lib/gatehouse".into(), ..Config::default() };
        new.limits.idle = Span::secs(5);
        new.domains.default_target = Some("https://origin.example".parse().unwrap());
        let changed = ["state_directory", "domains.default_target", "limits.idle"];
        assert_eq!(difference(&old, &new), changed);
        assert!(difference(&new, &new).is_empty());
        let merged = merge(&old, &new, |key| key != "state_directory");
        assert_eq!(difference(&merged, &new), ["state_directory"]);
        let back = merge(&merged, &old, |_| true);
        assert!(difference(&back, &old).is_empty(), "an absent setting is absent again");
    }

    #[test]
    fn what_contradicts_settings_that_wait_waits_with_them_alone() {
        let old = Config::default();
        let mut new = Config::default();
        new.domains.default_target = Some("http://127.0.0.1:8443".parse().unwrap());
        new.listen.https = vec!["127.0.0.1:443".parse().unwrap()];
        new.guard.deny = vec!["192.0.2.0/24".to_owned().try_into().unwrap()];
        let merged = merge(&old, &new, |key| key != "listen.https");
        assert_eq!(difference(&old, &merged), ["guard.deny"], "the target is still our own listener");
    }

    #[test]
    fn what_stands_on_another_change_is_taken_behind_it() {
        let (mut old, mut new) = (Config::default(), Config::default());
        old.domains.table = true;
        new.domains.table = false;
        new.domains.ask = Some("http://127.0.0.1:9/".to_owned());
        new.domains.default_target = Some("https://origin.example".parse().unwrap());
        new.domains.r#static = vec![StaticDomain {
            name: Pattern::parse("a.example").unwrap(),
            target: Some("https://a.example;tls=own".parse().unwrap()),
            settings: DomainSettings::default(),
        }];
        let merged = merge(&old, &new, |_| true);
        assert_eq!(difference(&merged, &new), ["domains.static"], "there is no such `upstream.tls`");
    }
}
