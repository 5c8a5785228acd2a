//! The fleet's function: makes an accelerator's endpoint group equal to the instances in service of one Auto Scaling group, on Lambda, when
//! an instance comes or goes and every minute. Idempotent: whatever wakes it, it looks at everything.
//! Not here: the template that starts it (`infra/fleet.yaml`), the appliance's own drain.

mod answer;
mod apis;
mod look;
mod reconcile;
mod settings;

use std::process::ExitCode;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

use self::{apis::Apis, look::Report, settings::Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    let apis = Apis::new(&settings);
    let (apis, settings) = (&apis, &settings);
    // What the event says is seen anyhow, and may be old.
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| handle(apis, settings).await)).await
}

/// An error where something was refused, or an instance in service is unhealthy: Lambda counts it, and an alarm goes by that.
async fn handle(apis: &Apis<'_>, settings: &Settings) -> Result<Report, Error> {
    let report = look::until_done(apis, settings.look_every).await?;
    match report.fault() {
        None => Ok(report),
        Some(fault) => Err(fault.into()),
    }
}
