//! Stacks, change sets, events.

use std::collections::BTreeMap;

use super::{Aws, Fault, xml::Tree};
use crate::{
    found::FoundStack,
    plan::StackChange,
    stack::{Condition, Kind, StackKey},
    wanted::{Region, Stage},
};

/// What a change set would do; empty once CloudFormation found nothing to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangeSet {
    Computing,
    Ready,
    /// The submitted information contains no changes.
    Empty,
    Failed(String),
}

/// Something of a stack that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// How an operation on a stack has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The stack's status then.
    pub(crate) status: String,
    /// What failed in it, first things first.
    pub(crate) failures: Vec<Resource>,
}

impl Aws {
    /// The stack, by its name or ARN; none where it is not there. The template comes apart, with [`Aws::template`].
    pub(crate) async fn stack(&self, region: &Region, name: &str) -> Result<Option<FoundStack>, Fault> {
        let answer = self.stacks_call(region, "DescribeStacks", &[("StackName", name)]).await;
        match answer {
            Ok(answer) => Ok(result(&answer, "DescribeStacksResult").list("Stacks").first().map(read_stack)),
            Err(fault) if fault.is_absence() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) async fn template(&self, region: &Region, name: &str) -> Result<String, Fault> {
        let answer = self.stacks_call(region, "GetTemplate", &[("StackName", name)]).await?;
        Ok(result(&answer, "GetTemplateResult").text("TemplateBody").to_owned())
    }

    /// Has a change set computed; its ARN. `parameters` are the change's, resolved; `role` is CloudFormation's.
    pub(crate) async fn create_change_set(
        &self,
        stage: &Stage,
        change: &StackChange,
        parameters: &BTreeMap<&'static str, String>,
        name: &str,
        role: Option<&str>,
    ) -> Result<String, Fault> {
        let (stack, stage) = (change.key.name(stage), stage.to_string());
        let mut fields = vec![
            ("StackName".to_owned(), stack),
            ("ChangeSetName".to_owned(), name.to_owned()),
            ("ChangeSetType".to_owned(), if change.is_new { "CREATE" } else { "UPDATE" }.to_owned()),
            ("TemplateBody".to_owned(), change.key.kind.template().to_owned()),
            ("Capabilities.member.1".to_owned(), "CAPABILITY_IAM".to_owned()),
            ("Tags.member.1.Key".to_owned(), "gatehouse-stage".to_owned()),
            ("Tags.member.1.Value".to_owned(), stage),
        ];
        fields.extend(role.map(|role| ("RoleARN".to_owned(), role.to_owned())));
        for (index, (name, value)) in (1..).zip(parameters) {
            let of = |part: &str| format!("Parameters.member.{index}.{part}");
            fields.push((of("ParameterKey"), (*name).to_owned()));
            fields.push((of("ParameterValue"), value.clone()));
        }
        if change.key.kind == Kind::Fleet && !change.is_new && change.alarms.is_empty() {
            // An empty list, in AWS's Query protocol: the one of the update before would hold else.
            fields.push(("RollbackConfiguration.RollbackTriggers".to_owned(), String::new()));
        }
        for (index, arn) in (1..).zip(&change.alarms) {
            let of = |part: &str| format!("RollbackConfiguration.RollbackTriggers.member.{index}.{part}");
            fields.push((of("Arn"), arn.clone()));
            fields.push((of("Type"), "AWS::CloudWatch::Alarm".to_owned()));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.stacks_call(&change.key.region, "CreateChangeSet", &fields).await?;
        Ok(result(&answer, "CreateChangeSetResult").text("Id").to_owned())
    }

    pub(crate) async fn change_set(&self, key: &StackKey, stack: &str, id: &str) -> Result<ChangeSet, Fault> {
        let fields = [("StackName", stack), ("ChangeSetName", id)];
        let answer = self.stacks_call(&key.region, "DescribeChangeSet", &fields).await?;
        let set = result(&answer, "DescribeChangeSetResult");
        Ok(read_change_set(set.text("Status"), set.text("StatusReason")))
    }

    pub(crate) async fn execute_change_set(
        &self,
        key: &StackKey,
        stack: &str,
        id: &str,
        token: &str,
    ) -> Result<(), Fault> {
        let fields = [("StackName", stack), ("ChangeSetName", id), ("ClientRequestToken", token)];
        self.stacks_call(&key.region, "ExecuteChangeSet", &fields).await.map(drop)
    }

    pub(crate) async fn delete_change_set(&self, key: &StackKey, stack: &str, id: &str) -> Result<(), Fault> {
        let fields = [("StackName", stack), ("ChangeSetName", id)];
        self.stacks_call(&key.region, "DeleteChangeSet", &fields).await.map(drop)
    }

    /// How the operation that was asked for with this token has ended; none while it is under way. `DescribeStacks` cannot say: it is
    /// eventually consistent, and may tell of the operation before. All events of an operation bear its token ("`StackEvent`"), the newest
    /// come first, and the first page is all that is read.
    pub(crate) async fn ended(
        &self,
        region: &Region,
        stack: &str,
        token: &str,
    ) -> Result<Option<Ended>, Fault> {
        let answer = self.stacks_call(region, "DescribeStackEvents", &[("StackName", stack)]).await?;
        Ok(read_ended(result(&answer, "DescribeStackEventsResult").list("StackEvents"), token))
    }

    /// What a stack whose creation failed has made and not undone, as its template names it.
    pub(crate) async fn made(&self, region: &Region, stack: &str) -> Result<BTreeMap<String, String>, Fault> {
        let answer = self.stacks_call(region, "DescribeStackEvents", &[("StackName", stack)]).await?;
        Ok(read_made(result(&answer, "DescribeStackEventsResult").list("StackEvents")))
    }

    pub(crate) async fn protect(&self, region: &Region, name: &str, protect: bool) -> Result<(), Fault> {
        let enable = if protect { "true" } else { "false" };
        let fields = [("StackName", name), ("EnableTerminationProtection", enable)];
        self.stacks_call(region, "UpdateTerminationProtection", &fields).await.map(drop)
    }

    pub(crate) async fn delete_stack(
        &self,
        region: &Region,
        id: &str,
        token: &str,
        role: Option<&str>,
    ) -> Result<(), Fault> {
        let mut fields = vec![("StackName", id), ("ClientRequestToken", token)];
        fields.extend(role.map(|role| ("RoleARN", role)));
        self.stacks_call(region, "DeleteStack", &fields).await.map(drop)
    }

    async fn stacks_call(
        &self,
        region: &Region,
        action: &'static str,
        fields: &[(&str, &str)],
    ) -> Result<Tree, Fault> {
        self.query("cloudformation", region, (action, "2010-05-15"), fields).await
    }
}

/// What the answer wraps.
fn result<'a>(answer: &'a Tree, name: &str) -> &'a Tree {
    answer.child(name).unwrap_or(answer)
}

