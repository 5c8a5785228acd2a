//! One step, by calls.

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc, time::SystemTime};

use super::Outputs;
use crate::{
    aws::{Alarm, Aws, ChangeSet, Ended, Fault},
    code_package::CodePackage,
    found::FoundStack,
    plan::{StackChange, Step, Value},
    stack::StackKey,
    wanted::{Region, Stage},
};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Call(#[from] Fault),
    #[error("function: cannot read `{}`; `cargo xtask package function` makes it", path.display())]
    Function { path: PathBuf, source: io::Error },
    #[error("{key} has no output `{name}`; was it made by another release?")]
    NoOutput { key: StackKey, name: &'static str },
    #[error("{0} is not known: it was planned without an account")]
    Open(&'static str),
    #[error("CloudFormation refuses the change set: {0}")]
    ChangeSet(String),
    #[error("it ended as {status}, because of {reasons}")]
    Stack { status: String, reasons: String },
    #[error("it is still {status} after {MOST_LOOKS} looks; run the same command again")]
    TooLong { status: String },
    #[error("it ended by itself: {0}")]
    Lost(String),
}

/// What a step works with.
pub(super) struct Context {
    pub(super) aws: Aws,
    pub(super) stage: Stage,
    /// CloudFormation's.
    pub(super) role: Option<String>,
    pub(super) outputs: Arc<Outputs>,
}

impl Context {
    /// Outputs of the stack that was made or changed.
    pub(super) async fn carry_out(&self, step: Step) -> Result<Outputs, StepError> {
        match step {
            Step::Change(change) => return self.change(&change).await,
            Step::Upload { region, package } => self.upload(&region, &package).await?,
            Step::Protect(key) => self.aws.protect(&key.region, &key.name(&self.stage), true).await?,
            Step::Unprotect(key) => self.aws.protect(&key.region, &key.name(&self.stage), false).await?,
            Step::Empty(key) => {
                self.aws.empty_bucket(&key.region, self.output(&key, "Bucket")?).await?;
            }
            Step::Delete(key) => self.delete(&key).await?,
            Step::DeleteTable { region, name } => self.delete_table(&region, &name).await?,
            Step::ScheduleKeyDeletion { region, key } => {
                self.aws.schedule_key_deletion(&region, &key).await?;
            }
        }
        Ok(Outputs::new())
    }

    async fn change(&self, change: &StackChange) -> Result<Outputs, StepError> {
        let (key, stack) = (&change.key, change.key.name(&self.stage));
        let parameters = self.resolved(change)?;
        let change = self.with_quiet_alarms(change).await?;
        let (name, role) = (request_name(), self.role.as_deref());
        let id = self.aws.create_change_set(&self.stage, &change, &parameters, &name, role).await?;
        if self.computed(key, &stack, &id).await? == ChangeSet::Empty {
            self.aws.delete_change_set(key, &stack, &id).await?;
            let found = self.aws.stack(&key.region, &stack).await?;
            return Ok(Outputs::from([(key.clone(), found.map(|found| found.outputs).unwrap_or_default())]));
        }
        let token = request_name();
        self.aws.execute_change_set(key, &stack, &id, &token).await?;
        let ended = self.ended(&key.region, &stack, &token).await?;
        if !succeeded(&ended.status) {
            return Err(ended.into());
        }
        let settled = self.settled(&key.region, &stack, &ended.status).await?;
        Ok(Outputs::from([(key.clone(), settled.outputs)]))
    }

    /// Turned back by those alarms alone that are there and not on already.
    async fn with_quiet_alarms(&self, change: &StackChange) -> Result<StackChange, StepError> {
        let mut change = change.clone();
        if !change.alarms.is_empty() {
            let alarms = self.aws.alarms(&change.key.region, &change.key.name(&self.stage)).await?;
            change.alarms.retain(|arn| is_quiet(arn, &alarms));
        }
        Ok(change)
    }

    fn resolved(&self, change: &StackChange) -> Result<BTreeMap<&'static str, String>, StepError> {
        let resolve = |value: &Value| match value {
            Value::Known(text) => Ok(text.clone()),
            Value::Output(key, name) => Ok(self.output(key, name)?.to_owned()),
            Value::Open(what) => Err(StepError::Open(what)),
        };
        change.parameters.iter().map(|(name, value)| Ok((*name, resolve(value)?))).collect()
    }

    fn output(&self, key: &StackKey, name: &'static str) -> Result<&str, StepError> {
        let output = self.outputs.get(key).and_then(|outputs| outputs.get(name));
        output.map(String::as_str).ok_or_else(|| StepError::NoOutput { key: key.clone(), name })
    }

    async fn computed(&self, key: &StackKey, stack: &str, id: &str) -> Result<ChangeSet, StepError> {
        for _ in 0..MOST_LOOKS {
            match self.aws.change_set(key, stack, id).await? {
                ChangeSet::Computing => tokio::time::sleep(self.aws.pause).await,
                ChangeSet::Failed(reason) => {
                    self.aws.delete_change_set(key, stack, id).await?;
                    return Err(StepError::ChangeSet(reason));
                }
                set => return Ok(set),
            }
        }
        Err(StepError::TooLong { status: "computing its change set".to_owned() })
    }

    /// How the operation with this token has ended.
    async fn ended(&self, region: &Region, stack: &str, token: &str) -> Result<Ended, StepError> {
        for _ in 0..MOST_LOOKS {
            if let Some(ended) = self.aws.ended(region, stack, token).await? {
                return Ok(ended);
            }
            tokio::time::sleep(self.aws.pause).await;
        }
        Err(StepError::TooLong { status: "under way".to_owned() })
    }

    /// The stack, once what is told of it is as new as its events.
    async fn settled(&self, region: &Region, stack: &str, status: &str) -> Result<FoundStack, StepError> {
        for _ in 0..MOST_LOOKS {
            match self.aws.stack(region, stack).await? {
                Some(found) if found.status == status => return Ok(found),
                _ => tokio::time::sleep(self.aws.pause).await,
            }
        }
        Err(StepError::TooLong { status: format!("not told to be {status}") })
    }

    async fn upload(&self, region: &Region, package: &CodePackage) -> Result<(), StepError> {
        let path = package.path();
        let contents =
            fs::read(path).map_err(|source| StepError::Function { path: path.to_owned(), source })?;
        let artifacts = StackKey::new(crate::stack::Kind::Artifacts, region);
        let bucket = self.output(&artifacts, "Bucket")?;
        Ok(self.aws.put_object(region, bucket, &package.key(), contents).await?)
    }

    async fn delete(&self, key: &StackKey) -> Result<(), StepError> {
        let region = &key.region;
        let Some(found) = self.aws.stack(region, &key.name(&self.stage)).await? else { return Ok(()) };
        let token = request_name();
        self.aws.delete_stack(region, &found.id, &token, self.role.as_deref()).await?;
        for _ in 0..MOST_LOOKS {
            // A deletion is told by its ARN, and for good: no operation follows it.
            let status = self.aws.stack(region, &found.id).await?.map(|found| found.status);
            if status.is_none_or(|status| status == DELETED) {
                return Ok(());
            }
            match self.aws.ended(region, &found.id, &token).await? {
                Some(ended) if ended.status == DELETED => return Ok(()),
                Some(ended) => return Err(ended.into()),
                None => tokio::time::sleep(self.aws.pause).await,
            }
        }
        Err(StepError::TooLong { status: "being deleted".to_owned() })
    }

    /// Each call waits until DynamoDB has done what is under way: taking the protection off, or a deletion that an interrupted run began.
    async fn delete_table(&self, region: &Region, name: &str) -> Result<(), StepError> {
        if !self.aws.has_table(region, name).await? {
            return Ok(());
        }
        let mut is_protected = true;
        for _ in 0..MOST_LOOKS {
            let asked = if is_protected {
                self.aws.unprotect_table(region, name).await
            } else {
                self.aws.delete_table(region, name).await
            };
            match asked {
                Ok(()) if is_protected => {
                    is_protected = false;
                    continue;
                }
                Ok(()) => {}
                Err(fault) if fault.is_absence() => return Ok(()),
                Err(fault) if fault.code.contains("ResourceInUse") => {}
                Err(fault) => return Err(fault.into()),
            }
            tokio::time::sleep(self.aws.pause).await;
        }
        Err(StepError::TooLong { status: format!("deleting {name}") })
    }
}

impl From<Ended> for StepError {
    fn from(ended: Ended) -> Self {
        let each = ended.failures.iter().map(|one| format!("{}: {}", one.name, one.reason));
        let reasons = each.collect::<Vec<_>>().join("; ");
        let reasons = if reasons.is_empty() { "what its events do not say".to_owned() } else { reasons };
        Self::Stack { status: ended.status, reasons }
    }
}

/// Whether an alarm may turn an update back. Where it is on before, CloudFormation would go back at once, and what is to mend the fleet could
/// never come; where somebody has deleted it, CloudFormation would, too ("`RollbackConfiguration`").
fn is_quiet(arn: &str, alarms: &[Alarm]) -> bool {
    let name = arn.rsplit(':').next();
    alarms.iter().any(|alarm| alarm.state != "ALARM" && Some(alarm.name.as_str()) == name)
}

/// An update that turned back ends as `UPDATE_ROLLBACK_COMPLETE`.
fn succeeded(status: &str) -> bool {
    matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE")
}

/// For a change set or an operation, which are a stack's own: milliseconds tell them apart.
fn request_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("gatehouse-deploy-{}", now.as_millis())
}

