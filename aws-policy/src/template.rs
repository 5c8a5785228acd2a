//! The policies of a CloudFormation template, with its functions carried out: as much of them as the project's policies use.
//! Not here: resources beside roles and managed policies; whether CloudFormation takes the template (`cargo xtask templates`).

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use serde_yaml_ng::Value as Yaml;

use crate::policy::{Policy, PolicyError};

/// A template, and what its references stand for.
#[derive(Debug)]
pub struct Template {
    document: Yaml,
    /// Values of parameters, pseudo parameters and attributes (`Group.Arn`).
    given: BTreeMap<String, String>,
}

/// Why a template's policies cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is no YAML.
    #[error("not YAML")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// A reference has no value.
    #[error("`{0}` stands for nothing that is given")]
    Reference(String),
    /// A function of CloudFormation's that the project's policies did without.
    #[error("the function `{0}` is not known here, or not in this form")]
    Function(String),
    /// A kind of resource that grants rights in a way of its own.
    #[error("`{0}`: resources of type `{1}` are not known here")]
    Kind(String, String),
    /// A policy is not understood.
    #[error("`{0}`")]
    Policy(String, #[source] PolicyError),
}

impl Template {
    /// Reads it. `given` are values by name; a parameter that is not among them has its default.
    pub fn read(text: &str, given: &[(&str, &str)]) -> Result<Self, TemplateError> {
        let document: Yaml = serde_yaml_ng::from_str(text)?;
        let mut values = BTreeMap::new();
        for (name, parameter) in entries(at(&document, &["Parameters"])) {
            match at(parameter, &["Default"]) {
                Yaml::String(default) => values.insert(name.to_owned(), default.clone()),
                Yaml::Number(default) => values.insert(name.to_owned(), default.to_string()),
                _ => None,
            };
        }
        values.extend(given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Ok(Self { document, given: values })
    }

    /// The same, with each parameter as `<Name>`: for people.
    pub fn placeholders(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self::read(text, PLACEHOLDERS)?;
        let parameters = entries(at(&template.document, &["Parameters"]));
        let placeholders: Vec<_> =
            parameters.map(|(name, _)| (name.to_owned(), format!("<{name}>"))).collect();
        template.given.extend(placeholders);
        Ok(template)
    }

    /// Names of all roles and managed policies, whether the template's conditions make them or not.
    pub fn holders(&self) -> Result<Vec<&str>, TemplateError> {
        let mut holders = Vec::new();
        for (name, resource) in entries(at(&self.document, &["Resources"])) {
            match at(resource, &["Type"]).as_str().unwrap_or_default() {
                ROLE | MANAGED_POLICY => holders.push(name),
                "AWS::IAM::InstanceProfile" => {}
                kind if kind.starts_with("AWS::IAM::") => {
                    return Err(TemplateError::Kind(name.to_owned(), kind.to_owned()));
                }
                _ => {}
            }
        }
        Ok(holders)
    }

    /// What a role has in itself, or a managed policy; a role's managed policies are not followed.
    pub fn policy(&self, holder: &str) -> Result<Policy, TemplateError> {
        let resource = at(&self.document, &["Resources", holder]);
        let documents = match at(resource, &["Type"]).as_str() {
            Some(ROLE) => self.inline(at(resource, &["Properties", "Policies"]))?,
            Some(MANAGED_POLICY) => {
                self.value(at(resource, &["Properties", "PolicyDocument"]))?.into_iter().collect()
            }
            _ => return Err(TemplateError::Reference(holder.to_owned())),
        };
        Policy::of(&documents).map_err(|error| TemplateError::Policy(holder.to_owned(), error))
    }

    fn inline(&self, policies: &Yaml) -> Result<Vec<Json>, TemplateError> {
        let Some(Json::Array(policies)) = self.value(policies)? else { return Ok(Vec::new()) };
        let document = |mut policy: Json| policy.get_mut("PolicyDocument").map(Json::take);
        policies.into_iter().map(|policy| document(policy).ok_or_else(|| unknown("PolicyDocument"))).collect()
    }

    /// None stands for `AWS::NoValue`.
    fn value(&self, value: &Yaml) -> Result<Option<Json>, TemplateError> {
        Ok(Some(match value {
            Yaml::Null => return Ok(None),
            Yaml::Bool(is) => Json::Bool(*is),
            Yaml::Number(number) => Json::String(number.to_string()),
            Yaml::String(text) => Json::String(text.clone()),
            Yaml::Sequence(list) => Json::Array(self.values(list)?),
            Yaml::Mapping(_) => {
                let mut object = Map::new();
                for (name, value) in entries(value) {
                    // The long forms of functions, which no policy here uses.
                    if name == "Ref" || name.starts_with("Fn::") {
                        return Err(unknown(name));
                    }
                    if let Some(value) = self.value(value)? {
                        object.insert(name.to_owned(), value);
                    }
                }
                Json::Object(object)
            }
            Yaml::Tagged(tagged) => return self.function(&tagged.tag.to_string(), &tagged.value),
        }))
    }

    fn values(&self, list: &[Yaml]) -> Result<Vec<Json>, TemplateError> {
        let values: Result<Vec<_>, _> = list.iter().map(|value| self.value(value)).collect();
        Ok(values?.into_iter().flatten().collect())
    }

    fn function(&self, name: &str, argument: &Yaml) -> Result<Option<Json>, TemplateError> {
        match (name, argument) {
            ("!Ref", Yaml::String(of)) if of == "AWS::NoValue" => Ok(None),
            ("!Ref", Yaml::String(of)) => self.reference(of).map(Some),
            ("!GetAtt", Yaml::String(of)) => Ok(Some(Json::String(self.given(of)?.to_owned()))),
            ("!Sub", Yaml::String(text)) => Ok(Some(Json::String(self.substituted(text)?))),
            ("!If", Yaml::Sequence(parts)) => match parts.as_slice() {
                [Yaml::String(condition), so, otherwise] => {
                    self.value(if self.condition(condition)? { so } else { otherwise })
                }
                _ => Err(unknown(name)),
            },
            ("!Join", Yaml::Sequence(parts)) => match parts.as_slice() {
                [Yaml::String(between), list] => {
                    let list = self.value(list)?;
                    let parts = list.as_ref().and_then(Json::as_array).ok_or_else(|| unknown(name))?;
                    let parts: Option<Vec<_>> = parts.iter().map(Json::as_str).collect();
                    Ok(Some(Json::String(parts.ok_or_else(|| unknown(name))?.join(between))))
                }
                _ => Err(unknown(name)),
            },
            _ => Err(unknown(name)),
        }
    }

    /// A parameter that is a list is one, of what stands between its commas.
    fn reference(&self, name: &str) -> Result<Json, TemplateError> {
        let value = self.given(name)?;
        let kind = at(&self.document, &["Parameters", name, "Type"]).as_str().unwrap_or_default();
        if kind == "CommaDelimitedList" || kind.starts_with("List<") {
            return Ok(Json::Array(value.split(',').map(|one| Json::String(one.to_owned())).collect()));
        }
        Ok(Json::String(value.to_owned()))
    }

    fn given(&self, name: &str) -> Result<&str, TemplateError> {
        self.given.get(name).map(String::as_str).ok_or_else(|| TemplateError::Reference(name.to_owned()))
    }

    fn substituted(&self, text: &str) -> Result<String, TemplateError> {
        let mut parts = text.split("${");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').ok_or_else(|| unknown(text))?;
            whole.push_str(self.given(name)?);
            whole.push_str(rest);
        }
        Ok(whole)
    }

