//! What a tenant may do, and what they learn of others.

use super::*;
use crate::config::WwwPair;

const OWN: &str = "acme";

fn by_tenant(name: &str, wanted: Wanted) -> Request {
    let by = Requester { authority: Authority::Tenant(OWN.parse().unwrap()), name: "token 1".to_owned() };
    Request::new(pattern(name), wanted, by)
}

fn decide_for(
    request: &Request,
    there: Option<&DomainRecord>,
    overlap: Overlap,
) -> Result<Decision, Refusal> {
    let listed =
        [StaticDomain { name: pattern("fixed.example"), target: None, settings: DomainSettings::default() }];
    let reserved = vec![pattern("console.example"), pattern("*.edge.example"), pattern("a.vault.example")];
    let rules = Rules { reserved, ..lenient() };
    let others = Others { overlap, ..Others::default() };
    decide(request, there, &others, Sources { listed: &listed, ..TABLE }, &rules, at(9))
}

/// A request of a tenant for a pair, beside `others`, where ownership is proven or not asked for.
fn pair_decided(
    by: Requester,
    name: &str,
    others: &Others,
    required: RequiredProof,
) -> Result<Decision, Refusal> {
    let pair = |www| DomainSettings { www: Some(www), ..DomainSettings::default() };
    let entry = |name, www| StaticDomain { name: pattern(name), target: None, settings: pair(www) };
    let listed = [entry("www.fixed.example", WwwPair::Off), entry("both.example", WwwPair::Redirect)];
    let rules = Rules { reserved: vec![pattern("www.console.example")], required, ..lenient() };
    let mut wanted = present("https://b.example.net", "", Existing::Keep);
    if let Wanted::Present { settings, .. } = &mut wanted {
        *settings = pair(WwwPair::Redirect);
    }
    let request = Request::new(pattern(name), wanted, by);
    decide(&request, None, others, Sources { listed: &listed, ..TABLE }, &rules, at(9))
}

#[test]
fn the_other_name_of_a_pair_is_held_to_the_same_rules_as_its_entrys_own() {
    let tenant =
        || Requester { authority: Authority::Tenant(OWN.parse().unwrap()), name: "token 1".to_owned() };
    let of = |name: &str, tenant: &str, www| {
        let entry = added(None, &pattern(name), None, Some(tenant), at(1));
        Some(with_settings(entry, DomainSettings { www, ..DomainSettings::default() }))
    };
    let nobody = Others::default;
    let suspended = |entry| DomainRecord { status: DomainStatus::Suspended, ..entry };
    let counterpart = |tenant, www| Others { counterpart: of("www.shop.example", tenant, www), ..nobody() };
    let wildcard = |tenant| Others { over_counterpart: of("*.shop.example", tenant, None), ..nobody() };
    for (name, others, required, told) in [
        ("shop.example", nobody(), RequiredProof::Txt, ""),
        ("shop.example", counterpart(OWN, Some(WwwPair::Serve)), RequiredProof::Txt, ""),
        (
            "shop.example",
            counterpart("zeta", None),
            RequiredProof::None,
            "www: domain `www.shop.example` is not available",
        ),
        (
            "shop.example",
            counterpart("zeta", Some(WwwPair::Serve)),
            RequiredProof::None,
            "domain `shop.example` is not available",
        ),
        ("shop.example", wildcard(OWN), RequiredProof::None, ""),
        (
            "shop.example",
            Others { over_counterpart: wildcard(OWN).over_counterpart.map(suspended), ..nobody() },
            RequiredProof::None,
            "domain `www.shop.example` is suspended and resumed by the operator alone",
        ),
        (
            "shop.example",
            wildcard("zeta"),
            RequiredProof::None,
            "domain `www.shop.example` shares names with an entry",
        ),
        ("console.example", nobody(), RequiredProof::None, "domain `www.console.example` is reserved"),
        ("fixed.example", nobody(), RequiredProof::None, "domain `www.fixed.example` is reserved"),
        ("www.both.example", nobody(), RequiredProof::None, "domain `www.both.example` is reserved"),
        ("www.shop.example", nobody(), RequiredProof::Dns, ""),
        (
            "www.shop.example",
            nobody(),
            RequiredProof::Txt,
            "www: domain `shop.example` would be served without a proof",
        ),
        (
            "*.shop.example",
            nobody(),
            RequiredProof::None,
            "www: `redirect` needs a pair of names, and `*.shop.example` makes none",
        ),
        (
            "www.co.uk",
            nobody(),
            RequiredProof::None,
            "www: `redirect` needs a pair of names, and `www.co.uk` makes none: `co.uk` is a public suffix",
        ),
    ] {
        let said = pair_decided(tenant(), name, &others, required);
        let said = said.map_or_else(|refusal| refusal.to_string(), |_| String::new());
        assert!(said.starts_with(told) && said.is_empty() == told.is_empty(), "{name}: {said}");
    }
    let operator = || Requester::operator("uid 0");
    let done = pair_decided(operator(), "shop.example", &wildcard("zeta"), RequiredProof::None).unwrap();
    assert_eq!(done.report.warnings, [Warning::Overlap.to_string()]);
    let done = pair_decided(operator(), "www.shop.example", &nobody(), RequiredProof::Txt);
    assert!(done.is_ok(), "{done:?}");
    let refused = pair_decided(operator(), "shop.example", &counterpart("zeta", None), RequiredProof::None);
    assert!(refused.is_err(), "{refused:?}");
}

