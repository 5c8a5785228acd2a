//! Identity policies as IAM evaluates them ("Policy evaluation logic"), as far as the project's own use the language: what else it has is an
//! error when a policy is read.

mod condition;
mod wildcard;

use serde_json::Value as Json;

use self::condition::Condition;
use crate::Call;

/// All statements that one role or managed policy has.
#[derive(Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// What is granted, under which conditions.
#[derive(Debug)]
pub struct Statement {
    /// Its name, which each of ours has.
    pub sid: String,
    actions: Vec<String>,
    resources: Vec<String>,
    conditions: Vec<Condition>,
}

/// A part of a statement without which it would grant less: an action, a resource, or a value that a condition lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The statement's name.
    pub sid: String,
    /// The part as the policy has it.
    pub part: String,
}

/// Why a policy is not understood, or not evaluated.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// An element that is unknown, or absent, or of another form.
    #[error("statement `{sid}`: `{element}` is not known here, or not in this form")]
    Element {
        /// The statement's name.
        sid: String,
        /// The element's.
        element: String,
    },
    /// A statement is named like another, so that grants could not be told apart.
    #[error("there are two statements `{0}`")]
    Twice(String),
    /// IAM leaves open what an operator says of several values, unless it is told whether one or all have to fit.
    #[error("`{0}` has several values, and the condition has neither ForAllValues nor ForAnyValue")]
    SeveralValues(String),
}

impl Policy {
    /// Of policy documents in JSON.
    pub fn of(documents: &[Json]) -> Result<Self, PolicyError> {
        let mut statements: Vec<Statement> = Vec::new();
        for document in documents {
            let found = document.get("Statement").and_then(Json::as_array);
            for statement in found.ok_or_else(|| element("", "Statement"))? {
                let statement = Statement::read(statement)?;
                if statements.iter().any(|other| other.sid == statement.sid) {
                    return Err(PolicyError::Twice(statement.sid));
                }
                statements.push(statement);
            }
        }
        Ok(Self { statements })
    }

    /// The statements that permit a call; none: it is denied.
    pub fn judge(&self, call: &Call) -> Result<Vec<&Statement>, PolicyError> {
        let mut permitting = Vec::new();
        for statement in &self.statements {
            if statement.permits(call)? {
                permitting.push(statement);
            }
        }
        Ok(permitting)
    }

    pub(crate) fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter()
    }

    /// Each part of each statement.
    pub fn grants(&self) -> impl Iterator<Item = Grant> {
        self.statements.iter().flat_map(|statement| {
            let values = statement.conditions.iter().flat_map(Condition::listed);
            let parts = statement.actions.iter().chain(&statement.resources).cloned().chain(values);
            parts.map(|part| Grant { sid: statement.sid.clone(), part })
        })
    }
}