    fn condition(&self, name: &str) -> Result<bool, TemplateError> {
        self.holds(at(&self.document, &["Conditions", name]))
    }

    fn holds(&self, condition: &Yaml) -> Result<bool, TemplateError> {
        let Yaml::Tagged(tagged) = condition else { return Err(unknown("Conditions")) };
        let name = tagged.tag.to_string();
        match (name.as_str(), tagged.value.as_sequence().map(Vec::as_slice)) {
            ("!Equals", Some([one, other])) => Ok(self.value(one)? == self.value(other)?),
            ("!Not", Some([other])) => Ok(!self.holds(other)?),
            _ => Err(unknown(&name)),
        }
    }
}

/// What stands below these names; nothing, where one is missing.
fn at<'a>(value: &'a Yaml, names: &[&str]) -> &'a Yaml {
    names.iter().fold(value, |value, name| value.get(*name).unwrap_or(&Yaml::Null))
}

fn entries(mapping: &Yaml) -> impl Iterator<Item = (&str, &Yaml)> {
    let entries = mapping.as_mapping().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.as_str()?, value)))
}

fn unknown(function: &str) -> TemplateError {
    TemplateError::Function(function.to_owned())
}

/// Of what is no parameter.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("AWS::Partition", "aws"),
    ("AWS::AccountId", "<account>"),
    ("AWS::Region", "<region>"),
    ("AWS::StackName", "<stack>"),
    ("AWS::StackId", "<ARN of the stack>"),
    ("EndpointGroup.EndpointGroupArn", "<ARN of the endpoint group>"),
    ("ServiceRole.Arn", "<ARN of ServiceRole>"),
];
const ROLE: &str = "AWS::IAM::Role";
const MANAGED_POLICY: &str = "AWS::IAM::ManagedPolicy";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Call;

    const TEXT: &str = r#"
