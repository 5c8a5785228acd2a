mod authority;

use std::net::IpAddr;

use super::*;
use crate::{
    config::{RequestRate, SiteRedirect, TlsVersion, WwwPair},
    domains::change::tests::{by_operator, lenient},
};

const TABLE: Sources<'static> = Sources::new(&[], Table::Read);

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn target(text: &str) -> Option<Target> {
    (!text.is_empty()).then(|| Target::parse(text).unwrap())
}

fn at(micros: u64) -> Micros {
    Micros::from_epoch(micros)
}

fn record(target_text: &str, status: DomainStatus, tenant: &str) -> DomainRecord {
    let new = added(None, &pattern("shop.example"), target(target_text).as_ref(), Some(tenant), at(1));
    DomainRecord { status, ..new }
}

fn present(target_text: &str, tenant: &str, existing: Existing) -> Wanted {
    let tenant = (!tenant.is_empty()).then(|| tenant.parse().unwrap());
    Wanted::Present {
        target: target(target_text),
        settings: DomainSettings::default(),
        tenant,
        existing,
        proof: Proof::Needed,
    }
}

fn decided(
    name: &str,
    wanted: Wanted,
    there: Option<&DomainRecord>,
    rules: &Rules,
) -> Result<Decision, Refusal> {
    decide(&by_operator(&pattern(name), wanted), there, &Others::default(), TABLE, rules, at(9))
}