fn patch(target_text: &str) -> Wanted {
    Wanted::Patched(Patch {
        target: PatchField::Set(Target::parse(target_text).unwrap()),
        ..Patch::default()
    })
}

/// What a tenant may ask of its own entry.
fn verbs() -> [Wanted; 4] {
    let maintained = Wanted::Maintained(Maintenance::On);
    [patch("http://10.0.0.8"), Wanted::Absent, maintained, Wanted::Patched(Patch::default())]
}

#[test]
fn an_entry_of_another_tenant_is_as_none() {
    let others = record("https://a.example", DomainStatus::Active, "zeta");
    for wanted in verbs().into_iter().chain([Wanted::Suspended, Wanted::Resumed]) {
        let request = by_tenant("shop.example", wanted);
        let refused = decide_for(&request, Some(&others), Overlap::Nothing).unwrap_err();
        assert_eq!(refused, decide_for(&request, None, Overlap::Nothing).unwrap_err(), "{request:?}");
    }
    for wanted in verbs() {
        let request = by_tenant("shop.example", wanted);
        let own = record("https://a.example", DomainStatus::Active, OWN);
        assert!(decide_for(&request, Some(&own), Overlap::Nothing).is_ok(), "{request:?}");
    }
    for existing in [Existing::Keep, Existing::Replace] {
        let request = by_tenant("shop.example", present("https://b.example", "", existing));
        let refused = decide_for(&request, Some(&others), Overlap::Nothing).unwrap_err();
        assert_eq!(refused, AuthorityRefusal::Taken(pattern("shop.example")).into());
        assert!(
            !refused.to_string().contains("zeta") && !refused.to_string().contains("a.example"),
            "{refused}"
        );
    }
}

#[test]
fn a_new_entry_of_a_tenant_is_its_own_and_overlaps_nobodys() {
    let of = |tenant| present("https://b.example.net", tenant, Existing::Keep);
    for tenant in ["", OWN] {
        let new = decide_for(&by_tenant("shop.example", of(tenant)), None, Overlap::Nothing).unwrap();
        assert_eq!(new.record.tenant, OWN);
    }
    for (name, tenant, overlap, told) in [
        ("shop.example", "zeta", Overlap::Nothing, "tenant: `zeta` is not the one of this token"),
        ("shop.example", "", Overlap::UnderWildcard, "shares names with an entry of another tenant"),
        ("*.shop.example", "", Overlap::OverNames, "shares names with an entry of another tenant"),
        ("*.vault.example", "", Overlap::Nothing, "is reserved by the operator"),
        ("console.example", "", Overlap::Nothing, "is reserved by the operator"),
        ("a.edge.example", "", Overlap::Nothing, "is reserved by the operator"),
        ("*.edge.example", "", Overlap::Nothing, "is reserved by the operator"),
        ("intranet", "", Overlap::Nothing, "is a single label"),
        ("github.io", "", Overlap::Nothing, "is a public suffix"),
    ] {
        let refused = decide_for(&by_tenant(name, of(tenant)), None, overlap).unwrap_err().to_string();
        assert!(refused.contains(told), "{name}: {refused}");
    }
    let itself = present("https://shop.example", "", Existing::Keep);
    let refused = decide_for(&by_tenant("shop.example", itself), None, Overlap::Nothing).unwrap_err();
    assert_eq!(refused, AuthorityRefusal::TargetsItself(pattern("shop.example")).into());
    let own = record("https://a.example", DomainStatus::Active, OWN);
    let turned = by_tenant("shop.example", patch("https://shop.example"));
    let refused = decide_for(&turned, Some(&own), Overlap::Nothing).unwrap_err();
    assert_eq!(refused, AuthorityRefusal::TargetsItself(pattern("shop.example")).into());
}

