//! Commands: what is asked on the command line, who answers it, and how the answer is written.
//! Not here: the answers themselves (`control`), a running instance (`run`).
//! Invariants: exit codes are stable: 0 done, 1 failed, 2 wrong usage or settings, with nothing started
//! (`proxy/tests/cli.rs`); results go to stdout, all else to stderr.

mod access;
mod arguments;
mod certificate;
mod columns;
mod doctor;
mod domain;
mod error;
mod papers;
mod reload;
mod status;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

use crate::{
    config::{self, Config, ConfigError, Loaded},
    control::whole,
    guard::Guard,
    instance::Source,
    run,
    store::{Store, tables},
};

use arguments::{Arguments, Command, ConfigCommand, Form, GuardCommand, TablesCommand};
use error::CommandError;

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report();
            if let Command::Run = arguments.command {
                run::last_words(&whole(&error));
            }
            error.exit_code()
        }
    }
}

fn execute(arguments: &Arguments) -> Result<(), CommandError> {
    match &arguments.command {
        Command::Run => Ok(run::run(&load(arguments)?, &|| read(arguments))?),
        Command::Validate => validate(&load(arguments)?),
        Command::Status(form) => asking(status::status(&load(arguments)?.config, *form)),
        Command::Reload(form) => asking(reload::reload(&load(arguments)?.config, *form)),
        Command::Doctor(form) => asking(doctor::doctor(load(arguments)?.config, *form)),
        Command::Domain(command) => asking(domain::domain(&load(arguments)?.config, command)),
        Command::Certificate(command) => asking(certificate::certificate(&load(arguments)?.config, command)),
        Command::Tables(TablesCommand::Create) => asking(create_tables(&load(arguments)?.config)),
        Command::Guard(GuardCommand::Detach { pin_path }) => {
            detach(pin_path.as_deref().unwrap_or(&load(arguments)?.config.guard.pin_path))
        }
        Command::Papers { directory } => papers::papers(directory),
        Command::Config(ConfigCommand::Example) => write(&config::sample()),
        Command::Config(ConfigCommand::Reference) => write(&config::reference()),
    }
}

fn load(arguments: &Arguments) -> Result<Loaded, CommandError> {
    Ok(read(arguments)?)
}

fn read(arguments: &Arguments) -> Result<Loaded, ConfigError> {
    config::load(arguments.config.as_deref(), std::env::vars_os())
}

/// A runtime for one command.
fn asking(answer: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(answer);
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

/// Writes `answer` as JSON, or as `text` makes it.
fn tell<T: serde::Serialize>(
    form: Form,
    answer: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CommandError> {
    if form.json {
        write(&format!("{}\n", serde_json::to_string_pretty(answer)?))
    } else {
        write(&text(answer))
    }
}

fn write(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads (`| head`) has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(CommandError::Output),
    }
}

fn validate(loaded: &Loaded) -> Result<(), CommandError> {
    let places: Vec<_> = loaded.places.iter().map(ToString::to_string).collect();
    let from = if places.is_empty() { "defaults throughout".to_owned() } else { places.join(", ") };
    write(&format!("settings are valid ({from})\n"))
}

async fn create_tables(config: &Config) -> Result<(), CommandError> {
    let store = Store::connect(&config.store, &Source::of(&config.instance), &config.state_directory).await?;
    tables::create(&store).await?;
    let names = store.tables();
    let tables = format!("{}, {}, {}", names.certificates, names.domains, names.state);
    write(&format!("tables are active at {}: {tables}\n", config.store.endpoint))
}

fn detach(pin_path: &Path) -> Result<(), CommandError> {
    let gone = Guard::detach(pin_path)?;
    for path in gone {
        write(&format!("removed {}\n", path.display()))?;
    }
    write(&format!("nothing of the guard is left under {}\n", pin_path.display()))
}