/// The decision as a line: what is told, and the status the entry has then; or the refusal.
fn line(wanted: Wanted, there: Option<&DomainRecord>) -> String {
    match decided("shop.example", wanted, there, &lenient()) {
        Ok(Decision { report, record }) => format!("{report} [{}]", record.status.as_str()),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_setting_is_kept_until_another_is_asked_for() {
    use Existing::{Keep, Replace};
    let set = |minimum_tls| DomainSettings { minimum_tls, ..DomainSettings::default() };
    let there = |minimum| with_settings(record("", DomainStatus::Active, "default"), set(minimum));
    let asked = |minimum, existing| Wanted::Present {
        target: None,
        settings: set(minimum),
        tenant: None,
        existing,
        proof: Proof::Needed,
    };
    let (old, new) = (Some(TlsVersion::Tls12), Some(TlsVersion::Tls13));
    for (there, wanted, told) in [
        (None, asked(new, Keep), "added with target (default), tenant default, minimum_tls 1.3 [active]"),
        (
            Some(there(new)),
            asked(None, Keep),
            "unchanged; it has target (default), tenant default, minimum_tls 1.3 [active]",
        ),
        (Some(there(None)), asked(new, Replace), "minimum_tls (default) -> 1.3 [active]"),
        (Some(there(new)), asked(old, Replace), "minimum_tls 1.3 -> 1.2 [active]"),
    ] {
        assert_eq!(line(wanted, there.as_ref()), told);
    }
    let refused = decided("shop.example", asked(new, Keep), Some(&there(old)), &lenient());
    let told = "domain `shop.example` exists with settings `minimum_tls 1.2`, not `minimum_tls 1.3`; to change it, add `--replace`";
    assert_eq!(refused.unwrap_err().to_string(), told);
}

#[test]
fn a_pair_never_leads_in_circles_and_to_no_target_of_its_own() {
    use SiteRedirect::{Apex, Www};
    let patch = |www, redirect| {
        let redirect = PatchField::Set(redirect);
        Wanted::Patched(Patch { www: PatchField::Set(www), redirect, ..Patch::default() })
    };
    let there = |name: &str, target_text: &str| {
        added(None, &pattern(name), target(target_text).as_ref(), None, at(1))
    };
    let origin = "https://origin.example.net";
    for (name, target, wanted, told) in [
        (
            "shop.example",
            origin,
            patch(WwwPair::Redirect, Www),
            "www: `redirect` leads requests to `shop.example`, and `redirect` = `www` leads them back; set one of the two to `off`, or `www` to `serve`",
        ),
        (
            "www.shop.example",
            origin,
            patch(WwwPair::Redirect, Apex),
            "www: `redirect` leads requests to `www.shop.example`, and `redirect` = `apex` leads them back",
        ),
        ("shop.example", origin, patch(WwwPair::Redirect, Apex), ""),
        ("shop.example", origin, patch(WwwPair::Serve, Www), ""),
        (
            "shop.example",
            "https://www.shop.example",
            patch(WwwPair::Serve, Apex),
            "its target is a name that it covers",
        ),
    ] {
        let there = there(name, target);
        let said = match decided(name, wanted, Some(&there), &lenient()) {
            Ok(decision) => decision.report.warnings.join(" "),
            Err(refusal) => refusal.to_string(),
        };
        assert!(said.starts_with(told) && said.is_empty() == told.is_empty(), "{name}: {said}");
    }
}

#[test]
fn each_change_is_told_from_what_to_what() {
    use DomainStatus::{Active, Failing, Pending, Removed, Suspended};
    use Existing::Replace;
    let (a, b) = ("https://a.example", "https://b.example");
    for (there, wanted, told) in [
        (
            None,
            present(a, "", Existing::Keep),
            "added with target https://a.example, tenant default [active]",
        ),
        (None, present("", "acme", Existing::Keep), "added with target (default), tenant acme [active]"),
        (
            Some(record(a, Removed, "acme")),
            present(b, "", Existing::Keep),
            "added with target https://b.example, tenant default [active]",
        ),
        (
            Some(record(a, Active, "acme")),
            present(b, "", Replace),
            "target https://a.example -> https://b.example [active]",
        ),
        (
            Some(record(a, Active, "acme")),
            present("", "zeta", Replace),
            "target https://a.example -> (default), tenant acme -> zeta [active]",
        ),
        (
            Some(record(a, Active, "acme")),
            present(a, "", Existing::Keep),
            "unchanged; it has target https://a.example, tenant acme [active]",
        ),
        (
            Some(record(a, Pending, "acme")),
            present(a, "", Existing::Keep),
            "status pending -> active [active]",
        ),
        (
            Some(record(a, Failing, "acme")),
            present(a, "", Existing::Keep),
            "unchanged; it has target https://a.example, tenant acme, status failing [failing]",
        ),
        (
            Some(record(a, Suspended, "acme")),
            present(b, "", Replace),
            "target https://a.example -> https://b.example [suspended]",
        ),
    ] {
        assert_eq!(line(wanted.clone(), there.as_ref()), told, "{wanted:?} on {there:?}");
    }
}

#[test]
fn each_end_and_return_is_told_from_what_to_what() {
    use DomainStatus::{Active, Failing, Suspended};
    let a = "https://a.example";
    for (there, wanted, told) in [
        (
            Some(record(a, Active, "acme")),
            Wanted::Absent,
            "removed; it had target https://a.example, tenant acme [removed]",
        ),
        (Some(record(a, Failing, "acme")), Wanted::Suspended, "status failing -> suspended [suspended]"),
        (
            Some(record(a, Suspended, "acme")),
            Wanted::Suspended,
            "unchanged; it has target https://a.example, tenant acme, status suspended [suspended]",
        ),
        (Some(record(a, Suspended, "acme")), Wanted::Resumed, "status suspended -> active [active]"),
        (
            Some(record(a, Active, "acme")),
            Wanted::Resumed,
            "unchanged; it has target https://a.example, tenant acme [active]",
        ),
    ] {
        assert_eq!(line(wanted.clone(), there.as_ref()), told, "{wanted:?} on {there:?}");
    }
}

#[test]
fn what_is_there_is_not_replaced_silently() {
    let (a, b) = ("https://a.example", "https://b.example");
    for (there, wanted, told) in [
        (
            record(a, DomainStatus::Active, "acme"),
            present(b, "", Existing::Keep),
            "domain `shop.example` exists with target `https://a.example`, not `https://b.example`; to change it, add `--replace`",
        ),
        (
            record(a, DomainStatus::Active, "acme"),
            present("", "", Existing::Keep),
            "domain `shop.example` exists with target `https://a.example`, not `(default)`; to change it, add `--replace`",
        ),
        (
            record(a, DomainStatus::Active, "acme"),
            present(a, "zeta", Existing::Keep),
            "domain `shop.example` exists with tenant `acme`, not `zeta`; to change it, add `--replace`",
        ),
        (
            record(a, DomainStatus::Suspended, "acme"),
            present(a, "", Existing::Replace),
            "domain `shop.example` exists and is suspended; `gatehouse domain resume shop.example` serves it again",
        ),
        (
            record(a, DomainStatus::Pending, "acme"),
            Wanted::Resumed,
            "domain `shop.example` is not verified yet, and not served; `gatehouse domain records shop.example` shows the DNS records it waits for; `gatehouse domain add shop.example --verified`, with its target, serves it without them",
        ),
    ] {
        assert_eq!(line(wanted, Some(&there)), told);
    }
    for wanted in [Wanted::Absent, Wanted::Suspended, Wanted::Resumed] {
        let gone = record(a, DomainStatus::Removed, "acme");
        for there in [None, Some(&gone)] {
            let told = line(wanted.clone(), there);
            assert!(told.contains("is not in the table; `gatehouse domain list`"), "{wanted:?}: {told}");
        }
    }
}

#[test]
fn what_the_table_does_not_decide_is_refused() {
    let listed =
        [StaticDomain { name: pattern("fixed.example"), target: None, settings: DomainSettings::default() }];
    for (name, table, told) in [
        ("fixed.example", Table::Read, "is set in the configuration; change `domains.static`"),
        ("fixed.example", Table::Unread, "is set in the configuration; change `domains.static`"),
        (
            "other.example",
            Table::Unread,
            "domains.table: `false`, so the table is not read; set it to `true`",
        ),
    ] {
        for wanted in [present("", "", Existing::Replace), Wanted::Absent, Wanted::Suspended, Wanted::Resumed]
        {
            let request = by_operator(&pattern(name), wanted);
            let sources = Sources { listed: &listed, table, ..TABLE };
            let refused = decide(&request, None, &Others::default(), sources, &lenient(), at(1));
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(told), "{name} {table:?}: {refused}");
        }
    }
}

#[test]
fn a_new_entry_waits_for_its_proof_and_keeps_it() {
    use DomainStatus::{Active, Failing, Pending, Removed, Suspended};
    use RequiredProof::{Dns, Txt};
    let status = |required, there: Option<DomainStatus>, tenant: &str, proof| {
        let there = there.map(|status| record("https://a.example", status, "acme"));
        let Wanted::Present { target, settings, tenant, existing, .. } =
            present("https://b.example", tenant, Existing::Replace)
        else {
            unreachable!("an addition")
        };
        let wanted = Wanted::Present { target, settings, tenant, existing, proof };
        let rules = Rules { required, ..lenient() };
        let decision = decided("shop.example", wanted, there.as_ref(), &rules).unwrap();
        assert_eq!(
            decision.report.warnings.iter().any(|warning| warning.starts_with("it is pending")),
            decision.record.status == Pending
        );
        decision.record.status
    };
    for (required, there, tenant, expected) in [
        (Dns, None, "", Pending),
        (Dns, Some(Removed), "", Pending),
        (Dns, Some(Pending), "", Pending),
        (Dns, Some(Active), "", Active),
        (Dns, Some(Failing), "", Failing),
        (Dns, Some(Active), "zeta", Active),
        (Txt, Some(Active), "", Active),
        (Txt, Some(Active), "zeta", Pending),
        (Txt, Some(Suspended), "", Suspended),
    ] {
        assert_eq!(status(required, there, tenant, Proof::Needed), expected, "{required} {there:?} {tenant}");
        let waived = match there {
            Some(Suspended) => Suspended,
            Some(Failing) => Failing,
            _ => Active,
        };
        assert_eq!(status(required, there, tenant, Proof::Waived), waived, "{required} {there:?} {tenant}");
    }
}

#[test]
fn what_waits_for_its_proof_can_be_suspended_and_waits_again_when_it_is_resumed() {
    use DomainStatus::{Active, Pending, Suspended};
    let rules = |required| Rules { required, ..lenient() };
    let a = "https://a.example";
    for (from, required, to) in [
        (Pending, RequiredProof::Txt, Pending),
        (Pending, RequiredProof::Dns, Pending),
        // Nothing is asked for any more.
        (Pending, RequiredProof::None, Active),
        // Resumed by a program that does not know of it.
        (Active, RequiredProof::Txt, Active),
    ] {
        let there = DomainRecord { is_unproven: from == Active, ..record(a, from, "acme") };
        let done = |wanted, there| decided("shop.example", wanted, Some(there), &rules(required)).unwrap();
        let suspended = done(Wanted::Suspended, &there).record;
        assert_eq!((suspended.status, suspended.is_unproven), (Suspended, from == Pending));
        // Whatever is changed meanwhile.
        let maintained = done(Wanted::Maintained(Maintenance::On), &suspended).record;
        let replaced = done(present("https://b.example", "", Existing::Replace), &maintained).record;
        let resumed = done(Wanted::Resumed, &replaced);
        assert_eq!((resumed.record.status, resumed.record.is_unproven), (to, false), "{from:?} {required}");
        let waits_anew = resumed.record.created_at == resumed.record.changed_at;
        assert_eq!(waits_anew, to == Pending, "{:?}", resumed.record);
        let is_warned = resumed.report.warnings.contains(&Warning::Pending.to_string());
        assert_eq!(is_warned, to == Pending, "{:?}", resumed.report);
        let verified =
            done(proven_without(present("https://c.example", "", Existing::Replace)), &replaced).record;
        assert_eq!(done(Wanted::Resumed, &verified).record.status, Active, "the operator answers for it");
    }
}

#[test]
fn a_name_that_nothing_can_prove_is_refused_instead_of_waiting_for_ever() {
    use RequiredProof::{Dns, None, Txt};
    // Of 245, 242 and 237 characters.
    let [over, proven, probed] = [45, 42, 37].map(|last| {
        let long = "a".repeat(63);
        format!("{long}.{long}.{long}.{}.example", "b".repeat(last))
    });
    let wildcard = |name: &str| format!("*.{name}");
    for (name, required, is_added) in [
        (over.clone(), Txt, false),
        (over.clone(), Dns, true),
        (over.clone(), None, true),
        (proven.clone(), Txt, true),
        (wildcard(&proven), Txt, true),
        (wildcard(&proven), Dns, false),
        (wildcard(&probed), Dns, true),
    ] {
        let rules = Rules { required, ..lenient() };
        let wanted = present("https://a.example", "", Existing::Keep);
        let refused = decided(&name, wanted.clone(), Option::None, &rules).err();
        assert_eq!(refused, (!is_added).then(|| Refusal::Unprovable(pattern(&name))), "{name} {required}");
        assert!(decided(&name, proven_without(wanted), Option::None, &rules).is_ok(), "{name} {required}");
    }
}

/// An addition that is served without its proof.
fn proven_without(wanted: Wanted) -> Wanted {
    match wanted {
        Wanted::Present { target, settings, tenant, existing, .. } => {
            Wanted::Present { target, settings, tenant, existing, proof: Proof::Waived }
        }
        other => other,
    }
}

#[test]
fn checks_change_only_the_state_that_they_looked_at() {
    use DomainStatus::{Active, Failing, Pending, Removed, Suspended};
    let statuses = [Pending, Active, Failing, Suspended, Removed];
    for (standing, expected) in [
        (Standing::Verified, [Active, Active, Active, Suspended, Removed]),
        (Standing::Failing, [Pending, Failing, Failing, Suspended, Removed]),
        (Standing::Moved, [Pending, Active, Removed, Suspended, Removed]),
        (Standing::Abandoned, [Removed, Active, Failing, Suspended, Removed]),
    ] {
        for (status, expected) in statuses.into_iter().zip(expected) {
            let decision = follow_checks(&record("https://a.example", status, "acme"), standing, at(9));
            assert_eq!(decision.record.status, expected, "{standing:?} on {status:?}");
            assert_eq!(decision.is_change(), status != expected);
            assert_eq!(decision.record.expires_at.is_some(), status != expected && expected == Removed);
        }
    }
}

/// Rules under which targets are judged as in a running instance.
fn strict(issuance: Issuance) -> Rules {
    Rules {
        default_target: None,
        listeners: vec!["0.0.0.0:443".parse().unwrap(), "192.0.2.9:8080".parse().unwrap()],
        issuance,
        permits: Arc::new(|address| match address {
            EndpointAddress::Tcp(address) => {
                !address.ip().is_loopback() && address.ip() != IpAddr::from([169, 254, 169, 254])
            }
            EndpointAddress::Unix(path) => path.as_str().starts_with("/run/apps/"),
        }),
        entry_tls: TlsName::parse("customers").into_iter().collect(),
        reserved: Vec::new(),
        audit_kept: Duration::from_hours(24),
        required: RequiredProof::None,
        quotas: Quotas::default(),
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_its_remedy() {
    let origin = "https://origin.example.com";
    for (name, target_text, field, told) in [
        (
            "shop.example",
            "",
            "target",
            "has no target: none is given, and `domains.default_target` is not set; give one",
        ),
        (
            "shop.example",
            "http://169.254.169.254",
            "target",
            "an address that no target may have; give the address of the server",
        ),
        (
            "shop.example",
            "http://127.0.0.1:3000",
            "target",
            "list its network in `upstream.permitted_networks`",
        ),
        ("shop.example", "http://localhost:3000", "target", "`http://localhost:3000` is on this host"),
        (
            "shop.example",
            "http://192.0.2.1, unix:/run/gatehouse/control.sock",
            "target",
            "at a Unix socket that entries may not lead to; list it or its directory in `upstream.permitted_sockets`",
        ),
        (
            "shop.example",
            "https://origin.example.com;tls=inside",
            "target",
            "names settings for TLS that entries may not use; leave `;tls=` out",
        ),
        ("shop.example", "http://api.localhost", "target", "is on this host"),
        ("shop.example", "https://127.0.0.1", "target", "this proxy's own listener"),
        ("shop.example", "http://192.0.2.9:8080", "target", "this proxy's own listener"),
        (
            "com",
            origin,
            "domain",
            "`com` is a public suffix, and the names below it have many owners; add the names one by one",
        ),
        ("co.uk", origin, "domain", "`co.uk` is a public suffix"),
        ("*.co.uk", origin, "domain", "`co.uk` is a public suffix"),
        ("*.github.io", origin, "domain", "if all of them are yours, give it in `domains.static`"),
        ("foo_bar.example", origin, "domain", "CAs issue no certificate for such a name"),
        ("*.foo_bar.example", origin, "domain", "CAs issue no certificate for such a name"),
    ] {
        let wanted = present(target_text, "", Existing::Keep);
        let refused = decided(name, wanted, None, &strict(Issuance::Acme)).unwrap_err();
        assert_eq!(refused.explain().field, field, "{name} {target_text}");
        assert!(refused.to_string().contains(told), "{name} {target_text}: {refused}");
    }
}

#[test]
fn what_was_suspended_is_not_resumed_where_it_cannot_be_served() {
    let there = record("", DomainStatus::Suspended, "default");
    let refused = decided("shop.example", Wanted::Resumed, Some(&there), &strict(Issuance::Acme));
    assert_eq!(refused.unwrap_err(), Refusal::NoTarget(pattern("shop.example")));
}

#[test]
fn what_may_not_be_meant_is_done_with_a_warning() {
    let origin = "https://origin.example.com";
    for (name, target_text, issuance, warnings) in [
        ("shop.example", origin, Issuance::Acme, 0),
        ("shop.example", "unix:/run/apps/shop.sock", Issuance::Acme, 0),
        ("shop.example", "https://origin.example.com;tls=customers", Issuance::Acme, 0),
        ("*.customers.example", origin, Issuance::Acme, 0),
        ("github.io", origin, Issuance::Acme, 0),
        ("someone.github.io", origin, Issuance::Acme, 0),
        ("foo_bar.example", origin, Issuance::Internal, 1),
        ("intranet", origin, Issuance::Internal, 0),
        ("intranet", origin, Issuance::Acme, 1),
        ("shop.example", "https://shop.example", Issuance::Acme, 1),
        ("*.shop.example", "https://www.shop.example", Issuance::Acme, 1),
        ("*.shop.example", "https://shop.example", Issuance::Acme, 0),
    ] {
        let decision =
            decided(name, present(target_text, "", Existing::Keep), None, &strict(issuance)).unwrap();
        assert_eq!(decision.report.warnings.len(), warnings, "{name} {target_text}: {:?}", decision.report);
        assert!(decision.report.is_active);
    }
}

#[test]
fn maintenance_changes_nothing_else_of_an_entry_and_is_pointed_out() {
    use DomainStatus::{Active, Suspended};
    use Maintenance::{Off, On};
    let set = |maintenance| DomainSettings { maintenance, ..DomainSettings::default() };
    let there =
        |status, maintenance| with_settings(record("https://a.example", status, "acme"), set(maintenance));
    for (there, wanted, told, warns) in [
        (there(Active, None), On, "maintenance (default) -> on [active]", true),
        (there(Active, Some(Off)), On, "maintenance off -> on [active]", true),
        (there(Active, Some(On)), Off, "maintenance on -> off [active]", false),
        (there(Suspended, None), On, "maintenance (default) -> on [suspended]", true),
        (there(Active, None), Off, "unchanged; it has target https://a.example, tenant acme [active]", false),
        (
            there(Active, Some(On)),
            On,
            "unchanged; it has target https://a.example, tenant acme, maintenance on [active]",
            true,
        ),
    ] {
        assert_eq!(line(Wanted::Maintained(wanted), Some(&there)), told);
        let decision = decided("shop.example", Wanted::Maintained(wanted), Some(&there), &lenient()).unwrap();
        assert_eq!(decision.report.warnings.len(), usize::from(warns), "{told}");
        if decision.is_change() {
            assert_eq!(decision.record.version, there.version + 1, "{told}");
        }
    }
    let added = decided(
        "shop.example",
        present("https://a.example", "", Existing::Keep),
        Some(&there(Active, Some(On))),
        &lenient(),
    );
    assert_eq!(added.unwrap().report.warnings, [Warning::Maintenance.to_string()]);
    let absent = line(Wanted::Maintained(On), None);
    assert_eq!(
        absent,
        "domain `shop.example` is not in the table; `gatehouse domain list` shows those that are"
    );
}
