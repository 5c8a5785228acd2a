//! Entries and what belongs to them, as the API writes them. Not here: what they mean (`domains`).

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    problem::{Problem, ProblemBody},
    words::{
        action, check, host, minimum_tls, outcome, purpose, rate, reason, record_type, redirect, status, www,
    },
};
use crate::{
    config::{DomainSettings, Maintenance, RequestRate, SiteRedirect, TlsVersion, UpstreamHost, WwwPair},
    domains::{
        admin::Decision,
        import::{ImportReport, RowOutcome, RowReport},
    },
    store::{
        domain_table::{
            DomainRecord, DomainStatus,
            checks::{Checks, Finding},
        },
        state_table::{AuditRecord, Change},
    },
    telemetry::metrics::Label as _,
    verification::{Purpose, RecordToSet},
};

/// An entry of the domains table: a name, or a wildcard, and how it is served.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Domain)]
pub(crate) struct DomainResource {
    /// The name as DNS has it (A-labels), or `*.` and a name.
    #[schema(example = "xn--bcher-kva.example")]
    pub(crate) domain: String,
    /// The same as people read it.
    #[schema(example = "bücher.example")]
    pub(crate) unicode: String,
    /// Where its requests go; absent, to `domains.default_target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "http://10.0.0.5:8080")]
    pub(crate) target: Option<String>,
    /// The oldest version of TLS that its clients may speak; absent, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = minimum_tls)]
    pub(crate) minimum_tls: Option<TlsVersion>,
    /// Whose name its target reads in `Host`: its own, or the client's; absent, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = host)]
    pub(crate) host: Option<UpstreamHost>,
    /// Whether its requests are answered with 503 in place of its target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    pub(crate) maintenance: Option<Maintenance>,
    /// Whether its requests are led to its name with `www.`, or without.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = redirect)]
    pub(crate) redirect: Option<SiteRedirect>,
    /// Whether it speaks for its name with `www.` in front, or without, as well, and what requests for that get.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = www)]
    pub(crate) www: Option<WwwPair>,
    /// How many of its requests an instance answers; absent, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = rate)]
    pub(crate) request_rate: Option<RequestRate>,
    /// How many of its requests by one client an instance answers; absent, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = rate)]
    pub(crate) client_request_rate: Option<RequestRate>,
    /// Whether it is served: `active` and `failing` are, `pending`, `suspended` and `removed` are not.
    #[schema(schema_with = status)]
    pub(crate) status: DomainStatus,
    /// Whose it is.
    pub(crate) tenant: String,
    /// Counts its changes, and is its `ETag`. An entry made by hand has 0.
    pub(crate) version: u64,
    /// When it was made; absent for an entry made by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "2026-11-29T03:20:00.000000Z")]
    pub(crate) created_at: Option<String>,
    /// When it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) changed_at: Option<String>,
    /// What the last checks of its name found; absent in lists and changes, and before the first. They are no change of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) checks: Option<ChecksResource>,
}

/// What the last checks of a name found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checks)]
pub(crate) struct ChecksResource {
    /// When they were made.
    pub(crate) checked_at: String,
    /// How many in a row found something wrong.
    pub(crate) failures: u32,
    /// Since when the name leads elsewhere, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) away_since: Option<String>,
    /// One of each check that was made.
    pub(crate) findings: Vec<FindingResource>,
}

/// What one check found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub(crate) struct FindingResource {
    /// Which: `dns`, `ownership`, `caa`, `https`.
    #[schema(schema_with = check)]
    pub(crate) check: &'static str,
    /// `passed`, `failed`, or `unknown`, where no answer came.
    #[schema(schema_with = outcome)]
    pub(crate) outcome: &'static str,
    /// What was found, for programs.
    #[schema(schema_with = reason)]
    pub(crate) reason: &'static str,
    /// What was found, for people.
    pub(crate) detail: String,
    /// What the name's owner can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) remedy: Option<String>,
}

/// Part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DomainList {
    /// Entries; there may be none although more follow.
    pub(crate) items: Vec<DomainResource>,
    /// The `cursor` of the next part; absent, this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<String>,
}

/// What was done, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Changed)]
pub(crate) struct ChangedResource {
    /// The entry as it is now.
    pub(crate) domain: DomainResource,
    /// `add`, `replace`, `remove`, `suspend`, `resume`, or `keep`, where it was so already.
    #[schema(schema_with = action)]
    pub(crate) action: &'static str,
    /// What is not as it was.
    pub(crate) changes: Vec<ChangeResource>,
    /// What still stands in the way, or may not be meant.
    pub(crate) warnings: Vec<String>,
}

/// A part of an entry that is not as it was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeResource {
    /// Which.
    pub(crate) field: String,
    /// As it was; absent, there was no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) from: Option<String>,
    /// As it is; absent, there is no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) to: Option<String>,
}

/// A DNS record that the owner of a name sets.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DnsRecord {
    /// Where.
    #[schema(example = "shop.example.com")]
    pub(crate) name: String,
    /// `CNAME`, `A`, `AAAA` or `TXT`.
    #[serde(rename = "type")]
    #[schema(schema_with = record_type)]
    pub(crate) kind: &'static str,
    /// What it holds.
    #[schema(example = "edge.example.net")]
    pub(crate) value: String,
    /// `traffic`, which leads clients here, or `ownership`, which proves whose the name is.
    #[schema(schema_with = purpose)]
    pub(crate) purpose: &'static str,
}

/// The DNS records of a name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DnsRecords {
    /// All that are to be set.
    pub(crate) records: Vec<DnsRecord>,
}

