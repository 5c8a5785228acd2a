//! The fields of a form or a query, read by the API's own types: a page refuses what the API refuses, in its words.
//! Invariant: no text panics, and as many fields as no page has are refused (`no_fields_panic`).

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    api::{Problem, ProblemKind, read_json},
    domains::admin::ExpectedVersion,
};

/// Fields by their names; of several with one name, the last.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fields(Map<String, Value>);

/// What an empty field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    /// Nothing is said of it.
    Absent,
    /// It is to be as the settings have it.
    Null,
}

impl Fields {
    /// Those of `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(text);
        let fields: Map<_, _> = pairs
            .take(MOST + 1)
            .map(|(name, value)| (name.into_owned(), Value::String(value.trim().to_owned())))
            .collect();
        if fields.len() > MOST {
            return Err(Problem::new(ProblemKind::Malformed, "there are more fields than any page has"));
        }
        Ok(Self(fields))
    }

    /// What `name` holds; absent, nothing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Takes out what `name` holds.
    pub(super) fn take(&mut self, name: &str) -> String {
        match self.0.remove(name) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        }
    }

    /// As a query, with `value` in `name`.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let said = self.0.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let others = said.filter(|(other, value)| *other != name && !value.is_empty());
        form_urlencoded::Serializer::new(String::new()).extend_pairs(others).append_pair(name, value).finish()
    }

    /// Makes a box that was ticked what JSON says.
    pub(super) fn flag(&mut self, name: &str) {
        if let Some(value) = self.0.get_mut(name).filter(|value| *value == "true") {
            *value = Value::Bool(true);
        }
    }

    /// Takes out for which version of an entry it is.
    pub(super) fn take_version(&mut self) -> Result<ExpectedVersion, Problem> {
        let text = self.take("version");
        text.parse().map(|version| ExpectedVersion::OneOf(vec![version])).map_err(|_| {
            Problem::new(ProblemKind::VersionNeeded, "the form does not say for which version it is")
                .of("version", &text)
                .mend("open the page anew")
        })
    }

    /// What they say.
    pub(super) fn read<T: DeserializeOwned>(&self, empty: Empty) -> Result<T, Problem> {
        let said = self.0.iter().filter_map(|(name, value)| match (value.as_str(), empty) {
            (Some(""), Empty::Absent) => None,
            (Some(""), Empty::Null) => Some((name.clone(), Value::Null)),
            _ => Some((name.clone(), value.clone())),
        });
        read_json(Value::Object(said.collect()))
    }
}

/// The largest page has a dozen.
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::{DomainPatch, ListParameters};

    #[test]
    fn an_empty_field_is_absent_or_null() {
        let fields = Fields::parse(b"target=+&host=client&redirect=").unwrap();
        assert!(fields.read::<DomainPatch>(Empty::Null).is_ok());
        let fault = Fields::parse(b"target=ftp%3A%2F%2Fx").unwrap().read::<DomainPatch>(Empty::Null);
        assert_eq!(fault.unwrap_err().into_body().field.as_deref(), Some("target"));
        let query = Fields::parse(b"prefix=shop&status=&tenant=").unwrap();
        let parameters: ListParameters = query.read(Empty::Absent).unwrap();
        assert_eq!((parameters.prefix.as_deref(), parameters.status), (Some("shop"), None));
    }

    #[test]
    fn a_version_is_a_number_and_needed() {
        let mut fields = Fields::parse(b"version=7").unwrap();
        assert_eq!(fields.take_version().unwrap(), ExpectedVersion::OneOf(vec![7]));
        assert_eq!(fields.take_version().unwrap_err().kind(), ProblemKind::VersionNeeded);
    }

    proptest! {
        #[test]
        fn no_fields_panic(text in proptest::collection::vec(any::<u8>(), 0..300), many in 0_usize..100) {
            if let Ok(fields) = Fields::parse(&text) {
                let _ = fields.read::<ListParameters>(Empty::Absent);
            }
            let text = (0..many).map(|number| format!("a{number}=")).collect::<Vec<_>>().join("&");
            prop_assert_eq!(Fields::parse(text.as_bytes()).is_ok(), many <= MOST);
        }
    }
}
