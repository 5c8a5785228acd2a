//! What proves that names lead here.

use std::time::Duration;

use super::{Config, Findings};
use crate::config::RequiredProof;

pub(super) fn verification(config: &Config, findings: &mut Findings) {
    let verification = &config.verification;
    if verification.required != RequiredProof::None {
        let fault = format!("`{}` and no name to compare with", verification.required);
        if verification.edge_names.is_empty() {
            let remedy = "give the name that customers' CNAME records hold, like `[\"edge.example.net\"]`";
            findings.add("verification.edge_names", fault, remedy);
        } else if !config.domains.table {
            let fault = format!(
                "`{}` and `domains.table = false`: there is no entry to verify",
                verification.required
            );
            findings.add("verification.required", fault, "write `none`, or read the table");
        }
    }
    for (field, span, least, most) in [
        ("verification.interval", verification.interval, Duration::from_secs(10), MONTH),
        ("verification.pending_for", verification.pending_for, MINUTE, MONTH * 12),
        ("verification.moved_for", verification.moved_for, Duration::ZERO, MONTH * 12),
    ] {
        if *span < least || *span > most {
            let remedy = format!("write `{}s` to `{}s`", least.as_secs(), most.as_secs());
            findings.add(field, format!("`{span}` is out of bounds"), remedy);
        }
    }
}

const MINUTE: Duration = Duration::from_mins(1);
const MONTH: Duration = Duration::from_hours(30 * 24);
