//! Programs of others judge a running Gatehouse: scanners of TLS, slow clients, load, WebSocket libraries, scripted servers and clients.
//! Not here: what installs them (`xtask`).
//! Invariants: each output is judged by a pure function, tried on outputs that were saved; what was to be looked at and was not is a fault
//! (`what_looked_at_nothing_fails`, `a_tool_that_did_not_come_to_its_end_fails_though_all_it_said_was_good`), and so is an exception that nothing needs (`an_exception_that_nothing_needs_fails`).

mod checks;
mod exceptions;
mod stage;
mod tls_tunnel;
mod tools;
mod verdict;

use std::{path::Path, time::Instant};

use anyhow::ensure;

use self::{
    checks::{CHECKS, Check},
    exceptions::EXCEPTIONS,
    stage::{Output, Stage},
    verdict::{Judgement, Verdict},
};

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
        let judgement = Judgement::new(check.name, judge(check, &output), EXCEPTIONS);
        println!("{:24} {:3} s  {judgement}", check.name, begun.elapsed().as_secs());
        if !judgement.holds() {
            println!("    its output is in {}", stage::keep(check.name, &output.text)?.display());
            failed.push(check.name);
        }
        stage.gatehouse.process.ensure_alive()?;
    }
    stage.gatehouse.stop()?;
    ensure!(failed.is_empty(), "{} of {} checks failed: {}", failed.len(), checks.len(), failed.join(", "));
    println!("all {} checks held", checks.len());
    Ok(())
}

/// A tool that was ended has not looked at everything, whatever its output says.
fn judge(check: &Check, output: &Output) -> Verdict {
    let verdict = (check.judge)(&output.text);
    if output.is_whole {
        verdict
    } else {
        verdict.and("the run itself", "it did not come to its end in time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_did_not_come_to_its_end_fails_though_all_it_said_was_good() {
        let check = CHECKS.iter().find(|check| check.name == "websocket").unwrap();
        for (is_whole, holds) in [(true, true), (false, false)] {
            let output = Output { text: "ok first\n".to_owned(), is_whole };
            assert_eq!(Judgement::new("websocket", judge(check, &output), EXCEPTIONS).holds(), holds);
        }
    }
}