const DELETED: &str = "DELETE_COMPLETE";
/// Of five seconds each: three hours, in which ten instances of a fleet are replaced.
const MOST_LOOKS: u32 = 2_160;

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use super::*;
    use crate::aws::{Answer, Form, Request, Sent, Transport};

    /// A table: answers to its calls in turn, the last one for good; and what was called.
    struct Table {
        answers: Vec<(&'static str, u16, &'static str)>,
        called: Mutex<Vec<&'static str>>,
    }

    impl Transport for Table {
        fn send<'a>(&'a self, request: &'a Request) -> Sent<'a> {
            let Form::Json { target, .. } = &request.form else { panic!("{request:?}") };
            let operation = target.rsplit('.').next().unwrap();
            let mut called = self.called.lock().unwrap();
            let (wanted, status, code) = self.answers[called.len()];
            assert_eq!(operation, wanted, "{called:?}");
            called.push(operation);
            let body = format!("{{\"__type\":\"{code}\"}}").into_bytes();
            Box::pin(async move { Ok(Answer { status, body }) })
        }
    }

    async fn deleted(answers: Vec<(&'static str, u16, &'static str)>) {
        let calls = answers.len();
        let table = Arc::new(Table { answers, called: Mutex::default() });
        let context = Context {
            aws: Aws::new(table.clone(), Duration::ZERO),
            stage: Stage::parse("prd").unwrap(),
            role: None,
            outputs: Arc::default(),
        };
        let region = Region::parse("eu-central-1").unwrap();
        context.delete_table(&region, "gatehouse-prd-domains").await.unwrap();
        assert_eq!(table.called.lock().unwrap().len(), calls);
    }

    #[tokio::test]
    async fn a_table_is_deleted_once_its_protection_is_off() {
        deleted(vec![
            ("DescribeTable", 200, ""),
            ("UpdateTable", 200, ""),
            ("DeleteTable", 400, "ResourceInUseException"),
            ("DeleteTable", 200, ""),
            ("DeleteTable", 400, "ResourceInUseException"),
            ("DeleteTable", 400, "ResourceNotFoundException"),
        ])
        .await;
    }

    #[tokio::test]
    async fn a_table_that_an_interrupted_run_has_begun_to_delete_is_waited_for() {
        deleted(vec![
            ("DescribeTable", 200, ""),
            ("UpdateTable", 400, "ResourceInUseException"),
            ("UpdateTable", 400, "ResourceInUseException"),
            ("UpdateTable", 400, "ResourceNotFoundException"),
        ])
        .await;
    }

    #[test]
    fn an_alarm_that_is_on_or_gone_turns_no_update_back() {
        let alarm = |name: &str, state: &str| Alarm { name: name.to_owned(), state: state.to_owned() };
        let alarms =
            [alarm("a-Missing-1", "ALARM"), alarm("a-Fails-2", "OK"), alarm("a-3", "INSUFFICIENT_DATA")];
        for (name, is_one) in [("a-Missing-1", false), ("a-Fails-2", true), ("a-3", true), ("Fails-2", false)]
        {
            let arn = format!("arn:aws:cloudwatch:eu-central-1:123456789012:alarm:{name}");
            assert_eq!(is_quiet(&arn, &alarms), is_one, "{name}");
        }
    }
}
