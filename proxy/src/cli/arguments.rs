//! The command line as it is read, with the help that teaches it.

mod certificate;
mod early_json;
mod events;
mod guard;
mod token;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(super) use certificate::CertificateCommand;
pub(super) use events::EventsCommand;
pub(super) use guard::{ExplainArguments, GuardCommand};
pub(super) use token::TokenCommand;

use super::domain_settings::DomainSettingsArguments;
use crate::{
    config::{Maintenance, Span},
    control::{LONGEST_START, wire::Tenant},
    name::{Pattern, ServerName},
    target::Target,
};

/// A TLS reverse proxy for customers' own domains, guarded in the kernel.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = FIRST_STEPS)]
pub(super) struct Arguments {
    /// Settings file; absent, /etc/gatehouse/gatehouse.toml if it exists.
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
    /// Checks the settings without starting anything.
    Validate,
    /// Shows what the running instance does.
    Status(Form),
    /// Applies changed settings, and names those that need a restart.
    #[command(after_help = RELOAD)]
    Reload(Form),
    /// Has a new program take over from the running instance, without a failed request.
    #[command(after_help = UPGRADE)]
    Upgrade {
        /// The program to start; absent, the one that runs, as it is installed now.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// Seconds that it may take until it is ready.
        #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=LONGEST_START.as_secs()))]
        within: u64,
        #[command(flatten)]
        form: Form,
    },
    /// Tests whether the settings will work here, and names remedies; changes nothing.
    #[command(after_help = DOCTOR)]
    Doctor {
        /// Tests this name instead: its entry, permission, guard, DNS, CAA and certificate.
        name: Option<ServerName>,
        #[command(flatten)]
        form: Form,
    },
    /// Lists and changes the names that are served.
    #[command(subcommand, after_help = DOMAINS)]
    Domain(DomainCommand),
    /// Shows certificates, orders and revokes them, imports your own, and ends the wait after failed orders.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// Lists events of domains and certificates, shows webhooks, and sends them events again.
    #[command(subcommand)]
    Events(EventsCommand),
    /// Makes, lists and revokes tokens of the API.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Shows the instances that share the tables.
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Copies certificates, keys and accounts of another server into the tables.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Copies certificates, keys and accounts of the table for another server.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Creates the tables.
    #[command(subcommand)]
    Tables(TablesCommand),
    /// Removes what this machine keeps of the tables.
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Explains what the XDP program does with a connection, and removes it from the kernel.
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Prints the settings as an example, a table or a schema.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints completions of commands and options for a shell.
    #[command(after_help = COMPLETION)]
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page, or writes one for each command.
    #[command(after_help = MAN)]
    Man {
        /// Directory for the pages of all commands; it is created. Absent, the page of `gatehouse` goes to stdout.
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DomainCommand {
    /// Serves NAME from now on; returns when table, instance and guard have the change.
    Add {
        /// A name like `www.example.com`, or `*.example.com` for every name one label below.
        name: Pattern,
        /// Target of its requests; absent, `domains.default_target`.
        #[arg(long, value_name = "URL")]
        target: Option<Target>,
        #[command(flatten)]
        settings: DomainSettingsArguments,
        /// Its tenant; absent, the tenant of the existing entry, or `default` for a new one.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Tenant>,
        /// Replaces the target, tenant or settings of an existing entry; refused without this option.
        #[arg(long)]
        replace: bool,
        /// Serves it without waiting for what `verification.required` asks for: its owner is known otherwise.
        #[arg(long)]
        verified: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Stops serving NAME until it is resumed; its entry stays.
    Suspend {
        /// The name, as it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Serves NAME again after it was suspended.
    Resume {
        /// The name, as it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Answers the requests of NAME with 503 and a page of its own in place of its target, or no longer.
    Maintenance {
        /// The name, as it was added.
        name: Pattern,
        /// `on` or `off`.
        #[arg(value_name = "STATE")]
        maintenance: Maintenance,
        #[command(flatten)]
        form: Form,
    },
    /// Stops serving NAME and removes its entry; returns when table, instance and guard have the change.
    Remove {
        /// The name, as it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Lists names.
    List {
        /// Only the names of this tenant, sorted; absent, all, in the table's order.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Tenant>,
        #[command(flatten)]
        page: PageArguments,
        #[command(flatten)]
        form: Form,
    },
    /// Shows the entry of NAME, or of the wildcard that covers it.
    Show {
        /// The name, as it was added, or a name under a wildcard.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Adds the names of a file, CSV with a header or JSON objects; of a file with a wrong row none.
    #[command(after_help = IMPORT_DOMAINS)]
    Import {
        /// The file; `-` is the standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Says what would become of each row, and writes nothing.
        #[arg(long)]
        dry_run: bool,
        /// Replaces what existing entries say; refused without this option.
        #[arg(long)]
        replace: bool,
        /// Serves new names without waiting for what `verification.required` asks for.
        #[arg(long)]
        verified: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Shows the DNS records that the owner of NAME sets so that it is served here; it need not be added yet.
    Records {
        /// A name like `www.example.com`, or `*.example.com`.
        name: Pattern,
        /// For which tenant; absent, the tenant of its entry, or `default`.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Tenant>,
        #[command(flatten)]
        form: Form,
    },
    /// Makes a link that shows the owner of NAME, without a token, which DNS records to set and what was found of them.
    #[command(after_help = LINK)]
    Link {
        /// The name, as it was added.
        name: Pattern,
        /// After how long it ends, from `1h` to `365d`; absent, after `30d`.
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
        #[command(flatten)]
        form: Form,
    },
    /// Looks at DNS, CAA and certificate of NAME now, from this machine, and changes nothing; exit code 1 when something fails.
    Check {
        /// The name, as it was added.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Counts the entries of a tenant, and keeps the count by which `domains.entries_per_tenant` and `domains.quotas` bound them.
    Count {
        /// Whose.
        #[arg(long, value_name = "TENANT")]
        tenant: Tenant,
        #[command(flatten)]
        form: Form,
    },
    /// Completes items that were written by hand, so that every instance learns of them; reads the whole table.
    Reindex(Form),
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// From Caddy's storage of files, so that what Caddy obtained is served without an order.
    #[command(after_help = IMPORT_CADDY)]
    Caddy(TransferArguments),
}

#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// Into a storage of files that Caddy serves from without an order, on the same accounts.
    #[command(after_help = EXPORT_CADDY)]
    Caddy(TransferArguments),
}

/// What is copied, and how it is told.
#[derive(Debug, Clone, Args)]
pub(super) struct TransferArguments {
    /// The folder of Caddy's storage, in which `certificates` and `acme` lie.
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// Writes nothing, and tells what would be done.
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) form: Form,
}

#[derive(Debug, Subcommand)]
pub(super) enum FleetCommand {
    /// Lists instances with release, guard and when each was heard of last; exit code 1 when there is a warning.
    #[command(after_help = FLEET_STATUS)]
    Status(Form),
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Removes the local copy of what is served, whether an instance runs or not.
    #[command(after_help = CACHE_CLEAR)]
    Clear {
        /// Directory in which it lies; absent, `store.local_copy`.
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
        #[command(flatten)]
        form: Form,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// Creates the three tables with their indexes and waits until they are active; existing ones are checked.
    Create,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// A settings file with every setting, commented out.
    Example,
    /// All settings as a Markdown table.
    Reference,
    /// A JSON Schema of the settings, for editors that check and complete TOML files.
    Schema,
    /// All metrics as a Markdown table.
    Metrics,
    /// The API's description, as `OpenAPI` 3.1.
    Openapi,
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
    /// Continues a list after this name, which the previous part printed at its end.
    #[arg(long, value_name = "NAME")]
    pub(super) after: Option<Pattern>,
    /// Largest number of rows.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
}

const FIRST_STEPS: &str = "\
First steps:
  gatehouse run                  # on :8443 and :8080; its store and CA are in ./gatehouse-state
  gatehouse domain add www.example.com --target http://10.0.0.5:3000
  curl --cacert gatehouse-state/internal-root.pem \\
       --resolve www.example.com:8443:127.0.0.1 https://www.example.com:8443/
  gatehouse status

A target on this host must be permitted: `upstream.permitted_networks`.

When something does not work: `gatehouse doctor`.
Settings: `gatehouse config example > gatehouse.toml`.
Every key is also a variable, like GATEHOUSE_LOG_FORMAT=json.
Exit codes: 0 done, 1 failed, 2 wrong usage or settings.";

const RUN: &str = "\
Without settings it listens on :8443 and :8080, keeps its store and its own CA in ./gatehouse-state, and leaves the
guard off: no AWS, no root. SIGTERM and SIGINT let requests in flight finish.";

const RELOAD: &str = "\
All settings are read and checked first: if anything is wrong, it is reported, the old settings stay in force, and the
command ends with 2. Limits, targets, names of the settings, the ask endpoint, the guard's mode and the log filter take
effect at once; open connections keep the limits they started with. SIGHUP does the same.";

const UPGRADE: &str = "\
Install the new program where the running one lies, then run this command. The instance starts it with its own arguments and
variables, hands it every listening socket, and drains when it serves: settings that need a restart apply, too. If it
fails, is not ready in time, or cannot read the names, the instance goes on as if nothing had been asked, and the
command says why and ends with 1. Not with the embedded store, which one process has at a time: restart instead.
Example:
  gatehouse upgrade --binary /opt/gatehouse-0.2.0/gatehouse";

const DOCTOR: &str = "\
It tests the kernel, its BTF, io_uring, guarded interfaces, limits, the clock, the state directory, ports, tables,
names and CAs, all at once and ten seconds each at most. A line begins with ok, note (nothing is wrong), warning (it
works, but less well than it could) or error (the settings will not work); any error ends it with 1.
With a name it tells why that name is served or not, within five seconds.";

const IMPORT_DOMAINS: &str = "\
Columns: domain, and as far as wanted target, tenant, minimum_tls, host, redirect, maintenance. An empty field is as
one that is absent in `domain add`. Rows that are refused are named, and the others are written; exit code 1 then.
Example:
  domain,target,tenant
  shop.customer.example,https://shops.example.com,customer-17
  *.blogs.example,,";

const LINK: &str = "\
Example:
  gatehouse domain link shop.customer.example --expires 7d

Who has the link sees that page until it ends, and nothing else. It ends sooner when the entry is removed or goes to
another tenant. It leads to `api.setup_url`, or to the API itself: docs/verification.md.";

const FLEET_STATUS: &str = "\
Each instance says how it is once a minute, in the state table. One that was not heard of for three minutes is named
by a warning, and forgotten after an hour; one that ends leaves the list at once. The running instance is asked, or
the table itself when none runs here.";

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

const IMPORT_CADDY: &str = "\
Examples:
  gatehouse import caddy /var/lib/caddy/.local/share/caddy --dry-run
  gatehouse import caddy /var/lib/caddy/.local/share/caddy

A line for each certificate and account begins with what became of it: copied, unchanged (it is
there already), kept (the table has one as new, or another account), expired, foreign (neither
name nor key that Gatehouse uses), damaged. Any damaged one ends the command with 1; the others
are copied all the same. It can be repeated. The tables are written directly: with the embedded
store, stop the instance first. A table that Caddy uses itself needs no import.";

const EXPORT_CADDY: &str = "\
Examples:
  gatehouse export caddy /var/lib/caddy/.local/share/caddy
  chown -R caddy: /var/lib/caddy/.local/share/caddy

Caddy should not run meanwhile. Lines and exit code are those of `gatehouse import caddy`. Files
are readable by their owner alone, and no newer ones are replaced. Expired certificates, own ones
and the internal issuer's are left out. The whole certificate table is read by Scan; with the
embedded store, stop the instance first.";

const CACHE_CLEAR: &str = "\
A running instance goes on serving from memory, and writes another copy within a minute as long as the tables answer. To
have none, take store.local_copy out of the settings, restart, and name the directory here.";

const DOMAINS: &str = "\
Examples:
  gatehouse domain add shop.customer.example --target https://shops.example.com
  gatehouse domain add '*.customers.example' --tenant customers
  gatehouse domain add shop.customer.example --target https://new.example.com --replace
  gatehouse domain suspend shop.customer.example
  gatehouse domain maintenance shop.customer.example on
  gatehouse domain list --json --limit 1000 --after shop.customer.example
  gatehouse domain remove shop.customer.example

The running instance is asked over its control socket; when none runs here, the table itself is changed, and instances
elsewhere learn of it within seconds.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    /// Whoever is woken at night types what stands there.
    #[test]
    fn every_command_of_the_runbook_exists() {
        let page = include_str!("../../../docs/runbook.md");
        let commands: Vec<_> =
            page.split('`').skip(1).step_by(2).filter(|code| code.starts_with("gatehouse ")).collect();
        assert!(commands.len() > 20, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace().map(|word| match word {
                "NAME" => "www.example.com",
                "URL" => "https://origin.example.com",
                "WEBHOOK" => "crm",
                other => other,
            });
            // A group of commands is named without one of them.
            let is_group = ["gatehouse domain", "gatehouse certificate"].contains(&command);
            let problem = Arguments::try_parse_from(words).err().filter(|_| !is_group);
            assert!(problem.is_none(), "`{command}`: {}", problem.unwrap());
        }
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
            ("gatehouse certificate show *.a.example", true),
            ("gatehouse certificate show *.example", false),
            ("gatehouse certificate retry a.example --json", true),
            ("gatehouse certificate retry", false),
            ("gatehouse upgrade --json", true),
            ("gatehouse upgrade --binary /opt/gatehouse --within 30", true),
            ("gatehouse upgrade --within 0", false),
            ("gatehouse upgrade --within 241", false),
            ("gatehouse certificate renew a.example", true),
            ("gatehouse certificate renew", false),
            ("gatehouse certificate renew --all", false),
            ("gatehouse certificate renew --all --rate 100/h", true),
            ("gatehouse certificate renew --all --rate 100/h --dry-run", true),
            ("gatehouse certificate renew --all --rate 0/h", false),
            ("gatehouse certificate renew a.example --all --rate 100/h", false),
            ("gatehouse certificate renew a.example --rate 100/h", false),
            ("gatehouse certificate renew a.example --dry-run", false),
            ("gatehouse certificate import --cert a.pem --key a.key", true),
            ("gatehouse certificate import --cert a.pem", false),
            ("gatehouse certificate remove *.a.example", true),
            ("gatehouse certificate list --after a.example", false),
            (
                "gatehouse token create --name ci --scope domains:read,audit:read --tenant a --expires 90d",
                true,
            ),
            ("gatehouse token create --name ci --scope domains:read --all-tenants", true),
            ("gatehouse token create --name ci --scope domains:read", false),
            ("gatehouse token create --name ci --scope all --all-tenants", false),
            ("gatehouse token create --name ci --scope domains:read --tenant a --all-tenants", false),
            ("gatehouse token revoke 0123456789ab --json", true),
            ("gatehouse token revoke", false),
            ("gatehouse guard explain --name A.example. --source 2001:db8::1 --port 443 --json", true),
            ("gatehouse guard explain --pcap capture.pcap", true),
            ("gatehouse guard top --json", true),
            ("gatehouse cache clear", true),
            ("gatehouse cache clear --directory /var/lib/gatehouse/copy --json", true),
            ("gatehouse cache", false),
            ("gatehouse guard explain", false),
            ("gatehouse guard explain --name a.example --pcap capture.pcap", false),
            ("gatehouse guard explain --pcap capture.pcap --source 192.0.2.1", false),
            ("gatehouse guard explain --name 192.0.2.1", false),
            ("gatehouse guard explain --name a.example --source 192.0.2.0/24", false),
            ("gatehouse guard explain --name a.example --port 0", false),
            ("gatehouse import caddy /var/lib/caddy --dry-run --json", true),
            ("gatehouse events list --since 2h --name a.example --kind domain.created --json", true),
            ("gatehouse events list --kind domain.sold", false),
            ("gatehouse events list --since yesterday", false),
            ("gatehouse events webhooks", true),
            ("gatehouse events replay --webhook crm --since 2026-11-29T03:20:00Z", true),
            ("gatehouse events replay --webhook crm", true),
            ("gatehouse events replay", false),
            ("gatehouse import caddy", false),
            ("gatehouse export caddy /var/lib/caddy", true),
            ("gatehouse export", false),
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
