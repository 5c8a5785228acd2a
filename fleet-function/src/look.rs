//! Looks until there is nothing to do or time is up, and does what each look finds.
//! Not here: what is to be done (`reconcile`).

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    answer::Fault,
    apis::Apis,
    reconcile::{Action, InstanceId, Plan, Seen},
    settings::Settings,
};

/// How an invocation spends its time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two looks while something is under way.
    pub every: Duration,
    /// No look begins later than this.
    pub longest: Duration,
}

impl Pace {
    /// On Lambda.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self { every: settings.look_every, longest: LONGEST }
    }
}

/// What an invocation came to: its answer, and a line of its log.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    looks: u32,
    /// What was done, in order.
    done: Vec<String>,
    /// What the next look tries again.
    deferred: Vec<String>,
    /// What was refused for another reason than time.
    refused: Vec<String>,
    /// Instances that are not healthy yet, and those for which there is no room.
    awaited: usize,
    without_room: usize,
    /// Instances in service that the accelerator finds unhealthy.
    unhealthy: Vec<InstanceId>,
}

/// At most for the longest time of `pace`, and not beyond a second look in which all that was tried is refused as before; the next minute goes on.
/// A look for which a service is too busy is made again; a fault where none came through, since what was done has to be told.
pub(crate) async fn until_done(apis: &Apis<'_>, pace: Pace) -> Result<Report, Fault> {
    let begun = Instant::now();
    let has_time = || begun.elapsed() + pace.every <= pace.longest;
    let mut report = Report::default();
    loop {
        let seen = match see(apis).await {
            Ok(seen) => seen,
            Err(Fault::Again(_)) if has_time() => {
                sleep(pace.every).await;
                continue;
            }
            Err(fault) if report.looks == 0 => return Err(fault),
            Err(fault) => {
                report.take("look", "again", Err(fault));
                return Ok(report);
            }
        };
        let plan = Plan::of(&seen);
        report.looks += 1;
        (report.awaited, report.without_room) = (plan.awaited, plan.without_room);
        report.unhealthy.clone_from(&plan.unhealthy);
        report.deferred.clear();
        let (refused_before, done_before) = (std::mem::take(&mut report.refused), report.done.len());
        for action in &plan.actions {
            act(apis, action, &mut report).await;
        }
        // A refusal may come from what changed after the look; the same one again does not.
        let is_refused_again = !report.refused.is_empty() && report.refused == refused_before;
        let is_stuck = is_refused_again && report.done.len() == done_before && !report.awaits_others();
        if is_stuck || !plan.is_under_way() || !has_time() {
            return Ok(report);
        }
        sleep(pace.every).await;
    }
}

/// Endpoints first: see `reconcile`.
async fn see(apis: &Apis<'_>) -> Result<Seen, Fault> {
    let endpoints = apis.endpoints().await?;
    Ok(Seen { endpoints, group: apis.group().await? })
}

async fn act(apis: &Apis<'_>, action: &Action, report: &mut Report) {
    match action {
        Action::Leave(ids) => {
            let mut prolonged = BTreeSet::new();
            for id in ids {
                // An instance without a hook that waits has ended meanwhile.
                let outcome = unless(apis.prolong_leave(id).await, VALIDATION);
                if report.take("prolong", id, outcome) {
                    prolonged.insert(id.clone());
                }
            }
            change(apis, Change::Remove, &prolonged, report).await;
        }
        Action::Remove(ids) => change(apis, Change::Remove, ids, report).await,
        Action::Add(ids) => change(apis, Change::Add, ids, report).await,
        Action::Join(id) => {
            // No update waits for it: the group was enlarged by hand, replaced what died, or was signalled before.
            let signalled = unless(apis.signal(id).await, VALIDATION);
            if report.take("signal", id, signalled) {
                // Nor does the hook: it was completed, or ended.
                let completed = unless(apis.complete_join(id).await, VALIDATION);
                report.take("join", id, completed);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Add,
    Remove,
}

impl Change {
    async fn make(self, apis: &Apis<'_>, ids: &BTreeSet<String>) -> Result<(), Fault> {
        match self {
            Self::Add => apis.add(ids).await,
            Self::Remove => apis.remove(ids).await,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }
}

/// All in one call, since each is a transaction that the next would have to wait for; one by one where one of several is refused. The API has
/// no error of its own for an endpoint that is there already, or not any more: it may be refused, and the next look finds nothing to do.
async fn change(apis: &Apis<'_>, change: Change, ids: &BTreeSet<String>, report: &mut Report) {
    if ids.is_empty() {
        return;
    }
    if ids.len() > 1 {
        let outcome = change.make(apis, ids).await;
        if let Ok(()) | Err(Fault::Again(_)) = &outcome {
            let all = ids.iter().cloned().collect::<Vec<_>>().join(" ");
            report.take(change.name(), &all, outcome);
            return;
        }
    }
    for id in ids {
        let outcome = change.make(apis, &BTreeSet::from([id.clone()])).await;
        report.take(change.name(), id, outcome);
    }
}

/// `outcome`, where a fault of this code means that it is done.
fn unless(outcome: Result<(), Fault>, done: &str) -> Result<(), Fault> {
    match outcome {
        Err(Fault::Refused { code, .. }) if code == done => Ok(()),
        outcome => outcome,
    }
}

impl Report {
    /// What somebody has to look at; none where all is well.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let mut faults = self.refused.clone();
        if !self.unhealthy.is_empty() {
            faults
                .push(format!("in service, and unhealthy at the accelerator: {}", self.unhealthy.join(" ")));
        }
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// Whether time alone may bring something to do.
    fn awaits_others(&self) -> bool {
        self.awaited > 0 || !self.deferred.is_empty()
    }

    /// Whether it was done.
    fn take(&mut self, what: &str, whom: &str, outcome: Result<(), Fault>) -> bool {
        let is_done = outcome.is_ok();
        match outcome {
            Ok(()) => self.done.push(format!("{what} {whom}")),
            Err(Fault::Again(why)) => self.deferred.push(format!("{what} {whom}: {why}")),
            Err(error @ Fault::Refused { .. }) => self.refused.push(format!("{what} {whom}: {error}")),
        }
        is_done
    }
}

/// Lambda ends it after 60 s, and the last look's calls take their time.
const LONGEST: Duration = Duration::from_secs(40);
const VALIDATION: &str = "ValidationError";
