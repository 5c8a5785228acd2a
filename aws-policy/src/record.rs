//! What the doubles of AWS were asked, over all processes of a test run: files of one JSON object a line, in the folder that the environment
//! names. Without it nothing is kept, and whoever compares has nothing, which is a fault for each grant (`nothing_recorded_proves_nothing`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{Call, Request, Role, Signed};

/// The variable that names the folder, as an absolute path.
pub const FOLDER_VARIABLE: &str = "RECORDED_CALLS";

/// Calls by role.
pub type Calls = BTreeMap<Role, BTreeSet<Call>>;

/// What one double notes: each call once, as soon as it comes.
#[derive(Debug, Default)]
pub struct Recorder {
    folder: Option<PathBuf>,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    lines: BTreeSet<String>,
    file: Option<File>,
}

/// A line of a file.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// A role's call.
    Call(String, Call),
    /// A request that cannot be told to be anybody's call.
    Unknown(String),
}

/// Why what was recorded cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The folder, or a file of it.
    #[error("{0}: cannot be read")]
    Io(PathBuf, #[source] io::Error),
    /// A line is none of ours.
    #[error("{0}: `{1}` is no line of a record")]
    Line(PathBuf, String),
    /// Requests that nobody has mapped to an action of IAM's, or whose caller no test is said to have.
    #[error("calls that cannot be judged: {0}")]
    Unknown(String),
}

impl Recorder {
    /// In the folder of the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        Self { folder: std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from), noted: Mutex::default() }
    }

    /// Notes a request, if it is a role's, or nobody's that is known.
    ///
    /// # Errors
    /// It cannot be written: the double must not answer then, or a call would be missing from the record.
    pub fn note(&self, request: &Request<'_>) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines(request) {
            let line = serde_json::to_string(&line)?;
            if !noted.lines.contains(&line) {
                noted.write(folder, &line)?;
                noted.lines.insert(line);
            }
        }
        Ok(())
    }
}

impl Noted {
    fn write(&mut self, folder: &Path, line: &str) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                fs::create_dir_all(folder)?;
                let name = format!("{}-{}.jsonl", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                none.insert(OpenOptions::new().create(true).append(true).open(folder.join(name))?)
            }
        };
        file.write_all(format!("{line}\n").as_bytes())
    }
}

fn lines(request: &Request<'_>) -> Vec<Line> {
    // Not AWS's: the doubles have questions of their own.
    let Some(signed) = Signed::of(request.authorization) else { return Vec::new() };
    match Role::of(signed.access_key) {
        Some(role) => match request.calls(&signed) {
            Ok(calls) => {
                calls.into_iter().map(|call| Line::Call(role.access_key().to_owned(), call)).collect()
            }
            Err(unknown) => vec![Line::Unknown(format!("{role:?}: {unknown}"))],
        },
        None if OTHERS.contains(&signed.access_key) => Vec::new(),
        None => vec![Line::Unknown(format!("nobody is known by the access key `{}`", signed.access_key))],
    }
}

/// What lies in `folder`; none where there is no folder.
pub fn read(folder: &Path) -> Result<Calls, RecordError> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |error| RecordError::Io(path, error)
    };
    let (mut calls, mut unknown) = (Calls::new(), BTreeSet::new());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(calls),
        entries => entries.map_err(fault(folder))?,
    };
    for entry in entries {
        let path = entry.map_err(fault(folder))?.path();
        for line in fs::read_to_string(&path).map_err(fault(&path))?.lines() {
            let none_of_ours = || RecordError::Line(path.clone(), line.to_owned());
            match serde_json::from_str(line).map_err(|_| none_of_ours())? {
                Line::Call(access_key, call) => {
                    let role = Role::of(&access_key).ok_or_else(none_of_ours)?;
                    calls.entry(role).or_default().insert(call);
                }
                Line::Unknown(said) => {
                    unknown.insert(said);
                }
            }
        }
    }
    if unknown.is_empty() {
        return Ok(calls);
    }
    Err(RecordError::Unknown(unknown.into_iter().collect::<Vec<_>>().join("; ")))
}

/// The id of the access key that a person's commands have in tests: rights of people are not those of a role ("Further rights" in
/// docs/security.md).
pub const OPERATOR: &str = "AKIAOPERATOR";
/// Others who sign in tests: people, the calls that faults are made of (`proxy/src/store/fault_injection.rs`), the store where nobody has
/// credentials, the tests themselves, moto's clients.
const OTHERS: [&str; 5] = [OPERATOR, "fault-injection", "gatehouse", "testbed", "testing"];

#[cfg(test)]
mod tests {
    use super::*;

    fn note(recorder: &Recorder, access_key: &str, operation: &str) {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/20261130/eu-central-1/dynamodb/aws4_request, Signature=00"
        );
        let body = br#"{ "TableName": "t" }"#;
        let operation = Some(operation);
        let request = Request { method: "POST", target: "/", authorization: &authorization, operation, body };
        recorder.note(&request).unwrap();
    }

    fn recorder(folder: &Path) -> Recorder {
        Recorder { folder: Some(folder.to_owned()), ..Recorder::default() }
    }

    #[test]
    fn what_several_doubles_note_is_read_together_by_role() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (recorder(folder.path()), recorder(folder.path()));
        note(&one, "AKIAINSTANCE", "DynamoDB_20120810.GetItem");
        note(&one, "AKIAINSTANCE", "DynamoDB_20120810.GetItem");
        note(&other, "AKIACHECKER", "DynamoDB_20120810.Query");
        note(&other, OPERATOR, "DynamoDB_20120810.Scan");
        let table = "arn:aws:dynamodb:eu-central-1:123456789012:table/t";
        let wanted = [(Role::Instance, "dynamodb:GetItem"), (Role::Checker, "dynamodb:Query")];
        let wanted = wanted.map(|(role, action)| (role, BTreeSet::from([Call::new(action, table)])));
        assert_eq!(read(folder.path()).unwrap(), Calls::from(wanted));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_judged_is_told_when_it_is_read() {
        for (access_key, operation, said) in [
            ("AKIAINSTANCE", "DynamoDB_20120810.ExecuteStatement", "Instance: dynamodb: `ExecuteStatement`"),
            ("AKIDEXAMPLE", "DynamoDB_20120810.GetItem", "nobody is known by the access key `AKIDEXAMPLE`"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            note(&recorder(folder.path()), access_key, operation);
            let told = read(folder.path()).unwrap_err().to_string();
            assert!(told.contains(said), "{told}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jsonl"), "{\"Call\":[\"AKIANOBODY\"").unwrap();
        assert!(matches!(read(folder.path()), Err(RecordError::Line(..))));
    }

    #[test]
    fn no_folder_is_no_call() {
        let folder = tempfile::tempdir().unwrap();
        note(&Recorder::default(), "AKIAINSTANCE", "DynamoDB_20120810.GetItem");
        assert_eq!(read(&folder.path().join("none")).unwrap(), Calls::new());
    }
}
