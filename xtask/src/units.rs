//! What systemd says of a unit.

use anyhow::{Context, ensure};

/// The exposure level of `systemd-analyze security`; more than [`MOST_EXPOSED`] is an error.
pub(crate) fn exposure(said: &str) -> anyhow::Result<f32> {
    let line = said.lines().last().context("systemd-analyze says nothing")?;
    let level = line.split_once(": ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let level: f32 = level.with_context(|| format!("systemd-analyze says `{line}`"))?;
    ensure!(level <= MOST_EXPOSED, "{line}: more than {MOST_EXPOSED}; close what the table above it shows");
    Ok(level)
}

/// Of 10; below 2.5 little is left that a proxy with a guard can do without.
const MOST_EXPOSED: f32 = 2.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposed_unit_is_refused() {
        for (said, wanted) in [
            ("table\n→ Overall exposure level for a.service: 2.0 OK 🙂", Some("2")),
            ("→ Overall exposure level for a.service: 2.5 OK 🙂", Some("2.5")),
            ("→ Overall exposure level for a.service: 2.6 OK 🙂", None),
            ("→ Overall exposure level for a.service: 9.6 UNSAFE 😨", None),
            ("no unit", None),
            ("", None),
        ] {
            assert_eq!(exposure(said).ok().map(|level| level.to_string()).as_deref(), wanted, "{said}");
        }
    }
}
