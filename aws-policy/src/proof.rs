//! Whether a program's calls and its grants are the same, both ways.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Call, Policy, Role,
    policy::{Grant, PolicyError},
    template::TemplateError,
};

/// What of a policy no call of a program's own can use, and why it is granted nevertheless.
#[derive(Debug, Clone, Copy)]
pub struct Exempt {
    /// The statement.
    pub sid: &'static str,
    /// The action, resource or value; none: all of the statement.
    pub part: Option<&'static str>,
    /// Who calls it, and by which page of AWS's.
    pub reason: &'static str,
}

/// What a program calls and is not granted on purpose.
#[derive(Debug, Clone, Copy)]
pub struct LeftOut {
    /// The action.
    pub action: &'static str,
    /// The resource, as it is called in tests.
    pub resource: &'static str,
    /// What does not work without it, and why that may be.
    pub reason: &'static str,
}

/// Why nothing can be compared.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A policy cannot be read.
    #[error("template of {0:?}")]
    Template(Role, #[source] TemplateError),
    /// A call cannot be judged by it.
    #[error("policy of {0:?}")]
    Policy(Role, #[source] PolicyError),
}

/// Each call that is not permitted, each grant that no call uses, and each exemption that is none; nothing: it is proven.
pub fn faults(role: Role, calls: &BTreeSet<Call>) -> Result<Vec<String>, ProofError> {
    let named = |fault: String| format!("{}: {fault}", role.resource());
    let policy = role.policy().map_err(|error| ProofError::Template(role, error))?;
    let found = compare(&policy, calls, role.exempt(), role.left_out());
    let found = found.map_err(|error| ProofError::Policy(role, error))?;
    Ok(found.into_iter().map(named).collect())
}

fn compare(
    policy: &Policy,
    calls: &BTreeSet<Call>,
    exempt: &[Exempt],
    left_out: &[LeftOut],
) -> Result<Vec<String>, PolicyError> {
    let (mut used, mut faults) = (BTreeSet::new(), Vec::new());
    // A call is told once, with one of its keys and values.
    let mut denied: BTreeMap<(&str, &str), &Call> = BTreeMap::new();
    for call in calls {
        let permitting = policy.judge(call)?;
        used.extend(permitting.iter().flat_map(|statement| statement.used_by(call)));
        if permitting.is_empty() {
            denied.insert((&call.action, &call.resource), call);
        }
    }
    for LeftOut { action, resource, .. } in left_out {
        if denied.remove(&(*action, *resource)).is_none() {
            faults.push(format!("{action} on {resource} is left out, and is not called, or granted"));
        }
    }
    faults.extend(denied.values().map(|call| format!("{call} is called, and not granted")));
    let grants: BTreeSet<Grant> = policy.grants().collect();
    let is_exempt = |grant: &Grant| exempt.iter().any(|exempt| exempt.covers(grant));
    let idle = grants.iter().filter(|grant| !used.contains(grant) && !is_exempt(grant));
    faults.extend(idle.map(|Grant { sid, part }| format!("{sid}: {part} is granted, and no call uses it")));
    for exempt in exempt {
        let part = exempt.part.unwrap_or("the whole");
        let mut covered = grants.iter().filter(|grant| exempt.covers(grant)).peekable();
        if covered.peek().is_none() {
            faults.push(format!("{}: {part} is exempt, and not granted", exempt.sid));
        } else if covered.any(|grant| used.contains(grant)) {
            faults.push(format!("{}: {part} is exempt, and a call uses it", exempt.sid));
        }
    }
    Ok(faults)
}

impl Exempt {
    fn covers(&self, grant: &Grant) -> bool {
        self.sid == grant.sid && self.part.is_none_or(|part| part == grant.part)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy() -> Policy {
        let document = json!({ "Statement": [
            {
                "Sid": "End", "Effect": "Allow", "Action": ["a:Delete"], "Resource": "arn:x:::t",
                "Condition": { "ForAllValues:StringLike": { "a:Keys": ["LOCK-*", "users/*"] }, "Null": { "a:Keys": "false" } },
            },
            { "Sid": "Read", "Effect": "Allow", "Action": ["a:Get", "a:List"], "Resource": ["arn:x:::t", "arn:x:::t/i"] },
            { "Sid": "Other", "Effect": "Allow", "Action": "b:Call", "Resource": "*" },
        ] });
        Policy::of(&[document]).unwrap()
    }

    const OTHER: Exempt = Exempt { sid: "Other", part: None, reason: "another's" };

    fn all() -> Vec<Call> {
        vec![
            Call::new("a:Delete", "arn:x:::t").with("a:Keys", ["LOCK-1"]),
            Call::new("a:Delete", "arn:x:::t").with("a:Keys", ["users/1"]),
            Call::new("a:Get", "arn:x:::t"),
            Call::new("a:List", "arn:x:::t/i"),
        ]
    }

    fn found(calls: Vec<Call>, exempt: &[Exempt]) -> Vec<String> {
        compare(&policy(), &calls.into_iter().collect(), exempt, &[]).unwrap()
    }

    #[test]
    fn what_is_called_and_what_is_granted_are_compared_both_ways() {
        assert_eq!(found(all(), &[OTHER]), Vec::<String>::new());
        for (left_out, fault) in [
            (0, "End: LOCK-* is granted, and no call uses it"),
            (1, "End: users/* is granted, and no call uses it"),
        ] {
            let mut calls = all();
            calls.remove(left_out);
            assert_eq!(found(calls, &[OTHER]), [fault]);
        }
        let without_list = all().into_iter().filter(|call| call.action != "a:List").collect();
        let wanted = [
            "Read: a:List is granted, and no call uses it",
            "Read: arn:x:::t/i is granted, and no call uses it",
        ];
        assert_eq!(found(without_list, &[OTHER]), wanted);
        for (call, fault) in [
            (Call::new("a:Put", "arn:x:::t"), "a:Put on arn:x:::t is called, and not granted"),
            (
                Call::new("a:Delete", "arn:x:::t").with("a:Keys", ["certificates/1"]),
                "a:Delete on arn:x:::t, a:keys=certificates/1 is called, and not granted",
            ),
        ] {
            let mut calls = all();
            calls.push(call);
            assert_eq!(found(calls, &[OTHER]), [fault]);
        }
    }

    #[test]
    fn what_is_left_out_has_to_be_called_and_not_granted() {
        let left_out = |action, calls: Vec<Call>| {
            let left_out = LeftOut { action, resource: "arn:x:::t", reason: "" };
            compare(&policy(), &calls.into_iter().collect(), &[OTHER], &[left_out]).unwrap()
        };
        let scanned = [all(), vec![Call::new("a:Scan", "arn:x:::t")]].concat();
        assert_eq!(left_out("a:Scan", scanned), Vec::<String>::new());
        for action in ["a:Scan", "a:Get"] {
            let fault = format!("{action} on arn:x:::t is left out, and is not called, or granted");
            assert_eq!(left_out(action, all()), [fault]);
        }
    }

    #[test]
    fn nothing_recorded_proves_nothing() {
        assert_eq!(found(Vec::new(), &[OTHER]).len(), policy().grants().count() - 2);
    }

    #[test]
    fn an_exemption_that_is_none_is_told() {
        let gone = Exempt { sid: "Read", part: Some("a:Put"), reason: "" };
        assert_eq!(found(all(), &[OTHER, gone]), ["Read: a:Put is exempt, and not granted"]);
        let used = Exempt { sid: "Read", part: Some("a:Get"), reason: "" };
        assert_eq!(found(all(), &[OTHER, used]), ["Read: a:Get is exempt, and a call uses it"]);
        assert_eq!(
            found(all(), &[]),
            ["Other: * is granted, and no call uses it", "Other: b:Call is granted, and no call uses it",]
        );
    }
}
