//! QEMU's monitor: QMP, JSON in lines over a Unix socket (<https://www.qemu.org/docs/master/interop/qmp-spec.html>).

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use testbed::wait;

/// A connection whose capabilities are negotiated.
pub(super) struct Monitor {
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects as soon as QEMU listens.
    pub(super) fn connect(path: &Path) -> anyhow::Result<Self> {
        let stream = wait::until("QEMU to listen", START, || Ok(UnixStream::connect(path)?))?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut monitor = Self { reader: BufReader::new(stream) };
        let greeting = monitor.read()?;
        ensure!(greeting.get("QMP").is_some(), "not QMP: {greeting}");
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// A command of the human monitor, which answers in prose, and only when something is wrong.
    pub(super) fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let said = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        let said = said.as_str().unwrap_or_default().trim();
        ensure!(said.is_empty(), "{line}: {said}");
        Ok(())
    }

    /// Ends QEMU at once: for the machine inside, the power fails.
    pub(super) fn quit(&mut self) -> anyhow::Result<()> {
        self.execute("quit", &json!({})).map(drop)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> anyhow::Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.reader.get_mut(), "{request}")?;
        for _ in 0..MOST_EVENTS {
            let answer = self.read().with_context(|| format!("after {command}"))?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("{command}: {error}");
            }
        }
        bail!("{command}: nothing but events")
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        ensure!(self.reader.read_line(&mut line)? > 0, "QEMU has closed its monitor");
        Ok(serde_json::from_str(&line)?)
    }
}

const START: Duration = Duration::from_secs(30);
/// Saving a machine writes its memory.
const ANSWER: Duration = Duration::from_mins(3);
const MOST_EVENTS: usize = 10_000;
