//! What forbids a plan.

use super::*;
use crate::wanted::RegionWanted;

/// A change of the file, and what its refusal says.
type Case = (fn(&mut Wanted), &'static str);

/// What is refused of a fleet in two regions, after `spoil`.
fn refused(purpose: Purpose, spoil: impl Fn(&mut Wanted, &mut Found)) -> Vec<String> {
    let mut wanted = wanted(&[HOME, AWAY]);
    let mut found = empty_account();
    spoil(&mut wanted, &mut found);
    deploy(&wanted, &found, purpose).unwrap_err().iter().map(ToString::to_string).collect()
}

type Spoil = fn(&mut Wanted, &mut Found);

/// The stack in the home region is in this state.
fn state(found: &mut Found, status: &str) {
    let stack = FoundStack { status: status.to_owned(), ..FoundStack::default() };
    found.stacks.insert(key(Kind::Domains, HOME), stack);
}

/// It was made with these parameters.
fn made(found: &mut Found, kind: Kind, parameters: &[(&str, &str)]) {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let parameters = parameters.iter().map(owned).collect();
    let stack = FoundStack { status: "CREATE_COMPLETE".to_owned(), parameters, ..FoundStack::default() };
    found.stacks.insert(key(kind, HOME), stack);
}

#[test]
fn a_refusal_comes_before_any_change() {
    fn place(found: &mut Found) -> &mut FoundRegion {
        found.places.get_mut(&region(AWAY)).unwrap()
    }
    fn zone(wanted: &mut Wanted) {
        wanted.edge.hosted_zone_id = "Z1".to_owned();
        wanted.edge.name = "edge.example.com".to_owned();
    }
    let cases: [(Spoil, &str); 21] = [
        (|_, found| assert!(found.regions.remove(&region(AWAY))), "region: `us-east-1` is none"),
        (|_, found| place(found).image = None, "regions.us-east-1: no image of version `0.1.0`"),
        (
            |wanted, found| {
                wanted.regions.get_mut(&region(AWAY)).unwrap().image = ImageChoice::Id("ami-9".to_owned());
                place(found).image = None;
            },
            "regions.us-east-1.image_id: `ami-9` is not there",
        ),
        (
            |wanted, found| {
                wanted.regions.get_mut(&region(AWAY)).unwrap().image = ImageChoice::Tagged;
                place(found).image = None;
            },
            "--image-version: this account has no image of version `0.1.0` in us-east-1 for `t4g.micro`",
        ),
        (
            |wanted, found| {
                wanted.regions.get_mut(&region(AWAY)).unwrap().image = ImageChoice::Tagged;
                place(found).image = None;
                place(found).same_version = (1..8).map(|number| format!("ami-{number}")).collect();
            },
            "`0.1.0` is the version of 7 images in us-east-1 (ami-1 ami-2 ami-3 ami-4 ami-5 ...); deregister",
        ),
        (
            |_, found| place(found).image.as_mut().unwrap().is_available = false,
            "the image `ami-1` is not available yet",
        ),
        (|_, found| place(found).instance_type = None, "instance_type: `t4g.micro` is not offered"),
        (
            |_, found| place(found).image.as_mut().unwrap().architecture = "x86_64".to_owned(),
            "`t4g.micro` is not of the image's architecture, x86_64",
        ),
        (|_, found| found.has_package = false, "function: there is no file `f.zip`"),
        (|_, found| place(found).network = None, "regions.us-east-1: there is no default VPC"),
        (
            |_, found| place(found).vcpus_permitted = Some(5),
            "instance_count: `2`, and one more while it is updated, want 6 virtual CPUs; the quota L-1216C47A is 5",
        ),
        (
            |_, found| found.accelerators = Some(Used { used: 20, most: 20 }),
            "edge: the account has 20 accelerators, and its quota is 20",
        ),
        (|wanted, _| zone(wanted), "edge.hosted_zone_id: the account has no zone `Z1`"),
        (
            |wanted, found| {
                zone(wanted);
                found.zone = Some("notexample.com.".to_owned());
            },
            "edge.name: `edge.example.com` is not in the zone notexample.com",
        ),
        (
            |wanted, found| {
                zone(wanted);
                found.zone = Some("ample.com.".to_owned());
            },
            "is not in the zone ample.com",
        ),
        (|_, found| state(found, "UPDATE_IN_PROGRESS"), "it is `UPDATE_IN_PROGRESS`: something is under way"),
        (
            |_, found| state(found, "ROLLBACK_COMPLETE"),
            "`gatehouse-deploy remove --failed --stage prd` deletes it with what it left",
        ),
        (
            |_, found| state(found, "UPDATE_ROLLBACK_FAILED"),
            "`aws cloudformation continue-update-rollback --stack-name gatehouse-prd-domains --region eu-central-1` goes on",
        ),
        (
            |_, found| state(found, "DELETE_FAILED"),
            "`aws cloudformation delete-stack --stack-name gatehouse-prd-domains --region eu-central-1` goes on with it, and leaves tables",
        ),
        (
            |_, found| made(found, Kind::Fleet, &[("HomeRegion", AWAY)]),
            "home_region: stack fleet in eu-central-1 has its tables and its accelerator in `us-east-1`",
        ),
        (
            |_, found| made(found, Kind::Edge, &[("HostedZoneId", "Z1"), ("Name", "edge.example.com")]),
            "edge.name: `edge.example.com` would be deleted from the zone Z1",
        ),
    ];
    for (spoil, said) in cases {
        let refused = refused(Purpose::Deploy, spoil);
        assert!(matches!(&refused[..], [only] if only.contains(said)), "{said}: {refused:?}");
    }
    // All at once, not the first alone.
    let refused = refused(Purpose::Update, |_, found| place(found).image = None);
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].contains("stack fleet in eu-central-1: there is none to update"), "{refused:?}");
}

