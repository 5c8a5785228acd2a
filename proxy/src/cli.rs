//! Commands: what is asked on the command line, who answers it, and how the answer is written.
//! Not here: the answers themselves (`control`), a running instance (`run`).
//! Invariants: exit codes are stable: 0 done, 1 failed, 2 wrong usage or settings, with nothing started
//! (`proxy/tests/cli.rs`); results go to stdout, all else to stderr, errors under `--json` as JSON of one shape
//! (`an_error_under_json_is_json_of_one_shape`).

mod access;
mod arguments;
mod cache;
mod caddy;
mod certificate;
mod columns;
mod doctor;
mod domain;
mod domain_checks;
mod domain_import;
mod domain_settings;
mod error;
mod events;
mod failure;
mod fleet;
mod guard;
mod man_pages;
mod printable;
mod reload;
mod rewrap;
mod status;
mod token;
mod upgrade;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use crate::{
    api,
    config::{self, Config, ConfigError, Loaded},
    ec2::IdentitySource,
    guard::Guard,
    run::{self, RunError},
    ssm,
    store::{Store, tables},
    telemetry::error_chain,
};

use arguments::{
    Arguments, CacheCommand, Command, ConfigCommand, ExportCommand, FleetCommand, Form, GuardCommand,
    ImportCommand, TablesCommand,
};
use error::CommandError;
use failure::Failure;
use printable::printable;

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::of_process() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && wants_json() => {
            Failure::of_usage(&error).report();
            return ExitCode::from(2);
        }
        // Help and version are told this way, too.
        Err(error) => error.exit(),
    };
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if wants_json() {
                Failure::of(&error).report();
            } else {
                error.report();
            }
            if let Command::Run = arguments.command {
                run::last_words(&error_chain(&error));
            }
            error.exit_code()
        }
    }
}

/// Whether the answer is to be JSON, and so an error too, be it that the command line is not understood.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// Tells people on stderr what they should know beside the answer; programs get the answer alone.
fn notice(text: &str) {
    if !wants_json() {
        eprintln!("gatehouse: {text}");
    }
}

fn execute(arguments: &Arguments) -> Result<(), CommandError> {
    match &arguments.command {
        Command::Run => Ok(run::run(&load(arguments)?, &|| Box::pin(read(arguments.config.clone())))?),
        Command::Validate => validate(&load(arguments)?),
        Command::Status(form) => asking(status::status(&find(arguments)?.config, *form)),
        Command::Reload(form) => asking(reload::reload(&find(arguments)?.config, *form)),
        Command::Upgrade { binary, within, form } => {
            asking(upgrade::upgrade(&find(arguments)?.config, binary.as_deref(), *within, *form))
        }
        Command::Doctor { name: Some(name), form } => {
            asking(doctor::doctor_of_name(load(arguments)?.config, name, *form))
        }
        Command::Doctor { name: None, form } => {
            let (loaded, unread) = without_parameter(arguments, load(arguments))?;
            asking(doctor::doctor(loaded, unread.as_ref(), *form))
        }
        Command::Domain(command) => asking(domain::domain(&load(arguments)?.config, command)),
        Command::Certificate(command) => asking(certificate::certificate(&load(arguments)?.config, command)),
        Command::Events(command) => asking(events::events(&load(arguments)?.config, command)),
        Command::Token(command) => asking(token::token(&load(arguments)?.config, command)),
        Command::Fleet(FleetCommand::Status(form)) => asking(fleet::status(&load(arguments)?.config, *form)),
        Command::Import(ImportCommand::Caddy(wanted)) => {
            asking(caddy::import(&load(arguments)?.config, wanted))
        }
        Command::Export(ExportCommand::Caddy(wanted)) => {
            asking(caddy::export(&load(arguments)?.config, wanted))
        }
        Command::Tables(TablesCommand::Create) => asking(create_tables(&load(arguments)?.config)),
        Command::Cache(CacheCommand::Clear { directory, form }) => {
            cache::clear(directory.as_deref(), || Ok(find(arguments)?.config), *form)
        }
        Command::Guard(GuardCommand::Explain(wanted)) => {
            asking(guard::explain(&find(arguments)?.config, wanted))
        }
        Command::Guard(GuardCommand::Top(form)) => asking(guard::top(&find(arguments)?.config, *form)),
        Command::Guard(GuardCommand::Detach { pin_path }) => {
            detach(pin_path.as_deref().unwrap_or(&find(arguments)?.config.guard.pin_path))
        }
        Command::Completion { shell } => man_pages::completion(*shell),
        Command::Man { directory } => man_pages::man(directory.as_deref()),
        Command::Config(ConfigCommand::Example) => write(&config::sample()),
        Command::Config(ConfigCommand::Reference) => write(&config::reference()),
        Command::Config(ConfigCommand::Schema) => write(&config::schema()),
        Command::Config(ConfigCommand::Openapi) => write(&api::description()),
        Command::Config(ConfigCommand::Metrics) => {
            write(&run::metric_reference().map_err(RunError::Metrics)?)
        }
    }
}

fn load(arguments: &Arguments) -> Result<Loaded, CommandError> {
    asking(async { Ok(read(arguments.config.clone()).await?) })
}

/// Settings for a command that needs little of them, and is wanted most when something is down: a parameter that cannot be read is
/// left out, with a warning.
fn find(arguments: &Arguments) -> Result<Loaded, CommandError> {
    let (loaded, unread) = without_parameter(arguments, load(arguments))?;
    if let Some(error) = unread {
        notice(&format!("{}; going on without it", error_chain(&error)));
    }
    Ok(loaded)
}

/// When the one thing wrong is that a parameter cannot be read, what files and environment say, and that error.
fn without_parameter(
    arguments: &Arguments,
    loaded: Result<Loaded, CommandError>,
) -> Result<(Loaded, Option<ConfigError>), CommandError> {
    match loaded {
        Err(CommandError::Config(unread @ ConfigError::Parameter { .. })) => {
            let gathered = config::gather(arguments.config.as_deref(), std::env::vars_os())?;
            Ok((gathered.settings()?, Some(unread)))
        }
        loaded => Ok((loaded?, None)),
    }
}

async fn read(named: Option<PathBuf>) -> Result<Loaded, ConfigError> {
    let mut gathered = config::gather(named.as_deref(), std::env::vars_os())?;
    if let Some(wanted) = gathered.wanted()? {
        let text = ssm::read(&wanted).await.map_err(|fault| wanted.unreadable(fault))?;
        gathered.lay(&wanted.name, text)?;
    }
    gathered.settings()
}

/// A runtime for one command.
fn asking<T>(answer: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(answer);
    runtime.shutdown_timeout(Duration::ZERO);
    outcome
}

/// Writes `answer` as JSON, or as `text` makes it.
fn print<T: serde::Serialize>(
    form: Form,
    answer: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CommandError> {
    if form.json {
        write(&format!("{}\n", serde_json::to_string_pretty(answer)?))
    } else {
        write(&printable(&text(answer)))
    }
}

fn write(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader (`| head`) has enough.
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
    let store =
        Store::connect(&config.store, &IdentitySource::of(&config.instance), &config.state_directory).await?;
    eprintln!("gatehouse: asking {} for the tables", config.store.endpoint);
    let print = |wait: &tables::Wait<'_>| {
        let (waited, limit) = (wait.waited.as_secs(), wait.limit.as_secs());
        eprintln!(
            "gatehouse: table `{}` is {}; waiting until it is active ({waited} s of {limit} s)",
            wait.table, wait.status
        );
    };
    tables::create_telling(&store, &print).await?;
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