#[test]
fn an_operator_is_warned_of_what_a_tenant_may_not_have() {
    let by = || Requester::operator("uid 0");
    let of =
        |name: &str| Request::new(pattern(name), present("https://b.example.net", "", Existing::Keep), by());
    let decision = decide_for(&of("shop.example"), None, Overlap::UnderWildcard).unwrap();
    assert_eq!(decision.report.warnings, [Warning::Overlap.to_string()]);
    let refused = decide_for(&of("console.example"), None, Overlap::Nothing).unwrap_err();
    assert_eq!(refused, AuthorityRefusal::Reserved(pattern("console.example")).into());
    let others = record("https://a.example", DomainStatus::Active, "zeta");
    assert!(
        decide_for(
            &Request::new(pattern("shop.example"), Wanted::Absent, by()),
            Some(&others),
            Overlap::Nothing
        )
        .is_ok()
    );
}

/// It would be lifted by who it is about, if only by removing the entry and adding it anew.
#[test]
fn a_suspension_is_the_operators() {
    let own = |status| record("https://a.example", status, OWN);
    for (status, wanted) in [
        (DomainStatus::Active, Wanted::Suspended),
        (DomainStatus::Suspended, Wanted::Resumed),
        (DomainStatus::Suspended, Wanted::Absent),
    ] {
        let request = by_tenant("shop.example", wanted.clone());
        let refused = decide_for(&request, Some(&own(status)), Overlap::Nothing).unwrap_err();
        assert_eq!(refused, AuthorityRefusal::Suspension(pattern("shop.example")).into(), "{wanted:?}");
        let request = by_operator(&pattern("shop.example"), wanted);
        assert!(decide_for(&request, Some(&own(status)), Overlap::Nothing).is_ok(), "{request:?}");
    }
    let replaced = by_tenant("shop.example", present("https://b.example", "", Existing::Replace));
    let there = own(DomainStatus::Suspended);
    let decision = decide_for(&replaced, Some(&there), Overlap::Nothing).unwrap();
    assert_eq!(decision.record.status, DomainStatus::Suspended);
}

