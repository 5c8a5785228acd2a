//! The fleet's function on Lambda.
//! Not here: what it does (the library).

use std::process::ExitCode;

use fleet_function::{Pace, Report, Settings, invoke};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

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
    let settings = &settings;
    // What the event says is seen anyhow, and may be old.
    lambda_runtime::run(service_fn(async |_: LambdaEvent<Value>| handle(settings).await)).await
}

/// An error where something was refused, or an instance in service is unhealthy: Lambda counts it, and an alarm goes by that.
async fn handle(settings: &Settings) -> Result<Report, Error> {
    let report = invoke(settings, Pace::of(settings)).await?;
    println!("{}", serde_json::to_string(&report).unwrap_or_default());
    match report.fault() {
        None => Ok(report),
        Some(fault) => Err(fault.into()),
    }
}
