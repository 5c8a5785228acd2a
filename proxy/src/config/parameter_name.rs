//! The name of a parameter of AWS Systems Manager.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name or ARN of a parameter of AWS Systems Manager, up to 2,048 bytes (API page `GetParameter`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ParameterName(String);

impl ParameterName {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The region that an ARN names: `arn:aws:ssm:REGION:ACCOUNT:parameter/NAME`.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        let mut parts = self.0.strip_prefix("arn:")?.split(':');
        parts.nth(2).filter(|region| !region.is_empty())
    }
}

impl TryFrom<String> for ParameterName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-:".contains(&byte);
        if (1..=LONGEST).contains(&text.len()) && text.bytes().all(permitted) {
            return Ok(Self(text));
        }
        Err("it cannot name a parameter; write letters, digits, `/`, `_`, `.` and `-`, like `/gatehouse/fleet`".to_owned())
    }
}

impl From<ParameterName> for String {
    fn from(name: ParameterName) -> String {
        name.0
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_its_region_and_a_name_does_not() {
        for (text, region) in [
            ("/gatehouse/fleet", Some(None)),
            ("fleet:3", Some(None)),
            ("arn:aws:ssm:eu-south-2:123456789012:parameter/gatehouse/fleet", Some(Some("eu-south-2"))),
            ("arn:aws:ssm", Some(None)),
            ("", None),
            ("a b", None),
        ] {
            let name = ParameterName::try_from(text.to_owned()).ok();
            assert_eq!(name.as_ref().map(ParameterName::region), region, "{text}");
        }
    }
}
