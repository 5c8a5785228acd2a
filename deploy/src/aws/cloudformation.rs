//! Stacks, change sets, events.

use std::collections::BTreeMap;

use super::{Aws, Fault, xml::Tree};
use crate::{
    found::FoundStack,
    plan::StackChange,
    stack::{Kind, StackKey},
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

impl Aws {
    /// The stack; none where it is not there. The template comes apart, with [`Aws::template`].
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

    /// Has a change set computed; its ARN. `parameters` are the change's, resolved.
    pub(crate) async fn create_change_set(
        &self,
        stage: &Stage,
        change: &StackChange,
        parameters: &BTreeMap<&'static str, String>,
        name: &str,
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
    ) -> Result<(), Fault> {
        let fields = [("StackName", stack), ("ChangeSetName", id)];
        self.stacks_call(&key.region, "ExecuteChangeSet", &fields).await.map(drop)
    }

    pub(crate) async fn delete_change_set(&self, key: &StackKey, stack: &str, id: &str) -> Result<(), Fault> {
        let fields = [("StackName", stack), ("ChangeSetName", id)];
        self.stacks_call(&key.region, "DeleteChangeSet", &fields).await.map(drop)
    }

    /// What failed in the stack's last operation, first things first.
    pub(crate) async fn failures(&self, region: &Region, name: &str) -> Result<Vec<Resource>, Fault> {
        let answer = self.stacks_call(region, "DescribeStackEvents", &[("StackName", name)]).await?;
        Ok(read_failures(result(&answer, "DescribeStackEventsResult").list("StackEvents")))
    }

    pub(crate) async fn protect(&self, region: &Region, name: &str, protect: bool) -> Result<(), Fault> {
        let enable = if protect { "true" } else { "false" };
        let fields = [("StackName", name), ("EnableTerminationProtection", enable)];
        self.stacks_call(region, "UpdateTerminationProtection", &fields).await.map(drop)
    }

    pub(crate) async fn delete_stack(&self, region: &Region, name: &str) -> Result<(), Fault> {
        self.stacks_call(region, "DeleteStack", &[("StackName", name)]).await.map(drop)
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
        status: stack.text("StackStatus").to_owned(),
        parameters: pairs("Parameters", "ParameterKey", "ParameterValue"),
        outputs: pairs("Outputs", "OutputKey", "OutputValue"),
        template: String::new(),
        is_protected: stack.text("EnableTerminationProtection") == "true",
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

/// Events come newest first. An operation begins with the stack's own event, as the user has asked for it; what was cancelled because
/// something else had failed says nothing.
fn read_failures(events: &[Tree]) -> Vec<Resource> {
    let begins = |event: &&Tree| {
        event.text("ResourceStatusReason") == "User Initiated"
            && event.text("ResourceType") == "AWS::CloudFormation::Stack"
    };
    let of_operation = events.iter().take_while(|event| !begins(event));
    let failed = of_operation.filter(|event| event.text("ResourceStatus").ends_with("_FAILED"));
    let own = failed.filter(|event| !event.text("ResourceStatusReason").contains("cancelled"));
    let mut failures: Vec<_> = own
        .map(|event| Resource {
            name: event.text("LogicalResourceId").to_owned(),
            reason: aws_call::shortened(event.text("ResourceStatusReason")),
        })
        .collect();
    failures.reverse();
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_events_the_last_operations_own_failures_count() {
        let event = |kind: &str, name: &str, status: &str, reason: &str| {
            format!(
                "<member><ResourceType>{kind}</ResourceType><LogicalResourceId>{name}</LogicalResourceId>\
                 <ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason></member>"
            )
        };
        let stack = "AWS::CloudFormation::Stack";
        let events = [
            event(stack, "s", "ROLLBACK_COMPLETE", ""),
            event("A", "Function", "CREATE_FAILED", "Resource creation cancelled"),
            event("A", "Other", "CREATE_FAILED", "second"),
            event("A", "Group", "CREATE_FAILED", "first"),
            event(stack, "s", "CREATE_IN_PROGRESS", "User Initiated"),
            event("A", "Older", "CREATE_FAILED", "of another operation"),
        ];
        let tree = Tree::parse(format!("<E>{}</E>", events.concat()).as_bytes()).unwrap();
        let list = Tree::parse(format!("<R><E>{}</E></R>", events.concat()).as_bytes()).unwrap();
        assert_eq!(list.list("E"), tree.all("member").cloned().collect::<Vec<_>>());
        let failures = read_failures(list.list("E"));
        let names: Vec<_> = failures.iter().map(|one| (one.name.as_str(), one.reason.as_str())).collect();
        assert_eq!(names, [("Group", "first"), ("Other", "second")]);
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
