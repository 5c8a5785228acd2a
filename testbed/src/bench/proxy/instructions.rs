//! Instructions in user space per request, connection and large body, beside nginx, as Callgrind counts them.
//!
//! They depend little on what else the machine does: what the process does by the clock is counted with, more of it on a slow one. They say
//! nothing of the kernel's share, nor of waiting for memory. Each count is the difference of two runs of a new process, which leaves out
//! what it does once. The longer run's profile stays in `target/bench`, for `callgrind_annotate`.

use std::{fs, path::Path};

use anyhow::{Context, ensure};

use super::{
    client::{Client, Exchange},
    nginx::Nginx,
    subject::{RunBy, Subject},
    versions,
};
use crate::{
    authority::Authority,
    bench::report::{Report, Row},
};

/// Counts and publishes, of all work or of that whose name contains `only`; `binary` is a release build of Gatehouse, over epoll: Valgrind
/// knows no `io_uring`.
pub fn run(root: &Path, binary: &Path, only: Option<&str>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::create(folder.path())?;
    let upstream = Subject::nginx(folder.path(), "upstream", &Nginx::upstream(folder.path())?)?;
    let mut report = Report::new("instructions", versions(binary));
    let profiles = root.join("target/bench");
    fs::create_dir_all(&profiles).with_context(|| format!("cannot make {}", profiles.display()))?;
    for work in WORK.iter().filter(|work| only.is_none_or(|only| work.name.contains(only))) {
        let gatehouse = work.count(&profiles.join(work.file_name("gatehouse")), |run_by| {
            Subject::gatehouse_by(run_by, folder.path(), binary, "epoll", upstream.port())
        })?;
        let nginx = work.count(&profiles.join(work.file_name("nginx")), |run_by| {
            Subject::nginx_by(run_by, folder.path(), "nginx", &Nginx::peer(&authority, &upstream)?)
        })?;
        println!("{}: gatehouse {gatehouse:.1}, nginx {nginx:.1} thousand instructions", work.name);
        for (subject, count) in [("gatehouse epoll", gatehouse), ("nginx", nginx)] {
            let row = Row::of(work.name, subject, "1000", vec![count]).context("no count")?;
            report.push(row.against(nginx, (subject != "nginx").then_some(1.0)));
        }
    }
    report.publish(root)
}

/// What is done so and so often.
struct Counted {
    name: &'static str,
    exchange: Exchange,
    times: [u64; 2],
}

const WORK: &[Counted] = &[
    Counted { name: "kept-alive request", exchange: Exchange::OnKeptConnection, times: [500, 1500] },
    Counted { name: "kept-alive request of a browser", exchange: Exchange::OfBrowser, times: [500, 1500] },
    Counted { name: "new connection, full handshake", exchange: Exchange::OnNewConnection, times: [20, 120] },
    Counted { name: "16 MiB to the client", exchange: Exchange::Download, times: [2, 6] },
    Counted { name: "16 MiB to the upstream", exchange: Exchange::Upload, times: [2, 6] },
];

impl Counted {
    /// Of the profile of `subject`.
    fn file_name(&self, subject: &str) -> String {
        format!("{} {subject}.callgrind", self.name).replace([' ', ','], "-")
    }

    /// Thousands of instructions for one exchange; `profile` is the file for Callgrind.
    fn count(
        &self,
        profile: &Path,
        start: impl Fn(RunBy<'_>) -> anyhow::Result<Subject>,
    ) -> anyhow::Result<f64> {
        let [few, many] = self.times;
        let total = |times| -> anyhow::Result<u64> {
            let subject = start(RunBy::Callgrind(profile))?;
            subject.check()?;
            Client::new(&subject)?.exchange_while(self.exchange, |count| count < times)?;
            drop(subject);
            let text = fs::read_to_string(profile).context("Callgrind wrote nothing")?;
            totals(&text).context("Callgrind counted nothing")
        };
        let (less, more) = (total(few)?, total(many)?);
        ensure!(more > less, "{}: {more} instructions for {many} times, {less} for {few}", self.name);
        Ok(super::as_f64(more - less) / super::as_f64(many - few) / 1e3)
    }
}

/// All instructions of a run, from what Callgrind wrote.
fn totals(text: &str) -> Option<u64> {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_in_the_last_line_of_its_kind() {
        assert_eq!(totals("events: Ir\nsummary: 7\n1 2\ntotals: 4217\n"), Some(4217));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
