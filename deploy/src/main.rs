//! `gatehouse-deploy`: arguments in, exit code out.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    deploy::command().await
}
