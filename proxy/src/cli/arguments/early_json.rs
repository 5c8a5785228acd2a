//! `--json` before the command: as behind it.

use clap::{
    Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Arguments;

impl Arguments {
    /// Of the process.
    pub(in crate::cli) fn of_process() -> Result<Self, clap::Error> {
        let json = Arg::new(JSON).long(JSON).action(ArgAction::SetTrue).global(true).hide(true);
        let matches = Self::command().arg(json).try_get_matches()?;
        refuse_without_answer(&matches)?;
        Self::from_arg_matches(&matches)
    }
}

/// Since `--json` may stand before each command, each knows it; those that do not declare it have no answer to write.
fn refuse_without_answer(matches: &ArgMatches) -> Result<(), clap::Error> {
    let top = Arguments::command();
    let (mut command, mut matches) = (&top, matches);
    while let Some((name, below)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else { return Ok(()) };
        (command, matches) = (found, below);
    }
    if !matches.get_flag(JSON) || command.get_arguments().any(|argument| argument.get_id() == JSON) {
        return Ok(());
    }
    let mut error = clap::Error::new(ErrorKind::UnknownArgument).with_cmd(&top);
    error.insert(ContextKind::InvalidArg, ContextValue::String(format!("--{JSON}")));
    Err(error)
}

/// As clap names [`Form::json`](super::Form::json).
const JSON: &str = "json";
