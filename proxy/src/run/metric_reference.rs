//! All metrics as a Markdown table, from the declarations that a running instance registers.

use std::{collections::BTreeSet, fmt::Write};

use prometheus::{
    Registry,
    proto::{LabelPair, Metric, MetricFamily, MetricType},
};

use super::local_copy;
use crate::{
    api, certificates, domains, forward, guard, store, telemetry, tls::tickets, transport::Backend,
    verification, webhooks, worker,
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
    api::declare_metrics(&registry)?;
    verification::declare_metrics(&registry)?;
    webhooks::declare_metrics(&registry)?;
    certificates::declare_metrics(&registry)?;
    guard::metrics::declare(&registry)?;
    worker::WorkerMetrics::register(&registry)?;
    tickets::register_metrics(&registry)?;
    forward::RequestMetrics::register(&registry)?;
    local_copy::declare_metrics(&registry)?;
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
}
