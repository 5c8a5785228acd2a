//! What is asked of which tool. Each line of [`CHECKS`] is a command and the function that reads its output.

use std::{fs, process::Command};

use super::{
    stage::{NAME, PLAIN, PORT_H1, PORT_H2, Side, Stage, TUNNELS, WEBSOCKET_NAME, own, python},
    tools,
    verdict::Verdict,
};

/// A tool, what it is started with, and what its output means.
pub(super) struct Check {
    /// The tool, and what it looks at where it looks at several things.
    pub(super) name: &'static str,
    pub(super) side: Side,
    pub(super) command: fn(&Stage) -> Command,
    /// Pure: reads the output.
    pub(super) judge: fn(&str) -> Verdict,
}

impl Check {
    const fn new(
        name: &'static str,
        side: Side,
        command: fn(&Stage) -> Command,
        judge: fn(&str) -> Verdict,
    ) -> Self {
        Self { name, side, command, judge }
    }
}

/// All of them, quick ones first.
pub(super) const CHECKS: &[Check] = &[
    Check::new("varnishtest", Side::Edge, varnishtest, tools::varnishtest),
    Check::new("websocket", Side::Client, websocket, tools::websocket),
    Check::new("nghttp", Side::Client, nghttp, tools::nghttp),
    Check::new("h2load HTTP/1.1", Side::Client, |_| h2load(&["--h1"]), tools::h2load),
    Check::new("h2load HTTP/2", Side::Client, |_| h2load(&["-m", "10"]), tools::h2load),
    Check::new("sslyze", Side::Client, sslyze, tools::sslyze),
    Check::new("testssl", Side::Client, testssl, tools::testssl),
    Check::new("slowhttptest headers", Side::Client, |_| slowhttptest("/", &["-H"]), tools::slowhttptest),
    Check::new("slowhttptest bodies", Side::Client, |_| slowhttptest("/", &["-B"]), tools::slowhttptest),
    Check::new("slowhttptest reads", Side::Edge, |_| slow_reads(), tools::slow_reads),
];

/// Cases of our own, played by others' client and server: both versions of HTTP in front, both behind.
fn varnishtest(_: &Stage) -> Command {
    let mut command = Command::new("varnishtest");
    // One after another: all of them listen at the same ports.
    command.args(["-k", "-j1", "-t", "30"]);
    for tunnel in TUNNELS {
        command.arg("-D").arg(format!("{}={}", tunnel.called, tunnel.address()));
    }
    command.arg("-D").arg(format!("port_h1={PORT_H1}")).arg("-D").arg(format!("port_h2={PORT_H2}"));
    // A folder that cannot be read is a run without cases, which fails.
    let mut cases: Vec<_> =
        fs::read_dir(own("cases")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    cases.sort();
    command.args(cases);
    command
}

fn websocket(stage: &Stage) -> Command {
    let mut command = python();
    command.arg(own("websocket_client.py")).arg(Stage::address().to_string()).arg(WEBSOCKET_NAME);
    command.arg(stage.roots());
    command
}

/// A request with padding, its field block in CONTINUATION frames, a body and a trailer.
fn nghttp(_: &Stage) -> Command {
    let mut command = Command::new("nghttp");
    command.args(["-v", "--continuation", "-b", "255", "--trailer", "x-end: 1"]);
    command.arg("-d").arg(own("requirements.txt")).arg(format!("https://{NAME}/echo"));
    command
}

fn h2load(version: &[&str]) -> Command {
    let mut command = Command::new("h2load");
    command.args(["-n", "5000", "-c", "10"]).args(version).arg(format!("https://{NAME}/stream/20000"));
    command
}

fn sslyze(stage: &Stage) -> Command {
    let mut command = python();
    command
        .args(["-m", "sslyze", "--mozilla_config", "intermediate", "--certinfo_ca_file"])
        .arg(stage.roots());
    command.arg(format!("{NAME}:443"));
    command
}

fn testssl(stage: &Stage) -> Command {
    let mut command = with_file("testssl.json", "testssl");
    command.args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"]);
    command.arg("--ip").arg(Stage::address().to_string()).arg("--add-ca").arg(stage.roots());
    command.arg("--jsonfile").arg("testssl.json").arg(format!("{NAME}:443"));
    command
}

/// Two hundred clients that are slow in one way. It sends no server name, so that it goes through a tunnel.
fn slowhttptest(path: &str, way: &[&str]) -> Command {
    let mut command = with_file("slow.csv", "slowhttptest");
    command.args(slow_clients(path)).args(way);
    command
}

/// The same of clients that read 32 bytes in five seconds, at windows of 10 to 20. The tool does not see that they have lost their connections, so
/// that the kernel is asked once all must have lost them.
fn slow_reads() -> Command {
    let script = "rm -f slow.csv; \"$@\" & sleep 40; \
                  echo \"ended, and kept by the kernel: $(ss -Htan state fin-wait-1 'sport = :443' | wc -l)\"; \
                  wait; cat slow.csv";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", "slowhttptest"]).args(slow_clients("/stream/2000000"));
    command.args(["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "1"]);
    command
}

/// Fewer than one address may have requests in progress at targets.
fn slow_clients(path: &str) -> Vec<String> {
    let mut arguments: Vec<_> =
        ["-c", "200", "-r", "100", "-i", "3", "-l", "60", "-p", "5", "-g", "-o", "slow", "-u"]
            .map(str::to_owned)
            .to_vec();
    arguments.push(format!("http://{NAME}:{}{path}", PLAIN.port));
    arguments
}

/// `program`, behind whose output stands the file that it writes.
fn with_file(file: &str, program: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("rm -f {file}; \"$@\"; cat {file}")).args(["sh", program]);
    command
}
