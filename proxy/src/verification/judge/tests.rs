use std::time::Duration;

use super::{super::edge::tests::edge, *};

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn route(aliases: &[&str], addresses: &[&str]) -> Answer<Route> {
    let aliases = aliases.iter().map(ToString::to_string).collect();
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Answer::Found(Route { aliases, addresses, unanswered: None })
}

fn silent<T>() -> Answer<T> {
    Answer::Silent("timed out".to_owned())
}

/// The same where one question was not answered.
fn partial(aliases: &[&str], addresses: &[&str]) -> Answer<Route> {
    let Answer::Found(route) = route(aliases, addresses) else { unreachable!("it is found") };
    Answer::Found(Route { unanswered: Some("timed out".to_owned()), ..route })
}

/// A finding as a line: outcome, reason, what is said.
fn line(finding: &Finding) -> String {
    let remedy = finding.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
    format!("{:?} {:?}: {}{remedy}", finding.outcome, finding.reason, finding.detail)
}

#[test]
fn a_name_leads_here_by_an_alias_or_by_addresses_of_the_edge_alone() {
    const REMEDY: &str = "set this record alone: `shop.customer.example CNAME edge.example.net`";
    let name = "shop.customer.example";
    let ours = ["192.0.2.10", "2001:db8::10"];
    for (answer, edge_addresses, expected) in [
        (
            route(&["edge.example.net"], &["192.0.2.10"]),
            &ours[..],
            "Passed LeadsHere: `SHOP` leads to `edge.example.net`",
        ),
        (
            route(&["www.shop.example", "old.example.net"], &[]),
            &ours,
            "Passed LeadsHere: `SHOP` leads to `old.example.net`",
        ),
        (
            route(&["edge.example.net"], &["203.0.113.9"]),
            &[],
            "Passed LeadsHere: `SHOP` leads to `edge.example.net`",
        ),
        (route(&[], &["2001:db8::10"]), &ours, "Passed LeadsHere: `SHOP` has addresses of the edge"),
        (route(&[], &["203.0.113.9"]), &ours, "Failed LeadsElsewhere: `SHOP` leads to 203.0.113.9; REMEDY"),
        (
            route(&["old.host.example"], &["203.0.113.9"]),
            &ours,
            "Failed LeadsElsewhere: `SHOP` leads to `old.host.example` (203.0.113.9); REMEDY",
        ),
        (
            route(&["gone.host.example"], &[]),
            &ours,
            "Failed LeadsElsewhere: `SHOP` leads to `gone.host.example`, which has no address; REMEDY",
        ),
        (
            route(&[], &["192.0.2.10", "203.0.113.9"]),
            &ours,
            "Failed LeadsPartlyHere: `SHOP` leads here and to 203.0.113.9 as well; REMEDY",
        ),
        (
            route(&["db.internal.example", "db-3.internal.example"], &["10.0.3.7"]),
            &ours,
            "Failed LeadsElsewhere: `SHOP` leads to `db.internal.example`, an address of a private network; REMEDY",
        ),
        (
            route(&[], &["fd00::7", "203.0.113.9"]),
            &ours,
            "Failed LeadsElsewhere: `SHOP` leads to an address of a private network; REMEDY",
        ),
        (Answer::Nothing, &ours, "Failed NoRecord: `SHOP` has no CNAME, A or AAAA record; REMEDY"),
        (
            partial(&["edge.example.net"], &["192.0.2.10"]),
            &ours,
            "Passed LeadsHere: `SHOP` leads to `edge.example.net`",
        ),
        (
            partial(&[], &["192.0.2.10"]),
            &ours,
            "Unknown NoAnswer: no answer from the DNS servers of `SHOP`: timed out",
        ),
        (partial(&[], &[]), &ours, "Unknown NoAnswer: no answer from the DNS servers of `SHOP`: timed out"),
        (silent(), &ours, "Unknown NoAnswer: no answer from the DNS servers of `SHOP`: timed out"),
        (
            route(&[], &["203.0.113.9"]),
            &[],
            "Unknown EdgeUnresolved: `edge.example.net` has no address to compare with",
        ),
    ] {
        let addresses = edge_addresses.iter().map(|text| text.parse().unwrap()).collect();
        let found = line(&dns(&pattern(name), &edge(), &addresses, &answer));
        assert_eq!(found, expected.replace("SHOP", name).replace("REMEDY", REMEDY), "{answer:?}");
    }
}

