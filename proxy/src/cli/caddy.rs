//! `gatehouse import caddy` and `gatehouse export caddy`.

use std::fmt::Write;

use crate::{
    certificates::caddy::{self, Mode, Outcome, Transfer},
    config::Config,
};

use super::{access, arguments::TransferArguments, columns::Columns, error::CommandError, print};

/// Copies Caddy's files into the tables, and writes what became of each.
pub(super) async fn import(config: &Config, wanted: &TransferArguments) -> Result<(), CommandError> {
    let store = access::connect(config, || ()).await?;
    let done = caddy::import(&store, &config.certificates, &wanted.directory, mode(wanted)).await?;
    report(wanted, &done)
}

/// Copies the table into Caddy's files, and writes what became of each.
pub(super) async fn export(config: &Config, wanted: &TransferArguments) -> Result<(), CommandError> {
    let store = access::connect(config, || ()).await?;
    report(wanted, &caddy::export(&store, &wanted.directory, mode(wanted)).await?)
}

const fn mode(wanted: &TransferArguments) -> Mode {
    if wanted.dry_run { Mode::DryRun } else { Mode::Write }
}

fn report(wanted: &TransferArguments, done: &Transfer) -> Result<(), CommandError> {
    print(wanted.form, done, told)?;
    match done.count(Outcome::Damaged) {
        0 => Ok(()),
        damaged => Err(CommandError::Damaged { damaged, all: done.items.len() }),
    }
}

fn told(done: &Transfer) -> String {
    let mut columns = Columns::new(["OUTCOME", "WHAT", "DETAIL"]);
    for item in &done.items {
        columns.row([item.outcome.as_str().to_owned(), item.folder.clone(), item.detail.clone()]);
    }
    let mut text = columns.text();
    for warning in &done.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let counts = Outcome::ALL.map(|outcome| (outcome.as_str(), done.count(outcome)));
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts.map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let counts = if counts.is_empty() { "nothing is there".to_owned() } else { counts.join(", ") };
    let dry_run = if done.dry_run { " (nothing was written)" } else { "" };
    let _ = writeln!(text, "{counts}{dry_run}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_and_counts_them() {
        let text = r#"{"dry_run": true, "warnings": ["w"], "items": [
            {"folder": "certificates/ca/a.example", "outcome": "copied", "detail": "ends x"},
            {"folder": "certificates/ca/b.example", "outcome": "damaged", "detail": "no key"}]}"#;
        assert_eq!(
            told(&serde_json::from_str(text).unwrap()),
            "OUTCOME  WHAT                       DETAIL\n\
             copied   certificates/ca/a.example  ends x\n\
             damaged  certificates/ca/b.example  no key\n\
             warning: w\n\
             1 copied, 1 damaged (nothing was written)\n"
        );
    }
}