fn read_stack(stack: &Tree) -> FoundStack {
    let pairs = |list: &str, key: &str, value: &str| {
        let of = |one: &Tree| (one.text(key).to_owned(), one.text(value).to_owned());
        stack.list(list).iter().map(of).collect()
    };
    FoundStack {
        id: stack.text("StackId").to_owned(),
        status: stack.text("StackStatus").to_owned(),
        parameters: pairs("Parameters", "ParameterKey", "ParameterValue"),
        outputs: pairs("Outputs", "OutputKey", "OutputValue"),
        template: String::new(),
        is_protected: stack.text("EnableTerminationProtection") == "true",
        made: BTreeMap::new(),
    }
}

fn read_change_set(status: &str, reason: &str) -> ChangeSet {
    match status {
        "CREATE_COMPLETE" => ChangeSet::Ready,
        "FAILED" if reason.contains("didn't contain changes") || reason.contains("No updates") => {
            ChangeSet::Empty
        }
        "CREATE_PENDING" | "CREATE_IN_PROGRESS" => ChangeSet::Computing,
        _ => ChangeSet::Failed(format!("{status}: {reason}")),
    }
}

/// Of events, newest first: the stack's own status, unless it is under way, and what failed. What was cancelled because something else
/// had failed says nothing.
fn read_ended(events: &[Tree], token: &str) -> Option<Ended> {
    let of_operation = || events.iter().filter(|event| event.text("ClientRequestToken") == token);
    let of_stack = |event: &&Tree| event.text("PhysicalResourceId") == event.text("StackId");
    let status = of_operation().find(of_stack)?.text("ResourceStatus").to_owned();
    if Condition::of(&status) == Condition::Busy {
        return None;
    }
    let failed = of_operation().filter(|event| event.text("ResourceStatus").ends_with("_FAILED"));
    let own = failed.filter(|event| !event.text("ResourceStatusReason").contains("cancelled"));
    let mut failures: Vec<_> = own
        .map(|event| Resource {
            name: event.text("LogicalResourceId").to_owned(),
            reason: aws_call::shortened(event.text("ResourceStatusReason")),
        })
        .collect();
    failures.reverse();
    Some(Ended { status, failures })
}

