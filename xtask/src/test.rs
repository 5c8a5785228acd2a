//! `cargo xtask test`: set up, run every test there is, and say what ran.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};
use xshell::Shell;

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
    // Three at a time: cases mostly wait, and more would make each other slow on a small machine.
    let boundaries = ["--test", "*", "--no-fail-fast", "--", "--test-threads=3"];
    cargo_test(&shell, &boundaries, &mut summary)?;
    println!("\n{summary}");
    println!("in {} s", started.elapsed().as_secs());
    // The last line is what a script reads.
    println!("{}", summary.verdict());
    if !summary.holds() {
        bail!("not all tests passed, or a suite ran none");
    }
    Ok(())
}

fn cargo_test(shell: &Shell, arguments: &[&str], summary: &mut Summary) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
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
