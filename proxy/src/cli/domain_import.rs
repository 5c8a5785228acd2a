//! `gatehouse domain import`: entries from a file, all of whose rows are read before the first is written.

use std::{fmt::Write as _, io, path::Path, sync::Arc};

use super::{
    access::{Access, requester},
    arguments::Form,
    error::CommandError,
    print,
};
use crate::{
    config::Config,
    domains::{
        admin::{Existing, Proof, Report, Request},
        import::{ImportForm, ImportReport, ImportRules, RowOutcome, RowReport, read},
    },
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

/// Reads the file, writes its entries, or says what would become of them.
pub(super) async fn import(config: &Config, import: &Import<'_>, form: Form) -> Result<(), CommandError> {
    let contents = contents(import.file)
        .map_err(|source| CommandError::ImportFile { path: import.file.to_owned(), source })?;
    let rules = ImportRules { existing: import.existing, proof: import.proof, by: requester() };
    let rows = read(&contents, ImportForm::of(&contents), &rules).map_err(CommandError::ImportRows)?;
    let access = Arc::new(Access::open(config).await?);
    let is_dry_run = import.is_dry_run;
    let report = ImportReport::of(rows, is_dry_run, |request| {
        let access = Arc::clone(&access);
        async move { one(&access, &request, is_dry_run).await }
    });
    let report = report.await;
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

async fn one(access: &Access, request: &Request, is_dry_run: bool) -> Result<Report, String> {
    let report = if is_dry_run {
        access.preview(request).await
    } else {
        access.administer(request).await.map(|changed| changed.report)
    };
    report.map_err(|error| error_chain(&error))
}

fn shown(report: &ImportReport<String>) -> String {
    let mut text = String::new();
    for RowReport { row, domain, outcome } in &report.rows {
        let _ = match outcome {
            RowOutcome::Done(done) => writeln!(text, "row {row}: {domain}: {done}"),
            RowOutcome::Refused(why) => writeln!(text, "row {row}: refused: {why}"),
        };
    }
    let _ = writeln!(text, "{}", report.summary());
    text
}

/// A million rows of 64 bytes.
const LONGEST: usize = 64 << 20;
