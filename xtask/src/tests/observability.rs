//! What operators get for Prometheus and Grafana (`infra/observability`), against what the program exports (`docs/metrics.md`, which a
//! test of `gatehouse` compares with its declarations) and what it says about each alert (`docs/runbook.md`).
//! Not here: whether commands of the runbook exist (`gatehouse`'s own tests, which have the command line).
//! Invariants: each alert is silent, fires and ends in a test (`each_alert_is_silent_fires_and_ends_in_a_test`); no expression names a
//! metric, label or value that the program does not export (`alerts_ask_for_what_is_exported`, `dashboards_show_what_is_exported`).

mod alerts;
mod dashboards;
mod discovery;
mod exposition;
mod promql;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::workspace;

/// A file of `infra/observability`.
fn shipped(name: &str) -> PathBuf {
    workspace().join("infra/observability").join(name)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(name: &str) -> Value {
    serde_yaml_ng::from_str(&text(&shipped(name))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text at `key` of `value`, which has to be there.
fn field<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("no `{key}` in {value}"))
}

/// The list at `key` of `value`, which has to be there.
fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no list `{key}` in {value}"))
}

/// What promtool says; it has to be content.
fn promtool(arguments: &[&str]) -> String {
    let said = Command::new("promtool").args(arguments).output();
    let said = said.expect("promtool is part of Debian's `prometheus`: cargo xtask setup");
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "promtool {arguments:?}: {out}{err}");
    out.into_owned()
}