Parameters:
  Stage: { Type: String }
  Zone: { Type: String, Default: "" }
  Keys: { Type: CommaDelimitedList, Default: "" }
Conditions:
  HasZone: !Not [!Equals [!Ref Zone, ""]]
  HasKeys: !Not [!Equals [!Join ["", !Ref Keys], ""]]
Resources:
  Other: { Type: "AWS::SNS::Topic" }
  Role:
    Type: AWS::IAM::Role
    Properties:
      Policies:
        - PolicyName: always
          PolicyDocument:
            Statement:
              - { Sid: Tables, Effect: Allow, Action: "a:Read", Resource: !Sub "arn:aws:a:::${Stage}/${Table.Name}" }
        - !If
          - HasZone
          - PolicyName: zone
            PolicyDocument:
              Statement:
                - { Sid: Zone, Effect: Allow, Action: "a:Write", Resource: [!Ref Zone] }
          - !Ref AWS::NoValue
        - !If
          - HasKeys
          - PolicyName: keys
            PolicyDocument:
              Statement:
                - { Sid: Keys, Effect: Allow, Action: "a:Open", Resource: !Ref Keys }
          - !Ref AWS::NoValue
"#;

    fn granted(given: &[(&str, &str)], action: &str, resource: &str) -> bool {
        let template = Template::read(TEXT, given).unwrap();
        assert_eq!(template.holders().unwrap(), ["Role"]);
        let policy = template.policy("Role").unwrap();
        !policy.judge(&Call::new(action, resource)).unwrap().is_empty()
    }

    #[test]
    fn functions_are_carried_out() {
        let plain = [("Stage", "tst"), ("Table.Name", "t")];
        let whole = [&plain[..], &[("Zone", "zone-1"), ("Keys", "key-1,key-2")]].concat();
        for (given, action, resource, wanted) in [
            (&plain[..], "a:Read", "arn:aws:a:::tst/t", true),
            (&plain, "a:Read", "arn:aws:a:::prd/t", false),
            (&plain, "a:Write", "zone-1", false),
            (&whole, "a:Write", "zone-1", true),
            (&plain, "a:Open", "key-2", false),
            (&whole, "a:Open", "key-2", true),
            (&whole, "a:Open", "key-1,key-2", false),
        ] {
            assert_eq!(granted(given, action, resource), wanted, "{action} on {resource} with {given:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        let told = |text: &str| {
            let template = Template::read(text, &[]).unwrap();
            template.policy("Role").unwrap_err().to_string()
        };
        for (properties, said) in [
            ("!Sub \"${Absent}\"", "`Absent` stands for nothing that is given"),
            ("!Ref Absent", "`Absent` stands for nothing that is given"),
            ("!GetAtt Absent.Arn", "`Absent.Arn` stands for nothing that is given"),
            ("!Select [0, [a]]", "the function `!Select` is not known here, or not in this form"),
            ("{ \"Fn::Sub\": a }", "the function `Fn::Sub` is not known here, or not in this form"),
        ] {
            let text = format!(
                "Resources:\n  Role:\n    Type: AWS::IAM::Role\n    Properties:\n      Policies: [{properties}]\n"
            );
            assert_eq!(told(&text), said, "{properties}");
        }
        let other = Template::read("Resources: { A: { Type: \"AWS::IAM::Group\" } }", &[]).unwrap();
        assert!(other.holders().is_err());
    }
}
