//! Errors in settings: where, which, what is wrong, and what to write instead.

use std::{error::Error, fmt, io, path::PathBuf};

use super::parameter_name::ParameterName;

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// A file.
    File(PathBuf),
    /// A parameter of AWS Systems Manager.
    Parameter(ParameterName),
    /// A variable of the environment.
    Variable(String),
    /// Nowhere: the default.
    Default,
}

/// A place, and within a file the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub(super) place: SettingOrigin,
    pub(super) line: Option<usize>,
}

/// Settings that are each well formed but wrong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {field}: {fault}; {remedy}")]
pub struct SettingsProblem {
    pub(super) at: At,
    /// The setting to look at first.
    pub field: String,
    /// What is wrong, with the value.
    pub fault: String,
    /// What to write instead.
    pub remedy: String,
}

/// A value that its setting does not accept.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {field} = {value}: {message}{}", or_example(message, example))]
pub struct WrongValue {
    pub(super) at: At,
    /// Which setting.
    pub field: String,
    /// As written.
    pub value: String,
    /// Why not.
    pub message: String,
    /// A line that is valid.
    pub example: String,
}

/// Why there are no settings to start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named on the command line is not there.
    #[error("{}: no such file; name another with --config, or write one: `gatehouse config example`", path.display())]
    Missing {
        /// Its path.
        path: PathBuf,
    },
    /// A file that is there cannot be read.
    #[error("{}: cannot be read; {}", path.display(), unreadable(source))]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The parameter that holds settings cannot be read.
    #[error("{at}: settings_parameter: `{name}` cannot be read")]
    Parameter {
        /// Where it is named.
        at: At,
        /// Which.
        name: ParameterName,
        /// Why, and what to do.
        #[source]
        fault: Box<dyn Error + Send + Sync>,
    },
    /// A file or parameter is not TOML.
    #[error("{at}: not TOML: {message}; `gatehouse config example` prints a file of the right form")]
    Syntax {
        /// Where.
        at: At,
        /// What the parser says.
        message: String,
    },
    /// A key or variable that is no setting.
    #[error("{at}: `{key}`: no such setting; {}", remedy(nearest.as_deref()))]
    Unknown {
        /// Where.
        at: At,
        /// As written.
        key: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A value that the setting does not accept.
    #[error(transparent)]
    Value(Box<WrongValue>),
    /// A variable that is not UTF-8.
    #[error("{name}: its value is not UTF-8; set it again")]
    NotText {
        /// Its name.
        name: String,
    },
    /// Settings that contradict each other, or ask for something impossible.
    #[error("{}", lines(.0))]
    Refused(Vec<SettingsProblem>),
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Parameter(name) => name.fmt(f),
            Self::Variable(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.place),
            None => self.place.fmt(f),
        }
    }
}

/// Unless the message says already what to write.
fn or_example(message: &str, example: &str) -> String {
    if message.contains("write ") { String::new() } else { format!("; write it like `{example}`") }
}

fn unreadable(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "give this user the right to read it",
        io::ErrorKind::InvalidData => "save it as UTF-8",
        io::ErrorKind::IsADirectory => "name a file",
        _ => "correct it, or move it away",
    }
}

fn remedy(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("did you mean `{key}`?"),
        None => "remove it; `gatehouse config reference` lists all there are".to_owned(),
    }
}

fn lines(problems: &[SettingsProblem]) -> String {
    problems.iter().map(SettingsProblem::to_string).collect::<Vec<_>>().join("\n")
}
