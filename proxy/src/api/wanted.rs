//! What requests say: bodies and parameters.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::{Problem, ProblemKind},
    words::{host_or_null, listed_status, minimum_tls_or_null, rate_or_null, redirect_or_null, www_or_null},
};
use crate::{
    config::{
        DomainSettings, EventKind, Maintenance, RequestRate, SiteRedirect, TlsVersion, UpstreamHost, WwwPair,
    },
    domains::{
        admin::{Existing, Patch, PatchField, Proof, Request, Requester, Wanted},
        import::ImportRow,
    },
    name::Pattern,
    store::domain_table::{DomainStatus, Tenant},
    target::Target,
};

/// A new entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDomain {
    /// The name, in A-labels or Unicode, or `*.` and a name.
    #[schema(value_type = String, example = "shop.example.com")]
    pub(crate) domain: Pattern,
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
    /// Whether it speaks for its name with `www.` in front, or without, as well, and what requests for that get.
    #[schema(schema_with = www_or_null)]
    www: Option<WwwPair>,
    /// How many of its requests an instance answers: with a token of all tenants alone.
    #[schema(schema_with = rate_or_null)]
    request_rate: Option<RequestRate>,
    /// How many of its requests by one client an instance answers: with a token of all tenants alone.
    #[schema(schema_with = rate_or_null)]
    client_request_rate: Option<RequestRate>,
    /// Whether it is served without verification, where the settings ask for one: with a token of all tenants alone.
    #[serde(default)]
    verified: bool,
}

/// New entries, each of another name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDomains {
    /// Entries, in the order in which their rows are counted.
    #[schema(max_items = 500)]
    domains: Vec<NewDomain>,
    /// Whether entries that say something else are replaced; they stay, and their rows are refused, if not.
    #[serde(default)]
    replace: bool,
}

/// What is to change of an entry (RFC 7396): what is absent stays, `null` is as the settings have it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DomainPatch {
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
    /// Whether it speaks for its name with `www.` in front, or without, as well, and what requests for that get.
    #[serde(default, deserialize_with = "field")]
    #[schema(schema_with = www_or_null, required = false)]
    www: PatchField<WwwPair>,
    /// How many of its requests an instance answers: with a token of all tenants alone.
    #[serde(default, deserialize_with = "field")]
    #[schema(schema_with = rate_or_null, required = false)]
    request_rate: PatchField<RequestRate>,
    /// How many of its requests by one client an instance answers: with a token of all tenants alone.
    #[serde(default, deserialize_with = "field")]
    #[schema(schema_with = rate_or_null, required = false)]
    client_request_rate: PatchField<RequestRate>,
}

/// Which entries are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParameters {
    /// Of one tenant; absent, of the token's, or of all.
    #[param(value_type = Option<String>, nullable = false)]
    pub(crate) tenant: Option<Tenant>,
    /// What their names begin with, in either form: of a label that is no ASCII the whole.
    #[param(nullable = false, max_length = 253)]
    pub(crate) prefix: Option<String>,
    /// With this status; absent, with any but `removed`.
    #[param(schema_with = listed_status, required = false)]
    pub(crate) status: Option<DomainStatus>,
    /// How many at most; absent, 100.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    pub(crate) limit: Option<u16>,
    /// The `next` of the part before, with the same other parameters.
    #[param(nullable = false)]
    pub(crate) cursor: Option<String>,
}

/// Whether something is done.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeParameters {
    /// Says what would be done, and does nothing.
    #[serde(default)]
    #[param(required = false)]
    pub(crate) dry_run: bool,
}

/// Whose records are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordsParameters {
    /// Whose the entry is or will be; absent, of the token's tenant, of whose it is, or of `default`.
    #[param(value_type = Option<String>, nullable = false)]
    pub(crate) tenant: Option<Tenant>,
}

/// Which changes are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParameters {
    /// Of whose entries; absent, of the token's tenant's, or of `default`'s.
    #[param(value_type = Option<String>, nullable = false)]
    pub(crate) tenant: Option<Tenant>,
    /// On which day of UTC; absent, today.
    #[param(nullable = false, format = Date, example = "2026-11-29")]
    pub(crate) day: Option<String>,
    /// How many at most; absent, 100.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    pub(crate) limit: Option<u16>,
    /// The `next` of the part before, with the same other parameters.
    #[param(nullable = false)]
    pub(crate) cursor: Option<String>,
}

