//! Carries a plan out: a wave's steps side by side, one wave after the other, and no further once a step has failed.

mod steps;

use std::{collections::BTreeMap, sync::Arc};

use tokio::{task::JoinSet, time::Instant};

pub(crate) use self::steps::StepError;
use crate::{
    aws::Aws,
    found::Found,
    plan::{Plan, Step},
    stack::StackKey,
    wanted::{Stage, Wanted},
};

/// Outputs of stacks, by name.
type Outputs = BTreeMap<StackKey, BTreeMap<String, String>>;

/// Somebody who carries plans out.
#[derive(Debug)]
pub(crate) struct Execution {
    aws: Aws,
    stage: Stage,
    role: Option<String>,
    outputs: Outputs,
    started: Instant,
}

/// Some steps have failed; the others of their wave have ended, and what comes after has not begun.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}; steps after it that were not begun: {left}; mend it, then run the same command again",
    said(failed)
)]
pub(crate) struct Incomplete {
    failed: Vec<(String, StepError)>,
    left: usize,
}

impl Execution {
    pub(crate) fn new(aws: Aws, wanted: &Wanted, found: &Found) -> Self {
        let outputs = found.stacks.iter().map(|(key, stack)| (key.clone(), stack.outputs.clone()));
        Self {
            aws,
            stage: wanted.stage.clone(),
            role: wanted.service_role.clone(),
            outputs: outputs.collect(),
            started: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, plan: Plan) -> Result<(), Incomplete> {
        let mut waves = plan.waves.into_iter();
        while let Some(wave) = waves.next() {
            let failed = self.wave(wave).await;
            if !failed.is_empty() {
                return Err(Incomplete { failed, left: waves.map(|wave| wave.len()).sum() });
            }
        }
        Ok(())
    }

    async fn wave(&mut self, wave: Vec<Step>) -> Vec<(String, StepError)> {
        let outputs = Arc::new(self.outputs.clone());
        let mut steps = JoinSet::new();
        for step in wave {
            let title = format!("{}: {}", step.region(), step.title(&self.stage));
            self.tell("begin", &title);
            let context = steps::Context {
                aws: self.aws.clone(),
                stage: self.stage.clone(),
                role: self.role.clone(),
                outputs: Arc::clone(&outputs),
            };
            steps.spawn(async move { (title, context.carry_out(step).await) });
        }
        let mut failed = Vec::new();
        // A step that panicked is one that is missing here; tokio tells of it, and `join_next` must not end the others.
        while let Some(ended) = steps.join_next().await {
            match ended {
                Ok((title, Ok(outputs))) => {
                    self.tell("done", &title);
                    self.outputs.extend(outputs);
                }
                Ok((title, Err(error))) => {
                    self.tell("FAILED", &title);
                    failed.push((title, error));
                }
                Err(error) => failed.push(("a step".to_owned(), StepError::Lost(error.to_string()))),
            }
        }
        failed
    }

    fn tell(&self, what: &str, title: &str) {
        println!("{:>5} s  {what:6} {title}", self.started.elapsed().as_secs());
    }
}

fn said(failed: &[(String, StepError)]) -> String {
    let each = failed.iter().map(|(title, error)| format!("{title}: {error}"));
    each.collect::<Vec<_>>().join("; ")
}