#[test]
fn a_suspended_pair_is_escaped_by_neither_of_its_names() {
    let of = |www, status| {
        let entry = record("https://a.example", status, OWN);
        with_settings(entry, DomainSettings { www: Some(www), ..DomainSettings::default() })
    };
    let refused = |name| Err(AuthorityRefusal::Suspension(pattern(name)).into());
    let addition = || present("https://b.example", "", Existing::Replace);
    for www in [WwwPair::Redirect, WwwPair::Serve, WwwPair::Off] {
        for status in [DomainStatus::Suspended, DomainStatus::Active] {
            let others = Others { counterpart: Some(of(www, status)), ..Others::default() };
            let added = |request: &Request| {
                let decision = decide(request, None, &others, TABLE, &lenient(), at(9))?;
                Ok(decision.record.status)
            };
            let expected = match status {
                DomainStatus::Suspended => refused("www.shop.example"),
                _ => Ok(DomainStatus::Active),
            };
            assert_eq!(added(&by_tenant("www.shop.example", addition())), expected, "{www:?} {status:?}");
            let theirs = present("https://b.example", OWN, Existing::Replace);
            let by_operator = by_operator(&pattern("www.shop.example"), theirs);
            assert_eq!(added(&by_operator), Ok(DomainStatus::Active), "{www:?} {status:?}");
        }
    }
    let turned = |www| Wanted::Patched(Patch { www, ..Patch::default() });
    let replaced = match addition() {
        Wanted::Present { target, tenant, existing, proof, .. } => {
            let settings = DomainSettings { www: Some(WwwPair::Off), ..DomainSettings::default() };
            Wanted::Present { target, settings, tenant, existing, proof }
        }
        other => other,
    };
    let there = of(WwwPair::Serve, DomainStatus::Suspended);
    let decided = |request: &Request| {
        let decision = decide(request, Some(&there), &Others::default(), TABLE, &lenient(), at(9));
        decision.map(|decision| decision.record.status)
    };
    for wanted in [turned(PatchField::Set(WwwPair::Off)), turned(PatchField::Clear), replaced] {
        let said = decided(&by_tenant("shop.example", wanted.clone()));
        assert_eq!(said, refused("www.shop.example"), "a wildcard would serve it: {wanted:?}");
        assert!(decided(&by_operator(&pattern("shop.example"), wanted)).is_ok());
    }
    let kept = by_tenant("shop.example", turned(PatchField::Set(WwwPair::Redirect)));
    assert_eq!(decided(&kept), Ok(DomainStatus::Suspended));
}

#[test]
fn nothing_is_verified_by_asking_twice() {
    let there = record("https://a.example", DomainStatus::Pending, OWN);
    let again = by_tenant("shop.example", present("https://a.example", "", Existing::Keep));
    let rules = Rules { required: RequiredProof::Dns, ..lenient() };
    let kept = decide(&again, Some(&there), &Others::default(), TABLE, &rules, at(9)).unwrap();
    assert_eq!((kept.report.action, kept.record.status), (Action::Keep, DomainStatus::Pending));
}

/// It is said to fail until checks find it well: a program that adds it each night would have it recover, and fail again, each night.
#[test]
fn nothing_recovers_by_being_added_again() {
    let there = record("https://a.example", DomainStatus::Failing, OWN);
    for required in [RequiredProof::None, RequiredProof::Dns, RequiredProof::Txt] {
        let rules = Rules { required, ..lenient() };
        let again = by_tenant("shop.example", present("https://a.example", "", Existing::Keep));
        let kept = decide(&again, Some(&there), &Others::default(), TABLE, &rules, at(9)).unwrap();
        assert_eq!(
            (kept.report.action, kept.record.status),
            (Action::Keep, DomainStatus::Failing),
            "{required}"
        );
    }
}

#[test]
fn who_adds_the_other_name_of_a_served_pair_of_theirs_does_not_take_it_down() {
    use DomainStatus::{Active, Failing, Pending, Suspended};
    use RequiredProof::{Dns, Txt};
    let pair_of = |name: &str, tenant: &str, www, status| {
        let entry = added(None, &pattern(name), None, Some(tenant), at(1));
        let settings = DomainSettings { www, ..DomainSettings::default() };
        Others {
            counterpart: Some(DomainRecord { status, ..with_settings(entry, settings) }),
            ..Others::default()
        }
    };
    let (apex, www) = ("shop.example", "www.shop.example");
    let pair = Some(WwwPair::Redirect);
    for (name, others, required, expected) in [
        (www, pair_of(apex, OWN, pair, Active), Txt, Active),
        (www, pair_of(apex, OWN, pair, Failing), Dns, Active),
        (apex, pair_of(www, OWN, pair, Active), Dns, Active),
        // Its record proves what is below it alone.
        (apex, pair_of(www, OWN, pair, Active), Txt, Pending),
        (www, pair_of(apex, OWN, pair, Pending), Txt, Pending),
        (www, pair_of(apex, OWN, Some(WwwPair::Off), Active), Txt, Pending),
        (www, Others::default(), Dns, Pending),
    ] {
        let rules = Rules { required, ..lenient() };
        let request = by_tenant(name, present("https://b.example.net", "", Existing::Keep));
        let decision = decide(&request, None, &others, TABLE, &rules, at(9)).unwrap();
        assert_eq!(decision.record.status, expected, "{name} {required} {others:?}");
    }
    let rules = Rules { required: Txt, ..lenient() };
    for status in [Active, Suspended] {
        // An operator's addition for somebody else proves nothing of the pair.
        let others = pair_of(apex, "zeta", Some(WwwPair::Off), status);
        let done = decide(
            &by_operator(&pattern(www), present("https://b.example.net", "acme", Existing::Keep)),
            None,
            &others,
            TABLE,
            &rules,
            at(9),
        );
        assert_eq!(done.unwrap().record.status, Pending);
    }
}

