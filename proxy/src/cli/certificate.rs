//! `gatehouse certificate`.

use std::{fmt::Write, path::Path, time::Duration};

use serde::Serialize;

use crate::{
    certificates::{
        OnRequest, Ordered, Remaining, Revoked,
        listing::{CertificateKind, CertificateSummary, Row, Summary},
        own::{Imported, OwnCertificate, OwnFile, OwnRow, Removed},
        spread::{RenewalRate, SpreadPart},
    },
    clock,
    config::Config,
    control::{
        ControlClient,
        wire::{CertificatePage, Retried},
    },
    store::instant::Micros,
    whole_file::{self, SecretFileError},
};

use super::{
    access::Access, arguments::CertificateCommand, columns::Columns, error::CommandError, print, rewrap,
};

/// Asks, and writes the answer.
pub(super) async fn certificate(config: &Config, command: &CertificateCommand) -> Result<(), CommandError> {
    match command {
        CertificateCommand::List { after, limit, form } => {
            let access = Access::open(config).await?;
            print(*form, &access.certificates(after.as_ref(), *limit).await?, listed)
        }
        CertificateCommand::Show { name, form } => {
            print(*form, &Access::open(config).await?.certificate(name).await?, shown)
        }
        CertificateCommand::Obtain { name, form } => {
            print(*form, &instance(config).await?.order(name, OnRequest::Obtain).await?, ordered)
        }
        CertificateCommand::Renew { name: Some(name), form, .. } => {
            print(*form, &instance(config).await?.order(name, OnRequest::Renew).await?, ordered)
        }
        CertificateCommand::Renew { rate: Some(rate), dry_run, form, .. } => {
            print(*form, &renew_all(config, *rate, *dry_run).await?, renewed)
        }
        // The arguments' declaration asks for a name or a rate.
        CertificateCommand::Renew { .. } => Ok(()),
        CertificateCommand::Revoke { name, reason, form } => {
            print(*form, &instance(config).await?.revoke(name, *reason).await?, revoked)
        }
        CertificateCommand::Import { cert, key, form } => {
            let own = read_own(cert, key)?;
            print(*form, &Access::open(config).await?.import_own(&own).await?, imported)
        }
        CertificateCommand::Remove { name, form } => {
            print(*form, &Access::open(config).await?.remove_own(name).await?, removed)
        }
        CertificateCommand::Rewrap { clear, form } => rewrap::rewrap(config, *clear, *form).await,
        CertificateCommand::Retry { name, form } => {
            print(*form, &Access::open(config).await?.retry(name).await?, retried)
        }
    }
}

/// The running instance: only one that listens can order.
async fn instance(config: &Config) -> Result<ControlClient, CommandError> {
    let path = config.control_socket();
    ControlClient::find(&path).await?.ok_or(CommandError::NotRunning { path })
}

/// What `renew --all` has done, or would do.
#[derive(Debug, Default, Serialize)]
struct RenewedAll {
    moved: u64,
    kept: u64,
    /// The dates of the first and the last renewal.
    first: Option<Micros>,
    last: Option<Micros>,
    per_hour: u32,
    /// `certificates.renewals_per_hour`.
    most_per_hour: u64,
    dry_run: bool,
}

/// Part by part: those that have their dates keep them if the command is broken off.
async fn renew_all(config: &Config, rate: RenewalRate, dry_run: bool) -> Result<RenewedAll, CommandError> {
    let access = Access::open(config).await?;
    let most_per_hour = config.certificates.renewals_per_hour;
    let per_hour = rate.per_hour();
    let mut all = RenewedAll { per_hour, most_per_hour, dry_run, ..RenewedAll::default() };
    let step_millis = u64::try_from(rate.step().as_millis()).unwrap_or(u64::MAX).max(1);
    let (mut first, mut after) = (Micros::of(clock::wall()), None);
    loop {
        let done = access.spread_renewals(&SpreadPart { after, first, step_millis, dry_run }).await?;
        all.moved += done.moved;
        all.kept += done.kept;
        if let Some(last) = done.last {
            all.first = all.first.or(Some(first));
            all.last = Some(last);
            first = last.more(Duration::from_millis(step_millis));
        }
        after = done.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn renewed(all: &RenewedAll) -> String {
    let RenewedAll { moved, kept, per_hour, most_per_hour, dry_run, .. } = all;
    let mut text = match (all.first, all.last) {
        (Some(first), Some(last)) if *dry_run => {
            format!("{moved} certificates would be renewed, {per_hour} an hour, from {first} to {last}\n")
        }
        (Some(first), Some(last)) => {
            format!(
                "{moved} certificates are renewed by the fleet, {per_hour} an hour, from {first} to {last}\n"
            )
        }
        _ => "no certificate gets an earlier date\n".to_owned(),
    };
    if *kept > 0 {
        let _ = writeln!(text, "{kept} stay as they are: they are due earlier, or wait after failed orders");
    }
    if u64::from(*per_hour) > *most_per_hour {
        let _ = writeln!(
            text,
            "it takes longer than that: `certificates.renewals_per_hour` lets {most_per_hour} an hour through"
        );
    }
    text
}

/// Reads and checks the two files here, where they can be named, and before anybody is asked.
fn read_own(cert: &Path, key: &Path) -> Result<OwnCertificate, CommandError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        |source| CommandError::PemFile { path, source }
    };
    let chain = whole_file::read(cert, LONGEST_PEM).map_err(unreadable(cert))?;
    let private = whole_file::read_secret(key, LONGEST_PEM).map_err(|error| match error {
        SecretFileError::Unreadable(source) => unreadable(key)(source),
        SecretFileError::Exposed(mode) => CommandError::ExposedKey { path: key.to_path_buf(), mode },
    })?;
    OwnCertificate::read(&chain, &private, clock::wall()).map_err(|fault| {
        let path = match fault.file() {
            OwnFile::Chain => cert,
            OwnFile::Key => key,
        };
        CommandError::OwnFault { path: path.to_path_buf(), fault }
    })
}

