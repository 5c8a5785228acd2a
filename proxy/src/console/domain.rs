//! One entry: what it says, what is known of its name, and what can be done with it.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use hyper::StatusCode;

use super::{
    Console,
    done::{done, path_of, to_entry},
    failure::{Failure, page},
    fields::{Empty, Fields},
    layout::{Choice, HOST, Layout, MINIMUM_TLS, REDIRECT, Section, WWW, choices},
    nowhere,
    visitor::{SignedForm, Visitor},
};
use crate::{
    api::{
        DnsRecord, DomainPatch, DomainResource, NewSetupLink, Problem, ProblemKind, Reads, SetupLinkResource,
        Writes, administer, end_back_off, entry, link_entry, records_to_set,
    },
    certificates::listing::Summary,
    config::{DomainSettings, LimitsConfig, Maintenance, RequestRate},
    control::table::names_of,
    domains::admin::{Request, Wanted},
    name::Pattern,
    store::domain_table::DomainStatus,
};

#[derive(Template)]
#[template(path = "domain.html")]
struct DomainPage {
    layout: Layout,
    entry: DomainResource,
    path: String,
    records: Vec<DnsRecord>,
    /// Those of the names that it speaks for, its own first.
    certificates: Vec<(Pattern, CertificateState)>,
    minimum_tls: Vec<Choice>,
    hosts: Vec<Choice>,
    redirects: Vec<Choice>,
    pairs: Vec<Choice>,
    rates: ShownRates,
    /// What could not be read.
    missing: Vec<String>,
}

/// How many requests are answered, of the name and of each client of it.
struct ShownRates {
    all: ShownRate,
    each_client: ShownRate,
}

/// One of them.
struct ShownRate {
    /// As it is written in the entry; empty, the settings decide.
    own: String,
    /// What is in force.
    text: String,
}

/// What is known of the certificate of an entry.
enum CertificateState {
    /// A wildcard: each of its names has its own.
    OfEachName,
    /// Nothing.
    Nothing,
    /// What the table has.
    Stored(Box<Summary>),
}

#[derive(Template)]
#[template(path = "link.html")]
struct LinkPage {
    layout: Layout,
    path: String,
    made: SetupLinkResource,
}

#[derive(Template)]
#[template(path = "remove.html")]
struct RemovalPage {
    layout: Layout,
    entry: DomainResource,
    path: String,
}

/// What a form of the page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageAction {
    Change,
    Suspend,
    Resume,
    BeginMaintenance,
    EndMaintenance,
    Remove,
    Retry,
}

impl ShownRates {
    fn of(entry: &DomainSettings, limits: &LimitsConfig) -> Self {
        Self {
            all: ShownRate::of(entry.request_rate, limits.request_rate, "limits.request_rate"),
            each_client: ShownRate::of(
                entry.client_request_rate,
                limits.client_request_rate,
                "limits.client_request_rate",
            ),
        }
    }
}

impl ShownRate {
    /// Of an entry that says `own`, where `setting` says `general`.
    fn of(own: Option<RequestRate>, general: Option<RequestRate>, setting: &str) -> Self {
        let text = match (own, general) {
            (Some(RequestRate::Off), _) | (None, None | Some(RequestRate::Off)) => "not bounded".to_owned(),
            (Some(rate), _) => rate.to_string(),
            (None, Some(rate)) => format!("{rate}, by {setting}"),
        };
        Self { own: own.map(|rate| rate.to_string()).unwrap_or_default(), text }
    }
}

impl DomainPage {
    fn is(&self, status: DomainStatus) -> bool {
        self.entry.status == status
    }

    fn is_in_maintenance(&self) -> bool {
        self.entry.maintenance == Some(Maintenance::On)
    }

    /// Whether orders have failed that it can have placed anew.
    fn may_retry(&self) -> bool {
        self.certificates.iter().any(|(name, certificate)| match (name, certificate) {
            (Pattern::Exact(_), CertificateState::Stored(summary)) => has_failed(summary),
            _ => false,
        })
    }
}

fn has_failed(summary: &Summary) -> bool {
    summary.failures > 0 || summary.stopped_at.is_some()
}

impl PageAction {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "change" => Self::Change,
            "suspend" => Self::Suspend,
            "resume" => Self::Resume,
            "begin-maintenance" => Self::BeginMaintenance,
            "end-maintenance" => Self::EndMaintenance,
            "remove" => Self::Remove,
            "retry" => Self::Retry,
            _ => return None,
        })
    }

    /// What it makes of an entry; absent, nothing of the entry itself.
    fn wanted(self, fields: &Fields) -> Result<Option<Wanted>, Problem> {
        Ok(Some(match self {
            Self::Change => fields.read::<DomainPatch>(Empty::Null)?.wanted(),
            Self::Suspend => Wanted::Suspended,
            Self::Resume => Wanted::Resumed,
            Self::BeginMaintenance => Wanted::Maintained(Maintenance::On),
            Self::EndMaintenance => Wanted::Maintained(Maintenance::Off),
            Self::Remove => Wanted::Absent,
            Self::Retry => return Ok(None),
        }))
    }
}

