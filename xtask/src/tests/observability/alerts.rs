//! `alerts.yml`: rules, their tests in `alerts_test.yml`, their sections in `docs/runbook.md`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{exposition::Exposition, field, list, promql::Query, promtool, shipped, text, workspace, yaml};

/// All rules.
fn rules() -> Vec<Value> {
    let alerts = yaml("alerts.yml");
    let rules: Vec<Value> =
        list(&alerts, "groups").iter().flat_map(|group| list(group, "rules").to_vec()).collect();
    assert!(rules.len() >= 15, "{} rules", rules.len());
    rules
}

fn names(rules: &[Value]) -> BTreeSet<&str> {
    rules.iter().map(|rule| field(rule, "alert")).collect()
}

#[test]
fn rules_are_valid_and_their_tests_pass() {
    promtool(&["check", "rules", shipped("alerts.yml").to_str().unwrap()]);
    promtool(&["test", "rules", shipped("alerts_test.yml").to_str().unwrap()]);
}

#[test]
fn each_alert_is_silent_fires_and_ends_in_a_test() {
    let untested = untested(&names(&rules()), &yaml("alerts_test.yml"));
    assert!(untested.is_empty(), "{}", untested.join("\n"));
}

#[test]
fn alerts_ask_for_what_is_exported() {
    let exposition = Exposition::of_the_program();
    for rule in rules() {
        let query = Query::read(field(&rule, "expr"));
        let mut faults = query.faults(&exposition);
        for (of, text) in rule["annotations"].as_object().unwrap() {
            let labels = templated(text.as_str().unwrap());
            let missing = labels.into_iter().filter(|label| !query.answers(label, &exposition));
            faults.extend(missing.map(|label| format!("`{of}` names the label `{label}`, which it has not")));
        }
        assert!(faults.is_empty(), "{}: {}", field(&rule, "alert"), faults.join("; "));
    }
}

#[test]
fn each_alert_says_how_urgent_it_is_what_it_means_and_where_to_read_on() {
    for rule in rules() {
        let name = field(&rule, "alert");
        assert!(["page", "ticket"].contains(&field(&rule["labels"], "severity")), "{name}");
        let annotations = &rule["annotations"];
        for of in ["summary", "description"] {
            assert!(field(annotations, of).ends_with(['.', '}']), "`{of}` of {name} is no sentence");
        }
        assert!(field(annotations, "description").len() > 60, "{name}: {annotations}");
        let wanted = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(field(annotations, "runbook_url"), wanted, "{name}");
    }
}

#[test]
fn the_runbook_has_a_section_for_each_alert_and_no_other() {
    let page = text(&workspace().join("docs/runbook.md"));
    let rules = rules();
    let faults = unlike_the_runbook(&names(&rules), &page);
    assert!(faults.is_empty(), "docs/runbook.md: {}", faults.join("\n"));
}

/// What is missing of tests of `alerts` in `tests`, in words.
fn untested(alerts: &BTreeSet<&str>, tests: &Value) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for test in list(tests, "tests") {
        let mut looks: Vec<(u64, &str, bool)> = list(test, "alert_rule_test")
            .iter()
            .map(|look| {
                let fires = !list(look, "exp_alerts").is_empty();
                (minutes(field(look, "eval_time")), field(look, "alertname"), fires)
            })
            .collect();
        looks.sort_unstable();
        for (index, (_, alert, fires)) in looks.iter().enumerate() {
            let fired_before = looks[..index].iter().any(|(_, other, fires)| other == alert && *fires);
            seen.insert((
                *alert,
                match (fires, fired_before) {
                    (true, _) => "fires",
                    (false, true) => "ends",
                    (false, false) => "is silent before",
                },
            ));
        }
    }
    let unknown = seen.iter().filter(|(alert, _)| !alerts.contains(alert));
    let unknown = unknown.map(|(alert, _)| format!("{alert}: is tested, and no rule"));
    let stages = ["is silent before", "fires", "ends"];
    let wanted = alerts.iter().flat_map(|alert| stages.map(|stage| (*alert, stage)));
    let missing = wanted.filter(|pair| !seen.contains(pair));
    unknown.chain(missing.map(|(alert, stage)| format!("{alert}: no test in which it {stage}"))).collect()
}

/// In what the sections of the runbook's `page` differ from `alerts`, and what is missing in them.
fn unlike_the_runbook(alerts: &BTreeSet<&str>, page: &str) -> Vec<String> {
    let sections: Vec<(&str, &str)> = page
        .split("\n### ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect();
    let headings: BTreeSet<&str> = sections.iter().map(|(heading, _)| *heading).collect();
    let missing = alerts.difference(&headings).map(|alert| format!("{alert}: no section"));
    let unknown = headings.difference(alerts).map(|heading| format!("{heading}: a section of no alert"));
    let parts = sections.iter().flat_map(|(heading, section)| {
        let parts = ["**Means.**", "**Customers see.**", "**Look.**", "**Do.**", "**Ends.**"];
        parts
            .into_iter()
            .filter(|part| !section.contains(part))
            .map(move |part| format!("{heading}: no {part}"))
    });
    missing.chain(unknown).chain(parts).collect()
}

/// Labels that a template names as `$labels.NAME`.
fn templated(text: &str) -> Vec<String> {
    let behind = text.split("$labels.").skip(1);
    behind.map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()).collect()
}

fn minutes(time: &str) -> u64 {
    let minutes = time.strip_suffix('m').and_then(|number| number.parse().ok());
    minutes.unwrap_or_else(|| panic!("`{time}`: write times of tests in minutes, like `90m`"))
}

#[test]
fn an_alert_without_a_test_is_named() {
    let look = |time: &str, alert: &str, count: usize| json!({ "eval_time": time, "alertname": alert, "exp_alerts": vec![json!({}); count] });
    let whole = vec![look("5m", "A", 0), look("90m", "A", 1), look("100m", "A", 0)];
    let untested = |looks: &[Value]| {
        untested(&BTreeSet::from(["A"]), &json!({ "tests": [{ "alert_rule_test": looks }] })).join("; ")
    };
    assert_eq!(untested(&whole), "");
    assert_eq!(untested(&whole[1..]), "A: no test in which it is silent before");
    assert_eq!(untested(&whole[..2]), "A: no test in which it ends");
    assert!(untested(&whole[..1]).contains("A: no test in which it fires"));
    assert!(untested(&[look("5m", "B", 1)]).contains("B: is tested, and no rule"));
}

#[test]
fn a_section_that_is_missing_or_incomplete_is_named() {
    let whole = "**Means.** **Customers see.** **Look.** **Do.** **Ends.**";
    let faults = |page: &str| unlike_the_runbook(&BTreeSet::from(["A"]), page).join("; ");
    assert_eq!(faults(&format!("# x\n\n### A\n{whole}\n")), "");
    assert_eq!(faults("# x\n"), "A: no section");
    assert!(faults(&format!("\n### A\n{whole}\n### B\n{whole}")).contains("B: a section of no alert"));
    assert_eq!(faults("\n### A\n**Means.** **Customers see.** **Look.** **Do.**"), "A: no **Ends.**");
}