#[test]
fn what_customers_point_to_goes_only_where_the_stages_name_is_typed_again() {
    let mut before = with_functions(&[HOME, AWAY]);
    before.edge.ip_address_type = "DUAL_STACK".to_owned();
    let mut found = Found { zone: Some("example.com.".to_owned()), ..after(&before) };
    (before.edge.hosted_zone_id, before.edge.name) = ("Z1".to_owned(), "edge.example.com".to_owned());
    let edge = found.stacks.get_mut(&key(Kind::Edge, HOME)).unwrap();
    let named = [("HostedZoneId", "Z1"), ("Name", "edge.example.com")];
    edge.parameters.extend(named.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(deploy(&before, &found, Purpose::Deploy).unwrap().is_empty());

    let changes: [Case; 7] = [
        (
            |wanted| {
                wanted.edge.hosted_zone_id.clear();
                wanted.edge.name.clear();
            },
            "edge.name: `edge.example.com`",
        ),
        (|wanted| wanted.edge.name = "other.example.com".to_owned(), "edge.name: `edge.example.com`"),
        (|wanted| wanted.edge.hosted_zone_id = "Z2".to_owned(), "from the zone Z1"),
        (|wanted| wanted.home = region(AWAY), "home_region: stack fleet in eu-central-1"),
        (|wanted| wanted.edge.ip_address_type = "IPV4".to_owned(), "edge.ip_address_type: "),
        (|wanted| wanted.domain_functions = None, "domain_functions.verifier: "),
        (
            |wanted| wanted.domain_functions.as_mut().unwrap().verifier = Verifier::Private,
            "domain_functions.verifier: ",
        ),
    ];
    for (change, said) in changes {
        let mut wanted = before.clone();
        change(&mut wanted);
        for typed in [None, Some("tst")] {
            let refused = deploy(&wanted.clone().confirmed(typed), &found, Purpose::Deploy).unwrap_err();
            let texts: Vec<_> = refused.iter().map(ToString::to_string).collect();
            assert!(matches!(&texts[..], [only] if only.contains(said)), "{said}: {texts:?}");
            assert!(texts[0].ends_with("`gatehouse-deploy deploy --stage prd --confirm prd`"), "{texts:?}");
        }
        let plan = deploy(&wanted.confirmed(Some("prd")), &found, Purpose::Deploy).unwrap();
        assert!(!plan.is_empty(), "{said}");
    }
    // An update changes none of them but the region, of whose stacks it would take what there is none of.
    let mut wanted = Wanted { domain_functions: None, ..before };
    wanted.edge.name = "other.example.com".to_owned();
    assert!(deploy(&wanted, &found, Purpose::Update).is_ok());
    wanted.home = region(AWAY);
    let refused = deploy(&wanted, &found, Purpose::Update).unwrap_err();
    assert!(matches!(refused[..], [Refusal::OtherHome { .. }]), "{refused:?}");
}

#[test]
fn a_type_of_one_cpu_is_refused_where_the_guard_would_be_native() {
    for (settings, parameter, is_refused) in [
        ("[log]", "", true),
        ("[guard]\ninterfaces = [\"eth0\"]", "", true),
        ("[guard]\nattach = \"generic\"", "", false),
        ("[guard]\ninterfaces = []", "", false),
        // What it holds is not known here.
        ("[log]", "/gatehouse/prd", false),
    ] {
        let mut wanted = wanted(&[HOME]);
        wanted.settings = settings.to_owned();
        wanted.regions.get_mut(&region(HOME)).unwrap().settings_parameter = parameter.to_owned();
        let mut found = empty_account();
        found.places.get_mut(&region(HOME)).unwrap().instance_type.as_mut().unwrap().vcpus = 1;
        let refused = deploy(&wanted, &found, Purpose::Deploy).err().unwrap_or_default();
        let wanted = is_refused.then(|| {
            let instance_type = "t4g.micro".to_owned();
            Refusal::NoQueueForGuard { region: region(HOME), instance_type }
        });
        assert_eq!(refused, Vec::from_iter(wanted), "{settings} {parameter}");
    }
}

#[test]
fn what_a_template_does_not_take_is_refused_by_its_field() {
    fn away(wanted: &mut Wanted) -> &mut RegionWanted {
        wanted.regions.get_mut(&region(AWAY)).unwrap()
    }
    fn functions(wanted: &mut Wanted) -> &mut DomainFunctions {
        wanted.domain_functions.as_mut().unwrap()
    }
    let changes: [Case; 17] = [
        (|wanted| wanted.edge.ip_address_type = "IPV6".to_owned(), "edge.ip_address_type: `IPV6`"),
        (|wanted| wanted.edge.hosted_zone_id = "z1".to_owned(), "edge.hosted_zone_id: `z1`"),
        (|wanted| wanted.edge.name = "Edge.example.com".to_owned(), "edge.name: `Edge.example.com`"),
        (|wanted| wanted.tables.certificates = "a".to_owned(), "tables.certificates: `a`"),
        (|wanted| wanted.tables.domains = "a b c".to_owned(), "tables.domains: `a b c`"),
        (|wanted| wanted.tables.state = "a/b".to_owned(), "tables.state: `a/b`"),
        (|wanted| wanted.tables.key = "alias/a".to_owned(), "tables.key: `alias/a`"),
        (|wanted| wanted.challenge_zone = "example.com".to_owned(), "challenge_zone: `example.com`"),
        (
            |wanted| {
                let key = "arn:aws:kms:eu-central-1:111122223333:key/a".to_owned();
                wanted.key_encryption_keys = vec![key, "alias/a".to_owned()];
            },
            "key_encryption_keys: `arn:aws:kms:eu-central-1:111122223333:key/a,alias/a`",
        ),
        (
            |wanted| functions(wanted).schedule = "5 minutes".to_owned(),
            "domain_functions.schedule: `5 minutes` is none that CloudFormation takes; write it as \
             `^(rate|cron)\\([^)]+\\)$` says: When the checker is woken",
        ),
        (
            |wanted| functions(wanted).alarm_topic = "oncall".to_owned(),
            "domain_functions.alarm_topic: `oncall`",
        ),
        (|wanted| away(wanted).alarm_topic = "oncall".to_owned(), "regions.us-east-1.alarm_topic: `oncall`"),
        (
            |wanted| away(wanted).settings_parameter = "gatehouse".to_owned(),
            "regions.us-east-1.settings_parameter: `gatehouse`",
        ),
        (
            |wanted| away(wanted).settings_key = "alias/a".to_owned(),
            "regions.us-east-1.settings_key: `alias/a`",
        ),
        (
            |wanted| {
                away(wanted).alarm_topic = "arn:aws:sns:eu-central-1:111122223333:oncall".to_owned();
            },
            "regions.us-east-1.alarm_topic: `arn:aws:sns:eu-central-1:111122223333:oncall` is of another region",
        ),
        (|wanted| away(wanted).cpu_credits = "none".to_owned(), "regions.us-east-1.cpu_credits: `none`"),
        (|wanted| away(wanted).instance_type = "t4g".to_owned(), "regions.us-east-1.instance_type: `t4g`"),
    ];
    for (change, said) in changes {
        let mut wanted = with_functions(&[HOME, AWAY]);
        change(&mut wanted);
        for found in [Found::default(), empty_account()] {
            let refused = deploy(&wanted, &found, Purpose::Deploy).unwrap_err();
            let of_it: Vec<_> = refused.iter().map(ToString::to_string).collect();
            let of_it: Vec<_> = of_it.iter().filter(|text| text.starts_with(said)).collect();
            assert_eq!(of_it.len(), 1, "{said}: {refused:?}");
        }
    }
    // Of what an update does not touch it says nothing.
    let mut wanted = wanted(&[HOME]);
    wanted.tables.domains = "a b c".to_owned();
    assert!(deploy(&wanted, &Found::default(), Purpose::Update).is_ok());
}

#[test]
fn a_package_of_functions_that_is_nowhere_is_refused() {
    let found = Found { functions: FoundPackage::default(), ..empty_account() };
    let refused = deploy(&with_functions(&[HOME]), &found, Purpose::Deploy).unwrap_err();
    assert_eq!(refused, [Refusal::NoDomainFunctions("functions.zip".to_owned())]);
}

#[test]
fn a_name_in_its_zone_is_taken() {
    let mut wanted = wanted(&[HOME]);
    (wanted.edge.hosted_zone_id, wanted.edge.name) = ("Z1".to_owned(), "edge.example.com".to_owned());
    for zone in ["example.com.", "edge.example.com."] {
        let found = Found { zone: Some(zone.to_owned()), ..empty_account() };
        assert!(deploy(&wanted, &found, Purpose::Deploy).is_ok(), "{zone}");
    }
}

#[test]
fn a_name_that_is_there_already_is_refused_unless_it_is_the_stacks_own() {
    let name = "edge.example.com";
    for (records, wanted_type, stacks_type, taken) in [
        (vec!["A"], "IPV4", None, Some("A")),
        (vec!["CNAME"], "IPV4", None, Some("CNAME")),
        (vec!["AAAA"], "IPV4", None, None),
        (vec!["AAAA"], "DUAL_STACK", None, Some("AAAA")),
        (vec!["MX", "TXT"], "DUAL_STACK", None, None),
        (vec!["A"], "IPV4", Some("IPV4"), None),
        (vec!["A", "AAAA"], "DUAL_STACK", Some("DUAL_STACK"), None),
        (vec!["A", "AAAA"], "DUAL_STACK", Some("IPV4"), Some("AAAA")),
    ] {
        let mut wanted = wanted(&[HOME]);
        wanted.edge.ip_address_type = wanted_type.to_owned();
        (wanted.edge.hosted_zone_id, wanted.edge.name) = ("Z1".to_owned(), name.to_owned());
        let mut found = Found { zone: Some("example.com.".to_owned()), ..empty_account() };
        found.records = records.iter().map(|kind| (*kind).to_owned()).collect();
        if let Some(kind) = stacks_type {
            made(&mut found, Kind::Edge, &[("HostedZoneId", "Z1"), ("Name", name), ("IpAddressType", kind)]);
        }
        let refused = deploy(&wanted, &found, Purpose::Deploy).err().unwrap_or_default();
        let taken = taken.map(|kind| Refusal::NameIsTaken { name: name.to_owned(), kind: kind.to_owned() });
        assert_eq!(refused, Vec::from_iter(taken), "{records:?} {wanted_type} {stacks_type:?}");
    }
}

#[test]
fn an_update_is_forbidden_by_what_it_touches_alone() {
    let wanted = with_functions(&[HOME]);
    for (kind, status, forbids) in [
        (Kind::Domains, "UPDATE_ROLLBACK_FAILED", false),
        (Kind::Edge, "UPDATE_ROLLBACK_FAILED", false),
        (Kind::Edge, "DELETE_FAILED", false),
        (Kind::Functions, "CREATE_IN_PROGRESS", false),
        // Its outputs may be about to change.
        (Kind::Edge, "UPDATE_IN_PROGRESS", true),
        (Kind::Domains, "UPDATE_IN_PROGRESS", true),
        (Kind::Artifacts, "DELETE_FAILED", true),
        (Kind::Fleet, "UPDATE_ROLLBACK_FAILED", true),
        (Kind::Fleet, "UPDATE_IN_PROGRESS", true),
    ] {
        let found = with_status(after(&wanted), kind, status);
        let refused = |purpose| deploy(&wanted, &found, purpose).is_err();
        assert_eq!(refused(Purpose::Update), forbids, "{kind:?} {status}");
        assert!(refused(Purpose::Deploy), "{kind:?} {status}");
    }
}

#[test]
fn a_printed_remedy_loses_no_address_unsaid() {
    let wanted = wanted(&[HOME]);
    let found = with_status(after(&wanted), Kind::Edge, "DELETE_FAILED");
    let said = deploy(&wanted, &found, Purpose::Deploy).unwrap_err()[0].to_string();
    assert!(said.contains("static addresses are lost for ever"), "{said}");
}
