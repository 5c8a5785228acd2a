//! What the log says of a name that is not served, so that "my domain does not work" can be answered from it: the name, why, and
//! for whom, once a minute for each name.

use std::net::IpAddr;

use tracing::info;

use super::{Denial, Domains, DomainsInner, Permission, UnknownReason, snapshot::Withdrawal};
use crate::{name::ServerName, telemetry::admit_line};

impl Domains {
    /// Logs that `client` was refused `name`, unless the name is allowed.
    pub fn tell_refused(&self, name: &ServerName, permission: &Permission, client: IpAddr) {
        let Some(reason) = self.inner.reason(name, permission) else { return };
        let Some(left_out) = admit_line("name_refused", name.as_str()) else { return };
        info!(server_name = %name, reason, %client, left_out, "a name was refused");
    }
}

impl DomainsInner {
    fn reason(&self, name: &ServerName, permission: &Permission) -> Option<&'static str> {
        let sources = Sources { table: self.table.is_some(), ask: self.ask.load().is_some() };
        match permission {
            Permission::Allow(_) => None,
            Permission::Deny(denial) => Some(denied(*denial, self.registry.withdrawal(name), sources)),
            Permission::Unknown(unknown_reason) => Some(unknown(*unknown_reason)),
        }
    }
}

/// Who can allow a name beside the settings.
#[derive(Debug, Clone, Copy)]
struct Sources {
    table: bool,
    ask: bool,
}

fn denied(denial: Denial, withdrawal: Option<Withdrawal>, sources: Sources) -> &'static str {
    match (denial, withdrawal) {
        (_, Some(Withdrawal::Suspended)) => "its entry is suspended or pending",
        (_, Some(Withdrawal::Removed)) => "its entry was removed",
        (Denial::Withdrawn, None) => "its entry is suspended, pending or removed",
        (Denial::NoEntry, None) if sources.ask => "no entry, and the ask endpoint denies it",
        (Denial::NoEntry, None) if sources.table => "no entry in the settings or the domains table",
        (Denial::NoEntry, None) => "no entry in the settings",
    }
}

fn unknown(unknown_reason: UnknownReason) -> &'static str {
    match unknown_reason {
        UnknownReason::SourceDown => "the domains table does not answer, or its item cannot be understood",
        UnknownReason::AskDown => "no entry, and the ask endpoint does not answer",
        UnknownReason::BudgetSpent => "too many unknown names at once: domains.lookups_per_second",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_denial_says_who_denies() {
        let (alone, table) = (Sources { table: false, ask: false }, Sources { table: true, ask: false });
        let ask = Sources { table: true, ask: true };
        for (denial, withdrawal, sources, words) in [
            (Denial::Withdrawn, Some(Withdrawal::Suspended), ask, "suspended"),
            (Denial::Withdrawn, Some(Withdrawal::Removed), table, "removed"),
            (Denial::Withdrawn, None, table, "suspended, pending or removed"),
            (Denial::NoEntry, None, ask, "the ask endpoint denies it"),
            (Denial::NoEntry, None, table, "the domains table"),
            (Denial::NoEntry, None, alone, "no entry in the settings"),
        ] {
            let said = denied(denial, withdrawal, sources);
            assert!(said.contains(words), "{denial:?} {withdrawal:?} {sources:?}: {said}");
        }
    }
}
