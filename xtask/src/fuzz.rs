//! `cargo xtask fuzz`: the mutated corpora, for as long as is wanted.
//!
//! `cargo xtask test` gives each target a second. Both begin at the same inputs: a failure is found again by the same time or more.

use std::{
    fmt,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use crate::shell;

/// Gives all targets together `seconds`, and says how many inputs each took.
pub(crate) fn run(seconds: u32) -> anyhow::Result<()> {
    let targets = targets()?;
    ensure!(!targets.is_empty(), "no test has `{TARGET}` in its name");
    // Whole seconds, and two at a time as `cargo xtask test` runs cases: a small machine has two processors.
    let each = (seconds.saturating_mul(AT_ONCE) / u32::try_from(targets.len())?).max(1);
    println!("{} targets, {each} s each, {AT_ONCE} at a time", targets.len());
    let mut counts = Counts::default();
    let mut cargo = cargo(&["--nocapture", &format!("--test-threads={AT_ONCE}")])?;
    let mut child = cargo.env("GATEHOUSE_FUZZ_SECONDS", each.to_string()).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if counts.read(&line) == Read::Other && !line.trim().is_empty() {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    print!("{counts}");
    if !status.success() {
        bail!("a target failed; its input stands above, and belongs into the corpus once it is mended");
    }
    ensure!(
        counts.0.len() == targets.len(),
        "{} of {} targets said how far they came",
        counts.0.len(),
        targets.len()
    );
    Ok(())
}

/// The names of the tests that are targets.
fn targets() -> anyhow::Result<Vec<String>> {
    let listed = cargo(&["--list"])?.stderr(Stdio::inherit()).output()?;
    ensure!(listed.status.success(), "the tests do not compile");
    let text = String::from_utf8(listed.stdout)?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell()?.current_dir()).args([
        "test",
        "--quiet",
        "--workspace",
        "--exclude",
        "proxy-ebpf",
    ]);
    cargo.args(["--lib", "--", TARGET]).args(arguments);
    Ok(cargo)
}

/// What each corpus took.
#[derive(Default)]
struct Counts(Vec<(String, u64)>);

#[derive(Debug, PartialEq, Eq)]
enum Read {
    Count,
    Other,
}

impl Counts {
    /// Takes a line of what the tests print, like `corpus frame: 12 inputs`.
    fn read(&mut self, line: &str) -> Read {
        let count = line.strip_prefix("corpus ").and_then(|rest| {
            let (name, count) = rest.strip_suffix(" inputs")?.split_once(": ")?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        match count {
            Some(count) => {
                self.0.push(count);
                Read::Count
            }
            // Beside them libtest prints dots and sums.
            None if line.chars().all(|char| char == '.') || line.starts_with("running ") => Read::Count,
            None if line.starts_with("test result: ok") => Read::Count,
            None => Read::Other,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts: Vec<_> = self.0.iter().collect();
        counts.sort();
        for (name, count) in counts {
            writeln!(f, "{name:22} {count:>12} inputs")?;
        }
        Ok(())
    }
}

const TARGET: &str = "mutated_corpus";
const AT_ONCE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_the_tests_print() {
        let mut counts = Counts::default();
        for (line, read) in [
            ("running 3 tests", Read::Count),
            ("corpus frame: 12 inputs", Read::Count),
            ("..", Read::Count),
            ("corpus client_hello: 9 inputs", Read::Count),
            ("corpus of another kind", Read::Other),
            ("thread 'a' panicked at b.rs:1:1:", Read::Other),
            ("test result: FAILED. 1 passed; 1 failed", Read::Other),
            ("test result: ok. 1 passed; 0 failed", Read::Count),
        ] {
            assert_eq!(counts.read(line), read, "{line}");
        }
        let text = counts.to_string();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(words, ["client_hello", "9", "inputs", "frame", "12", "inputs"]);
    }
}
