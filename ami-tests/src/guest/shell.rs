//! A root shell on the machine's second serial line. The image has none: user data starts it (`seed`).

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::world::PATIENCE;

/// The way to it, which stays while the machine reboots.
pub(super) struct Shell {
    socket: PathBuf,
    stream: Option<UnixStream>,
    asked: u64,
}

impl Shell {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, stream: None, asked: 0 }
    }

    /// Runs `command` with neither input nor terminal; what it wrote, or an error with it.
    pub(super) fn run(&mut self, command: &str) -> anyhow::Result<String> {
        let (status, output) = self.exchange(command, PATIENCE)?;
        if status != 0 {
            bail!("`{command}` exits {status}: {output}");
        }
        Ok(output)
    }

    /// Asks until it answers.
    pub(super) fn await_answer(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            match self.exchange("true", RETRY) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > PATIENCE => return Err(error.context("no shell")),
                Err(_) => {}
            }
        }
    }

    fn exchange(&mut self, command: &str, patience: Duration) -> anyhow::Result<(i32, String)> {
        self.asked += 1;
        // What earlier questions left unread comes before this one's beginning.
        let (begin, end) = (format!("<<{}>>", self.asked), format!("<</{}:", self.asked));
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(UnixStream::connect(&self.socket).context("QEMU's second serial line")?),
        };
        stream.set_read_timeout(Some(PAUSE))?;
        // The quotes keep an echo of the line, before the terminal is raw, from looking like its outcome.
        writeln!(
            stream,
            "echo '<<'{asked}'>>'; ({command}) </dev/null 2>&1; echo '<<'/{asked}:$?'>>'",
            asked = self.asked
        )?;
        let (started, mut heard) = (Instant::now(), Vec::new());
        while started.elapsed() < patience {
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(0) => bail!("QEMU has closed the serial line"),
                Ok(count) => heard.extend(bytes.iter().take(count)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(outcome) = outcome(&String::from_utf8_lossy(&heard), &begin, &end) {
                return Ok(outcome);
            }
        }
        bail!("no answer to `{command}` within {patience:?}, only {:?}", String::from_utf8_lossy(&heard))
    }
}

/// Exit status and output, once both marks are there.
fn outcome(heard: &str, begin: &str, end: &str) -> Option<(i32, String)> {
    let (_, after) = heard.rsplit_once(begin)?;
    let (output, status) = after.split_once(end)?;
    let (status, _) = status.split_once(">>")?;
    Some((status.parse().ok()?, output.trim().replace('\r', "")))
}

const PAUSE: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_what_lies_between_its_own_marks() {
        let heard = "echo '<<'7'>>'; (ls) </dev/null; echo '<<'/7:$?'>>'\r\n<<6>>\nold\n<</6:0>>\n<<7>>\na\r\nb\n<</7:3>>\n";
        assert_eq!(outcome(heard, "<<7>>", "<</7:"), Some((3, "a\nb".to_owned())));
        assert_eq!(outcome("<<7>>\na\n<</7:", "<<7>>", "<</7:"), None);
        assert_eq!(outcome("", "<<7>>", "<</7:"), None);
    }
}
