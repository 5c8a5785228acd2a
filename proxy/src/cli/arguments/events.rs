//! `gatehouse events` as it is read.

use std::str::FromStr;

use clap::Subcommand;

use super::Form;
use crate::{
    config::{EventKind, Span, WebhookName},
    control::wire::Tenant,
    name::Pattern,
    store::{instant::Micros, state_table::EventId},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EventsCommand {
    /// Lists what became of domains and certificates, the oldest first; events are kept for 30 days.
    #[command(after_help = EVENTS_LIST)]
    List {
        /// From when on, like `2h` ago, or `2026-11-29T03:20:00Z`; absent, a day ago.
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        /// Behind which event, by its id: the rest of a list, as the list before says.
        #[arg(long, value_name = "ID", conflicts_with = "since")]
        after: Option<EventId>,
        /// Only those of this name.
        #[arg(long, value_name = "NAME")]
        name: Option<Pattern>,
        /// Only those of this kind, like `domain.verified`.
        #[arg(long, value_name = "KIND")]
        kind: Option<EventKind>,
        /// Only those of this tenant's entries.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<Tenant>,
        /// Largest number of rows.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        form: Form,
    },
    /// Shows whether events reach the webhooks of the settings; exit code 1 when one fails.
    Webhooks(Form),
    /// Sends a webhook events again, or goes on where nothing was sent any more.
    #[command(after_help = EVENTS_REPLAY)]
    Replay {
        /// Which, by its name in the settings.
        #[arg(long, value_name = "NAME")]
        webhook: WebhookName,
        /// Events from when on, like `2h` ago, or `2026-11-29T03:20:00Z`; absent, it goes on from where it is.
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        #[command(flatten)]
        form: Form,
    },
}

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Since {
    /// So long ago.
    Ago(Span),
    /// This one.
    At(Micros),
}

/// What is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no moment of the past; write it like `2h`, `7d` or `2026-11-29T03:20:00Z`")]
pub(in crate::cli) struct NoMoment(String);

impl Since {
    /// When it is, at `now`.
    pub(in crate::cli) fn at(self, now: Micros) -> Micros {
        match self {
            Self::Ago(span) => now.less(*span),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Since {
    type Err = NoMoment;
    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(span) = text.parse() {
            return Ok(Self::Ago(span));
        }
        Micros::from_rfc3339(text).map(Self::At).ok_or_else(|| NoMoment(text.to_owned()))
    }
}

const EVENTS_LIST: &str = "\
Examples:
  gatehouse events list --since 7d --name shop.customer.example
  gatehouse events list --kind certificate.renewal_failed --json

The rest of a longer list: `--after` with the ID that its last line shows (with `--json`, `next`).";

const EVENTS_REPLAY: &str = "\
Examples:
  gatehouse events replay --webhook crm --since 2h
  gatehouse events replay --webhook crm

Events that were sent before come with the same `webhook-id`. The instance that sends begins within seconds.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_or_so_long_ago() {
        let at = |text: &str| Micros::parse(text).unwrap();
        let now = at("2026-11-29T03:20:00.000000Z");
        for (text, moment) in [
            ("2h", "2026-11-29T01:20:00.000000Z"),
            ("2026-11-28T00:00:00Z", "2026-11-28T00:00:00.000000Z"),
            ("2026-11-28T01:00:00.5+01:00", "2026-11-28T00:00:00.500000Z"),
        ] {
            assert_eq!(text.parse::<Since>().unwrap().at(now), at(moment), "{text}");
        }
        for text in ["", "yesterday", "2026-11-28", "1969-01-01T00:00:00Z"] {
            assert!(text.parse::<Since>().is_err(), "{text}");
        }
    }
}
