//! Two functions on AWS Lambda over the domains table, by the appliance's own library: the verifier answers Caddy's question whether a name
//! is served, the checker looks now and then whether names lead to the edge. One program, since both stand on the same code; which of the
//! two it is, the handler says.
//! Not here: the template that starts them (`infra/functions.yaml`), what decides (`gatehouse::domains`, `gatehouse::verification`).

mod checker;
mod settings;
mod url_event;
mod verifier;

use std::process::ExitCode;

use lambda_runtime::Error;

use self::settings::{Role, SettingsError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Lambda takes what is written here for the function's log, a line an event.
    tracing_subscriber::fmt().json().with_ansi(false).with_max_level(tracing::Level::INFO).init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error: &dyn std::error::Error = &*error;
            tracing::error!(error, "the function cannot begin");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Error> {
    let variable = |name: &'static str| std::env::var(name).map_err(|_| SettingsError::Missing(name));
    let role = Role::of(&variable("_HANDLER")?)?;
    let config = settings::read(std::env::vars_os(), std::env::var("SETTINGS").ok())?;
    match role {
        Role::Verifier => verifier::run(&config).await,
        Role::Checker => checker::run(&config).await,
    }
}