/// Which events are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParameters {
    /// Of whose entries; absent, of the token's tenant's, or of everybody's.
    #[param(value_type = Option<String>, nullable = false)]
    pub(crate) tenant: Option<Tenant>,
    /// Of which name alone.
    #[param(value_type = Option<String>, nullable = false, example = "shop.example.com")]
    pub(crate) domain: Option<Pattern>,
    /// Of which type alone.
    #[param(value_type = Option<String>, nullable = false, example = "domain.verified")]
    pub(crate) r#type: Option<EventKind>,
    /// From when on; absent, from a day ago. Events are kept for 30 days.
    #[param(nullable = false, format = DateTime, example = "2026-11-29T03:20:00Z")]
    pub(crate) since: Option<String>,
    /// How many at most; absent, 100.
    #[param(minimum = 1, maximum = 100, nullable = false)]
    pub(crate) limit: Option<u16>,
    /// The `next` of the part before, with the same other parameters.
    #[param(nullable = false)]
    pub(crate) cursor: Option<String>,
}

impl NewDomain {
    pub(crate) fn wanted(self, existing: Existing) -> (Pattern, Wanted) {
        let settings = DomainSettings {
            minimum_tls: self.minimum_tls,
            host: self.host,
            maintenance: self.maintenance,
            redirect: self.redirect,
            www: self.www,
            request_rate: self.request_rate,
            client_request_rate: self.client_request_rate,
        };
        let Self { domain, target, tenant, verified, .. } = self;
        let proof = Proof::waived(verified);
        (domain, Wanted::Present { target, settings, tenant, existing, proof })
    }
}

impl NewDomains {
    /// What they ask for, by `requester`; refused as a whole where they are too many, or two are of one name.
    pub(crate) fn rows(self, requester: &Requester) -> Result<Vec<ImportRow>, Problem> {
        few_enough(self.domains.len())?;
        let existing = Existing::replaced(self.replace);
        let mut seen = HashMap::new();
        let rows = (1..).zip(self.domains).map(|(row, new)| {
            let (pattern, wanted) = new.wanted(existing);
            if let Some(first) = seen.insert(pattern.clone(), row) {
                let name = pattern.to_string();
                let fault = format!("domains[{}].domain: `{name}` is in row {first}, too", row - 1);
                let problem = Problem::new(ProblemKind::Invalid, fault);
                let problem = problem.of(format!("domains[{}].domain", row - 1), &name);
                return Err(problem.mend("keep one of the two"));
            }
            Ok(ImportRow { row, request: Request::new(pattern, wanted, requester.clone()) })
        });
        rows.collect()
    }
}

/// Refuses more rows than are taken at once.
pub(crate) fn few_enough(rows: usize) -> Result<(), Problem> {
    if rows <= MOST_ROWS {
        return Ok(());
    }
    let problem = Problem::new(ProblemKind::Invalid, format!("domains: there are {rows}"));
    Err(problem
        .about("domains")
        .mend(format!("send at most {MOST_ROWS} at once, or write a file and use `gatehouse domain import`")))
}

impl DomainPatch {
    pub(crate) fn wanted(self) -> Wanted {
        let Self { target, minimum_tls, host, maintenance, redirect, www, request_rate, client_request_rate } =
            self;
        Wanted::Patched(Patch {
            target,
            minimum_tls,
            host,
            maintenance,
            redirect,
            www,
            request_rate,
            client_request_rate,
        })
    }
}

/// What is there: `null`, or a value.
fn field<'de, D: Deserializer<'de>, T: Deserialize<'de>>(json: D) -> Result<PatchField<T>, D::Error> {
    Option::<T>::deserialize(json).map(|value| value.map_or(PatchField::Clear, PatchField::Set))
}

/// Of an import. So many take a second or two.
const MOST_ROWS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_refused_as_a_whole() {
        let rows = |json: &str| {
            let new: NewDomains = serde_json::from_str(json).unwrap();
            new.rows(&Requester::operator("uid 0")).map_err(|problem| Box::new(problem.into_body()))
        };
        let read =
            rows(r#"{"domains": [{"domain": "a.example"}, {"domain": "*.a.example"}], "replace": true}"#);
        let read = read.unwrap();
        assert_eq!((read[1].row, read[1].request.pattern.to_string().as_str()), (2, "*.a.example"));
        assert!(matches!(read[0].request.wanted, Wanted::Present { existing: Existing::Replace, .. }));
        let twice = rows(r#"{"domains": [{"domain": "a.example"}, {"domain": "A.example."}]}"#).unwrap_err();
        assert_eq!(
            (twice.field.as_deref(), twice.value.as_deref()),
            (Some("domains[1].domain"), Some("a.example"))
        );
        let many: Vec<_> = (0..=MOST_ROWS).map(|i| format!("{{\"domain\": \"a{i}.example\"}}")).collect();
        let many = rows(&format!("{{\"domains\": [{}]}}", many.join(","))).unwrap_err();
        assert!(many.remedy.unwrap().contains("at most 500"));
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
