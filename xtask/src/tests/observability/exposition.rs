//! The metrics of the program, as `docs/metrics.md` lists them.

use std::collections::{BTreeMap, BTreeSet};

use super::{text, workspace};

/// All metrics by their names.
pub(super) struct Exposition(BTreeMap<String, Family>);

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) kind: Kind,
    /// Labels with all of their values.
    pub(super) labels: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Exposition {
    pub(super) fn of_the_program() -> Self {
        let exposition = Self::read(&text(&workspace().join("docs/metrics.md")));
        assert!(exposition.0.len() > 50, "docs/metrics.md has another form than it had");
        exposition
    }

    /// Rows like ``| `name` | counter | `label`: `value`, `value`; `label`: `value` | meaning |``.
    pub(super) fn read(page: &str) -> Self {
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let families = rows.map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let kind = match cells[1] {
                "counter" => Kind::Counter,
                "gauge" => Kind::Gauge,
                "histogram" => Kind::Histogram,
                other => panic!("`{other}` is no type of a metric: {row}"),
            };
            (unquoted(cells[0]), Family { kind, labels: labels(cells[2]) })
        });
        Self(families.collect())
    }

    /// The family that the series `name` belongs to; a series of a histogram ends in `_bucket`, `_sum` or `_count`, and is a counter.
    pub(super) fn family(&self, name: &str) -> Option<Family> {
        // Of Prometheus itself, for each target.
        if name == "up" {
            return Some(Family { kind: Kind::Gauge, labels: BTreeMap::new() });
        }
        if let Some(family) = self.0.get(name).filter(|family| family.kind != Kind::Histogram) {
            return Some(family.clone());
        }
        let (of, end) =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| Some((name.strip_suffix(end)?, *end)))?;
        let mut family = self.0.get(of).filter(|family| family.kind == Kind::Histogram)?.clone();
        family.kind = Kind::Counter;
        if end == "_bucket" {
            family.labels.insert("le".to_owned(), BTreeSet::new());
        }
        Some(family)
    }
}

fn labels(cell: &str) -> BTreeMap<String, BTreeSet<String>> {
    let pairs = cell.split("; ").filter_map(|label| label.split_once(": "));
    pairs.map(|(label, values)| (unquoted(label), values.split(", ").map(unquoted).collect())).collect()
}

fn unquoted(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

#[test]
fn rows_are_read_with_their_labels_and_values() {
    let exposition = Exposition::read(
        "| metric | type | labels | meaning |\n|---|---|---|---|\n\
         | `a_total` | counter | `x`: `1`, `2`; `y`: `3` | Some. |\n| `b_seconds` | histogram | - | Others. |\n",
    );
    let family = exposition.family("a_total").unwrap();
    assert_eq!(family.kind, Kind::Counter);
    assert_eq!(family.labels["x"], BTreeSet::from(["1".to_owned(), "2".to_owned()]));
    assert_eq!(family.labels["y"], BTreeSet::from(["3".to_owned()]));
    assert!(exposition.family("b_seconds_bucket").unwrap().labels.contains_key("le"));
    for name in ["b_seconds", "a_total_count", "c"] {
        assert!(exposition.family(name).is_none(), "{name}");
    }
}
