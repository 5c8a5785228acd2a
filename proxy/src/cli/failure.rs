//! Errors for programs: under `--json` a command that fails writes one JSON object to stderr, of the same shape whatever failed.

use std::{error::Error, iter::successors, path::Path};

use clap::error::{ContextKind, ContextValue};
use serde::Serialize;

use super::error::CommandError;
use crate::{
    config::{ConfigError, SettingsProblem},
    control::{ClientError, wire::Fault},
    domains::ChangeError,
};

/// Why a command failed: `{"error": {"message", "field"?, "value"?, "remedy"?, "causes": []}}`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    error: ErrorJson,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ErrorJson {
    /// What text would say, without the causes.
    message: String,
    /// Which argument or setting is wrong, what it says, and what to write instead, where these are known.
    #[serde(flatten)]
    fault: Fault,
    /// What lies behind it, outermost first.
    causes: Vec<String>,
}

impl Failure {
    /// Of a command that was understood.
    pub(super) fn of(error: &CommandError) -> Self {
        let causes = successors(error.source(), |cause| (*cause).source());
        let causes = causes.map(ToString::to_string).collect();
        Self { error: ErrorJson { message: error.to_string(), fault: fault(error), causes } }
    }

    /// Of a command line that was not.
    pub(super) fn of_usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first).to_owned();
        let named = |kinds: &[ContextKind]| kinds.iter().find_map(|kind| text_of(error.get(*kind)?));
        let field = named(&[ContextKind::InvalidArg, ContextKind::InvalidSubcommand]);
        let meant = named(&[
            ContextKind::SuggestedArg,
            ContextKind::SuggestedSubcommand,
            ContextKind::SuggestedValue,
        ]);
        let remedy = meant.map_or_else(
            || "`gatehouse help` shows commands and options".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        let fault = Fault {
            // `--target <URL>` is the option `--target`.
            field: field.map(|field| field.split(' ').next().unwrap_or_default().to_owned()),
            value: named(&[ContextKind::InvalidValue]),
            remedy: Some(remedy),
        };
        Self { error: ErrorJson { message, fault, causes: Vec::new() } }
    }

    /// Writes it to stderr.
    pub(super) fn report(&self) {
        // Strings alone cannot fail to become JSON.
        eprintln!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

fn fault(error: &CommandError) -> Fault {
    match error {
        CommandError::Config(error) => of_settings(error),
        CommandError::Client(ClientError::Refused(problem)) => problem.fault.clone(),
        CommandError::Change(ChangeError::Refused(refusal)) => refusal.explain().into(),
        CommandError::NotRunning { .. } => remedy("start one with `gatehouse run`"),
        CommandError::NoStore { .. } => remedy(
            "start an instance with `gatehouse run`, give the settings of the intended one with `--config`, or create a store with `gatehouse tables create`",
        ),
        CommandError::NoLocalCopy => {
            let remedy = remedy("give the directory of a former copy by `--directory`");
            Fault { field: Some("store.local_copy".to_owned()), ..remedy }
        }
        CommandError::NotReloaded { .. } => remedy("correct the settings, and reload again"),
        CommandError::NotUpgraded { .. } => remedy("correct what is named, and repeat the upgrade"),
        CommandError::CaptureFile { path, .. } => {
            of_capture(path, "name a file that this user may read, or a smaller one")
        }
        CommandError::Capture { path, .. } => of_capture(path, "write a capture with `tcpdump -w FILE`"),
        CommandError::NoDomain(_) => remedy("`gatehouse domain list` shows what is there"),
        _ => Fault::default(),
    }
}

/// Of several settings that are wrong, the first.
fn of_settings(error: &ConfigError) -> Fault {
    match error {
        ConfigError::Refused(problems) => problems.first().map_or_else(Fault::default, |problem| {
            let SettingsProblem { field, remedy, .. } = problem;
            Fault { field: Some(field.clone()), value: None, remedy: Some(remedy.clone()) }
        }),
        ConfigError::Value(wrong) => Fault {
            field: Some(wrong.field.clone()),
            value: Some(wrong.value.clone()),
            remedy: Some(format!("write it like `{}`", wrong.example)),
        },
        ConfigError::Unknown { key, nearest, .. } => Fault {
            field: Some(key.clone()),
            value: None,
            remedy: Some(nearest.as_ref().map_or_else(
                || "`gatehouse config reference` lists all settings".to_owned(),
                |nearest| format!("did you mean `{nearest}`?"),
            )),
        },
        ConfigError::Missing { path } => Fault {
            field: Some("--config".to_owned()),
            value: Some(path.display().to_string()),
            ..remedy("name another file, or write one: `gatehouse config example`")
        },
        ConfigError::Unreadable { .. }
        | ConfigError::Parameter { .. }
        | ConfigError::Syntax { .. }
        | ConfigError::NotText { .. } => Fault::default(),
    }
}

fn of_capture(path: &Path, text: &str) -> Fault {
    Fault { field: Some("--pcap".to_owned()), value: Some(path.display().to_string()), ..remedy(text) }
}

fn remedy(text: &str) -> Fault {
    Fault { remedy: Some(text.to_owned()), ..Fault::default() }
}

fn text_of(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}