impl Statement {
    fn read(json: &Json) -> Result<Self, PolicyError> {
        let sid = json.get("Sid").and_then(Json::as_str).unwrap_or_default().to_owned();
        let fault = |name: &str| element(&sid, name);
        let fields = json.as_object().ok_or_else(|| fault("Statement"))?;
        let known = ["Sid", "Effect", "Action", "Resource", "Condition"];
        if let Some(other) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(fault(other));
        }
        if sid.is_empty() {
            return Err(fault("Sid"));
        }
        if fields.get("Effect").and_then(Json::as_str) != Some("Allow") {
            return Err(fault("Effect"));
        }
        let list = |name: &str| {
            let texts = fields.get(name).and_then(texts).filter(|texts| !texts.is_empty());
            // A variable of IAM's, which nothing here would fill in.
            texts.filter(|texts| texts.iter().all(|text| !text.contains("${"))).ok_or_else(|| fault(name))
        };
        let (actions, resources) = (list("Action")?, list("Resource")?);
        let mut conditions = Vec::new();
        if let Some(condition) = fields.get("Condition") {
            for (operator, keys) in condition.as_object().ok_or_else(|| fault("Condition"))? {
                for (key, values) in keys.as_object().ok_or_else(|| fault(operator))? {
                    let values = texts(values).ok_or_else(|| fault(key))?;
                    conditions.push(Condition::read(operator, key, values).ok_or_else(|| fault(operator))?);
                }
            }
        }
        Ok(Self { sid, actions, resources, conditions })
    }

    pub(crate) fn actions(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().map(String::as_str)
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(String::as_str)
    }

    /// For people.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = String> {
        self.conditions.iter().map(ToString::to_string)
    }

    fn permits(&self, call: &Call) -> Result<bool, PolicyError> {
        if !self.actions.iter().any(|action| is_action(action, call))
            || !self.resources.iter().any(|resource| is_resource(resource, call))
        {
            return Ok(false);
        }
        for condition in &self.conditions {
            if !condition.holds(&call.context)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The parts that a call which it permits makes use of.
    pub fn used_by(&self, call: &Call) -> impl Iterator<Item = Grant> {
        let actions = self.actions.iter().filter(|action| is_action(action, call)).cloned();
        let resources = self.resources.iter().filter(|resource| is_resource(resource, call)).cloned();
        let values = self.conditions.iter().flat_map(|condition| condition.fitting(&call.context));
        let parts: Vec<_> = actions.chain(resources).chain(values).collect();
        parts.into_iter().map(|part| Grant { sid: self.sid.clone(), part })
    }
}

fn is_action(pattern: &str, call: &Call) -> bool {
    wildcard::matches(&pattern.to_ascii_lowercase(), &call.action.to_ascii_lowercase())
}

/// "Resource": a wildcard stands within one of an ARN's first five segments, or for whatever is left in the last.
fn is_resource(pattern: &str, call: &Call) -> bool {
    if pattern == "*" || call.resource == "*" {
        return pattern == "*";
    }
    let patterns = pattern.splitn(ARN_SEGMENTS, ':');
    let segments = call.resource.splitn(ARN_SEGMENTS, ':');
    patterns.clone().count() == segments.clone().count()
        && patterns.zip(segments).all(|(pattern, segment)| wildcard::matches(pattern, segment))
}

/// A list of texts, or one.
fn texts(value: &Json) -> Option<Vec<String>> {
    let one = std::slice::from_ref(value);
    let list = value.as_array().map_or(one, Vec::as_slice);
    list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

fn element(sid: &str, element: &str) -> PolicyError {
    PolicyError::Element { sid: sid.to_owned(), element: element.to_owned() }
}

/// `arn:partition:service:region:account:resource`.
const ARN_SEGMENTS: usize = 6;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(statement: &Json) -> Result<Policy, PolicyError> {
        Policy::of(&[json!({ "Version": "2012-10-17", "Statement": [statement] })])
    }

    fn permits(statement: &Json, call: &Call) -> bool {
        !policy(statement).unwrap().judge(call).unwrap().is_empty()
    }

    #[test]
    fn actions_and_resources_are_matched_as_iam_does() {
        const TABLE: &str = "arn:aws:dynamodb:eu-central-1:1:table/t";
        const INDEX: &str = "arn:aws:dynamodb:eu-central-1:1:table/t/index/due";
        let on = |action: &str, resource: &str| json!({ "Sid": "S", "Effect": "Allow", "Action": [action], "Resource": resource });
        for (action, resource, called, of, permitted) in [
            ("dynamodb:GetItem", TABLE, "dynamodb:GetItem", TABLE, true),
            ("dynamodb:getitem", TABLE, "dynamodb:GetItem", TABLE, true),
            ("dynamodb:Get*", TABLE, "dynamodb:GetItem", TABLE, true),
            ("dynamodb:GetItem", TABLE, "dynamodb:PutItem", TABLE, false),
            ("dynamodb:GetItem", TABLE, "dynamodb:GetItem", INDEX, false),
            ("dynamodb:Query", INDEX, "dynamodb:Query", TABLE, false),
            ("dynamodb:Query", "arn:aws:dynamodb:*:1:table/*", "dynamodb:Query", INDEX, true),
            ("dynamodb:Query", "arn:aws:dynamodb:*:table/*", "dynamodb:Query", INDEX, false),
            ("dynamodb:Query", "arn:aws:dynamodb:*:2:table/*", "dynamodb:Query", INDEX, false),
            ("dynamodb:Query", "*", "dynamodb:Query", INDEX, true),
            ("ec2:DescribeImages", "*", "ec2:DescribeImages", "*", true),
            ("ec2:DescribeImages", TABLE, "ec2:DescribeImages", "*", false),
        ] {
            let statement = on(action, resource);
            assert_eq!(
                permits(&statement, &Call::new(called, of)),
                permitted,
                "{statement}: {called} on {of}"
            );
        }
    }

    #[test]
    fn conditions_hold_as_iam_has_them() {
        let under = |condition: Json| json!({ "Sid": "S", "Effect": "Allow", "Action": "a:B", "Resource": "*", "Condition": condition });
        let call = || Call::new("a:B", "*");
        let keys = |keys: &[&str]| call().with("dynamodb:LeadingKeys", keys.iter().copied());
        let bound = || {
            json!({
                "ForAllValues:StringLike": { "dynamodb:LeadingKeys": ["LOCK-*", "acme/*/users/*"] },
                "Null": { "dynamodb:LeadingKeys": "false" },
            })
        };
        let via =
            || json!({ "StringEquals": { "kms:ViaService": ["a", "b"], "kms:EncryptionContext:app": "g" } });
        let open = json!({ "ForAllValues:StringLike": { "dynamodb:LeadingKeys": "LOCK-*" } });
        for (condition, call, permitted) in [
            (bound(), keys(&["LOCK-a"]), true),
            (bound(), keys(&["LOCK-a", "acme/x/users/y"]), true),
            (bound(), keys(&["LOCK-a", "certificates/a"]), false),
            (bound(), keys(&["lock-a"]), false),
            (bound(), call(), false),
            // What the second condition is for.
            (open, call(), true),
            (via(), call().with("kms:viaservice", ["b"]).with("kms:EncryptionContext:app", ["g"]), true),
            (via(), call().with("kms:ViaService", ["c"]).with("kms:EncryptionContext:app", ["g"]), false),
            (via(), call().with("kms:ViaService", ["a"]), false),
            (json!({ "StringLike": { "a:k": "x.*.z" } }), call().with("a:k", ["x.y.z"]), true),
            (json!({ "StringLike": { "a:k": "x.*.z" } }), call().with("a:k", ["x.y"]), false),
            (json!({ "StringEquals": { "a:k": "x*" } }), call().with("a:k", ["xy"]), false),
            (json!({ "StringEqualsIfExists": { "a:k": "x" } }), call(), true),
            (json!({ "StringEqualsIfExists": { "a:k": "x" } }), call().with("a:k", ["y"]), false),
            (json!({ "Null": { "a:k": "true" } }), call(), true),
            (json!({ "Null": { "a:k": "true" } }), call().with("a:k", ["y"]), false),
        ] {
            let statement = under(condition);
            assert_eq!(permits(&statement, &call), permitted, "{statement}: {call}");
        }
        let several = policy(&under(json!({ "StringEquals": { "a:k": "x" } }))).unwrap();
        assert!(several.judge(&call().with("a:k", ["x", "x"])).is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let whole = json!({ "Sid": "S", "Effect": "Allow", "Action": "a:B", "Resource": "*" });
        let with = |name: &str, value: Json| {
            let mut statement = whole.clone();
            statement.as_object_mut().unwrap().insert(name.to_owned(), value);
            statement
        };
        assert!(policy(&whole).is_ok());
        for statement in [
            with("Effect", json!("Deny")),
            with("NotAction", json!("a:C")),
            with("NotResource", json!("*")),
            with("Principal", json!("*")),
            with("Action", json!([])),
            with("Action", json!([1])),
            with("Resource", json!("arn:aws:iam::1:user/${aws:username}")),
            with("Sid", json!("")),
            with("Condition", json!({ "DateLessThan": { "aws:CurrentTime": "2026-01-01T00:00:00Z" } })),
            with("Condition", json!({ "ForAnyValue:StringEquals": { "a:k": "x" } })),
            with("Condition", json!({ "StringNotEquals": { "a:k": "x" } })),
            with("Condition", json!({ "ForAllValues:Null": { "a:k": "true" } })),
            with("Condition", json!({ "Null": { "a:k": "perhaps" } })),
            with("Condition", json!({ "StringLike": { "a:k": "${aws:username}" } })),
        ] {
            assert!(policy(&statement).is_err(), "{statement}");
        }
        let twice = Policy::of(&[json!({ "Statement": [whole.clone(), whole] })]);
        assert!(matches!(twice, Err(PolicyError::Twice(_))));
    }
}
