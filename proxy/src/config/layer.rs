//! One file or variable: parsed, checked against the declaration, and merged over those before it.

use std::path::Path;

use toml::{Table, Value, de::DeTable};

use super::{
    Config, Field, Section,
    error::{At, ConfigError, SettingOrigin, SettingsProblem, WrongValue},
    parameter_name::ParameterName,
    reference,
    suggest::nearest,
    toml_errors::plain,
};

/// The settings of one file or variable, known to be well formed.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) place: SettingOrigin,
    pub(super) table: Table,
    text: String,
}

impl Layer {
    /// Reads the text of the file at `path`.
    pub(super) fn file(path: &Path, text: String) -> Result<Self, ConfigError> {
        Self::text(SettingOrigin::File(path.to_path_buf()), text)
    }

    /// Reads the value of the parameter `name`, which leads to no other.
    pub(super) fn parameter(name: &ParameterName, text: String) -> Result<Self, ConfigError> {
        let layer = Self::text(SettingOrigin::Parameter(name.clone()), text)?;
        let Some(at) = layer.says(FIELD) else { return Ok(layer) };
        Err(ConfigError::Refused(vec![SettingsProblem {
            at,
            field: FIELD.to_owned(),
            fault: "a parameter cannot lead to another".to_owned(),
            remedy: "put its settings into this one".to_owned(),
        }]))
    }

    /// Reads the text of the variable `name`, whole settings.
    pub(super) fn variable_text(name: &str, text: String) -> Result<Self, ConfigError> {
        Self::text(SettingOrigin::Variable(name.to_owned()), text)
    }

    fn text(place: SettingOrigin, text: String) -> Result<Self, ConfigError> {
        match text.parse::<Table>() {
            Ok(table) => Self { place, table, text }.checked(),
            Err(error) => {
                let line = error.span().and_then(|span| line_at(&text, span.start));
                Err(ConfigError::Syntax { at: At { place, line }, message: error.message().to_owned() })
            }
        }
    }

    /// A variable that sets `field` to `text`: TOML where that is of the setting's form, else the text itself.
    pub(super) fn variable(name: &str, field: &str, text: &str) -> Result<Self, ConfigError> {
        let as_text = Self::set(name, field, Value::String(text.to_owned()));
        match format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value")) {
            None => as_text.checked(),
            Some(value) => {
                Self::set(name, field, value).checked().or_else(|error| as_text.checked().map_err(|_| error))
            }
        }
    }

    /// A variable that sets `field`, already of the right form, to `value`.
    pub(super) fn set(name: &str, field: &str, value: Value) -> Self {
        let mut table = Table::new();
        let wrap = |key: &str, value| Value::Table(Table::from_iter([(key.to_owned(), value)]));
        match field.split_once('.') {
            Some((section, key)) => table.insert(section.to_owned(), wrap(key, value)),
            None => table.insert(field.to_owned(), value),
        };
        Self { place: SettingOrigin::Variable(name.to_owned()), table, text: String::new() }
    }

    /// Where this layer says `field`, if it does.
    pub(super) fn says(&self, field: &str) -> Option<At> {
        value_at(&self.table, field).map(|_| self.at(field))
    }

    fn checked(self) -> Result<Self, ConfigError> {
        self.known_keys()?;
        let wanted: Result<Config, _> = serde_path_to_error::deserialize(Value::Table(self.table.clone()));
        let Err(error) = wanted else { return Ok(self) };
        let field = error.path().to_string();
        Err(ConfigError::Value(Box::new(WrongValue {
            at: self.at(&field),
            value: value_at(&self.table, &field).map_or_else(String::new, shown),
            message: plain(error.inner().message()),
            example: reference::example(&field),
            field,
        })))
    }

    fn known_keys(&self) -> Result<(), ConfigError> {
        for (key, value) in &self.table {
            match (Config::SECTIONS.iter().find(|section| section.name == key), value) {
                (Some(section), Value::Table(inner)) => {
                    let stranger = inner.keys().find(|key| !has(section.fields, key));
                    stranger.map_or(Ok(()), |stranger| Err(self.unknown(format!("{key}.{stranger}"))))?;
                }
                (Some(_), _) => {}
                (None, _) if has(Config::FIELDS, key) => {}
                (None, _) => return Err(self.unknown(key.clone())),
            }
        }
        Ok(())
    }

    fn unknown(&self, key: String) -> ConfigError {
        let known = reference::keys();
        let names = known.iter().map(String::as_str);
        let same_key = |name: &&str| name.rsplit('.').next() == key.rsplit('.').next();
        let nearest =
            nearest(&key, names.clone()).or_else(|| names.clone().find(same_key)).map(str::to_owned);
        ConfigError::Unknown { at: self.at(&key), key, nearest }
    }

    fn at(&self, field: &str) -> At {
        At { place: self.place.clone(), line: line_of(&self.text, field) }
    }
}

/// Lays `upper` over `lower`: tables are merged, arrays of tables appended, all else replaced.
pub(super) fn lay_over(lower: &mut Table, upper: &Table) {
    for (key, value) in upper {
        match (lower.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (Some(Value::Array(below)), Value::Array(above)) if of_tables(below) && of_tables(above) => {
                below.extend(above.iter().cloned());
            }
            _ => {
                lower.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The value of `a.b[2].c`.
pub(super) fn value_at<'a>(table: &'a Table, field: &str) -> Option<&'a Value> {
    let mut steps = steps(field);
    let first = table.get(steps.next()?)?;
    steps.try_fold(first, |value, step| match step.parse::<usize>() {
        Ok(index) if value.is_array() => value.get(index),
        _ => value.get(step),
    })
}

fn steps(field: &str) -> impl Iterator<Item = &str> {
    field.split(['.', '[']).map(|step| step.trim_end_matches(']'))
}

fn has(fields: &[Field], key: &str) -> bool {
    fields.iter().any(|field| field.name == key)
}

fn of_tables(array: &[Value]) -> bool {
    !array.is_empty() && array.iter().all(Value::is_table)
}

fn shown(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string().replace('\n', " ");
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// The line of `field`, or of the part of it that is written out.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut steps = steps(field);
    let (key, mut value) = document.get_ref().get_key_value(steps.next()?)?;
    let mut start = key.span().start;
    for step in steps {
        let inner = match step.parse::<usize>() {
            Ok(index) => value.get_ref().get(index).map(|inner| (inner.span().start, inner)),
            Err(_) => value
                .get_ref()
                .as_table()
                .and_then(|table| table.get_key_value(step))
                .map(|(key, inner)| (key.span().start, inner)),
        };
        let Some(inner) = inner else { break };
        (start, value) = inner;
    }
    line_at(text, start)
}

fn line_at(text: &str, offset: usize) -> Option<usize> {
    text.get(..offset).map(|before| before.matches('\n').count() + 1)
}

const FIELD: &str = "settings_parameter";
