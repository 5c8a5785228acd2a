//! `cargo xtask image cves`: the known vulnerabilities of Debian's packages in the baked image, by Debian's own tracker.
//! Not here: Rust's crates, which the package's SBOM names to any scanner.

use std::{fs, path::PathBuf};

use anyhow::{Context, ensure};
use xshell::{Shell, cmd};

use super::{bake, disk};

/// The image to check, and where the known vulnerabilities come from.
#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    /// A baked disk that is there already; else it is built
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Where debsecan's data lie
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://security-tracker.debian.org/tracker/debsecan/release/1/"
    )]
    tracker: String,
}

/// Lists them all; fails where Debian has a fix that the image lacks.
pub(super) fn run(shell: &Shell, options: &Options) -> anyhow::Result<()> {
    let image = match &options.image {
        Some(given) => {
            given.canonicalize().with_context(|| format!("--image: there is no `{}`", given.display()))?
        }
        None => bake::run(shell)?.disk,
    };
    let folder = shell.create_temp_dir()?;
    let (raw, status) = (folder.path().join("raw"), folder.path().join("status"));
    cmd!(shell, "qemu-img convert -O raw {image} {raw}").quiet().run()?;
    let root = format!("{}?offset={}", raw.display(), disk::ROOT_AT);
    let dump = format!("dump {BOOKS} {}", status.display());
    cmd!(shell, "/usr/sbin/debugfs -R {dump} {root}").quiet().ignore_stderr().run()?;
    // debugfs succeeds whatever it finds.
    let installed = fs::read_to_string(&status).is_ok_and(|text| text.contains("Package: gatehouse\n"));
    ensure!(
        installed,
        "{}: {BOOKS} does not name gatehouse; is it an image that was baked here?",
        image.display()
    );
    let tracker = &options.tracker;
    let ask = cmd!(shell, "debsecan --suite bookworm --status {status} --source {tracker}").quiet();
    let known = ask.read().with_context(|| format!("the tracker cannot be read; --tracker {tracker}"))?;
    println!("{known}");
    println!("{}", judge(&known)?);
    Ok(())
}

/// Of debsecan's summary: a line each, like `CVE-2026-0002 bash (fixed, low urgency)`.
fn judge(known: &str) -> anyhow::Result<String> {
    let lacking: Vec<&str> = known.lines().filter(|line| is_mended(line)).collect();
    ensure!(
        lacking.is_empty(),
        "{} have a fix that the image lacks: remove target/image/baked-* and build it anew\n{}",
        lacking.len(),
        lacking.join("\n")
    );
    let count = known.lines().filter(|line| !line.is_empty()).count();
    Ok(format!("image: {count} known, each of them without a fix in Debian 12"))
}

fn is_mended(line: &str) -> bool {
    let remarks = line.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    remarks.is_some_and(|remarks| remarks.split(", ").any(|remark| remark == "fixed"))
}

const BOOKS: &str = "/var/lib/dpkg/status";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_that_is_lacking_is_an_error_and_named() {
        let known = "CVE-2026-0001 libc6\nCVE-2026-0002 bash (low urgency)\n";
        assert!(judge(known).unwrap().contains("2 known"));
        assert!(judge("").unwrap().contains("0 known"));
        let error =
            judge("CVE-2026-0001 libc6\nCVE-2026-0002 bash (fixed, low urgency)").unwrap_err().to_string();
        assert!(error.contains("1 have a fix") && error.contains("CVE-2026-0002 bash"), "{error}");
    }
}