pub(super) async fn show(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let holder = visitor.admitted.holder::<Reads>()?;
    let pattern = pattern(&name)?;
    let (record, checks) = entry(&console.api, &holder, &pattern).await?;
    let mut missing = Vec::new();
    let records = records_to_set(&console.api, &holder, &pattern, None).await;
    let records = records.map_or_else(
        |problem| {
            missing.push(problem.into_body().detail);
            Vec::new()
        },
        |found| found.records,
    );
    let mut certificates = Vec::new();
    let names = names_of(&console.api.instance.store, &record).await.unwrap_or_else(|error| {
        missing.push(Problem::from(error).into_body().detail);
        vec![pattern.clone()]
    });
    for name in names {
        let found = certificate(&console, &name).await.unwrap_or_else(|problem| {
            missing.push(problem.into_body().detail);
            CertificateState::Nothing
        });
        certificates.push((name, found));
    }
    let [minimum_tls, host, redirect, www] = ["minimum_tls", "host", "redirect", "www"].map(|wanted| {
        let mut texts = record.settings.texts().into_iter();
        texts.find_map(|(field, text)| text.filter(|_| field == wanted)).unwrap_or_default()
    });
    let shown = DomainPage {
        layout: Layout::of(&visitor, Section::Domains),
        path: path_of(&pattern.to_string()),
        entry: DomainResource::of(&record, checks.as_ref()),
        records,
        certificates,
        minimum_tls: choices(MINIMUM_TLS, &minimum_tls),
        hosts: choices(HOST, &host),
        redirects: choices(REDIRECT, &redirect),
        pairs: choices(WWW, &www),
        rates: ShownRates::of(&record.settings, &console.api.instance.limits.load()),
        missing,
    };
    Ok(page(StatusCode::OK, &shown))
}

async fn certificate(console: &Console, pattern: &Pattern) -> Result<CertificateState, Problem> {
    let found = console.api.instance.find_certificate(pattern).await?;
    Ok(match (found, pattern) {
        (Some(summary), _) => CertificateState::Stored(Box::new(summary)),
        (None, Pattern::Exact(_)) => CertificateState::Nothing,
        (None, Pattern::Wildcard(_)) => CertificateState::OfEachName,
    })
}

pub(super) async fn confirm_removal(
    State(console): State<Arc<Console>>,
    visitor: Visitor,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let holder = visitor.admitted.holder::<Writes>()?;
    let pattern = pattern(&name)?;
    let (record, _) = entry(&console.api, &holder, &pattern).await?;
    let asked = RemovalPage {
        layout: Layout::of(&visitor, Section::Domains),
        path: path_of(&pattern.to_string()),
        entry: DomainResource::of(&record, None),
    };
    Ok(page(StatusCode::OK, &asked))
}

pub(super) async fn act(
    State(console): State<Arc<Console>>,
    Path((name, action)): Path<(String, String)>,
    SignedForm { visitor, mut fields }: SignedForm,
) -> Result<Response, Failure> {
    let holder = visitor.admitted.holder::<Writes>()?;
    let pattern = pattern(&name)?;
    if action == LINK {
        let path = path_of(&pattern.to_string());
        let made = link_entry(&console.api, &holder, &pattern, NewSetupLink::default()).await?;
        let layout = Layout::of(&visitor, Section::Domains);
        return Ok(page(StatusCode::OK, &LinkPage { layout, path, made }));
    }
    let Some(action) = PageAction::parse(&action) else { return Err(nowhere().await) };
    let expected = fields.take_version()?;
    let Some(wanted) = action.wanted(&fields)? else {
        end_back_off(&console.api, &holder, &pattern).await?;
        return Ok(to_entry(&pattern.to_string()));
    };
    let request = Request { expected, ..Request::new(pattern, wanted, holder.requester) };
    let decision = administer(&console.api, request).await?;
    Ok(done(&visitor, &decision))
}

/// The action that changes nothing.
const LINK: &str = "link";