/// Of events, newest first. What was there before the stack is not its own, though it has the same name and is `DELETE_SKIPPED`, too: its
/// creation was never initiated. One that was cancelled while it went on, was.
fn read_made(events: &[Tree]) -> BTreeMap<String, String> {
    let mut made = BTreeMap::new();
    for event in events.iter().rev() {
        let (name, id) = (event.text("LogicalResourceId"), event.text("PhysicalResourceId"));
        match (event.text("ResourceStatus"), event.text("ResourceStatusReason")) {
            ("CREATE_COMPLETE", _) | ("CREATE_IN_PROGRESS", "Resource creation Initiated")
                if !id.is_empty() =>
            {
                made.insert(name.to_owned(), id.to_owned());
            }
            ("DELETE_COMPLETE", _) => drop(made.remove(name)),
            (_, reason) if reason.contains("already exists") => drop(made.remove(name)),
            _ => {}
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events of a stack, newest first: token, resource, status, reason.
    fn ended(events: &[(&str, &str, &str, &str)], token: &str) -> Option<Ended> {
        let member = |(token, name, status, reason): &(&str, &str, &str, &str)| {
            // The stack's own have its ARN.
            let id = if *name == "s" { "arn:s" } else { "" };
            format!(
                "<member><StackId>arn:s</StackId><ClientRequestToken>{token}</ClientRequestToken>\
                 <PhysicalResourceId>{id}</PhysicalResourceId><LogicalResourceId>{name}</LogicalResourceId>\
                 <ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason></member>"
            )
        };
        let members: String = events.iter().map(member).collect();
        read_ended(Tree::parse(format!("<R><E>{members}</E></R>").as_bytes()).unwrap().list("E"), token)
    }

    #[test]
    fn an_operation_has_ended_once_its_own_events_say_so() {
        let before = [
            ("one", "s", "UPDATE_COMPLETE", ""),
            ("one", "Group", "UPDATE_FAILED", "of the operation before"),
            ("one", "s", "UPDATE_IN_PROGRESS", "User Initiated"),
        ];
        assert_eq!(ended(&before, "two"), None, "no event of it is seen yet");
        let mut events = before.to_vec();
        for (event, status) in [
            (("two", "s", "UPDATE_IN_PROGRESS", "User Initiated"), None),
            (("two", "Group", "UPDATE_FAILED", "first"), None),
            (("two", "Other", "UPDATE_FAILED", "second"), None),
            (("two", "Function", "UPDATE_FAILED", "Resource update cancelled"), None),
            (("two", "s", "UPDATE_ROLLBACK_IN_PROGRESS", ""), None),
            (("two", "s", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", ""), None),
            (("two", "s", "UPDATE_ROLLBACK_COMPLETE", ""), Some("UPDATE_ROLLBACK_COMPLETE")),
        ] {
            events.insert(0, event);
            let seen = ended(&events, "two").map(|ended| ended.status);
            assert_eq!(seen.as_deref(), status, "{event:?}");
        }
        let failures = ended(&events, "two").unwrap().failures;
        let names: Vec<_> = failures.iter().map(|one| (one.name.as_str(), one.reason.as_str())).collect();
        assert_eq!(names, [("Group", "first"), ("Other", "second")]);
        assert_eq!(ended(&events, "one").unwrap().status, "UPDATE_COMPLETE");
    }

    #[test]
    fn a_creation_that_failed_has_made_what_it_initiated_and_did_not_delete() {
        let begun = ("CREATE_IN_PROGRESS", "");
        let initiated = ("CREATE_IN_PROGRESS", "Resource creation Initiated");
        let cancelled = ("CREATE_FAILED", "Resource creation cancelled");
        let skipped = ("DELETE_SKIPPED", "");
        for (events, is_made) in [
            (vec![begun, initiated, ("CREATE_COMPLETE", ""), skipped], true),
            (vec![begun, initiated, cancelled, skipped], true),
            (
                vec![
                    begun,
                    initiated,
                    ("CREATE_COMPLETE", ""),
                    ("DELETE_IN_PROGRESS", ""),
                    ("DELETE_COMPLETE", ""),
                ],
                false,
            ),
            (vec![begun, cancelled], false),
            // A table of somebody else's.
            (
                vec![
                    begun,
                    ("CREATE_FAILED", "Resource of type 'AWS::DynamoDB::Table' already exists."),
                    skipped,
                ],
                false,
            ),
            (vec![begun, initiated, ("CREATE_FAILED", "t already exists"), skipped], false),
        ] {
            let member = |(status, reason): &(&str, &str)| {
                let id = if (*status, *reason) == begun { "" } else { "t" };
                format!(
                    "<member><PhysicalResourceId>{id}</PhysicalResourceId><LogicalResourceId>Table</LogicalResourceId>\
                     <ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason></member>"
                )
            };
            let newest_first: String = events.iter().rev().map(member).collect();
            let tree = Tree::parse(format!("<R><E>{newest_first}</E></R>").as_bytes()).unwrap();
            let made = read_made(tree.list("E"));
            assert_eq!(made.get("Table").map(String::as_str), is_made.then_some("t"), "{events:?}");
        }
    }

    #[test]
    fn a_change_set_without_changes_is_no_failure() {
        for (status, reason, wanted) in [
            ("CREATE_COMPLETE", "", ChangeSet::Ready),
            ("CREATE_IN_PROGRESS", "", ChangeSet::Computing),
            ("FAILED", "The submitted information didn't contain changes. Submit", ChangeSet::Empty),
            ("FAILED", "No updates are to be performed.", ChangeSet::Empty),
            (
                "FAILED",
                "Parameter ImageId is wrong",
                ChangeSet::Failed("FAILED: Parameter ImageId is wrong".to_owned()),
            ),
        ] {
            assert_eq!(read_change_set(status, reason), wanted, "{status} {reason}");
        }
    }
}
