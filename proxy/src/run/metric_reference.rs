//! All metrics as a Markdown table, from the declarations that a running instance registers.

use std::{collections::BTreeSet, fmt::Write};

use prometheus::{
    Registry,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

use crate::{
    certificates, domains, forward, guard, store, telemetry, tls::tickets, transport::Backend, verification,
    worker,
};

/// One row for each metric: name, type, labels, meaning.
pub fn metric_reference() -> Result<String, prometheus::Error> {
    let mut text = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in declared()?.gather() {
        let labels = labels(&family);
        let labels = if labels.is_empty() { "-".to_owned() } else { labels };
        let kind = kind(family.get_field_type());
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {} |", family.name(), family.help());
    }
    Ok(text)
}

/// Everything that a running instance may register, with nothing behind it.
fn declared() -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    telemetry::declare_metrics(&registry)?;
    Backend::Epoll.register(&registry)?;
    store::declare_metrics(&registry)?;
    domains::declare_metrics(&registry)?;
    verification::declare_metrics(&registry)?;
    certificates::declare_metrics(&registry)?;
    guard::metrics::declare(&registry)?;
    worker::WorkerMetrics::register(&registry)?;
    tickets::register_metrics(&registry)?;
    forward::RequestMetrics::register(&registry)?;
    Ok(registry)
}

/// Each label with its values, as far as they are few; they are known when the program is compiled.
fn labels(family: &MetricFamily) -> String {
    let pairs = || family.get_metric().iter().flat_map(Metric::get_label);
    let names: BTreeSet<&str> = pairs().map(LabelPair::name).collect();
    let of = |name: &&str| {
        let values: BTreeSet<&str> =
            pairs().filter(|pair| pair.name() == *name).map(LabelPair::value).collect();
        let values: Vec<_> = values.into_iter().map(|value| format!("`{value}`")).collect();
        format!("`{name}`: {}", values.join(", "))
    };
    names.iter().map(of).collect::<Vec<_>>().join("; ")
}

fn kind(kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn metrics_page_is_the_declaration() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).expect("docs/metrics.md lies under the root");
        let table = page.split_once("<!-- metrics:begin -->\n").map(|(_, rest)| rest);
        let table = table.and_then(|rest| rest.split_once("<!-- metrics:end -->")).map(|(table, _)| table);
        let table = table.expect("docs/metrics.md has both markers around its table");
        assert_eq!(
            table.trim(),
            metric_reference().unwrap().trim(),
            "write it anew: `cargo run -- config metrics`"
        );
    }

    #[test]
    fn each_metric_is_a_row_with_its_type_labels_and_meaning() {
        let text = metric_reference().unwrap();
        for row in [
            "| `gatehouse_store_up` | gauge | - | 1 while the last call to the store was answered. |",
            "| `process_cpu_seconds_total` | counter | - |",
            "| `gatehouse_guard_packets_total` | counter | `verdict`: ",
            "| `gatehouse_transport_backend` | gauge | `backend`: `epoll`, `uring` |",
        ] {
            assert!(text.contains(row), "{row} in {text}");
        }
    }

    #[test]
    fn alert_rules_are_valid_and_ask_for_metrics_that_there_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alerts.yml");
        let said = Command::new("promtool").args(["check", "rules", path]).output();
        let said = said.expect("promtool is part of Debian's `prometheus`");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        let rules = std::fs::read_to_string(path).unwrap();
        let families: BTreeSet<String> =
            declared().unwrap().gather().iter().map(|family| family.name().to_owned()).collect();
        let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> =
            words.filter(|word| word.starts_with("gatehouse_") || word.starts_with("process_")).collect();
        assert!(named.len() >= 7, "{named:?}");
        for name in named {
            let family = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
            let is_there = families.contains(name) || family.is_some_and(|family| families.contains(family));
            assert!(is_there, "`{name}` is no metric of ours");
        }
    }

    #[test]
    fn alert_rules_ask_for_values_of_labels_that_there_are() {
        let rules =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alerts.yml")).unwrap();
        let reference = metric_reference().unwrap();
        let mut asked = 0;
        let quoted = rules.split('"').skip(1).step_by(2).flat_map(|quoted| quoted.split('|'));
        for part in quoted.filter(|part| !part.contains('*')) {
            asked += 1;
            assert!(reference.contains(&format!("`{part}`")), "`{part}` is no value of a label");
        }
        assert!(asked > 0, "no label is asked for");
    }
}
