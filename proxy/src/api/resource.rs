//! Entries and what belongs to them, as the API writes and reads them. Not here: what they mean (`domains`).

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Object, ObjectBuilder,
        schema::{SchemaType, Type},
    },
};

use crate::{
    config::{DomainSettings, Maintenance, SiteRedirect, TlsVersion, UpstreamHost},
    domains::admin::{Decision, Existing, Patch, PatchField, Proof, Wanted},
    name::Pattern,
    store::{
        domain_table::{
            DomainRecord, DomainStatus, Tenant,
            checks::{Checks, Finding},
        },
        state_table::{AuditRecord, Change},
    },
    target::Target,
    telemetry::metrics::Label as _,
    verification::{Purpose, RecordToSet},
};

/// An entry of the domains table: a name, or a wildcard, and how it is served.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Domain)]
pub(super) struct DomainResource {
    /// The name as DNS has it (A-labels), or `*.` and a name.
    #[schema(example = "xn--bcher-kva.example")]
    domain: String,
    /// The same as people read it.
    #[schema(example = "bücher.example")]
    unicode: String,
    /// Where its requests go; absent, to `domains.default_target`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "http://10.0.0.5:8080")]
    target: Option<String>,
    /// The oldest version of TLS that its clients may speak; absent, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = minimum_tls)]
    minimum_tls: Option<TlsVersion>,
    /// Whose name its target reads in `Host`: its own, or the client's; absent, as the settings have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = host)]
    host: Option<UpstreamHost>,
    /// Whether its requests are answered with 503 in place of its target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    maintenance: Option<Maintenance>,
    /// Whether its requests are led to its name with `www.`, or without.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = redirect)]
    redirect: Option<SiteRedirect>,
    /// Whether it is served: `active` and `failing` are, `pending`, `suspended` and `removed` are not.
    #[schema(schema_with = status)]
    status: DomainStatus,
    /// Whose it is.
    tenant: String,
    /// Counts its changes, and is its `ETag`. An entry made by hand has 0.
    version: u64,
    /// When it was made; absent for an entry made by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "2026-11-29T03:20:00.000000Z")]
    created_at: Option<String>,
    /// When it last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    changed_at: Option<String>,
    /// What the last checks of its name found; absent in lists and changes, and before the first. They are no change of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    checks: Option<ChecksResource>,
}

/// What the last checks of a name found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Checks)]
pub(super) struct ChecksResource {
    /// When they were made.
    checked_at: String,
    /// How many in a row found something wrong.
    failures: u32,
    /// Since when the name leads elsewhere, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    away_since: Option<String>,
    /// One of each check that was made.
    findings: Vec<FindingResource>,
}

/// What one check found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub(super) struct FindingResource {
    /// Which: `dns`, `ownership`, `caa`, `https`.
    check: &'static str,
    /// `passed`, `failed`, or `unknown`, where no answer came.
    outcome: &'static str,
    /// What was found, for programs.
    #[schema(example = "leads_elsewhere")]
    reason: &'static str,
    /// What was found, for people.
    detail: String,
    /// What the name's owner can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    remedy: Option<String>,
}

/// Part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DomainList {
    /// Entries; there may be none although more follow.
    pub(super) items: Vec<DomainResource>,
    /// The `cursor` of the next part; absent, this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) next: Option<String>,
}

/// What was done, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Changed)]
pub(super) struct ChangedResource {
    /// The entry as it is now.
    domain: DomainResource,
    /// `add`, `replace`, `remove`, `suspend`, `resume`, or `keep`, where it was so already.
    action: &'static str,
    /// What is not as it was.
    changes: Vec<ChangeResource>,
    /// What still stands in the way, or may not be meant.
    warnings: Vec<String>,
}

/// A part of an entry that is not as it was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(super) struct ChangeResource {
    /// Which.
    field: String,
    /// As it was; absent, there was no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    from: Option<String>,
    /// As it is; absent, there is no entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    to: Option<String>,
}

/// A new entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDomain {
    /// The name, in A-labels or Unicode, or `*.` and a name.
    #[schema(value_type = String, example = "shop.example.com")]
    pub(super) domain: Pattern,
    /// Where its requests go; absent, to `domains.default_target`.
    #[schema(value_type = Option<String>, example = "http://10.0.0.5:8080")]
    target: Option<Target>,
    /// Whose it is; absent, of the token's tenant, or of `default`.
    #[schema(value_type = Option<String>)]
    tenant: Option<Tenant>,
    /// The oldest version of TLS that its clients may speak.
    #[schema(schema_with = minimum_tls_or_null)]
    minimum_tls: Option<TlsVersion>,
    /// Whose name its target reads in `Host`: its own, or the client's.
    #[schema(schema_with = host_or_null)]
    host: Option<UpstreamHost>,
    /// Whether its requests are answered with 503 in place of its target.
    #[schema(value_type = Option<bool>)]
    maintenance: Option<Maintenance>,
    /// Whether its requests are led to its name with `www.`, or without.
    #[schema(schema_with = redirect_or_null)]
    redirect: Option<SiteRedirect>,
    /// Whether it is served without verification, where the settings ask for one: with a token of all tenants alone.
    #[serde(default)]
    verified: bool,
}

