//! Whether the templates take what the fleet's file gives them. CloudFormation would say so with a stack's change set, when the stacks before it
//! have been made or changed.
//! Invariant: each pattern of the templates is understood (`each_pattern_of_the_templates_is_understood`).

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::{Refusal, StackChange, Value};
use crate::{
    stack::{Kind, StackKey},
    wanted::Region,
};

/// Each field of the file whose value a template does not take, once. `changes` are of stacks that are not there yet: what is known of their
/// parameters is the file's.
pub(super) fn refused(changes: impl Iterator<Item = StackChange>) -> Vec<Refusal> {
    let mut refused: BTreeMap<String, Refusal> = BTreeMap::new();
    for StackChange { key, parameters, .. } in changes {
        for (name, value) in parameters {
            let Value::Known(value) = value else { continue };
            let Some(declaration) = Declaration::of(key.kind, name) else { continue };
            let field = field(&key, name);
            if !declaration.takes(&value) {
                refused.entry(field.clone()).or_insert_with(|| declaration.refusal(field, value));
            } else if OF_ITS_REGION.contains(&name) && is_elsewhere(&value, &key.region) {
                let region = key.region.clone();
                refused.entry(field.clone()).or_insert(Refusal::Elsewhere { field, value, region });
            }
        }
    }
    refused.into_values().collect()
}

/// What a template says of a parameter.
struct Declaration {
    description: String,
    /// A regular expression; empty for none.
    pattern: String,
    /// Empty for any.
    values: Vec<&'static str>,
    /// Its members stand between commas, and each has to match.
    is_list: bool,
}

impl Declaration {
    fn of(kind: Kind, name: &str) -> Option<Self> {
        let lines = kind.template().lines().skip_while(|line| *line != "Parameters:").skip(1);
        let block = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
        let own = block.skip_while(|line| line.trim_end_matches(':') != format!("  {name}")).skip(1);
        let own: Vec<_> = own.map_while(|line| line.strip_prefix("    ")).collect();
        let of = |key: &str| own.iter().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let values = of("AllowedValues: ").trim_matches(['[', ']']);
        let declaration = Self {
            description: unquoted(of("Description: ")),
            pattern: unquoted(of("AllowedPattern: ")),
            values: values.split(", ").filter(|value| !value.is_empty()).collect(),
            is_list: of("Type: ") == "CommaDelimitedList",
        };
        (!own.is_empty()).then_some(declaration)
    }

    fn takes(&self, value: &str) -> bool {
        let is_one = self.values.is_empty() || self.values.contains(&value);
        let regex = Regex::new(&self.pattern).ok();
        let matches = |part: &str| regex.as_ref().is_none_or(|regex| regex.is_match(part));
        is_one && if self.is_list { value.split(',').all(matches) } else { matches(value) }
    }

    fn refusal(self, field: String, value: String) -> Refusal {
        let form = if self.values.is_empty() { self.pattern } else { self.values.join("|") };
        Refusal::Parameter { field, value, form, description: self.description }
    }
}

/// A text of YAML in double quotes, as far as the templates use its escapes.
fn unquoted(text: &str) -> String {
    text.trim_matches('"').replace("\\\\", "\\")
}

/// The field of the fleet's file that a parameter is from.
fn field(key: &StackKey, name: &str) -> String {
    let known = FIELDS.iter().find(|(kind, parameter, _)| (*kind, *parameter) == (key.kind, name));
    match known {
        Some((_, _, field)) => field.replace("REGION", key.region.as_str()),
        None => format!("{key}: {name}"),
    }
}

/// Whether an ARN names another region.
fn is_elsewhere(arn: &str, region: &Region) -> bool {
    arn.split(':').nth(3).is_some_and(|other| other != region.as_str())
}

/// `CloudWatch` tells no topic of another region, and neither Systems Manager nor DynamoDB encrypts by such a key.
const OF_ITS_REGION: [&str; 3] = ["AlarmTopic", "ExistingKey", "SettingsKey"];
const FIELDS: [(Kind, &str, &str); 21] = [
    (Kind::Domains, "ExistingCertificatesTable", "tables.certificates"),
    (Kind::Domains, "ExistingDomainsTable", "tables.domains"),
    (Kind::Domains, "ExistingStateTable", "tables.state"),
    (Kind::Domains, "ExistingKey", "tables.key"),
    (Kind::Edge, "IpAddressType", "edge.ip_address_type"),
    (Kind::Edge, "HostedZoneId", "edge.hosted_zone_id"),
    (Kind::Edge, "Name", "edge.name"),
    (Kind::Functions, "CodeKey", "domain_functions.package"),
    (Kind::Functions, "VerifierConcurrency", "domain_functions.verifier_concurrency"),
    (Kind::Functions, "CheckerSchedule", "domain_functions.schedule"),
    (Kind::Functions, "AlarmTopic", "domain_functions.alarm_topic"),
    (Kind::Fleet, "IpAddressType", "edge.ip_address_type"),
    (Kind::Fleet, "InstanceType", "regions.REGION.instance_type"),
    (Kind::Fleet, "CpuCredits", "regions.REGION.cpu_credits"),
    (Kind::Fleet, "SettingsParameter", "regions.REGION.settings_parameter"),
    (Kind::Fleet, "SettingsKey", "regions.REGION.settings_key"),
    (Kind::Fleet, "KeyEncryptionKeys", "key_encryption_keys"),
    (Kind::Fleet, "ChallengeZone", "challenge_zone"),
    (Kind::Fleet, "CodeKey", "function"),
    (Kind::Fleet, "AlarmTopic", "regions.REGION.alarm_topic"),
    (Kind::Fleet, "MetricsSource", "regions.REGION.metrics_source"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_of_the_templates_is_understood() {
        for kind in Kind::ALL {
            let template = kind.template();
            let patterns = template.lines().filter_map(|line| line.strip_prefix("    AllowedPattern: "));
            for pattern in patterns {
                assert!(pattern.starts_with("\"^") && pattern.ends_with("$\""), "{pattern}");
                assert!(Regex::new(&unquoted(pattern)).is_ok(), "{pattern}");
            }
        }
        for (kind, name, _) in FIELDS {
            let declaration = Declaration::of(kind, name).unwrap();
            assert!(!declaration.description.is_empty(), "{name}");
            assert!(!declaration.pattern.is_empty() || !declaration.values.is_empty(), "{name}");
        }
        assert!(Declaration::of(Kind::Fleet, "KeyEncryptionKeys").unwrap().is_list);
        assert!(Declaration::of(Kind::Domains, "Key").is_none(), "a resource is no parameter");
    }
}