#[test]
fn only_an_operator_waives_the_verification() {
    let waived = |existing| match present("https://a.example", "", existing) {
        Wanted::Present { target, settings, tenant, existing, .. } => {
            Wanted::Present { target, settings, tenant, existing, proof: Proof::Waived }
        }
        other => other,
    };
    let rules = Rules { required: RequiredProof::Txt, ..lenient() };
    let pending = record("https://a.example", DomainStatus::Pending, OWN);
    for (there, existing) in [(None, Existing::Keep), (Some(&pending), Existing::Replace)] {
        let decided = |request| decide(&request, there, &Others::default(), TABLE, &rules, at(9));
        let refused = decided(by_tenant("shop.example", waived(existing))).unwrap_err();
        assert_eq!(refused, AuthorityRefusal::Unverified(pattern("shop.example")).into());
        let done = decided(by_operator(&pattern("shop.example"), waived(existing))).unwrap();
        assert_eq!(done.record.status, DomainStatus::Active);
    }
}

#[test]
fn a_change_of_another_version_is_refused_and_changes_nothing() {
    let there = DomainRecord { version: 7, ..record("https://a.example", DomainStatus::Active, OWN) };
    for wanted in verbs() {
        for (expected, holds) in [
            (ExpectedVersion::Any, true),
            (ExpectedVersion::OneOf(vec![6, 7]), true),
            (ExpectedVersion::OneOf(vec![6, 8]), false),
            (ExpectedVersion::OneOf(Vec::new()), false),
        ] {
            let request = Request { expected: expected.clone(), ..by_tenant("shop.example", wanted.clone()) };
            let decided = decide_for(&request, Some(&there), Overlap::Nothing);
            let refused = AuthorityRefusal::OtherVersion { pattern: pattern("shop.example"), version: 7 };
            match decided {
                Ok(_) => assert!(holds, "{wanted:?} {expected:?}"),
                Err(refusal) => {
                    assert_eq!((refusal, holds), (refused.into(), false), "{wanted:?} {expected:?}");
                }
            }
        }
    }
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let set = DomainSettings { minimum_tls: Some(TlsVersion::Tls13), ..DomainSettings::default() };
    let there = with_settings(record("https://a.example", DomainStatus::Suspended, OWN), set);
    for (patch, told) in [
        (
            Patch::default(),
            "unchanged; it has target https://a.example, tenant acme, minimum_tls 1.3, status suspended [suspended]",
        ),
        (
            Patch { target: PatchField::Clear, ..Patch::default() },
            "target https://a.example -> (default) [suspended]",
        ),
        (
            Patch { minimum_tls: PatchField::Clear, ..Patch::default() },
            "minimum_tls 1.3 -> (default) [suspended]",
        ),
        (
            Patch { maintenance: PatchField::Set(Maintenance::On), ..Patch::default() },
            "maintenance (default) -> on [suspended]",
        ),
    ] {
        assert_eq!(line(Wanted::Patched(patch), Some(&there)), told);
    }
}

#[test]
fn only_an_operator_says_how_many_requests_a_name_may_have() {
    let there = record("https://a.example", DomainStatus::Active, OWN);
    let off = RequestRate::Off;
    let settings = DomainSettings { client_request_rate: Some(off), ..DomainSettings::default() };
    let added = match present("https://a.example", "", Existing::Replace) {
        Wanted::Present { target, tenant, existing, proof, .. } => {
            Wanted::Present { target, settings, tenant, existing, proof }
        }
        other => other,
    };
    let set = Wanted::Patched(Patch { request_rate: PatchField::Set(off), ..Patch::default() });
    let cleared = Wanted::Patched(Patch { client_request_rate: PatchField::Clear, ..Patch::default() });
    for wanted in [added, set, cleared] {
        let refused = decide_for(&by_tenant("shop.example", wanted.clone()), Some(&there), Overlap::Nothing)
            .unwrap_err();
        assert_eq!(refused, AuthorityRefusal::RequestRate(pattern("shop.example")).into(), "{wanted:?}");
        let by_operator = by_operator(&pattern("shop.example"), wanted);
        assert!(decide_for(&by_operator, Some(&there), Overlap::Nothing).is_ok(), "{by_operator:?}");
    }
}

