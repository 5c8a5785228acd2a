//! What AWS was asked: the calls that moto received, and the parameters they must have had where moto keeps no state.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use anyhow::{Context, ensure};
use serde_json::Value;

struct Call {
    agent: String,
    region: String,
    action: String,
    parameters: Value,
}

/// All calls so far, in their order.
pub(super) struct Calls(Vec<Call>);

impl Calls {
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        Self::parse(&fs::read_to_string(file)?)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        text.lines().map(Call::parse).collect::<anyhow::Result<_>>().map(Self)
    }

    /// How many changed something.
    pub(super) fn changes(&self) -> usize {
        let asks = |action: &str| ["Describe", "Get"].iter().any(|verb| action.starts_with(verb));
        self.0.iter().filter(|call| !asks(&call.action)).count()
    }

    /// An error with all parameters that no call, or not every call, had.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        let unsaid: Vec<String> =
            SAID.iter().filter(|said| !self.always(said)).map(ToString::to_string).collect();
        ensure!(unsaid.is_empty(), "missing in all or some calls: {}", unsaid.join("; "));
        let copies = self.0.iter().filter(|call| call.action == "CopyImage");
        for Call { region, parameters, .. } in copies {
            let key = parameters.get("KmsKeyId").and_then(Value::as_str).unwrap_or("none");
            ensure!(key == format!("alias/{region}"), "the copy in {region} is encrypted by {key}");
        }
        Ok(())
    }

    fn always(&self, Said { action, parameter, value }: &Said) -> bool {
        let mut calls = self.0.iter().filter(|call| call.action == *action).peekable();
        let says = |call: &Call| call.parameters.get(*parameter).and_then(Value::as_str) == Some(*value);
        calls.peek().is_some() && calls.all(says)
    }
}

impl Call {
    fn parse(line: &str) -> anyhow::Result<Self> {
        let call: Value = serde_json::from_str(line)?;
        let text = |field: &str| {
            let text = call.get(field).and_then(Value::as_str).map(str::to_owned);
            text.with_context(|| format!("a call without {field}: {line}"))
        };
        let parameters = call.get("parameters").cloned().unwrap_or_default();
        Ok(Self { agent: text("agent")?, region: text("region")?, action: text("action")?, parameters })
    }
}

/// Which client made which call in which region.
impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<_, BTreeMap<_, usize>> = BTreeMap::new();
        for Call { agent, region, action, .. } in &self.0 {
            let agent = if agent == PACKERS_CLIENT { "Packer" } else { agent };
            *kinds.entry((agent, region)).or_default().entry(action).or_default() += 1;
        }
        let actions: BTreeSet<_> = self.0.iter().map(|call| &call.action).collect();
        writeln!(f, "rehearsal: {} calls of {} kinds", self.0.len(), actions.len())?;
        for ((agent, region), counts) in kinds {
            let counts: Vec<_> = counts.iter().map(|(action, count)| format!("{action} {count}")).collect();
            writeln!(f, "  {agent}, {region}: {}", counts.join(", "))?;
        }
        Ok(())
    }
}

const PACKERS_CLIENT: &str = "aws-sdk-go";

struct Said {
    action: &'static str,
    parameter: &'static str,
    value: &'static str,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}={}", self.action, self.parameter, self.value)
    }
}

const SAID: [Said; 8] = [
    Said { action: "RunInstances", parameter: "InstanceInitiatedShutdownBehavior", value: "terminate" },
    Said { action: "RunInstances", parameter: "BlockDeviceMapping.1.Ebs.Encrypted", value: "true" },
    Said { action: "RunInstances", parameter: "BlockDeviceMapping.1.Ebs.VolumeType", value: "gp3" },
    Said { action: "RunInstances", parameter: "BlockDeviceMapping.1.Ebs.DeleteOnTermination", value: "true" },
    Said { action: "ModifyInstanceMetadataOptions", parameter: "HttpTokens", value: "required" },
    Said { action: "ModifyInstanceAttribute", parameter: "EnaSupport.Value", value: "true" },
    Said { action: "CopyImage", parameter: "Encrypted", value: "true" },
    Said { action: "PutParameter", parameter: "DataType", value: "aws:ec2:image" },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: &str, region: &str, parameters: &str) -> String {
        format!(
            r#"{{"agent": "aws-sdk-go", "service": "ec2", "region": "{region}", "action": "{action}", "parameters": {parameters}}}"#
        )
    }

    fn all() -> Vec<String> {
        let run = r#"{"InstanceInitiatedShutdownBehavior": "terminate", "BlockDeviceMapping.1.Ebs.Encrypted": "true",
            "BlockDeviceMapping.1.Ebs.VolumeType": "gp3", "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true"}"#
            .replace('\n', "");
        vec![
            call("RunInstances", "a", &run),
            call("ModifyInstanceMetadataOptions", "a", r#"{"HttpTokens": "required"}"#),
            call("ModifyInstanceAttribute", "a", r#"{"EnaSupport.Value": "true"}"#),
            call("CopyImage", "a", r#"{"Encrypted": "true", "KmsKeyId": "alias/a"}"#),
            call("CopyImage", "b", r#"{"Encrypted": "true", "KmsKeyId": "alias/b"}"#),
            call("DescribeImages", "b", "{}"),
            call("PutParameter", "b", r#"{"DataType": "aws:ec2:image"}"#),
        ]
    }

    fn judge(lines: &[String]) -> String {
        let judged = Calls::parse(&lines.join("\n")).unwrap().judge();
        judged.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_call_that_was_not_made_is_named() {
        assert_eq!(judge(&all()), "");
        let mut without = all();
        without.remove(1);
        assert!(judge(&without).contains("ModifyInstanceMetadataOptions HttpTokens=required"));
        let in_clear = call("CopyImage", "c", r#"{"KmsKeyId": "alias/c"}"#);
        assert!(judge(&[all(), vec![in_clear]].concat()).contains("CopyImage Encrypted=true"));
        let another_key = call("CopyImage", "c", r#"{"Encrypted": "true", "KmsKeyId": "alias/a"}"#);
        assert_eq!(judge(&[all(), vec![another_key]].concat()), "the copy in c is encrypted by alias/a");
    }

    #[test]
    fn calls_are_counted_by_who_made_them_and_where() {
        let calls = Calls::parse(&all().join("\n")).unwrap();
        assert_eq!(calls.changes(), 6);
        assert_eq!(
            calls.to_string(),
            "rehearsal: 7 calls of 6 kinds\n  Packer, a: CopyImage 1, ModifyInstanceAttribute 1, \
             ModifyInstanceMetadataOptions 1, RunInstances 1\n  Packer, b: CopyImage 1, DescribeImages 1, \
             PutParameter 1\n"
        );
        assert!(Calls::parse("{}").is_err());
    }
}
