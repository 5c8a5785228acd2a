//! `cargo xtask test`: set up, run every test there is, and say what ran.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

use crate::{
    build_ebpf, setup, shell,
    summary::{Shown, Summary},
    templates,
};

/// Runs all tests; fails when one failed, or when a suite ran none.
pub(crate) fn run() -> anyhow::Result<()> {
    let (shell, started) = (shell()?, Instant::now());
    setup::require_root(&shell, "test")?;
    setup::run(&shell, setup::Purpose::Test)?;
    println!("templates");
    templates::check(&shell)?;
    build_ebpf::run()?;
    let mut summary = Summary::default();
    println!("unit and property tests (building takes minutes the first time)");
    cargo_test(&shell, &["--lib", "--bins", "--no-fail-fast"], &mut summary)?;
    cargo_test(&shell, &["--doc", "--no-fail-fast"], &mut summary)?;
    println!("verifier and end-to-end cases");
    // Those of the last run would count as this one's.
    shell.remove_path(RECORDED_CALLS)?;
    // Three at a time: cases mostly wait, and more would make each other slow on a small machine.
    let boundaries = ["--test", "*", "--no-fail-fast", "--", "--test-threads=3"];
    cargo_test(&shell, &boundaries, &mut summary)?;
    compare_rights(&shell, &mut summary)?;
    println!("\n{summary}");
    println!("in {} s", started.elapsed().as_secs());
    // The last line is what a script reads.
    println!("{}", summary.verdict());
    if !summary.holds() {
        bail!("not all tests passed, or a suite ran none");
    }
    Ok(())
}

/// Whether what instances called in all these cases is what their policy grants them: a case, as it were, of all processes together.
fn compare_rights(shell: &Shell, summary: &mut Summary) -> anyhow::Result<()> {
    let compared = cmd!(shell, "cargo run --quiet --package aws-policy -- {RECORDED_CALLS}");
    let output = compared.quiet().ignore_status().output()?;
    summary.count(output.status.success());
    let said = [output.stdout, output.stderr].concat();
    let outcome = if output.status.success() { "ok" } else { "FAILED" };
    println!("{}test rights of instances ... {outcome}", String::from_utf8_lossy(&said));
    Ok(())
}

fn cargo_test(shell: &Shell, arguments: &[&str], summary: &mut Summary) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    // `aws_policy::record` has the name, too.
    cargo.env("RECORDED_CALLS", shell.current_dir().join(RECORDED_CALLS));
    cargo.current_dir(shell.current_dir()).args(["test", "--workspace", "--exclude", "proxy-ebpf"]);
    let mut child = cargo.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Which binary runs is said on stderr, what its tests did on stdout: both are wanted in one order.
    let stderr = child.stderr.take().context("cargo has no stderr")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let complaints = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if is_worth_showing(&line) {
                eprintln!("{line}");
            }
        }
    });
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if summary.read(&line) == Shown::Yes {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    let _ = complaints.join();
    summary.end(status.success());
    Ok(())
}

fn is_worth_showing(line: &str) -> bool {
    let line = line.trim_start();
    !["Compiling", "Running", "Doc-tests", "Downloaded", "Downloading", "Finished"]
        .iter()
        .any(|word| line.starts_with(word))
}

/// What doubles of AWS were asked.
const RECORDED_CALLS: &str = "target/recorded-calls";
