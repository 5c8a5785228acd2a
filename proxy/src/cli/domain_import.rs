//! `gatehouse domain import`: entries from a file, all of whose rows are read before the first is written.

use std::{fmt::Write as _, io, path::Path, sync::Arc};

use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    access::{Access, requester},
    arguments::Form,
    error::CommandError,
    print,
};
use crate::{
    config::Config,
    domains::{
        admin::{Action, Existing, Proof, Report, Request},
        import::{ImportForm, ImportRow, ImportRules, read},
    },
    name::Pattern,
    telemetry::error_chain,
    whole_file,
};

/// What is asked for.
pub(super) struct Import<'a> {
    pub(super) file: &'a Path,
    pub(super) existing: Existing,
    pub(super) proof: Proof,
    pub(super) is_dry_run: bool,
}

/// What became of each row.
#[derive(Debug, Default, Serialize)]
struct ImportReport {
    dry_run: bool,
    added: usize,
    changed: usize,
    unchanged: usize,
    refused: usize,
    /// Rows that were not as they should be already.
    rows: Vec<RowReport>,
}

#[derive(Debug, Serialize)]
struct RowReport {
    row: usize,
    domain: Pattern,
    #[serde(flatten)]
    outcome: RowOutcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum RowOutcome {
    Done(Report),
    Refused(String),
}

/// Reads the file, writes its entries, or says what would become of them.
pub(super) async fn import(config: &Config, import: &Import<'_>, form: Form) -> Result<(), CommandError> {
    let contents = contents(import.file)
        .map_err(|source| CommandError::ImportFile { path: import.file.to_owned(), source })?;
    let rules = ImportRules { existing: import.existing, proof: import.proof, by: requester() };
    let rows = read(&contents, ImportForm::of(&contents), &rules).map_err(CommandError::ImportRows)?;
    let access = Arc::new(Access::open(config).await?);
    let report = run(access, rows, import.is_dry_run).await;
    let refused = report.refused;
    print(form, &report, shown)?;
    if refused == 0 { Ok(()) } else { Err(CommandError::ImportRefused { refused }) }
}

fn contents(file: &Path) -> io::Result<Vec<u8>> {
    if file == Path::new("-") {
        return whole_file::read_stream(io::stdin().lock(), LONGEST);
    }
    whole_file::read(file, LONGEST).map(|contents| contents.to_vec())
}

async fn run(access: Arc<Access>, rows: Vec<ImportRow>, is_dry_run: bool) -> ImportReport {
    let mut report = ImportReport { dry_run: is_dry_run, ..ImportReport::default() };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for ImportRow { row, request } in rows {
        // Closed by nobody.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let access = Arc::clone(&access);
        running.spawn(async move {
            let _permit = permit;
            let outcome = one(&access, &request, is_dry_run).await;
            RowReport { row, domain: request.pattern, outcome }
        });
        while let Some(Ok(done)) = running.try_join_next() {
            report.take(done);
        }
    }
    for done in running.join_all().await {
        report.take(done);
    }
    report.rows.sort_by_key(|row| row.row);
    report
}

async fn one(access: &Access, request: &Request, is_dry_run: bool) -> RowOutcome {
    let report = if is_dry_run {
        access.preview(request).await
    } else {
        access.administer(request).await.map(|changed| changed.report)
    };
    report.map_or_else(|error| RowOutcome::Refused(error_chain(&error)), RowOutcome::Done)
}

impl ImportReport {
    fn take(&mut self, row: RowReport) {
        let count = match &row.outcome {
            RowOutcome::Refused(_) => &mut self.refused,
            RowOutcome::Done(report) => match report.action {
                Action::Add => &mut self.added,
                Action::Keep => &mut self.unchanged,
                Action::Replace | Action::Remove | Action::Suspend | Action::Resume => &mut self.changed,
            },
        };
        *count += 1;
        let is_told = !matches!(&row.outcome, RowOutcome::Done(report) if report.action == Action::Keep && report.warnings.is_empty());
        if is_told {
            self.rows.push(row);
        }
    }
}

fn shown(report: &ImportReport) -> String {
    let mut text = String::new();
    for RowReport { row, domain, outcome } in &report.rows {
        let _ = match outcome {
            RowOutcome::Done(done) => writeln!(text, "row {row}: {domain}: {done}"),
            RowOutcome::Refused(why) => writeln!(text, "row {row}: refused: {why}"),
        };
    }
    let ImportReport { added, changed, unchanged, refused, .. } = report;
    let what = if report.dry_run { "nothing was written; it would be " } else { "" };
    let _ =
        writeln!(text, "{what}{added} added, {changed} changed, {unchanged} unchanged, {refused} refused");
    text
}

/// Rows at once: each waits for the table, and then for the guard to have it.
const AT_ONCE: usize = 32;
/// A million rows of 64 bytes.
const LONGEST: usize = 64 << 20;