/// Part of the changes of a day, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// Changes.
    pub(crate) items: Vec<AuditEntry>,
    /// The `cursor` of the next part; absent, this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next: Option<String>,
}

/// A change of an entry, and who made it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// When.
    pub(crate) at: String,
    /// Who: a token by its id, a user of the instance's machine, or `verification`.
    #[schema(example = "token 0123456789ab")]
    pub(crate) by: String,
    /// Which entry.
    pub(crate) domain: String,
    /// Whose it is, or was.
    pub(crate) tenant: String,
    /// What was done.
    pub(crate) action: String,
    /// What is not as it was.
    pub(crate) changes: Vec<ChangeResource>,
}

/// What has become of the back-off of a name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Retry {
    /// The name.
    pub(crate) domain: String,
    /// Whether there was one, which has ended.
    pub(crate) had_failed: bool,
}

/// What became of new entries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Import)]
pub(crate) struct ImportResource {
    /// Whether nothing was written.
    pub(crate) dry_run: bool,
    /// Entries that are new.
    pub(crate) added: usize,
    /// Entries that said something else.
    pub(crate) changed: usize,
    /// Entries that said the same already.
    pub(crate) unchanged: usize,
    /// Rows that nothing came of.
    pub(crate) refused: usize,
    /// In their order, without those whose entries said the same.
    pub(crate) rows: Vec<ImportRowResource>,
}

/// What became of one of them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportRow)]
pub(crate) struct ImportRowResource {
    /// Its place among those of the request, from 1.
    pub(crate) row: usize,
    /// Its name.
    pub(crate) domain: String,
    /// `add`, `replace` or `keep`; absent, it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) action: Option<&'static str>,
    /// What is not as it was.
    pub(crate) changes: Vec<ChangeResource>,
    /// What still stands in the way, or may not be meant.
    pub(crate) warnings: Vec<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) problem: Option<ProblemBody>,
}

/// The API answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    pub(crate) status: &'static str,
}

impl DomainResource {
    /// An entry, and what was found out about its name.
    pub(crate) fn of(record: &DomainRecord, checks: Option<&Checks>) -> Self {
        let domain = record.pattern.to_string();
        let (unicode, _) = idna::domain_to_unicode(&domain);
        let DomainSettings {
            minimum_tls,
            host,
            maintenance,
            redirect,
            www,
            request_rate,
            client_request_rate,
        } = record.settings;
        Self {
            unicode,
            domain,
            target: record.target.as_ref().map(ToString::to_string),
            minimum_tls,
            host,
            maintenance,
            redirect,
            www,
            request_rate,
            client_request_rate,
            status: record.status,
            tenant: record.tenant.clone(),
            version: record.version,
            created_at: record.created_at.map(|at| at.to_string()),
            changed_at: record.changed_at.map(|at| at.to_string()),
            checks: checks.map(ChecksResource::of),
        }
    }
}

impl ChecksResource {
    fn of(checks: &Checks) -> Self {
        Self {
            checked_at: checks.checked_at.to_string(),
            failures: checks.failures,
            away_since: checks.away_since.map(|since| since.to_string()),
            findings: checks.findings.iter().map(FindingResource::of).collect(),
        }
    }
}

impl FindingResource {
    fn of(finding: &Finding) -> Self {
        Self {
            check: finding.check.as_str(),
            outcome: finding.outcome.as_str(),
            reason: finding.reason.as_str(),
            detail: finding.detail.clone(),
            remedy: finding.remedy.clone(),
        }
    }
}

impl ChangedResource {
    pub(crate) fn of(decision: &Decision) -> Self {
        let report = &decision.report;
        Self {
            domain: DomainResource::of(&decision.record, None),
            action: report.action.as_str(),
            changes: report.changes.iter().map(ChangeResource::of).collect(),
            warnings: report.warnings.clone(),
        }
    }
}

impl From<ImportReport<Problem>> for ImportResource {
    fn from(report: ImportReport<Problem>) -> Self {
        let ImportReport { dry_run, added, changed, unchanged, refused, rows } = report;
        let rows = rows.into_iter().map(Into::into).collect();
        Self { dry_run, added, changed, unchanged, refused, rows }
    }
}

impl From<RowReport<Problem>> for ImportRowResource {
    fn from(RowReport { row, domain, outcome }: RowReport<Problem>) -> Self {
        let (domain, changes, warnings) = (domain.to_string(), Vec::new(), Vec::new());
        let told = Self { row, domain, action: None, changes, warnings, problem: None };
        match outcome {
            RowOutcome::Done(report) => Self {
                action: Some(report.action.as_str()),
                changes: report.changes.iter().map(ChangeResource::of).collect(),
                warnings: report.warnings,
                ..told
            },
            RowOutcome::Refused(problem) => Self { problem: Some(problem.into_body()), ..told },
        }
    }
}

impl ChangeResource {
    fn of(change: &Change) -> Self {
        Self { field: change.field.clone(), from: change.from.clone(), to: change.to.clone() }
    }
}

impl From<RecordToSet> for DnsRecord {
    fn from(record: RecordToSet) -> Self {
        let purpose = match record.purpose {
            Purpose::Traffic => "traffic",
            Purpose::Ownership => "ownership",
        };
        Self { name: record.name, kind: record.kind, value: record.value, purpose }
    }
}

impl From<AuditRecord> for AuditEntry {
    fn from(record: AuditRecord) -> Self {
        Self {
            at: record.at.to_string(),
            by: record.by,
            domain: record.domain.to_string(),
            tenant: record.tenant,
            action: record.action,
            changes: record.changes.iter().map(ChangeResource::of).collect(),
        }
    }
}
