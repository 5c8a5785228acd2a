//! What is wanted of the functions over the domains table: of the fleet's file, and for the checker of the instances' settings.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::code_package::CodePackage;

/// The functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainFunctions {
    pub(crate) package: CodePackage,
    pub(crate) verifier: Verifier,
    /// Invocations of it at a time; none for as many as the account has.
    pub(crate) verifier_concurrency: Option<u16>,
    /// TOML; empty for no checker.
    pub(crate) checker_settings: String,
    pub(crate) schedule: String,
    pub(crate) alarm_topic: String,
}

/// Whether there is a verifier, and who reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verifier {
    None,
    /// Who may invoke it.
    #[default]
    Private,
    /// Anybody, by a URL.
    Public,
}

/// The table `domain_functions` of the fleet's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DomainFunctionsFile {
    package: PathBuf,
    #[serde(default)]
    verifier: Verifier,
    verifier_concurrency: Option<u16>,
    #[serde(default)]
    checker: bool,
    schedule: Option<String>,
    #[serde(default)]
    alarm_topic: String,
}

/// Why they cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FunctionsError {
    #[error("domain_functions: `verifier = \"none\"` and no checker leave none; leave the table out")]
    Neither,
    #[error("domain_functions.verifier_concurrency: `{0}`; give 1 to 999, or leave it out for no limit")]
    Concurrency(u16),
    #[error("settings: the file is not TOML, so that the checker's cannot be taken from it")]
    Settings(#[source] Box<toml::de::Error>),
    #[error("domain_functions.checker: the settings name no edge; set `verification.edge_names` in them")]
    NoEdgeName,
    #[error(
        "domain_functions.checker: what `verification`, the networks of `upstream` and the CAs take of the settings has {0} bytes; the checker takes {MOST_BYTES}"
    )]
    TooLong(usize),
}

impl DomainFunctions {
    /// As `file` in `folder` says, with what the checker needs of the instances' `settings`.
    pub(crate) fn of(
        file: DomainFunctionsFile,
        settings: &str,
        folder: &Path,
    ) -> Result<Self, FunctionsError> {
        if file.verifier == Verifier::None && !file.checker {
            return Err(FunctionsError::Neither);
        }
        if let Some(other) = file.verifier_concurrency.filter(|number| !(1..=999).contains(number)) {
            return Err(FunctionsError::Concurrency(other));
        }
        let checker_settings = if file.checker { of_checker(settings)? } else { String::new() };
        Ok(Self {
            package: folder.join(file.package).into(),
            verifier: file.verifier,
            verifier_concurrency: file.verifier_concurrency,
            checker_settings,
            schedule: file.schedule.unwrap_or_else(|| "rate(5 minutes)".to_owned()),
            alarm_topic: file.alarm_topic,
        })
    }
}

impl Verifier {
    /// As the template's parameter has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

/// What decides on checks: so both check alike. Nothing else goes along, no name of a file or of a secret above all.
fn of_checker(settings: &str) -> Result<String, FunctionsError> {
    let all: Table = settings.parse().map_err(|error| FunctionsError::Settings(Box::new(error)))?;
    let section = |name: &str| all.get(name).and_then(Value::as_table);
    let verification = section("verification").cloned().unwrap_or_default();
    let names = verification.get("edge_names").and_then(Value::as_array);
    if names.is_none_or(Vec::is_empty) {
        return Err(FunctionsError::NoEdgeName);
    }
    let mut taken = Table::from_iter([("verification".to_owned(), Value::Table(verification))]);
    if let Some(kept) = section("domains").and_then(|domains| domains.get("audit_kept")) {
        taken.insert("domains".to_owned(), one("audit_kept", kept.clone()));
    }
    let networks = section("upstream").map(|upstream| only(upstream, &NETWORKS)).unwrap_or_default();
    if !networks.is_empty() {
        taken.insert("upstream".to_owned(), Value::Table(networks));
    }
    let issuers = section("certificates").and_then(|certificates| certificates.get("issuers")?.as_array());
    let issuers: Vec<_> = issuers.into_iter().flatten().filter_map(Value::as_table).map(issuer).collect();
    if !issuers.is_empty() {
        taken.insert("certificates".to_owned(), one("issuers", Value::Array(issuers)));
    }
    let text = taken.to_string();
    if text.len() > MOST_BYTES { Err(FunctionsError::TooLong(text.len())) } else { Ok(text) }
}

fn issuer(issuer: &Table) -> Value {
    Value::Table(only(issuer, &["directory", "email"]))
}

fn only(table: &Table, keys: &[&str]) -> Table {
    let kept = table.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn one(key: &str, value: Value) -> Value {
    Value::Table(Table::from_iter([(key.to_owned(), value)]))
}

/// To which addresses of customers' targets it connects, as instances do.
const NETWORKS: [&str; 2] = ["forbidden_networks", "permitted_networks"];
/// Of the template's parameter `CheckerSettings`: all variables of a function have 4 KiB.
const MOST_BYTES: usize = 3_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> DomainFunctionsFile {
        toml::from_str(&format!("package = \"p/f.zip\"\n{text}")).unwrap()
    }

    fn of(text: &str, settings: &str) -> Result<DomainFunctions, String> {
        DomainFunctions::of(file(text), settings, Path::new("fleets")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_checker_takes_what_decides_on_checks_and_nothing_secret() {
        let settings = "[verification]\nedge_names = [\"edge.example.net\"]\nrequired = \"dns\"\n\
            [domains]\naudit_kept = \"90d\"\nask = \"http://10.0.0.1/\"\n[control]\nask = \"127.0.0.1:1\"\n\
            [[certificates.issuers]]\ndirectory = \"https://ca.example/d\"\nemail = \"a@example.com\"\nroots = \"/r.pem\"\n\
            eab = { key_id = \"k\", hmac_key_variable = \"HMAC\" }\n\
            [upstream]\nforbidden_networks = [\"192.0.2.0/24\"]\npermitted_networks = [\"10.0.0.0/8\"]\nconnections = 5\n";
        let functions = of("checker = true", settings).unwrap();
        assert_eq!(functions.package.key(), "f.zip");
        let taken: Table = functions.checker_settings.parse().unwrap();
        let wanted: Table = "[verification]\nedge_names = [\"edge.example.net\"]\nrequired = \"dns\"\n\
            [domains]\naudit_kept = \"90d\"\n\
            [upstream]\nforbidden_networks = [\"192.0.2.0/24\"]\npermitted_networks = [\"10.0.0.0/8\"]\n\
            [[certificates.issuers]]\ndirectory = \"https://ca.example/d\"\nemail = \"a@example.com\"\n"
            .parse()
            .unwrap();
        assert_eq!(taken, wanted);
        assert_eq!(of("", "no TOML").unwrap().checker_settings, "", "no checker, no settings");
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let long = format!("[verification]\nedge_names = [\"{}\"]\n", "a".repeat(MOST_BYTES));
        for (text, settings, named) in [
            ("verifier = \"none\"", "", "leave the table out"),
            ("verifier_concurrency = 0", "", "verifier_concurrency: `0`; give 1 to 999"),
            ("verifier_concurrency = 1000", "", "verifier_concurrency: `1000`"),
            ("checker = true", "[verification]\n", "verification.edge_names"),
            ("checker = true", "[verification]\nedge_names = []\n", "verification.edge_names"),
            ("checker = true", "no TOML", "settings: the file is not TOML"),
            ("checker = true", &long, "the checker takes 3000"),
        ] {
            let said = of(text, settings).unwrap_err();
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