/// What is to change of an entry (RFC 7396): what is absent stays, `null` is as the settings have it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainPatch {
    /// Where its requests go.
    #[serde(default, deserialize_with = "field")]
    #[schema(value_type = Option<String>)]
    target: PatchField<Target>,
    /// The oldest version of TLS that its clients may speak.
    #[serde(default, deserialize_with = "field")]
    #[schema(schema_with = minimum_tls_or_null, required = false)]
    minimum_tls: PatchField<TlsVersion>,
    /// Whose name its target reads in `Host`: its own, or the client's.
    #[serde(default, deserialize_with = "field")]
    #[schema(schema_with = host_or_null, required = false)]
    host: PatchField<UpstreamHost>,
    /// Whether its requests are answered with 503 in place of its target.
    #[serde(default, deserialize_with = "field")]
    #[schema(value_type = Option<bool>)]
    maintenance: PatchField<Maintenance>,
    /// Whether its requests are led to its name with `www.`, or without.
    #[serde(default, deserialize_with = "field")]
    #[schema(schema_with = redirect_or_null, required = false)]
    redirect: PatchField<SiteRedirect>,
}

/// Which entries are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// Of one tenant; absent, of the token's, or of all.
    #[param(value_type = Option<String>, nullable = false)]
    pub(super) tenant: Option<Tenant>,
    /// What their names begin with.
    #[param(nullable = false, max_length = 253)]
    pub(super) prefix: Option<String>,
    /// With this status; absent, with any but `removed`.
    #[param(schema_with = listed_status, required = false)]
    pub(super) status: Option<DomainStatus>,
    /// How many at most; absent, 100.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    pub(super) limit: Option<u16>,
    /// The `next` of the part before, with the same other parameters.
    #[param(nullable = false)]
    pub(super) cursor: Option<String>,
}

/// Whether something is done.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangeParameters {
    /// Says what would be done, and does nothing.
    #[serde(default)]
    #[param(required = false)]
    pub(super) dry_run: bool,
}

/// Whose records are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RecordsParameters {
    /// Whose the entry is or will be; absent, of the token's tenant, of whose it is, or of `default`.
    #[param(value_type = Option<String>, nullable = false)]
    pub(super) tenant: Option<Tenant>,
}

/// A DNS record that the owner of a name sets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DnsRecord {
    /// Where.
    #[schema(example = "shop.example.com")]
    name: String,
    /// `CNAME`, `A`, `AAAA` or `TXT`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// What it holds.
    #[schema(example = "edge.example.net")]
    value: String,
    /// `traffic`, which leads clients here, or `ownership`, which proves whose the name is.
    purpose: &'static str,
}

/// The DNS records of a name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DnsRecords {
    /// All that are to be set.
    pub(super) records: Vec<DnsRecord>,
}

/// Which changes are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParameters {
    /// Of whose entries; absent, of the token's tenant's, or of `default`'s.
    #[param(value_type = Option<String>, nullable = false)]
    pub(super) tenant: Option<Tenant>,
    /// On which day of UTC; absent, today.
    #[param(nullable = false, format = Date, example = "2026-11-29")]
    pub(super) day: Option<String>,
    /// How many at most; absent, 100.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    pub(super) limit: Option<u16>,
    /// The `next` of the part before, with the same other parameters.
    #[param(nullable = false)]
    pub(super) cursor: Option<String>,
}

/// Part of the changes of a day, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditList {
    /// Changes.
    pub(super) items: Vec<AuditEntry>,
    /// The `cursor` of the next part; absent, this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) next: Option<String>,
}

/// A change of an entry, and who made it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditEntry {
    /// When.
    at: String,
    /// Who: a token by its id, a user of the instance's machine, or `verification`.
    #[schema(example = "token 0123456789ab")]
    by: String,
    /// Which entry.
    domain: String,
    /// Whose it is, or was.
    tenant: String,
    /// What was done.
    action: String,
    /// What is not as it was.
    changes: Vec<ChangeResource>,
}

/// The API answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`.
    pub(super) status: &'static str,
}

