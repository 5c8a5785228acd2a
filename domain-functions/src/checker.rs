//! `domain-checker`: looks at the names that are due whenever it is woken, as an instance of the fleet would, and within its time.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use gatehouse::{
    config::Config,
    forward::AddressPolicy,
    store::state_table::lease::Holder,
    verification::{Pass, PassReport},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use crate::settings::{self, SettingsError};

/// Makes a pass for each event until Lambda ends the process.
pub(crate) async fn run(config: &Config) -> Result<(), Error> {
    let store = settings::connect(config).await?;
    let permits = Arc::new(AddressPolicy::of(&config.upstream)).entry_permits();
    let pass = Pass::new(config, permits, store, Holder::random()?)?;
    let pass = Arc::new(pass.ok_or(SettingsError::NoEdgeName)?);
    let pass = &pass;
    // Whatever wakes it, it looks at what is due.
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        make(pass, event.context.deadline()).await
    }))
    .await
}

/// An error where nothing could be done: Lambda counts it, and an alarm goes by that.
async fn make(pass: &Arc<Pass>, deadline: SystemTime) -> Result<PassReport, Error> {
    let report = pass.run(deadline.checked_sub(RESERVE).unwrap_or(SystemTime::UNIX_EPOCH)).await?;
    println!("{}", serde_json::to_string(&report)?);
    if report.failed > 0 && report.looked_at + report.not_due == 0 {
        return Err(format!("none of {} names could be checked; the log says why", report.failed).into());
    }
    Ok(report)
}

/// For what is written at the end: how far the pass has come, and the end of its lease.
const RESERVE: Duration = Duration::from_secs(10);
