//! `gatehouse certificate` as it is read.

use std::path::PathBuf;

use clap::Subcommand;

use super::Form;
use crate::{
    certificates::{RevocationReason, spread::RenewalRate},
    control::wire::Bookmark,
    name::Pattern,
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum CertificateCommand {
    /// Lists names with certificates: your own, then those ordered, who issued each, when it ends, and when it is to be renewed.
    List {
        /// Continues a list: the value that the previous part printed at its end.
        #[arg(long, value_name = "PLACE")]
        after: Option<Bookmark>,
        /// Largest number of rows.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        form: Form,
    },
    /// Shows the certificate in the table for NAME, what the instance here presents, and the result of the last order.
    Show {
        /// A name like `www.example.com`, or a wildcard of `certificates.wildcards`.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Orders a certificate for NAME now, if there is none that is valid.
    Obtain {
        /// A name like `www.example.com`, which must be allowed, or a wildcard of `certificates.wildcards`.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Orders another certificate for NAME now, whatever the date of the present one; or for all names, spread over time.
    #[command(after_help = CERTIFICATE_RENEW)]
    Renew {
        /// A name like `www.example.com`, which must be allowed, or a wildcard of `certificates.wildcards`.
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        name: Option<Pattern>,
        /// All names with certificates that were ordered: they get dates, by which the fleet renews them.
        #[arg(long, requires = "rate")]
        all: bool,
        /// How many to renew in an hour, like `500/h`.
        #[arg(long, value_name = "N/h", requires = "all", conflicts_with = "name")]
        rate: Option<RenewalRate>,
        /// Tells what would be done, and changes nothing.
        #[arg(long, requires = "all", conflicts_with = "name")]
        dry_run: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Has the CA revoke the certificate of NAME, and stops presenting it; the next handshake orders another.
    Revoke {
        /// A name like `www.example.com`, or a wildcard of `certificates.wildcards`.
        name: Pattern,
        /// Why: `unspecified`, `key-compromise`, `affiliation-changed`, `superseded`, `cessation-of-operation` or `privilege-withdrawn`.
        #[arg(long, value_name = "REASON", default_value_t)]
        reason: RevocationReason,
        #[command(flatten)]
        form: Form,
    },
    /// Serves a certificate of your own for all of its names, before any that is ordered; replaces your own ones before it.
    #[command(after_help = CERTIFICATE_IMPORT)]
    Import {
        /// PEM file of the certificate, followed by its intermediate certificates in order.
        #[arg(long, value_name = "FILE")]
        cert: PathBuf,
        /// PEM file of its private key, readable by its owner alone.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        form: Form,
    },
    /// Removes the certificate of your own that was imported for NAME; what is ordered for the name is served again.
    Remove {
        /// The name or wildcard, as `gatehouse certificate list` shows it.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
    /// Encrypts private keys in the table anew, as `store.key_encryption` says now: after it was set, or its key replaced.
    Rewrap {
        /// Writes them in clear instead, before `store.key_encryption` is turned off.
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        form: Form,
    },
    /// Forgets failed orders for NAME, so that its next handshake or renewal orders at once.
    Retry {
        /// A name like `www.example.com`, or a wildcard of `certificates.wildcards`.
        name: Pattern,
        #[command(flatten)]
        form: Form,
    },
}

const CERTIFICATE_RENEW: &str = "\
Examples:
  gatehouse certificate renew www.example.com
  gatehouse certificate renew '*.app.example.com'
  gatehouse certificate renew --all --rate 500/h --dry-run
  gatehouse certificate renew --all --rate 500/h
With --all each name gets an earlier date of renewal, one after the other at the rate, and the fleet
renews by these dates. No name is renewed later than it would be. A second run renews all once more.";

const CERTIFICATE_IMPORT: &str = "\
Example:
  gatehouse certificate import --cert fullchain.pem --key privkey.pem

It is checked first: order of the chain, key, dates, names. A name must be allowed as any other
(`gatehouse domain add`); for an allowed name that it covers nothing is ordered while it is valid.
It is not renewed: warnings begin 14 days before its end. An exact name comes before a wildcard.
This host's instance presents it at once, others within a minute.";