fn imported(imported: &Imported) -> String {
    let names: Vec<_> = imported.names.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{}: certificate {} is served; it ends {}, and nobody renews it\n",
        names.join(", "),
        imported.serial,
        imported.not_after
    );
    for replaced in &imported.replaced {
        let _ = writeln!(text, "replaced {replaced}");
    }
    for warning in &imported.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn removed(removed: &Removed) -> String {
    let Removed { name, serial, remaining } = removed;
    let serial = serial.as_deref().unwrap_or("without a serial number");
    let mut text = format!(
        "{name}: your certificate {serial} is removed; what is ordered is served from the next handshake on\n"
    );
    for name in remaining {
        let _ = writeln!(text, "it is still served for {name}");
    }
    text
}

fn ordered(ordered: &Ordered) -> String {
    let Ordered { server_name, is_new, serial, not_after, replaced, is_unwritten } = ordered;
    let mut text = match (is_new, replaced) {
        (false, _) => {
            format!("{server_name}: nothing was ordered; certificate {serial} ends {not_after}\n")
        }
        (true, None) => format!("{server_name}: certificate {serial} was obtained; it ends {not_after}\n"),
        (true, Some(replaced)) => {
            format!(
                "{server_name}: certificate {serial} was obtained instead of {replaced}; it ends {not_after}\n"
            )
        }
    };
    if *is_unwritten {
        text.push_str("warning: the table has not taken it: this instance alone presents it, from memory\n");
    }
    text
}

fn revoked(revoked: &Revoked) -> String {
    let Revoked { server_name, serial, issuer, was_revoked, remaining } = revoked;
    let done = if *was_revoked { "had been revoked before" } else { "is revoked" };
    let next = match remaining {
        Some(Remaining { serial, issuer }) => format!(
            "warning: the table holds another one, {serial} of {issuer}, which is presented from now on and is not revoked; \
             where the key is known to others, `gatehouse certificate revoke` that one, too, or have its issuer do it"
        ),
        None => {
            format!(
                "the next handshake orders another; `gatehouse domain suspend {server_name}` prevents that"
            )
        }
    };
    format!(
        "{server_name}: certificate {serial} of {issuer} {done}, and is no longer presented; other instances follow within a minute\n{next}\n"
    )
}

fn renewal(certificate: &CertificateSummary) -> String {
    let never = || match certificate.kind {
        CertificateKind::Own => "never: it is your own, to be replaced by `gatehouse certificate import`",
        CertificateKind::Ordered => "never: it is not among the renewals any more",
    };
    certificate.renew_at.map_or_else(|| never().to_owned(), |at| at.to_string())
}

fn listed(page: &CertificatePage) -> String {
    let mut columns = Columns::new(["NAME", "EXPIRES", "RENEWED FROM", "ISSUER"]);
    for OwnRow { name, not_after, .. } in &page.own {
        columns.row([name.to_string(), not_after.to_string(), "never".to_owned(), "(your own)".to_owned()]);
    }
    for Row { listed, issuer, not_after } in &page.ordered.items {
        let expires = not_after.map_or_else(String::new, |at| at.to_string());
        let issuer = issuer.clone().unwrap_or_default();
        columns.row([listed.server_name.to_string(), expires, listed.due_at.to_string(), issuer]);
    }
    let more =
        page.ordered.next.as_ref().map_or_else(String::new, |next| format!("more: --after '{next}'\n"));
    format!("{}{more}", columns.text())
}

fn retried(retried: &Retried) -> String {
    let name = &retried.server_name;
    if retried.had_failed {
        format!(
            "{name}: its failures are forgotten; the next handshake or renewal orders a certificate, within `certificates.failures_per_hour`\n"
        )
    } else {
        format!("{name}: no order has failed, so there is nothing to forget\n")
    }
}