/// It would be lifted by removing the entry and adding it anew.
#[test]
fn a_rate_outlives_the_entry_for_its_tenant() {
    let rate = "1/s burst 2".parse().ok();
    let settings = DomainSettings { request_rate: rate, ..DomainSettings::default() };
    let old = with_settings(record("https://a.example", DomainStatus::Active, OWN), settings);
    let gone = decide_for(&by_tenant("shop.example", Wanted::Absent), Some(&old), Overlap::Nothing).unwrap();
    let wanted = present("https://b.example", "", Existing::Keep);
    for (request, kept) in [
        (by_tenant("shop.example", wanted.clone()), rate),
        (by_operator(&pattern("shop.example"), wanted), None),
    ] {
        let new = decide_for(&request, Some(&gone.record), Overlap::Nothing).unwrap().record;
        assert_eq!(new.settings.request_rate, kept, "{request:?}");
    }
    let others = DomainRecord { tenant: "zeta".to_owned(), ..gone.record };
    let request = by_tenant("shop.example", present("https://b.example", "", Existing::Keep));
    let new = decide_for(&request, Some(&others), Overlap::Nothing).unwrap().record;
    assert_eq!(new.settings.request_rate, None, "another's");
}

#[test]
fn a_tenant_takes_no_name_that_the_ask_endpoint_serves() {
    let (rules, wanted) = (lenient(), present("https://b.example", "", Existing::Keep));
    let own = record("https://b.example", DomainStatus::Active, OWN);
    let counterpart = Sources { asked: ServedByAsk { own: false, counterpart: true }, ..TABLE };
    let mut pair = wanted.clone();
    if let Wanted::Present { settings, .. } = &mut pair {
        settings.www = Some(WwwPair::Serve);
    }
    for (wanted, is_refused) in [(&wanted, false), (&pair, true)] {
        let request = by_tenant("shop.example", wanted.clone());
        let decided = decide(&request, None, &Others::default(), counterpart, &rules, at(9));
        let refused = AuthorityRefusal::Asked(pattern("www.shop.example")).into();
        assert_eq!(decided.err(), is_refused.then_some(refused), "{wanted:?}");
    }
    for (is_served, there, is_refused) in
        [(false, None, false), (true, None, true), (true, Some(&own), false)]
    {
        let sources = Sources { asked: ServedByAsk { own: is_served, counterpart: false }, ..TABLE };
        let request = by_tenant("shop.example", wanted.clone());
        let decided = decide(&request, there, &Others::default(), sources, &rules, at(9));
        let refused = AuthorityRefusal::Asked(pattern("shop.example")).into();
        assert_eq!(decided.err(), is_refused.then_some(refused), "{is_served}");
    }
}

#[test]
fn a_suspended_entry_goes_to_no_tenant_that_has_proved_nothing() {
    let old = record("https://a.example", DomainStatus::Suspended, OWN);
    for (required, asked_for, is_refused) in [
        (RequiredProof::Txt, Proof::Needed, true),
        (RequiredProof::Txt, Proof::Waived, false),
        (RequiredProof::Dns, Proof::Needed, false),
    ] {
        let rules = Rules { required, ..lenient() };
        let mut wanted = present("https://a.example", "zeta", Existing::Replace);
        if let Wanted::Present { proof, .. } = &mut wanted {
            *proof = asked_for;
        }
        let decided = decided("shop.example", wanted, Some(&old), &rules);
        let refused = Refusal::Suspended(pattern("shop.example"));
        assert_eq!(decided.err(), is_refused.then_some(refused), "{required:?}");
    }
}
