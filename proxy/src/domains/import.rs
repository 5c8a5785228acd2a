//! Entries of a file: each row as a request, or what is wrong with it. Rows are CSV with a header, or JSON objects, in an array or one after
//! another.
//! Invariant: a file with a fault yields no request at all (`one_fault_and_nothing_is_asked_for`), and no file causes a panic
//! (`no_file_panics`).

mod report;

use std::{collections::HashMap, str::FromStr};

use serde_json::{Map, Value};

pub use self::report::{ImportReport, RowOutcome, RowReport};
use super::admin::{Existing, Proof, Request, Requester, Wanted};
use crate::{
    config::{
        CLIENT_REQUEST_RATE, DomainSettings, HOST, MAINTENANCE, MINIMUM_TLS, Maintenance, REDIRECT,
        REQUEST_RATE, WWW,
    },
    name::Pattern,
};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportForm {
    /// RFC 4180, the first line with the names of the columns.
    Csv,
    /// JSON objects.
    Json,
}

/// What holds for all rows.
#[derive(Debug, Clone)]
pub struct ImportRules {
    /// What becomes of an entry that says something else than its row.
    pub existing: Existing,
    /// Whether new entries wait for their verification.
    pub proof: Proof,
    /// Who asks.
    pub by: Requester,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// Its number, from 1; the header is none.
    pub row: usize,
    /// What it asks for.
    pub request: Request,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {field}: {fault}")]
pub struct RowFault {
    /// Its number.
    pub row: usize,
    /// The column.
    pub field: String,
    /// What is wrong with it, and what to write.
    pub fault: String,
}

impl ImportForm {
    /// What a file with these contents looks like: JSON begins with a bracket or a brace.
    #[must_use]
    pub fn of(contents: &[u8]) -> Self {
        match contents.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[' | b'{') => Self::Json,
            Some(_) | None => Self::Csv,
        }
    }
}

/// The rows of `contents`, or all that is wrong with them, of much the first.
pub fn read(contents: &[u8], form: ImportForm, rules: &ImportRules) -> Result<Vec<ImportRow>, Vec<RowFault>> {
    let fields = match form {
        ImportForm::Csv => csv_rows(contents),
        ImportForm::Json => json_rows(contents),
    };
    let fields = fields.map_err(|fault| vec![fault])?;
    let (mut rows, mut faults, mut seen) = (Vec::with_capacity(fields.len()), Vec::new(), HashMap::new());
    for (row, fields) in (1..).zip(fields) {
        let read = request(&fields, rules).map_err(|(field, fault)| RowFault { row, field, fault });
        let read = read.and_then(|request| match seen.insert(request.pattern.clone(), row) {
            None => Ok(request),
            Some(first) => {
                let fault = format!("`{}` is in row {first}, too; keep one of the two", request.pattern);
                Err(RowFault { row, field: DOMAIN.to_owned(), fault })
            }
        });
        match read {
            Ok(request) => rows.push(ImportRow { row, request }),
            Err(fault) if faults.len() < MOST_FAULTS => faults.push(fault),
            Err(_) => {}
        }
    }
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

/// A row's columns that say something.
type Fields = Vec<(String, String)>;

fn csv_rows(contents: &[u8]) -> Result<Vec<Fields>, RowFault> {
    let fault = |row, fault: String| RowFault { row, field: "csv".to_owned(), fault };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(contents);
    let header = reader.headers().map_err(|error| fault(0, error.to_string()))?.clone();
    if !header.iter().any(|column| column == DOMAIN) {
        return Err(fault(0, format!("the first line must name the columns, `{DOMAIN}` among them")));
    }
    let mut rows = Vec::new();
    for (row, record) in (1..).zip(reader.records()) {
        let record = record.map_err(|error| fault(row, error.to_string()))?;
        let said = header.iter().zip(&record).filter(|(_, value)| !value.is_empty());
        rows.push(said.map(|(column, value)| (column.to_owned(), value.to_owned())).collect());
    }
    Ok(rows)
}

fn json_rows(contents: &[u8]) -> Result<Vec<Fields>, RowFault> {
    let fault = |row, fault: String| RowFault { row, field: "json".to_owned(), fault };
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_slice(contents).into_iter::<Value>() {
        match value.map_err(|error| fault(values.len() + 1, error.to_string()))? {
            Value::Array(items) => values.extend(items),
            value => values.push(value),
        }
    }
    let fields = |(row, value): (usize, Value)| match value {
        Value::Object(map) => json_fields(map).map_err(|text| fault(row, text)),
        _ => Err(fault(row, format!("write an object like {{\"{DOMAIN}\": \"www.example.com\"}}"))),
    };
    (1..).zip(values).map(fields).collect()
}

fn json_fields(map: Map<String, Value>) -> Result<Fields, String> {
    let mut fields = Fields::new();
    for (key, value) in map {
        match value {
            Value::Null => {}
            Value::String(text) => fields.push((key, text)),
            Value::Bool(value) => fields.push((key, value.to_string())),
            Value::Number(number) => fields.push((key, number.to_string())),
            Value::Array(_) | Value::Object(_) => return Err(format!("`{key}` must be a text")),
        }
    }
    Ok(fields)
}

/// What a row asks for; or the column at fault and its fault.
fn request(fields: &Fields, rules: &ImportRules) -> Result<Request, (String, String)> {
    let (mut pattern, mut target, mut tenant, mut settings) = (None, None, None, DomainSettings::default());
    for (field, value) in fields {
        let at = |fault: String| (field.clone(), fault);
        match field.as_str() {
            DOMAIN => pattern = Some(parsed::<Pattern>(value).map_err(at)?),
            "target" => target = Some(parsed(value).map_err(at)?),
            "tenant" => tenant = Some(parsed(value).map_err(at)?),
            MINIMUM_TLS => settings.minimum_tls = Some(parsed(value).map_err(at)?),
            HOST => settings.host = Some(parsed(value).map_err(at)?),
            REDIRECT => settings.redirect = Some(parsed(value).map_err(at)?),
            WWW => settings.www = Some(parsed(value).map_err(at)?),
            REQUEST_RATE => settings.request_rate = Some(parsed(value).map_err(at)?),
            CLIENT_REQUEST_RATE => settings.client_request_rate = Some(parsed(value).map_err(at)?),
            MAINTENANCE => settings.maintenance = Some(maintenance(value).map_err(at)?),
            _ => return Err(at(format!("there is no such column; there are {COLUMNS}"))),
        }
    }
    let absent = || (DOMAIN.to_owned(), "is missing; write a name like `www.example.com`".to_owned());
    let ImportRules { existing, proof, by } = rules;
    let (existing, proof) = (*existing, *proof);
    let wanted = Wanted::Present { target, settings, tenant, existing, proof };
    Ok(Request::new(pattern.ok_or_else(absent)?, wanted, by.clone()))
}

fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn maintenance(text: &str) -> Result<Maintenance, String> {
    match text {
        "true" => Ok(Maintenance::On),
        "false" => Ok(Maintenance::Off),
        text => parsed(text),
    }
}

const DOMAIN: &str = "domain";
const COLUMNS: &str = "domain, target, tenant, minimum_tls, host, redirect, www, maintenance, request_rate, client_request_rate";
/// Of more faults nobody reads the rest.
const MOST_FAULTS: usize = 100;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::WwwPair;

    fn rules() -> ImportRules {
        let by = Requester::operator("uid 0");
        ImportRules { existing: Existing::Keep, proof: Proof::Needed, by }
    }

    fn rows(text: &str) -> Result<Vec<ImportRow>, Vec<String>> {
        read(text.as_bytes(), ImportForm::of(text.as_bytes()), &rules())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn all_forms_of_a_row_ask_for_the_same() {
        let csv = "domain, target ,tenant,maintenance\n a.example ,http://10.0.0.1,acme,on\n*.b.example,,,\n";
        let array = r#"[{"domain": "a.example", "target": "http://10.0.0.1", "tenant": "acme", "maintenance": true},
            {"domain": "*.b.example", "target": null}]"#;
        let lines = "{\"domain\":\"a.example\",\"target\":\"http://10.0.0.1\",\"tenant\":\"acme\",\"maintenance\":\"on\"}\n{\"domain\":\"*.b.example\"}\n";
        let expected = rows(csv).unwrap();
        assert_eq!(expected.len(), 2);
        let Wanted::Present { target, tenant, settings, .. } = &expected[0].request.wanted else {
            panic!("an addition")
        };
        assert_eq!(target.as_ref().unwrap().to_string(), "http://10.0.0.1");
        assert_eq!(
            (tenant.as_ref().unwrap().as_str(), settings.maintenance),
            ("acme", Some(Maintenance::On))
        );
        assert_eq!(rows(array), Ok(expected.clone()));
        assert_eq!(rows(lines), Ok(expected));
        let pair = rows("domain,www\na.example,serve\n").unwrap();
        let Wanted::Present { settings, .. } = &pair[0].request.wanted else { panic!("an addition") };
        assert_eq!(settings.www, Some(WwwPair::Serve));
        assert_eq!(
            rows("domain\nbücher.example\n").unwrap()[0].request.pattern.to_string(),
            "xn--bcher-kva.example"
        );
    }

    #[test]
    fn one_fault_and_nothing_is_asked_for() {
        for (text, told) in [
            ("", "row 0: csv: the first line must name the columns"),
            ("name\na.example\n", "row 0: csv: the first line must name the columns"),
            (
                "domain,colour\na.example,red\n",
                "row 1: colour: there is no such column; there are domain, target",
            ),
            ("domain\nok.example\n192.0.2.1\n", "row 2: domain: `192.0.2.1` is not a domain name"),
            ("domain,target\na.example,ftp://x\n", "row 1: target: "),
            ("domain,tenant\na.example,a b\n", "row 1: tenant: "),
            ("domain,target\n,http://10.0.0.1\n", "row 1: domain: is missing"),
            ("domain\na.example\nb.example\nA.example.\n", "row 3: domain: `a.example` is in row 1, too"),
            ("domain,target\na.example\n", "row 1: csv: "),
            ("[{\"domain\": [1]}]", "row 1: json: `domain` must be a text"),
            ("[1]", "row 1: json: write an object like"),
            ("[{\"domain\": \"a.example\"}", "row 1: json: EOF"),
        ] {
            let faults = rows(text).unwrap_err();
            assert!(faults[0].starts_with(told), "{text:?}: {faults:?}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once_and_of_many_the_first() {
        let text = format!("domain\n{}", "not a name\n".repeat(500));
        assert_eq!(rows(&text).unwrap_err().len(), MOST_FAULTS);
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_file_panics(contents in proptest::collection::vec(any::<u8>(), 0..256), json: bool) {
                let form = if json { ImportForm::Json } else { ImportForm::Csv };
                let _ = read(&contents, form, &rules());
            }
        }
    }
}
