//! `gatehouse fleet`.

use std::fmt::Write as _;

use super::{access::Access, arguments::Form, columns::Columns, error::CommandError, print};
use crate::{
    config::Config,
    control::fleet::{Fleet, FleetInstance, GuardSummary},
};

/// Asks, and writes the answer.
pub(super) async fn status(config: &Config, form: Form) -> Result<(), CommandError> {
    let fleet = Access::open(config).await?.fleet().await?;
    print(form, &fleet, shown)?;
    let warned = fleet.instances.iter().filter(|instance| !instance.warnings.is_empty()).count();
    if warned == 0 { Ok(()) } else { Err(CommandError::FleetWarned { warned }) }
}

fn shown(fleet: &Fleet) -> String {
    if fleet.instances.is_empty() {
        return "no instance was heard of within the last hour\n".to_owned();
    }
    let mut columns = Columns::new([
        "INSTANCE",
        "HOST",
        "REGION",
        "RELEASE",
        "PHASE",
        "NAMES",
        "CONNECTIONS",
        "GUARD",
        "SEEN",
    ]);
    for instance in &fleet.instances {
        columns.row(row(instance));
    }
    let mut text = columns.text();
    for instance in &fleet.instances {
        for warning in &instance.warnings {
            let _ = writeln!(text, "\nwarning: {}: {}", instance.id, warning.detail);
        }
        if let Some(last) = instance.report.last_warning.as_ref().filter(|_| !instance.warnings.is_empty()) {
            let _ = writeln!(text, "         its log, {}: {}", last.at, last.text);
        }
    }
    text
}

fn row(instance: &FleetInstance) -> [String; 9] {
    let report = &instance.report;
    [
        instance.id.clone(),
        report.host.clone(),
        report.region.clone().unwrap_or_default(),
        report.version.clone(),
        report.phase.clone(),
        report.names.to_string(),
        report.connections.to_string(),
        report.guard.as_ref().map_or_else(|| "off".to_owned(), guard),
        format!("{} s ago", instance.seen_seconds_ago),
    ]
}

fn guard(guard: &GuardSummary) -> String {
    let GuardSummary { mode, enforcement, attach, names, .. } = guard;
    format!("{mode} ({enforcement}), {attach}, {names} names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_stands_below_the_list_with_the_last_line_of_the_log() {
        let fleet: Fleet = serde_json::from_value(serde_json::json!({ "instances": [
            {
                "id": "i-a", "seen_at": "2026-11-29T03:20:00.000000Z", "seen_seconds_ago": 12, "version": "1.0.0", "phase": "serving",
                "names": 3, "warnings": [],
                "guard": { "mode": "strict", "enforcement": "on", "attach": "native", "names": 3 },
            },
            {
                "id": "i-b", "seen_at": "2026-11-29T03:20:00.000000Z", "seen_seconds_ago": 240, "version": "1.0.0", "phase": "serving",
                "last_warning": { "at": "2026-11-29T03:19:00.000000Z", "text": "the table is gone" },
                "warnings": [{ "kind": "silent", "detail": "it has said nothing for 4 min" }],
            },
        ] }))
        .unwrap();
        let text = shown(&fleet);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("strict (on), native, 3 names  12 s ago"), "{text}");
        assert!(lines[2].contains(" off ") && lines[2].ends_with("240 s ago"), "{text}");
        assert_eq!(lines[4], "warning: i-b: it has said nothing for 4 min");
        assert_eq!(lines[5], "         its log, 2026-11-29T03:19:00.000000Z: the table is gone");
        assert_eq!(
            shown(&Fleet { instances: Vec::new() }),
            "no instance was heard of within the last hour\n"
        );
    }
}
