//! `gatehouse status`.

use std::{fmt::Write, net::SocketAddr};

use crate::{
    config::Config,
    control::{ControlClient, wire::InstanceStatus},
    domains::{AskState, Revision},
    guard::{GuardReport, GuardStatus},
    tls::tickets::TicketKeySource,
    webhooks::standing::{Condition, WebhookStanding},
};

use super::{arguments::Form, columns::Columns, error::CommandError, print};

/// Asks the instance, and writes what it does.
pub(super) async fn status(config: &Config, form: Form) -> Result<(), CommandError> {
    let path = config.control_socket();
    let client = ControlClient::find(&path).await?.ok_or(CommandError::NotRunning { path })?;
    print(form, &client.status().await?, shown)
}

fn shown(status: &InstanceStatus) -> String {
    let mut text =
        format!("gatehouse {}: {}, for {}\n\n", status.version, status.phase.describe(), status.uptime());
    let workers = format!("{} on {}", status.workers, status.io);
    let metrics =
        status.metrics.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    for (what, value) in [
        ("process", status.pid.to_string()),
        ("https", listed(&status.https)),
        ("http", listed(&status.http)),
        ("workers", workers),
        ("connections", status.connections.to_string()),
        ("names", names(status)),
        ("ask", ask(status.ask).to_owned()),
        (
            "instance",
            status.instance.as_ref().map_or_else(|| "not known to be on EC2".to_owned(), ToString::to_string),
        ),
        ("store", status.store.clone()),
        ("issuers", listed(&status.issuers)),
        ("tickets", tickets(status.tickets).to_owned()),
        ("metrics", metrics),
        ("api", off_or(status.api)),
        ("ask server", off_or(status.ask_server)),
    ] {
        let _ = writeln!(text, "{what:<12}{value}");
    }
    for standing in status.webhooks.iter().filter(|standing| standing.is_failing()) {
        let _ = writeln!(text, "webhook     {}", failing(standing));
    }
    match &status.guard {
        GuardStatus::Off => text.push_str("guard       off: `guard.interfaces` is empty\n"),
        GuardStatus::On(report) => guard(&mut text, report),
    }
    text
}

fn off_or(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

fn names(status: &InstanceStatus) -> String {
    match status.names {
        0 => "0; add one: `gatehouse domain add NAME --target URL`".to_owned(),
        names => format!("{names} ({})", revision(status.revision)),
    }
}

fn revision(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "not all lists were read yet".to_owned(), |number| format!("revision {number}"))
}

fn ask(state: AskState) -> &'static str {
    match state {
        AskState::Off => "off: `domains.ask` is not set",
        AskState::Answers => "answers",
        AskState::Silent => "does not answer; the log says why",
    }
}

fn tickets(source: Option<TicketKeySource>) -> &'static str {
    match source {
        Some(TicketKeySource::Shared) => "sealed with the fleet's key: sessions resume at every instance",
        Some(TicketKeySource::Local) => "sealed with a key of this process: sessions resume here alone",
        None => "-",
    }
}

fn failing(standing: &WebhookStanding) -> String {
    let problem = standing.problem.as_deref().unwrap_or("-");
    match (standing.condition, standing.retry_at) {
        (Condition::Ended, _) => format!(
            "{name} is sent nothing any more: {problem}; `gatehouse events replay --webhook {name}` goes on",
            name = standing.name
        ),
        (_, Some(at)) => format!("{} fails: {problem}; the next attempt is at {at}", standing.name),
        (_, None) => format!("{} fails: {problem}", standing.name),
    }
}

fn guard(text: &mut String, report: &GuardReport) {
    let _ = writeln!(text, "guard       {}, enforcement {}", report.mode, report.enforcement);
    for interface in &report.interfaces {
        let link = interface.link.map_or_else(|| "detached".to_owned(), |id| format!("link {id}"));
        let _ = writeln!(text, "  interface {} ({}, {link})", interface.name, report.attach);
    }
    let program = &report.program;
    let _ = writeln!(text, "  program   {} {} {}", program.id, program.name, program.tag);
    let _ = writeln!(
        text,
        "  names     {} of {} ({})\n",
        report.names,
        report.names_capacity,
        revision(report.revision)
    );
    let mut columns = Columns::new(["  VERDICT", "PACKETS", "BYTES"]);
    for row in report.verdicts.iter().filter(|row| row.packets > 0) {
        columns.row([format!("  {}", row.verdict), row.packets.to_string(), row.bytes.to_string()]);
    }
    text.push_str(&columns.text());
}

fn listed(items: &[impl ToString]) -> String {
    if items.is_empty() {
        return "-".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