fn shown(summary: &Summary) -> String {
    let mut text = format!("name        {}\n", summary.server_name);
    match &summary.certificate {
        None => text.push_str("in table    no valid certificate\n"),
        Some(certificate) => {
            for (what, value) in [
                ("kept under", certificate.pattern.to_string()),
                ("issuer", certificate.issuer.clone()),
                ("serial", certificate.serial.clone()),
                ("not before", certificate.not_before.to_string()),
                ("not after", certificate.not_after.to_string()),
                ("renew at", renewal(certificate)),
            ] {
                let _ = writeln!(text, "{what:<12}{value}");
            }
        }
    }
    let of_table = summary.certificate.as_ref().map(|certificate| &certificate.serial);
    if let Some(wildcard) = &summary.ordered_for {
        let _ = writeln!(text, "ordered for {wildcard}, whose failures these are");
    }
    match &summary.presented {
        Some(serial) if summary.others.contains(serial) => {
            let _ = writeln!(text, "presented   {serial} by this instance, which the table holds, too");
        }
        Some(serial) if Some(serial) != of_table => {
            let _ = writeln!(
                text,
                "presented   {serial} by this instance, which follows the table within a minute"
            );
        }
        Some(_) => text.push_str("presented   by this instance\n"),
        None => {}
    }
    match (summary.failures, summary.problem.as_str()) {
        (0, "") => {}
        (0, problem) => drop(writeln!(text, "problem     {problem}")),
        (failures, problem) => drop(writeln!(text, "failures    {failures} in a row: {problem}")),
    }
    if let Some(since) = summary.failing_since {
        let _ = writeln!(text, "failing     since {since}");
    }
    if let Some(at) = summary.stopped_at {
        let name = &summary.server_name;
        let _ =
            writeln!(text, "stopped     {at}: nothing is ordered until `gatehouse certificate retry {name}`");
    }
    if summary.failed_within_hour > 0 {
        let count = summary.failed_within_hour;
        let _ = writeln!(text, "last hour   {count} failed of the `certificates.failures_per_hour` that may");
    }
    if let Some(since) = summary.denied_since {
        let _ = writeln!(text, "denied      since {since}: it is not renewed");
    }
    for unusable in &summary.unusable {
        let _ = writeln!(text, "unusable    {unusable}");
    }
    if let Some(retry_at) = summary.retry_at {
        let _ = writeln!(text, "retry at    {retry_at}");
    }
    text
}

/// As the control socket takes.
const LONGEST_PEM: usize = 100 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::EntryPage;

    #[test]
    fn a_list_tells_when_certificates_end_and_who_issued_them() {
        let row = |name: &str, more: &str| {
            let due = "\"due_at\": \"2026-11-24T02:15:08.123456Z\"";
            serde_json::from_str(&format!("{{\"server_name\": \"{name}\", {due}{more}}}")).unwrap()
        };
        let issued =
            ", \"issuer\": \"acme.example-directory\", \"not_after\": \"2027-01-24T02:15:08.000000Z\"";
        let own = r#"{"name": "*.own.example", "serial": "01", "not_after": "2027-01-24T02:15:08.000000Z"}"#;
        let own = vec![serde_json::from_str(own).unwrap()];
        let ordered = EntryPage {
            items: vec![row("a.example", issued), row("of-another-release.example", "")],
            next: None,
            malformed: Vec::new(),
        };
        let text = listed(&CertificatePage { own, ordered });
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "EXPIRES", "RENEWED", "FROM", "ISSUER"]);
        assert_eq!(lines[1], ["*.own.example", "2027-01-24T02:15:08.000000Z", "never", "(your", "own)"]);
        assert_eq!(
            lines[2],
            [
                "a.example",
                "2027-01-24T02:15:08.000000Z",
                "2026-11-24T02:15:08.123456Z",
                "acme.example-directory"
            ]
        );
        assert_eq!(lines[3], ["of-another-release.example", "-", "2026-11-24T02:15:08.123456Z", "-"]);
    }

    #[test]
    fn what_the_table_lacks_and_what_is_presented_are_told_apart() {
        for (presented, told) in [
            ("null", "name        a.example\nin table    no valid certificate\n"),
            (
                "\"ab12\"",
                "name        a.example\nin table    no valid certificate\n\
                 presented   ab12 by this instance, which follows the table within a minute\n",
            ),
        ] {
            let summary = format!(
                "{{\"server_name\": \"a.example\", \"certificate\": null, \"presented\": {presented}, \
                 \"failures\": 0, \"retry_at\": null, \"problem\": \"\"}}"
            );
            assert_eq!(shown(&serde_json::from_str(&summary).unwrap()), told, "{presented}");
        }
    }
}
