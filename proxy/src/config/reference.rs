//! Documents generated from the declaration: the sample file, the reference table, examples in errors.

use std::fmt::Write;

use toml::{Table, Value};

use super::{Config, Field, Section};

/// The sample file: every setting with its help, commented out at its default or at an example.
#[must_use]
pub fn sample() -> String {
    let defaults = defaults();
    let mut text = String::new();
    comment(&mut text, Config::HELP);
    comment(&mut text, SAMPLE_HEAD);
    settings(&mut text, Config::FIELDS, &defaults);
    for section in Config::SECTIONS {
        let _ = write!(text, "\n[{}]\n", section.name);
        comment(&mut text, section.help);
        if let Some(Value::Table(values)) = defaults.get(section.name) {
            settings(&mut text, section.fields, values);
        }
    }
    text
}

/// The reference: a Markdown table of every setting.
#[must_use]
pub fn reference() -> String {
    let defaults = defaults();
    let mut text = String::from("| Setting | Default | Meaning |\n|---|---|---|\n");
    rows(&mut text, None, Config::FIELDS, &defaults);
    for section in Config::SECTIONS {
        if let Some(Value::Table(values)) = defaults.get(section.name) {
            rows(&mut text, Some(section.name), section.fields, values);
        }
    }
    text
}

/// Every setting's name with its section.
pub(super) fn keys() -> Vec<String> {
    let inner = Config::SECTIONS.iter().flat_map(|section| {
        section.fields.iter().map(move |field| format!("{}.{}", section.name, field.name))
    });
    Config::FIELDS.iter().map(|field| field.name.to_owned()).chain(inner).collect()
}

/// A line of TOML that sets `path`, or the setting it lies in.
pub(super) fn example(path: &str) -> String {
    let setting = path.split('[').next().unwrap_or(path);
    let (section, key) = setting.split_once('.').map_or((None, setting), |(a, b)| (Some(a), b));
    let key = key.split('.').next().unwrap_or(key);
    let defaults = defaults();
    let (fields, values) = match section {
        None => (Config::FIELDS, Some(&defaults)),
        Some(name) => {
            let found = Config::SECTIONS.iter().find(|section| section.name == name);
            (found.map_or(&[] as &[_], |found| found.fields), defaults.get(name).and_then(Value::as_table))
        }
    };
    match (fields.iter().find(|field| field.name == key), values) {
        (Some(field), Some(values)) => format!("{key} = {}", shown(field, values)),
        _ => format!("[{setting}]"),
    }
}

fn settings(text: &mut String, fields: &[Field], values: &Table) {
    for field in fields {
        text.push('\n');
        comment(text, field.help);
        let _ = writeln!(text, "#{} = {}", field.name, shown(field, values));
    }
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "# {}", line.trim());
    }
}

fn rows(text: &mut String, section: Option<&str>, fields: &[Field], values: &Table) {
    for field in fields {
        let name =
            section.map_or_else(|| field.name.to_owned(), |section| format!("{section}.{}", field.name));
        let default = values.get(field.name).map_or_else(String::new, |value| format!("`{value}`"));
        let help = field.help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "| `{name}` | {default} | {help} |");
    }
}

fn shown(field: &Field, values: &Table) -> String {
    match (field.example, values.get(field.name)) {
        (Some(example), _) => example.to_owned(),
        (None, Some(value)) => value.to_string(),
        (None, None) => "\"\"".to_owned(),
    }
}

pub(super) fn defaults() -> Table {
    // A section serialises to a table by construction; `every_example_is_read` would see it if one did not.
    Table::try_from(Config::default()).unwrap_or_default()
}

const SAMPLE_HEAD: &[&str] = &[
    "Read from /etc/gatehouse/gatehouse.toml or --config, then conf.d/*.toml beside it, then settings_parameter, then the environment:",
    "`limits.idle` is also GATEHOUSE_LIMITS_IDLE. What is commented out is the default, or an example where there is none.",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment;

    #[test]
    fn checked_in_sample_is_the_declaration() {
        let remedy = "`cargo run -- config example > proxy/gatehouse.toml`";
        assert_eq!(include_str!("../../gatehouse.toml"), sample(), "write it anew: {remedy}");
    }

    #[test]
    fn settings_page_is_the_declaration() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/settings.md");
        let page = std::fs::read_to_string(path).expect("docs/settings.md lies under the root");
        let (begin, end) = ("<!-- configuration:begin -->\n", "<!-- configuration:end -->");
        let table = page.split_once(begin).and_then(|(_, rest)| rest.split_once(end));
        let (table, _) = table.expect("docs/settings.md has both markers around the table of settings");
        assert_eq!(table.trim(), reference().trim(), "write it anew: `cargo run -- config reference`");
    }

    #[test]
    fn every_example_is_read() {
        for key in keys() {
            let line = example(&key);
            let text = match key.split_once('.') {
                Some((section, _)) => format!("[{section}]\n{line}\n"),
                None => line,
            };
            let read = text.parse::<Table>().map(Value::Table).map(Value::try_into::<Config>);
            assert!(matches!(read, Ok(Ok(_))), "{key}: {text}: {read:?}");
        }
    }

    #[test]
    fn variables_are_distinct() {
        let mut names: Vec<_> = keys().iter().map(|key| environment::variable(key)).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
