//! What becomes of rows: a few are asked for at once, and all that were not as they should be already are told.

use std::{future::Future, sync::Arc};

use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};

use super::ImportRow;
use crate::{
    domains::admin::{Action, Report, Request},
    name::Pattern,
};

/// What became of an import. `E` says why a row was refused.
#[derive(Debug, Serialize)]
pub struct ImportReport<E> {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Entries that are new.
    pub added: usize,
    /// Entries that said something else.
    pub changed: usize,
    /// Entries that said the same already.
    pub unchanged: usize,
    /// Rows that nothing came of.
    pub refused: usize,
    /// In their order, without those whose entries said the same and of which there is nothing to say.
    pub rows: Vec<RowReport<E>>,
}

/// What became of a row.
#[derive(Debug, Serialize)]
pub struct RowReport<E> {
    /// Its number, from 1.
    pub row: usize,
    /// Whose entry it is about.
    pub domain: Pattern,
    /// What was done.
    #[serde(flatten)]
    pub outcome: RowOutcome<E>,
}

/// What was done for a row.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOutcome<E> {
    /// This, or nothing where nothing had to be.
    Done(Report),
    /// Nothing, and why.
    Refused(E),
}

impl<E: Send + 'static> ImportReport<E> {
    /// Asks for each of `rows` by `ask`, which writes nothing if it is a `dry_run`.
    ///
    /// # Cancel safety
    /// Rows that were asked for may have been done; the others are not asked for.
    pub async fn of<F>(rows: Vec<ImportRow>, dry_run: bool, ask: impl Fn(Request) -> F) -> Self
    where
        F: Future<Output = Result<Report, E>> + Send + 'static,
    {
        let mut report = Self { dry_run, added: 0, changed: 0, unchanged: 0, refused: 0, rows: Vec::new() };
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let mut running = JoinSet::new();
        for ImportRow { row, request } in rows {
            // Closed by nobody.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            let domain = request.pattern.clone();
            let asked = ask(request);
            running.spawn(async move {
                let _permit = permit;
                let outcome = asked.await.map_or_else(RowOutcome::Refused, RowOutcome::Done);
                RowReport { row, domain, outcome }
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

    /// How many came to what, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { dry_run, added, changed, unchanged, refused, .. } = self;
        let what = if *dry_run { "nothing was written; it would be " } else { "" };
        format!("{what}{added} added, {changed} changed, {unchanged} unchanged, {refused} refused")
    }

    fn take(&mut self, row: RowReport<E>) {
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

/// Rows at once: each waits for the table, and then for the guard to have it.
const AT_ONCE: usize = 32;
