//! `gatehouse token` as it is read.

use clap::Subcommand;

use super::Form;
use crate::{
    api_token::{Scope, TokenId, TokenName},
    config::Span,
    control::wire::Tenant,
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TokenCommand {
    /// Makes a token of the API and prints it, once: it is kept nowhere.
    #[command(after_help = TOKEN_CREATE)]
    Create {
        /// What to call it, like `shop backend`.
        #[arg(long, value_name = "NAME")]
        name: TokenName,
        /// What it may do, separated by commas: `domains:read`, `domains:write`, `audit:read`.
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
        scope: Vec<Scope>,
        /// With whose entries it works.
        #[arg(
            long,
            value_name = "TENANT",
            required_unless_present = "all_tenants",
            conflicts_with = "all_tenants"
        )]
        tenant: Option<Tenant>,
        /// It works with everybody's entries.
        #[arg(long)]
        all_tenants: bool,
        /// After how long it ends, like `90d`; absent, when it is revoked.
        #[arg(long, value_name = "TIME")]
        expires: Option<Span>,
        #[command(flatten)]
        form: Form,
    },
    /// Lists tokens, without what they are; those that ended stay for 30 days.
    List(Form),
    /// Ends a token: within ten seconds no instance takes it any more.
    Revoke {
        /// Its id, as `gatehouse token list` shows it.
        id: TokenId,
        #[command(flatten)]
        form: Form,
    },
}

const TOKEN_CREATE: &str = "\
Examples:
  gatehouse token create --name 'shop backend' --scope domains:read,domains:write --tenant shop --expires 90d
  gatehouse token create --name operator --scope domains:read,audit:read --all-tenants --json

The API itself: `api.listen`, and docs/api.md.";