impl DomainResource {
    /// An entry, and what was found out about its name.
    pub(super) fn of(record: &DomainRecord, checks: Option<&Checks>) -> Self {
        let domain = record.pattern.to_string();
        let (unicode, _) = idna::domain_to_unicode(&domain);
        let DomainSettings { minimum_tls, host, maintenance, redirect } = record.settings;
        Self {
            unicode,
            domain,
            target: record.target.as_ref().map(ToString::to_string),
            minimum_tls,
            host,
            maintenance,
            redirect,
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
    pub(super) fn of(decision: &Decision) -> Self {
        let report = &decision.report;
        Self {
            domain: DomainResource::of(&decision.record, None),
            action: report.action.as_str(),
            changes: report.changes.iter().map(ChangeResource::of).collect(),
            warnings: report.warnings.clone(),
        }
    }
}

impl ChangeResource {
    fn of(change: &Change) -> Self {
        Self { field: change.field.clone(), from: change.from.clone(), to: change.to.clone() }
    }
}

impl NewDomain {
    pub(super) fn wanted(self) -> (Pattern, Wanted) {
        let Self { domain, target, tenant, minimum_tls, host, maintenance, redirect, verified } = self;
        let settings = DomainSettings { minimum_tls, host, maintenance, redirect };
        let proof = Proof::waived(verified);
        (domain, Wanted::Present { target, settings, tenant, existing: Existing::Keep, proof })
    }
}

impl DomainPatch {
    pub(super) fn wanted(self) -> Wanted {
        let Self { target, minimum_tls, host, maintenance, redirect } = self;
        Wanted::Patched(Patch { target, minimum_tls, host, maintenance, redirect })
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

/// What is there: `null`, or a value.
fn field<'de, D: Deserializer<'de>, T: Deserialize<'de>>(json: D) -> Result<PatchField<T>, D::Error> {
    Option::<T>::deserialize(json).map(|value| value.map_or(PatchField::Clear, PatchField::Set))
}

fn word(values: &[&str], description: &str) -> Object {
    let word = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    word.enum_values(Some(values.iter().copied())).build()
}

fn word_or_null(values: &[&str], description: &str) -> Object {
    let values = values.iter().map(|value| Some(*value)).chain([None]);
    let either = SchemaType::from_iter([Type::String, Type::Null]);
    let word = ObjectBuilder::new().schema_type(either).description(Some(description));
    word.enum_values(Some(values)).build()
}

fn minimum_tls() -> Object {
    word(
        &MINIMUM_TLS,
        "The oldest version of TLS that its clients may speak; absent, as the settings have it.",
    )
}

fn minimum_tls_or_null() -> Object {
    word_or_null(&MINIMUM_TLS, "The oldest version of TLS that its clients may speak.")
}

fn host() -> Object {
    word(
        &HOST,
        "Whose name its target reads in `Host`: its own, or the client's; absent, as the settings have it.",
    )
}

fn host_or_null() -> Object {
    word_or_null(&HOST, "Whose name its target reads in `Host`: its own, or the client's.")
}

fn redirect() -> Object {
    word(&REDIRECT, "Whether its requests are led to its name with `www.`, or without.")
}

fn redirect_or_null() -> Object {
    word_or_null(&REDIRECT, "Whether its requests are led to its name with `www.`, or without.")
}

fn status() -> Object {
    word(
        &STATUS,
        "Whether it is served: `active` and `failing` are, `pending`, `suspended` and `removed` are not.",
    )
}

fn listed_status() -> Object {
    word(&STATUS, "With this status; absent, with any but `removed`.")
}

const MINIMUM_TLS: [&str; 2] = ["1.2", "1.3"];
const HOST: [&str; 2] = ["target", "client"];
const REDIRECT: [&str; 3] = ["off", "www", "apex"];
const STATUS: [&str; 5] = ["pending", "active", "failing", "suspended", "removed"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Schemas are written by hand where types have their own form.
    #[test]
    fn the_words_of_the_schema_are_those_of_the_types() {
        let read = |words: &[&str], is_one: fn(&str) -> bool| {
            assert!(words.iter().all(|word| is_one(&format!("\"{word}\""))), "{words:?}");
            assert!(!is_one("\"other\""));
        };
        read(&MINIMUM_TLS, |text| serde_json::from_str::<TlsVersion>(text).is_ok());
        read(&HOST, |text| serde_json::from_str::<UpstreamHost>(text).is_ok());
        read(&REDIRECT, |text| serde_json::from_str::<SiteRedirect>(text).is_ok());
        read(&STATUS, |text| serde_json::from_str::<DomainStatus>(text).is_ok());
        assert_eq!(
            (MINIMUM_TLS.len(), HOST.len(), REDIRECT.len()),
            (TlsVersion::ALL.len(), UpstreamHost::ALL.len(), SiteRedirect::ALL.len())
        );
    }

    #[test]
    fn a_patch_tells_what_is_absent_from_null() {
        let patch: DomainPatch = serde_json::from_str(r#"{"target": null, "host": "client"}"#).unwrap();
        let Wanted::Patched(patch) = patch.wanted() else { panic!("a patch") };
        assert_eq!(
            patch,
            Patch {
                target: PatchField::Clear,
                host: PatchField::Set(UpstreamHost::Client),
                ..Patch::default()
            }
        );
        assert!(serde_json::from_str::<DomainPatch>(r#"{"status": "active"}"#).is_err());
        assert!(serde_json::from_str::<DomainPatch>(r#"{"tenant": "acme"}"#).is_err());
    }
}
