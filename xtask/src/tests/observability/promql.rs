//! What an expression of PromQL asks for: series, labels, values. It is no parser: promtool says whether an expression is one.

use std::collections::BTreeSet;

use super::exposition::{Exposition, Family, Kind};

/// Labels that `prometheus.yml` gives to each series.
pub(super) const TARGET_LABELS: [&str; 6] = ["instance", "job", "region", "stage", "version", "zone"];

/// A selector of series, `name{label="value"}[5m]`.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    metric: String,
    /// Label, operator, value.
    matchers: Vec<(String, String, String)>,
    has_range: bool,
}

/// An expression's selectors, and the labels by which it groups or matches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    selectors: Vec<Selector>,
    grouped: Vec<String>,
    /// Those of each `by (...)`, apart.
    by: Vec<BTreeSet<String>>,
    /// Whether something is aggregated without a grouping, so that no label is left.
    has_total: bool,
}

impl Query {
    pub(super) fn read(expression: &str) -> Self {
        let mut query = Self::default();
        let mut rest = expression;
        while let Some(first) = rest.chars().next() {
            let word = rest.split(|c: char| !is_word(c)).next().unwrap_or_default();
            if first == '"' {
                rest = after(&rest[1..], '"');
            } else if first == '[' {
                if let Some(last) = query.selectors.last_mut() {
                    last.has_range = true;
                }
                rest = after(rest, ']');
            } else if first == '{' {
                let (inside, behind) = rest[1..].split_once('}').expect("a `{` ends");
                let last = query.selectors.last_mut().expect("no selector without a metric's name");
                last.matchers = matchers(inside);
                rest = behind;
            } else if word.is_empty() {
                rest = &rest[first.len_utf8()..];
            } else {
                rest = query.take(word, &rest[word.len()..]);
            }
        }
        query
    }

    /// Takes a word: a number, a keyword with its labels, a function, or a metric. Returns what stands behind it.
    fn take<'a>(&mut self, word: &str, behind: &'a str) -> &'a str {
        if GROUPINGS.contains(&word) {
            let Some(inside) = behind.trim_start().strip_prefix('(') else { return behind };
            let (labels, behind) = inside.split_once(')').expect("a `(` ends");
            let labels = labels.split(',').map(|label| label.trim().to_owned());
            let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
            if word == "by" {
                self.by.push(labels.clone());
            }
            self.grouped.extend(labels);
            return behind;
        }
        self.has_total |= AGGREGATIONS.contains(&word) && behind.starts_with('(');
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        // An aggregation may have its labels before its argument: `sum by (label) (...)`.
        let is_function = behind.trim_start().starts_with('(') || AGGREGATIONS.contains(&word);
        if !is_number && !is_function && !OPERATORS.contains(&word) {
            let metric = word.to_owned();
            self.selectors.push(Selector { metric, matchers: Vec::new(), has_range: false });
        }
        behind
    }

    /// What it asks for and the program does not export, in words.
    pub(super) fn faults(&self, exposition: &Exposition) -> Vec<String> {
        let mut faults = Vec::new();
        let mut known: BTreeSet<String> = TARGET_LABELS.map(str::to_owned).into();
        for selector in &self.selectors {
            let Some(family) = exposition.family(&selector.metric) else {
                faults.push(format!("`{}` is no metric of the program", selector.metric));
                continue;
            };
            if family.kind == Kind::Counter && !selector.has_range {
                faults.push(format!("`{}` is a counter, and means little without rate()", selector.metric));
            }
            faults.extend(
                selector.matchers.iter().filter_map(|matcher| fault(&selector.metric, matcher, &family)),
            );
            known.extend(family.labels.into_keys());
        }
        let unknown = self.grouped.iter().filter(|label| !known.contains(*label));
        faults.extend(unknown.map(|label| format!("`{label}` is a label of none of its metrics")));
        faults
    }

    /// Whether what it answers has the label: by the first grouping, if there is one.
    pub(super) fn answers(&self, label: &str, exposition: &Exposition) -> bool {
        if let Some(by) = self.by.first() {
            return by.contains(label);
        }
        if self.has_total {
            return false;
        }
        let mut families = self.selectors.iter().filter_map(|selector| exposition.family(&selector.metric));
        TARGET_LABELS.contains(&label) || families.any(|family| family.labels.contains_key(label))
    }
}

