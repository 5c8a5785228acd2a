//! The command line as it is read, with the help that teaches it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    control::wire::{Bookmark, Tenant},
    name::{Pattern, ServerName},
    target::Target,
};

/// A TLS reverse proxy for customers' own domains, guarded in the kernel.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = FIRST_STEPS)]
pub(super) struct Arguments {
    /// Settings; absent, /etc/gatehouse/gatehouse.toml if there is one.
    #[arg(long, value_name = "FILE", env = "GATEHOUSE_CONFIG", hide_env_values = true, global = true)]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serves until SIGTERM or SIGINT.
    #[command(after_help = RUN)]
    Run,
    /// Judges the settings, starts nothing.
    Validate,
    /// Shows what the running instance does.
    Status(Form),
    /// Puts changed settings in force, or names those that need a restart.
    #[command(after_help = RELOAD)]
    Reload(Form),
    /// Looks for what will not work here, with the remedy; changes nothing.
    #[command(after_help = DOCTOR)]
    Doctor(Form),
    /// Lists and changes the names that are served.
    #[command(subcommand, after_help = DOMAINS)]
    Domain(DomainCommand),
    /// Shows certificates in the table.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Makes the tables.
    #[command(subcommand)]
    Tables(TablesCommand),
    /// Controls the XDP program.
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Prints what there is to set.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints what completes commands and options in a shell.
    #[command(after_help = COMPLETION)]
    Completion {
        /// Which shell's.
        shell: Shell,
    },
    /// Prints the manual page, or writes one for each command.
    #[command(after_help = MAN)]
    Man {
        /// Where to write the pages of all commands; it is made. Absent, the page of `gatehouse` goes to stdout.
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Serves NAME from now on; returns when store, snapshot and guard hold it.
    Add {
        /// A name like `www.example.com`, or `*.example.com` for every name one label below.
        name: Pattern,
        /// Where its requests go; absent, `domains.default_target`.
        #[arg(long, value_name = "URL")]
        target: Option<Target>,
        /// Whose it is; absent, as it was, and of the tenant `default` where it is new.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Tenant>,
        /// Replaces an entry that has another target or tenant, which is refused without it.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Keeps NAME and serves it no longer until it is resumed.
    Suspend {
        /// As it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Serves NAME again after it was suspended.
    Resume {
        /// As it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Serves NAME no longer; returns when store, snapshot and guard have let go of it.
    Remove {
        /// As it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Lists the names there are.
    List {
        /// Those of one tenant, in their order; absent, all in the table's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Tenant>,
        #[command(flatten)]
        page: PageArguments,
        #[command(flatten)]
        form: Form,
    },
    /// Shows the entry of NAME, or of the wildcard that covers it.
    Show {
        /// As it was added, or a name below a wildcard.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Repairs items that were made by hand, so that every instance hears of them; reads the whole table.
    Reindex(Form),
}

#[derive(Debug, Subcommand)]
pub(super) enum CertificateCommand {
    /// Lists names with certificates: who issued each, when it ends, and when it is to be renewed.
    List {
        /// Begins where another list ended, as that one said.
        #[arg(long, value_name = "PLACE")]
        after: Option<Bookmark>,
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        form: Form,
    },
    /// Shows the certificate that the table holds for NAME, which instances present within a minute, and what became of its last order.
    Show {
        /// A name like `www.example.com`.
        name: ServerName,
        #[command(flatten)]
        form: Form,
    },
    /// Forgets that orders for NAME have failed, so that its next handshake or renewal places one at once.
    Retry {
        /// A name like `www.example.com`.
        name: ServerName,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// Makes the three tables with their indexes and waits until they are active; those that are there are compared.
    Create,
}

#[derive(Debug, Subcommand)]
pub(super) enum GuardCommand {
    /// Takes the XDP program and its maps out of the kernel, whether an instance runs or not.
    Detach {
        /// Where they are pinned; absent, `guard.pin_path`.
        #[arg(long, value_name = "DIRECTORY")]
        pin_path: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// A settings file with everything in it, commented out.
    Example,
    /// All settings as a Markdown table.
    Reference,
    /// A JSON Schema of the settings, for editors that check and complete TOML.
    Schema,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Form {
    /// Writes JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub(super) struct PageArguments {
    /// Begins behind this name, as the part before said.
    #[arg(long, value_name = "NAME")]
    pub(super) after: Option<Pattern>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
}

const FIRST_STEPS: &str = "\
First steps:
  gatehouse run                  # on :8443 and :8080; its store and CA lie in ./gatehouse-state
  gatehouse domain add www.example.com --target http://10.0.0.5:3000
  curl --cacert gatehouse-state/internal-root.pem \\
       --resolve www.example.com:8443:127.0.0.1 https://www.example.com:8443/
  gatehouse status

A target on this host has to be permitted: `upstream.permitted_networks`.

When something does not work: `gatehouse doctor`.
Settings: `gatehouse config example > gatehouse.toml`.
Every key is also a variable, like GATEHOUSE_LOG_FORMAT=json.
Exit codes: 0 done, 1 failed, 2 wrong usage or settings.";

const RUN: &str = "\
Without settings it listens on :8443 and :8080, keeps its store and its own CA in ./gatehouse-state, and leaves the
guard off: no AWS, no root. SIGTERM and SIGINT let requests in flight finish.";

const RELOAD: &str = "\
All settings are read and judged first: when anything is wrong with them, it is told, what was in force stays so, and the
command ends with 2. Limits, targets, names of the settings, the ask endpoint, the guard's mode and the log's filter come
into force at once; connections that are open keep the limits they began with. SIGHUP does the same.";

const DOCTOR: &str = "\
It looks at the kernel, its types, the ring, guarded interfaces, limits, the clock, the state directory, ports, tables,
names and CAs, at most ten seconds for each and all at once. A line begins with ok, warn (it works, less well than it
could) or fail (what the settings ask for will not work); any fail ends it with 1.";

const COMPLETION: &str = "\
Examples:
  gatehouse completion bash > /etc/bash_completion.d/gatehouse
  gatehouse completion zsh > \"${fpath[1]}/_gatehouse\"
  gatehouse completion fish > ~/.config/fish/completions/gatehouse.fish
The Debian package has them already.";

const MAN: &str = "\
Examples:
  gatehouse man | man --local-file -
  gatehouse man /usr/local/share/man/man1";

const DOMAINS: &str = "\
Examples:
  gatehouse domain add shop.customer.example --target https://shops.example.com
  gatehouse domain add '*.customers.example' --tenant customers
  gatehouse domain add shop.customer.example --target https://new.example.com --replace
  gatehouse domain suspend shop.customer.example
  gatehouse domain list --json --limit 1000 --after shop.customer.example
  gatehouse domain remove shop.customer.example

The running instance is asked over its control socket; when none runs here, the table itself is changed, and instances
elsewhere hear of it within seconds.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn names_and_targets_are_parsed_at_the_border() {
        for (line, fits) in [
            ("gatehouse domain add A.Example.", true),
            ("gatehouse domain add *.a.example --target http://10.0.0.1:80", true),
            ("gatehouse domain add 10.0.0.1", false),
            ("gatehouse domain add a.example --target ftp://a", false),
            ("gatehouse domain list --limit 0", false),
            ("gatehouse certificate show a.example --json", true),
            ("gatehouse certificate show *.a.example", false),
            ("gatehouse certificate retry a.example --json", true),
            ("gatehouse certificate retry", false),
            ("gatehouse certificate list --after a.example", false),
            ("gatehouse completion zsh", true),
            ("gatehouse completion tcsh", false),
            ("gatehouse man", true),
            ("gatehouse papers out", false),
            ("gatehouse", false),
        ] {
            assert_eq!(Arguments::try_parse_from(line.split(' ')).is_ok(), fits, "{line}");
        }
    }
}