#[test]
fn a_pair_is_away_only_while_neither_of_its_names_leads_here() {
    let edge_addresses = BTreeSet::from(["192.0.2.10".parse().unwrap()]);
    let of = |name: &str, answer: &Answer<Route>| dns(&pattern(name), &edge(), &edge_addresses, answer);
    let (here, away) = (route(&["edge.example.net"], &["192.0.2.10"]), route(&[], &["203.0.113.9"]));
    for (own, other, expected) in [
        (
            &away,
            &here,
            "Failed LeadsPartlyHere: `a.example` leads to 203.0.113.9; `www.a.example` leads to `edge.example.net`",
        ),
        (
            &Answer::Nothing,
            &here,
            "Failed LeadsPartlyHere: `a.example` has no CNAME, A or AAAA record; `www.a.example` leads",
        ),
        (
            &away,
            &route(&[], &["192.0.2.10", "203.0.113.9"]),
            "Failed LeadsPartlyHere: `a.example` leads to 203.0.113.9; `www.",
        ),
        (&away, &away, "Failed LeadsElsewhere: `a.example` leads to 203.0.113.9; set"),
        (&away, &Answer::Nothing, "Failed LeadsElsewhere: `a.example` leads to 203.0.113.9; set"),
        (&Answer::Nothing, &Answer::Nothing, "Failed NoRecord: `a.example` has no"),
        (
            &away,
            &silent(),
            "Failed LeadsPartlyHere: `a.example` leads to 203.0.113.9; no answer from the DNS servers of `www.a.example`",
        ),
    ] {
        let found = of_pair(of("a.example", own), &of("www.a.example", other));
        assert!(line(&found).starts_with(expected), "{own:?} {other:?}: {}", line(&found));
        assert_eq!(found.remedy.is_some(), found.outcome == Outcome::Failed);
    }
}

#[test]
fn ownership_is_proven_by_the_record_of_this_tenant_among_others() {
    let name = pattern("shop.customer.example");
    let value = edge().ownership_value(&name, "t");
    let found = |texts: &[&str]| {
        line(&ownership(&name, &edge(), "t", &Answer::Found(texts.iter().map(ToString::to_string).collect())))
    };
    assert!(found(&["v=spf1 -all", &value]).starts_with("Passed Proven"));
    let other = edge().ownership_value(&name, "u");
    assert!(found(&[&other]).starts_with("Failed OtherValue"), "{}", found(&[&other]));
    let nothing = line(&ownership(&name, &edge(), "t", &Answer::Nothing));
    assert_eq!(nothing, found(&["v=spf1 -all"]));
    let remedy = format!("set the TXT record `_gatehouse.shop.customer.example` to `{value}`");
    assert!(nothing.starts_with("Failed NoRecord") && nothing.ends_with(&remedy), "{nothing}");
    assert!(line(&ownership(&name, &edge(), "t", &silent())).starts_with("Unknown NoAnswer"));
}

#[test]
fn caa_records_that_permit_none_of_our_cas_are_told_with_the_record_to_add() {
    let found =
        |answer| line(&caa(&pattern("shop.customer.example"), &["letsencrypt.org".to_owned()], &answer));
    let records = |issuer: &str| {
        let record = super::super::caa::CaaRecord {
            is_critical: false,
            tag: "issue".to_owned(),
            value: issuer.to_owned(),
        };
        Answer::Found(CaaRecords { at: "customer.example".to_owned(), records: vec![record] })
    };
    assert!(found(Answer::Nothing).starts_with("Passed Permitted"));
    assert!(found(records("letsencrypt.org")).starts_with("Passed Permitted"));
    assert_eq!(
        found(records("digicert.com")),
        "Failed Forbidden: the CAA records of `customer.example` permit digicert.com; certificates here are by letsencrypt.org; \
         add the CAA record `customer.example CAA 0 issue \"letsencrypt.org\"`"
    );
    assert!(found(records(";")).contains("permit no CA;"), "{}", found(records(";")));
    assert!(found(silent()).starts_with("Unknown NoAnswer"));
}

#[test]
fn a_certificate_is_for_the_name_and_valid_now_or_says_why_not() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 20_000);
    let day = Duration::from_hours(24);
    let found = |handshake| line(&https(&pattern("shop.customer.example"), &handshake, now));
    let certificate = |covers, not_before, not_after| Handshake::Certificate {
        covers,
        not_before,
        not_after,
        issuer: "R11".to_owned(),
    };
    let valid = found(certificate(true, now - day, now + day * 41));
    assert_eq!(valid, "Passed Served: served with a certificate by R11 for 41 more days");
    assert!(found(certificate(false, now - day, now + day)).starts_with("Failed OtherCertificate"));
    assert!(found(certificate(true, now - day * 2, now)).starts_with("Failed Expired"));
    assert!(found(certificate(true, now + day, now + day * 2)).starts_with("Failed Expired"));
    assert!(found(Handshake::Refused("alert".to_owned())).starts_with("Failed Refused"));
    // This instance may lack a way to the edge that clients have.
    assert!(found(Handshake::Unreachable("no route".to_owned())).starts_with("Unknown Unreachable"));
}