fn fault(
    metric: &str,
    (label, operator, value): &(String, String, String),
    family: &Family,
) -> Option<String> {
    let Some(values) = family.labels.get(label) else {
        let is_target = TARGET_LABELS.contains(&label.as_str());
        return (!is_target).then(|| format!("`{metric}` has no label `{label}`"));
    };
    // `version` has other values in each release, `le` is a number, and variables of a dashboard are chosen later.
    if ["version", "le"].contains(&label.as_str()) || value.contains('$') {
        return None;
    }
    let is_pattern = operator.ends_with('~');
    let alternatives: Vec<&str> = if is_pattern { value.split('|').collect() } else { vec![value] };
    let is_there = |alternative: &&str| match alternative.split_once(".*") {
        Some((start, "")) if is_pattern => values.iter().any(|value| value.starts_with(start)),
        _ => values.contains(*alternative),
    };
    let missing: Vec<_> = alternatives.into_iter().filter(|alternative| !is_there(alternative)).collect();
    (!missing.is_empty()).then(|| format!("`{label}` of `{metric}` is never {missing:?}"))
}

fn matchers(inside: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = inside;
    while let Some((before, behind)) = rest.split_once('"') {
        let (value, behind) = behind.split_once('"').expect("a string ends");
        let before = before.trim_matches([',', ' ']);
        let label: String = before.chars().take_while(|c| is_word(*c)).collect();
        found.push((label.clone(), before[label.len()..].trim().to_owned(), value.to_owned()));
        rest = behind;
    }
    found
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).map_or("", |(_, behind)| behind)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.'
}

const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const AGGREGATIONS: [&str; 8] = ["sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

#[cfg(test)]
mod tests {
    use super::*;

    fn exposition() -> Exposition {
        Exposition::read(
            "| `a_total` | counter | `outcome`: `up_1`, `up_2`, `down` | . |\n| `b` | gauge | - | . |\n\
             | `c_seconds` | histogram | - | . |\n",
        )
    }

    #[test]
    fn what_is_exported_may_be_asked_for() {
        for expression in [
            "b == 0 or up{job=\"gatehouse\"} == 0",
            "sum by (stage, outcome) (rate(a_total{outcome=~\"up_.*|down\", stage=\"x\"}[5m])) > 1.5",
            "histogram_quantile(0.99, sum by (le) (rate(c_seconds_bucket[5m])))",
            "(up == 1 unless on (job, instance) b) or sum without (zone) (b) == 0 and time() - b offset 5m > 1",
            "topk(5, rate(a_total{outcome!=\"down\", region=~\"$region\"}[5m]))",
        ] {
            assert_eq!(Query::read(expression).faults(&exposition()), Vec::<String>::new(), "{expression}");
        }
    }

    #[test]
    fn what_is_not_exported_is_named() {
        for (expression, fault) in [
            ("d > 0", "`d` is no metric"),
            ("c_seconds > 0", "`c_seconds` is no metric"),
            ("rate(a_total_bucket[5m])", "`a_total_bucket` is no metric"),
            ("a_total > 0", "`a_total` is a counter"),
            ("b{host=\"x\"}", "`b` has no label `host`"),
            ("rate(a_total{outcome=\"sideways\"}[5m])", "never [\"sideways\"]"),
            ("rate(a_total{outcome=~\"down|left_.*\"}[5m])", "never [\"left_.*\"]"),
            ("sum by (host) (b)", "`host` is a label of none"),
            ("sum by (outcome) (b)", "`outcome` is a label of none"),
        ] {
            let faults = Query::read(expression).faults(&exposition()).join("; ");
            assert!(faults.contains(fault), "{expression}: {faults}");
        }
    }

    #[test]
    fn an_aggregation_answers_with_its_labels_alone() {
        let answers = |expression, label| Query::read(expression).answers(label, &exposition());
        assert!(answers("sum by (stage) (b) > 0", "stage") && !answers("sum by (stage) (b) > 0", "instance"));
        assert!(answers("b == 0", "instance") && !answers("b == 0", "outcome"));
        assert!(answers("sum without (zone) (b)", "instance") && !answers("sum(b)", "instance"));
    }
}
