//! The fleet's function: makes an accelerator's endpoint group equal to the instances in service of one Auto Scaling group, when an instance
//! comes or goes and every minute. Idempotent: whatever wakes it, it looks at everything.
//! Not here: Lambda's loop around it (`main`), the template that starts it (`infra/fleet.yaml`), the appliance's own drain.

mod answer;
mod apis;
mod look;
mod reconcile;
mod settings;

pub use self::{
    answer::Fault,
    look::{Pace, Report},
    settings::{Settings, SettingsError},
};

/// What one invocation does: looks, and acts on what it sees, until nothing is left to do or its time is up.
///
/// # Errors
/// Where not one look came through; what the services refuse to do is in the report ([`Report::fault`]).
pub async fn invoke(settings: &Settings, pace: Pace) -> Result<Report, Fault> {
    look::until_done(&apis::Apis::new(settings), pace).await
}
