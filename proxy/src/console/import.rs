//! Many entries by text that is pasted: checked first, and then written. Rows are read as `gatehouse domain import` reads a file's.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use hyper::StatusCode;

use super::{
    Console,
    failure::{Failure, page},
    fields::Fields,
    layout::{Layout, Section},
    visitor::{SignedForm, Visitor},
};
use crate::{
    api::{self, Problem, ProblemBody, Writes, few_enough},
    domains::{
        admin::{Existing, Proof, Requester},
        import::{ImportForm, ImportReport, ImportRow, ImportRules, RowOutcome, RowReport, read},
    },
};

#[derive(Template)]
#[template(path = "import.html")]
struct ImportPage {
    layout: Layout,
    /// What was pasted, and what holds for all rows.
    fields: Fields,
    outcome: Option<Outcome>,
}

/// What came of a form.
enum Outcome {
    /// Rows that cannot be read.
    Faults(Vec<String>),
    Problem(Box<ProblemBody>),
    Report {
        is_dry_run: bool,
        summary: String,
        rows: Vec<RowLine>,
    },
}

/// A row that was not as it should be already.
struct RowLine {
    number: usize,
    domain: String,
    is_refused: bool,
    said: String,
    remedy: Option<String>,
}

pub(super) async fn show(visitor: Visitor) -> Result<Response, Failure> {
    visitor.admitted.holder::<Writes>()?;
    Ok(answer(&visitor, Fields::default(), StatusCode::OK, None))
}

pub(super) async fn import(
    State(console): State<Arc<Console>>,
    SignedForm { visitor, fields }: SignedForm,
) -> Result<Response, Failure> {
    let holder = visitor.admitted.holder::<Writes>()?;
    let rows = match rows(&fields, holder.requester) {
        Ok(rows) => rows,
        Err(faults) => {
            let outcome = Some(Outcome::Faults(faults));
            return Ok(answer(&visitor, fields, StatusCode::UNPROCESSABLE_ENTITY, outcome));
        }
    };
    let is_dry_run = fields.text("step") != "write";
    let (status, outcome) = match imported(&console, rows, is_dry_run).await {
        Ok(report) => (StatusCode::OK, report.into()),
        Err(problem) => (problem.status(), Outcome::Problem(Box::new(problem.into_body()))),
    };
    Ok(answer(&visitor, fields, status, Some(outcome)))
}

async fn imported(
    console: &Console,
    rows: Vec<ImportRow>,
    is_dry_run: bool,
) -> Result<ImportReport<Problem>, Problem> {
    few_enough(rows.len())?;
    api::import(&console.api, rows, is_dry_run).await
}

fn rows(fields: &Fields, by: Requester) -> Result<Vec<ImportRow>, Vec<String>> {
    let is_set = |name: &str| fields.text(name) == "true";
    let rules = ImportRules {
        existing: Existing::replaced(is_set("replace")),
        proof: Proof::waived(is_set("verified")),
        by,
    };
    let text = fields.text("rows").as_bytes();
    let read = read(text, ImportForm::of(text), &rules);
    read.map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn answer(visitor: &Visitor, fields: Fields, status: StatusCode, outcome: Option<Outcome>) -> Response {
    page(status, &ImportPage { layout: Layout::of(visitor, Section::Domains), fields, outcome })
}

impl From<ImportReport<Problem>> for Outcome {
    fn from(report: ImportReport<Problem>) -> Self {
        let (is_dry_run, summary) = (report.dry_run, report.summary());
        Self::Report { is_dry_run, summary, rows: report.rows.into_iter().map(Into::into).collect() }
    }
}

impl From<RowReport<Problem>> for RowLine {
    fn from(RowReport { row, domain, outcome }: RowReport<Problem>) -> Self {
        let domain = domain.to_string();
        match outcome {
            RowOutcome::Done(report) => {
                let said = [report.to_string()].into_iter().chain(report.warnings).collect::<Vec<_>>();
                Self { number: row, domain, is_refused: false, said: said.join("; "), remedy: None }
            }
            RowOutcome::Refused(problem) => {
                let ProblemBody { detail, remedy, .. } = problem.into_body();
                Self { number: row, domain, is_refused: true, said: detail, remedy }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn samples(text: &str) -> [String; 3] {
        let said = || text.to_owned();
        let row = |is_refused| RowLine {
            number: 1,
            domain: said(),
            is_refused,
            said: said(),
            remedy: Some(said()),
        };
        let problem = super::super::failure::tests::problem_body(text);
        let rows = vec![row(true), row(false)];
        [
            Outcome::Faults(vec![said()]),
            Outcome::Problem(Box::new(problem)),
            Outcome::Report { is_dry_run: true, summary: said(), rows },
        ]
        .map(|outcome| {
            let pasted = form_urlencoded::Serializer::new(String::new()).append_pair("rows", text).finish();
            let fields = Fields::parse(pasted.as_bytes()).unwrap();
            ImportPage { layout: Layout::sample(text), fields, outcome: Some(outcome) }.render().unwrap()
        })
    }
}
