//! `dashboards/*.json`: panels of Grafana, and the variables that their readers choose by.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use super::{exposition::Exposition, field, list, promql::Query, promtool, shipped, text, workspace};

const DASHBOARDS: [&str; 2] = ["dashboards/fleet.json", "dashboards/instance.json"];
/// What Grafana puts in place of its own variable.
const RATE_INTERVAL: (&str, &str) = ("$__rate_interval", "5m");

#[test]
fn dashboards_show_what_is_exported() {
    let exposition = Exposition::of_the_program();
    for dashboard in all() {
        let faults: Vec<String> =
            panels(&dashboard).iter().flat_map(|panel| panel_faults(panel, &exposition)).collect();
        assert!(faults.is_empty(), "{}: {}", field(&dashboard, "title"), faults.join("\n"));
    }
}

#[test]
fn every_expression_of_a_panel_is_promql() {
    let dashboards = all();
    let panels = dashboards.iter().flat_map(panels);
    let expressions = panels.flat_map(|panel| list(panel, "targets")).map(|target| field(target, "expr"));
    let rules: Vec<Value> = expressions
        .enumerate()
        .map(|(index, expr)| {
            let expr = expr.replace(RATE_INTERVAL.0, RATE_INTERVAL.1);
            json!({ "record": format!("panel:{index}"), "expr": expr })
        })
        .collect();
    assert!(rules.len() > 50, "{} expressions", rules.len());
    let shell = xshell::Shell::new().unwrap();
    let folder = shell.create_temp_dir().unwrap();
    let file = folder.path().join("panels.yml");
    fs::write(&file, json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn variables_are_chosen_from_labels_of_what_is_scraped() {
    let exposition = Exposition::of_the_program();
    for dashboard in all() {
        let title = field(&dashboard, "title");
        let variables = list(&dashboard["templating"], "list");
        let names: BTreeSet<&str> = variables.iter().map(|variable| field(variable, "name")).collect();
        for variable in variables.iter().filter(|variable| field(variable, "type") == "query") {
            let (name, query) = (field(variable, "name"), field(variable, "query"));
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inside.and_then(|inside| inside.rsplit_once(", ")).unwrap();
            let selector = Query::read(selector);
            assert_eq!((label, selector.faults(&exposition)), (name, Vec::new()), "{title}");
            assert!(selector.answers(label, &exposition), "{title}: {query}");
        }
        let unknown: Vec<String> =
            used_variables(&dashboard).into_iter().filter(|name| !names.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "{title}: {unknown:?} are no variables of it");
    }
}

#[test]
fn panels_lie_side_by_side_and_have_identities_of_their_own() {
    for dashboard in all() {
        let title = field(&dashboard, "title");
        let all = list(&dashboard, "panels");
        let identities: BTreeSet<u64> = all.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(identities.len(), all.len(), "{title}");
        for (index, panel) in all.iter().enumerate() {
            let place = place(panel);
            assert!(place.0.end <= 24, "{title}: {panel}");
            let overlaps = all[..index].iter().find(|other| overlap(&place, &self::place(other)));
            assert!(overlaps.is_none(), "{title}: {} lies over {overlaps:?}", field(panel, "title"));
        }
    }
}

/// The runbook sends its readers to panels, in italics.
#[test]
fn panels_that_the_runbook_names_exist() {
    let dashboards = all();
    let titles: BTreeSet<&str> =
        dashboards.iter().flat_map(panels).map(|panel| field(panel, "title")).collect();
    let page = text(&workspace().join("docs/runbook.md")).replace("**", "");
    let named: Vec<&str> = page.split('*').skip(1).step_by(2).collect();
    assert!(named.len() > 5, "{named:?}");
    for title in named {
        assert!(titles.contains(title), "no panel is called `{title}`");
    }
}

fn all() -> [Value; 2] {
    DASHBOARDS.map(|name| serde_json::from_str(&text(&shipped(name))).unwrap())
}

/// All but headings of rows.
fn panels(dashboard: &Value) -> Vec<&Value> {
    list(dashboard, "panels").iter().filter(|panel| field(panel, "type") != "row").collect()
}

/// What a panel asks for in vain, and what it does not tell its reader.
fn panel_faults(panel: &Value, exposition: &Exposition) -> Vec<String> {
    let title = field(panel, "title");
    let mut faults = Vec::new();
    for target in list(panel, "targets") {
        let query = Query::read(field(target, "expr"));
        faults.extend(query.faults(exposition));
        let labels = legend_labels(field(target, "legendFormat"));
        let missing = labels.into_iter().filter(|label| !query.answers(label, exposition));
        faults.extend(missing.map(|label| format!("its legend names the label `{label}`, which it has not")));
    }
    if !field(panel, "description").ends_with('.') {
        faults.push("its description is no sentence".to_owned());
    }
    if panel["datasource"]["uid"] != "${datasource}" {
        faults.push("its data source is not the one that is chosen".to_owned());
    }
    if panel["fieldConfig"]["defaults"]["unit"].as_str().is_none() {
        faults.push("it has no unit".to_owned());
    }
    faults.into_iter().map(|fault| format!("{title}: {fault}")).collect()
}

/// Labels of a legend like `{{label}}`.
fn legend_labels(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)).collect()
}

/// The variables that expressions and queries name, but Grafana's own.
fn used_variables(dashboard: &Value) -> BTreeSet<String> {
    let text = dashboard.to_string().replace("${", "$");
    let names = text
        .split('$')
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_'));
    names.map(String::from_iter).filter(|name: &String| !name.starts_with("__")).collect()
}

/// Columns and lines of a panel.
type Place = (std::ops::Range<u64>, std::ops::Range<u64>);

fn place(panel: &Value) -> Place {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
    (x..x + w, y..y + h)
}

fn overlap(one: &Place, other: &Place) -> bool {
    let meet = |a: &std::ops::Range<u64>, b: &std::ops::Range<u64>| a.start < b.end && b.start < a.end;
    meet(&one.0, &other.0) && meet(&one.1, &other.1)
}

#[test]
fn a_panel_that_asks_in_vain_is_named() {
    let exposition = Exposition::read("| `b` | gauge | `kind`: `x` | . |\n");
    let panel = |expr: &str, legend: &str, description: &str| {
        json!({
            "title": "P", "description": description, "datasource": { "uid": "${datasource}" },
            "fieldConfig": { "defaults": { "unit": "none" } },
            "targets": [{ "expr": expr, "legendFormat": legend }],
        })
    };
    let faults = |panel: Value| panel_faults(&panel, &exposition).join("; ");
    assert_eq!(faults(panel("sum by (kind) (b)", "{{kind}}", "Text.")), "");
    assert_eq!(faults(panel("c", "c", "Text.")), "P: `c` is no metric of the program");
    assert!(faults(panel("b", "{{host}}", "Text.")).contains("names the label `host`"));
    assert!(faults(panel("sum(b)", "{{kind}}", "Text.")).contains("names the label `kind`"));
    assert!(faults(panel("b", "b", "")).contains("no sentence"));
}
