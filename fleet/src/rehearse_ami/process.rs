//! A process that ends with the value, and with this program however that ends.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::Context;

/// Its standard output is read line by line; its standard error goes to a file.
pub(super) struct Process {
    child: Child,
    output: BufReader<ChildStdout>,
    name: String,
    complaints: std::path::PathBuf,
}

impl Process {
    /// Starts `program` with what `arrange` adds.
    pub(super) fn start(
        program: &str,
        complaints: &Path,
        arrange: impl FnOnce(&mut Command) -> &mut Command,
    ) -> anyhow::Result<Self> {
        // The kernel ends it where no destructor runs: on a signal.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            arrange(&mut command).stderr(File::create(complaints)?).spawn().context("setpriv is missing")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, output, name: program.to_owned(), complaints: complaints.to_owned() })
    }

    /// The next line it says; an error with its standard error when it has ended.
    pub(super) fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "{}", self.ended());
        Ok(line.trim().to_owned())
    }

    fn ended(&self) -> String {
        let complaints = std::fs::read_to_string(&self.complaints).unwrap_or_default();
        format!("{} has ended: {}", self.name, complaints.trim())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
