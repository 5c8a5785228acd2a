//! Conditions of a statement: the operators that the project's policies use.

use std::{collections::BTreeMap, fmt};

use super::{PolicyError, wildcard};

/// An operator with a key and the values it is compared with.
#[derive(Debug)]
pub(super) struct Condition {
    operator: Operator,
    /// As the policy has it.
    key: String,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// The request's one value is among these.
    One { likeness: Likeness, holds_without: bool },
    /// Each of the request's values is among these; so it is where there is none.
    All(Likeness),
    /// Whether the request has the key.
    Null { absent: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Likeness {
    Equal,
    Like,
}

impl Condition {
    /// None where it is not understood.
    pub(super) fn read(operator: &str, key: &str, values: Vec<String>) -> Option<Self> {
        let one = |likeness, holds_without| Operator::One { likeness, holds_without };
        let operator = match operator {
            "StringEquals" => one(Likeness::Equal, false),
            "StringEqualsIfExists" => one(Likeness::Equal, true),
            "StringLike" => one(Likeness::Like, false),
            "ForAllValues:StringEquals" => Operator::All(Likeness::Equal),
            "ForAllValues:StringLike" => Operator::All(Likeness::Like),
            "Null" => match values.as_slice() {
                [is] if is == "true" => Operator::Null { absent: true },
                [is] if is == "false" => Operator::Null { absent: false },
                _ => return None,
            },
            _ => return None,
        };
        let is_plain = values.iter().all(|value| !value.contains("${"));
        (is_plain && !values.is_empty()).then(|| Self { operator, key: key.to_owned(), values })
    }

    pub(super) fn holds(&self, context: &BTreeMap<String, Vec<String>>) -> Result<bool, PolicyError> {
        let asked = self.asked(context);
        match (self.operator, asked) {
            (Operator::Null { absent }, _) => Ok(asked.is_none() == absent),
            (Operator::One { holds_without, .. }, None) => Ok(holds_without),
            (Operator::One { likeness, .. }, Some([value])) => Ok(self.has(likeness, value)),
            (Operator::One { .. }, Some(_)) => Err(PolicyError::SeveralValues(self.key.clone())),
            (Operator::All(_), None) => Ok(true),
            (Operator::All(likeness), Some(values)) => {
                Ok(values.iter().all(|value| self.has(likeness, value)))
            }
        }
    }

    /// The request's values. Names of keys have no case.
    fn asked<'a>(&self, context: &'a BTreeMap<String, Vec<String>>) -> Option<&'a [String]> {
        context.get(&self.key.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// The values as the policy has them; none where the operator compares with none.
    pub(super) fn listed(&self) -> Vec<String> {
        let compares = !matches!(self.operator, Operator::Null { .. });
        if compares { self.values.clone() } else { Vec::new() }
    }

    /// Those of the policy's values that the request has.
    pub(super) fn fitting(&self, context: &BTreeMap<String, Vec<String>>) -> Vec<String> {
        let (Operator::One { likeness, .. } | Operator::All(likeness)) = self.operator else {
            return Vec::new();
        };
        let asked = self.asked(context).unwrap_or_default();
        let fits = |listed: &&String| asked.iter().any(|value| is(likeness, listed, value));
        self.values.iter().filter(fits).cloned().collect()
    }

    fn has(&self, likeness: Likeness, value: &str) -> bool {
        self.values.iter().any(|listed| is(likeness, listed, value))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let values = self.values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ");
        let is = |likeness| if likeness == Likeness::Equal { "is" } else { "is like" };
        match self.operator {
            Operator::Null { absent: true } => write!(f, "`{key}` is absent"),
            Operator::Null { absent: false } => write!(f, "`{key}` is there"),
            Operator::One { likeness, holds_without: true } => {
                write!(f, "`{key}` {} {values}, or is absent", is(likeness))
            }
            Operator::One { likeness, .. } => write!(f, "`{key}` {} {values}", is(likeness)),
            Operator::All(likeness) => write!(f, "each `{key}` {} {values}", is(likeness)),
        }
    }
}

fn is(likeness: Likeness, listed: &str, value: &str) -> bool {
    match likeness {
        Likeness::Equal => listed == value,
        Likeness::Like => wildcard::matches(listed, value),
    }
}