fn pattern(name: &str) -> Result<Pattern, Problem> {
    Pattern::parse(name)
        .map_err(|fault| Problem::new(ProblemKind::Invalid, format!("domain: {fault}")).of("domain", name))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::console) fn samples(text: &str) -> [String; 3] {
        let record = DnsRecord { name: text.into(), kind: "TXT", value: text.into(), purpose: "ownership" };
        let page = DomainPage {
            layout: Layout::sample(text),
            entry: super::super::done::tests::entry_sample(text),
            path: path_of(text),
            records: vec![record],
            certificates: vec![stored(certificate_sample(text))],
            minimum_tls: choices(MINIMUM_TLS, text),
            hosts: choices(HOST, text),
            redirects: choices(REDIRECT, text),
            pairs: choices(WWW, text),
            rates: rates_sample(),
            missing: vec![text.to_owned()],
        };
        let removal = RemovalPage {
            layout: Layout::sample(text),
            entry: super::super::done::tests::entry_sample(text),
            path: path_of(text),
        };
        let made = SetupLinkResource { domain: text.into(), url: text.into(), ends_at: text.into() };
        let link = LinkPage { layout: Layout::sample(text), path: path_of(text), made };
        [page.render().unwrap(), removal.render().unwrap(), link.render().unwrap()]
    }

    fn rates_sample() -> ShownRates {
        let limits =
            LimitsConfig { client_request_rate: Some("50/s".parse().unwrap()), ..LimitsConfig::default() };
        let entry = DomainSettings {
            request_rate: Some("20/s burst 200".parse().unwrap()),
            ..DomainSettings::default()
        };
        ShownRates::of(&entry, &limits)
    }

    #[test]
    fn rates_are_shown_to_all_and_set_by_the_operator() {
        for is_operator in [true, false] {
            let mut layout = Layout::sample("plain");
            layout.is_operator = is_operator;
            let page = page_sample(layout);
            let page = page.render().unwrap();
            assert!(page.contains("<dd>20/s burst 200</dd>"), "{page}");
            assert!(page.contains("<dd>50/s, by limits.client_request_rate</dd>"), "{page}");
            // Empty, it would be set to what the settings have.
            let field = "name=\"request_rate\" value=\"20/s burst 200\"";
            assert_eq!(page.contains(field), is_operator, "{page}");
            assert_eq!(page.contains("name=\"client_request_rate\" value=\"\""), is_operator, "{page}");
        }
    }

    #[test]
    fn what_is_in_force_is_said_with_who_says_so() {
        let rate = |text: &str| Some(text).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
        for (own, general, shown) in [
            ("", "", "not bounded"),
            ("", "off", "not bounded"),
            ("off", "9/s", "not bounded"),
            ("20/s", "9/s", "20/s"),
            ("", "9/s burst 90", "9/s burst 90, by limits.request_rate"),
        ] {
            let of = ShownRate::of(rate(own), rate(general), "limits.request_rate");
            assert_eq!((of.text.as_str(), of.own.as_str()), (shown, own), "{own} {general}");
        }
    }

    /// The page of an entry of which nothing is known beside it.
    fn page_sample(layout: Layout) -> DomainPage {
        DomainPage {
            layout,
            entry: super::super::done::tests::entry_sample("plain"),
            path: path_of("plain"),
            records: Vec::new(),
            certificates: Vec::new(),
            minimum_tls: choices(MINIMUM_TLS, ""),
            hosts: choices(HOST, ""),
            redirects: choices(REDIRECT, ""),
            pairs: choices(WWW, ""),
            rates: rates_sample(),
            missing: Vec::new(),
        }
    }

    fn stored(summary: Summary) -> (Pattern, CertificateState) {
        (summary.server_name.clone(), CertificateState::Stored(Box::new(summary)))
    }

    #[test]
    fn orders_that_failed_are_placed_anew_for_both_names_of_a_pair_and_for_no_wildcard() {
        let shown = |certificates| {
            let page = DomainPage { certificates, ..page_sample(Layout::sample("plain")) };
            page.render().unwrap()
        };
        let failed = |name: &str| {
            let server_name = Pattern::parse(name).unwrap();
            stored(Summary { server_name, certificate: None, ..certificate_sample("no answer") })
        };
        let own = || (Pattern::parse("shop.customer.test").unwrap(), CertificateState::Nothing);
        for (certificates, retries) in [
            (vec![own()], false),
            (vec![failed("shop.customer.test")], true),
            (vec![own(), failed("www.shop.customer.test")], true),
            (vec![failed("*.shop.customer.test")], false),
        ] {
            let names: Vec<_> = certificates.iter().map(|(name, _)| name.to_string()).collect();
            let page = shown(certificates);
            assert_eq!(page.contains("Retry now"), retries, "{names:?}: {page}");
            assert_eq!(page.contains("Certificate of <bdi>www.shop"), names.len() == 2, "{names:?}: {page}");
        }
    }

    fn certificate_sample(text: &str) -> Summary {
        let certificate = serde_json::json!({
            "pattern": "shop.customer.test", "issuer": text, "serial": text,
            "not_before": "2026-11-29T03:20:00.000000Z", "not_after": "2026-12-29T03:20:00.000000Z",
        });
        let summary = serde_json::json!({
            "server_name": "shop.customer.test", "certificate": certificate, "failures": 3,
            "retry_at": "2026-11-29T03:20:00.000000Z", "problem": text, "failed_within_hour": 1,
        });
        serde_json::from_value(summary).unwrap()
    }
}
