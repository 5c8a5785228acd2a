//! Programs of others judge a running Gatehouse: scanners of TLS, slow clients, load, WebSocket libraries, scripted servers and clients.
//! Not here: what installs them (`xtask`).
//! Invariants: each output is judged by a pure function, tried on outputs that were saved; what was to be looked at and was not is a fault
//! (`what_looked_at_nothing_fails`), and so is an exception that nothing needs (`an_exception_that_nothing_needs_fails`).

mod checks;
mod exceptions;
mod stage;
mod tls_tunnel;
mod tools;
mod verdict;

use std::{path::Path, time::Instant};

use anyhow::ensure;

use self::{checks::CHECKS, exceptions::EXCEPTIONS, stage::Stage, verdict::Judgement};

/// Has every tool judge `binary`, or `only` the checks whose names contain this; fails if a check does.
pub fn run(binary: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let checks: Vec<_> =
        CHECKS.iter().filter(|check| only.is_none_or(|part| check.name.contains(part))).collect();
    let known = || CHECKS.iter().map(|check| check.name).collect::<Vec<_>>().join(", ");
    ensure!(!checks.is_empty(), "no check is called `{}`; there are: {}", only.unwrap_or_default(), known());
    let mut stage = Stage::start(binary)?;
    let mut failed = Vec::new();
    for check in &checks {
        let begun = Instant::now();
        let output = stage.run(&(check.command)(&stage), check.side)?;
        let verdict = (check.judge)(&output);
        let judgement = Judgement::new(check.name, verdict, EXCEPTIONS);
        println!("{:24} {:3} s  {judgement}", check.name, begun.elapsed().as_secs());
        if !judgement.holds() {
            failed.push(check.name);
        }
        stage.gatehouse.process.ensure_alive()?;
    }
    stage.gatehouse.stop()?;
    ensure!(failed.is_empty(), "{} of {} checks failed: {}", failed.len(), checks.len(), failed.join(", "));
    println!("all {} checks held", checks.len());
    Ok(())
}
