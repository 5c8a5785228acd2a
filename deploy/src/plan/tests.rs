mod refusals;
mod removals;

use std::{collections::BTreeMap, path::PathBuf};

use aws_policy::{ACCOUNT, Call, template::Template};

use super::*;
use crate::{
    domain_functions::{DomainFunctions, Verifier},
    found::{Found, FoundPackage, FoundRegion, FoundStack, Image, InstanceType, Used},
    stack::{Kind, StackKey},
    wanted::{
        ImageChoice, Network, Region, TablesFile, Wanted,
        tests::{described, wanted},
    },
};

const HOME: &str = "eu-central-1";
const AWAY: &str = "us-east-1";

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

fn key(kind: Kind, name: &str) -> StackKey {
    StackKey::new(kind, &region(name))
}

/// An account that has what a fleet needs, and no fleet.
fn empty_account() -> Found {
    let place = FoundRegion {
        image: Some(Image { id: "ami-1".to_owned(), architecture: "arm64".to_owned(), is_available: true }),
        network: Some(Network { vpc: "vpc-1".to_owned(), subnets: vec!["subnet-1".to_owned()] }),
        instance_type: Some(InstanceType { vcpus: 2, architectures: vec!["arm64".to_owned()] }),
        vcpus_permitted: Some(6),
        has_code: false,
        ..FoundRegion::default()
    };
    let regions = [HOME, AWAY].map(region);
    Found {
        looked: true,
        places: regions.iter().map(|region| (region.clone(), place.clone())).collect(),
        regions: regions.into(),
        accelerators: Some(Used { used: 19, most: 20 }),
        has_package: true,
        functions: FoundPackage { is_here: true, is_uploaded: false },
        ..Found::default()
    }
}

/// As it is once the plan was carried out.
fn after(wanted: &Wanted) -> Found {
    let mut found = empty_account();
    for wave in deploy(wanted, &found, Purpose::Deploy).unwrap().waves {
        for step in wave {
            carry_out(&mut found, step);
        }
    }
    found
}

fn carry_out(found: &mut Found, step: Step) {
    match step {
        Step::Change(change) => {
            let resolved = change.parameters.into_iter().map(|(name, value)| {
                let text = match value {
                    Value::Known(text) => text,
                    Value::Output(key, name) => found.output(&key, name).unwrap().to_owned(),
                    Value::Open(what) => panic!("{what}"),
                };
                (name.to_owned(), text)
            });
            let outputs: &[&str] = match change.key.kind {
                Kind::Artifacts => &["Bucket"],
                Kind::Domains => &["CertificatesTable", "DomainsTable", "StateTable", "Key"],
                Kind::Edge => &["Listener"],
                Kind::Functions => &["VerifierUrl"],
                Kind::Fleet => &["InstancesMissing", "FunctionFails"],
            };
            let stack = FoundStack {
                id: String::new(),
                status: "CREATE_COMPLETE".to_owned(),
                parameters: resolved.collect(),
                outputs: outputs.iter().map(|name| ((*name).to_owned(), format!("the {name}"))).collect(),
                template: change.key.kind.template().trim_end().to_owned(),
                is_protected: false,
                made: BTreeMap::new(),
            };
            found.stacks.insert(change.key, stack);
        }
        Step::Upload { package, .. } if package.key() == "functions.zip" => {
            found.functions.is_uploaded = true;
        }
        Step::Upload { region, .. } => found.places.get_mut(&region).unwrap().has_code = true,
        Step::Protect(key) => found.stacks.get_mut(&key).unwrap().is_protected = true,
        other => panic!("{other:?}"),
    }
}

fn sentences(plan: &Plan) -> Vec<Vec<String>> {
    let stage = wanted(&[HOME]).stage;
    let said = |step: &Step| {
        let sentence = step.sentence(&stage);
        format!("{}: {}", step.region(), sentence.split(" with ").next().unwrap())
    };
    plan.waves.iter().map(|wave| wave.iter().map(said).collect()).collect()
}

#[test]
fn from_nothing_fleets_come_last_and_regions_side_by_side() {
    let plan = deploy(&wanted(&[HOME, AWAY]), &empty_account(), Purpose::Deploy).unwrap();
    assert_eq!(
        sentences(&plan),
        [
            vec![
                "eu-central-1: create gatehouse-prd-artifacts",
                "us-east-1: create gatehouse-prd-artifacts",
                "eu-central-1: create gatehouse-prd-domains",
                "eu-central-1: create gatehouse-prd-edge",
            ],
            vec![
                "eu-central-1: put the function's package f.zip into the bucket",
                "us-east-1: put the function's package f.zip into the bucket",
                "eu-central-1: protect gatehouse-prd-edge from deletion",
            ],
            vec!["eu-central-1: create gatehouse-prd-fleet", "us-east-1: create gatehouse-prd-fleet"],
        ]
    );
}

#[test]
fn without_an_account_the_same_is_planned_and_what_is_open_is_said() {
    let wanted = wanted(&[HOME, AWAY]);
    let offline = deploy(&wanted, &Found::default(), Purpose::Deploy).unwrap();
    let asked = deploy(&wanted, &empty_account(), Purpose::Deploy).unwrap();
    assert_eq!(sentences(&offline), sentences(&asked));
    let fleet = offline.waves[2][0].sentence(&wanted.stage);
    assert!(fleet.contains("ImageId=<the image of that version>"), "{fleet}");
    assert!(fleet.contains("Listener=<Listener of stack edge in eu-central-1>"), "{fleet}");
}

#[test]
fn every_parameter_of_a_template_is_given_and_no_other() {
    let plan = deploy(&with_functions(&[HOME]), &empty_account(), Purpose::Deploy).unwrap();
    for step in plan.waves.iter().flatten() {
        let Step::Change(StackChange { key, parameters, .. }) = step else { continue };
        let lines = key.kind.template().lines().skip_while(|line| *line != "Parameters:").skip(1);
        let block = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
        let names = block.filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'));
        let mut names: Vec<_> = names.filter(|name| !name.starts_with(' ')).collect();
        names.sort_unstable();
        assert_eq!(parameters.keys().copied().collect::<Vec<_>>(), names, "{key}");
    }
}

#[test]
fn keys_of_ones_own_reach_the_fleet_that_uses_them() {
    let keys = ["arn:aws:kms:eu-central-1:111122223333:key/a", "arn:aws:kms:eu-central-1:111122223333:key/b"];
    let of_fleet = format!("key_encryption_keys = {keys:?}");
    let of_away = "settings_parameter = \"/gatehouse/prd\"\nsettings_key = \"arn:aws:kms:us-east-1:111122223333:key/c\"";
    let plan =
        deploy(&described(&of_fleet, of_away, &[HOME, AWAY]), &empty_account(), Purpose::Deploy).unwrap();
    let given = |name: &str, parameter: &str| {
        let step = plan.waves.iter().flatten().find_map(|step| match step {
            Step::Change(change) if change.key == key(Kind::Fleet, name) => Some(change),
            _ => None,
        });
        step.unwrap().parameters.get(parameter).cloned()
    };
    let known = |text: &str| Some(Value::Known(text.to_owned()));
    for name in [HOME, AWAY] {
        assert_eq!(given(name, "KeyEncryptionKeys"), known(&keys.join(",")), "{name}");
    }
    assert_eq!(given(HOME, "SettingsKey"), known(""));
    assert_eq!(given(AWAY, "SettingsKey"), known("arn:aws:kms:us-east-1:111122223333:key/c"));
}

#[test]
fn a_second_deploy_plans_nothing() {
    let wanted = wanted(&[HOME, AWAY]);
    let found = after(&wanted);
    for purpose in [Purpose::Deploy, Purpose::Update] {
        let plan = deploy(&wanted, &found, purpose).unwrap();
        assert_eq!(sentences(&plan), Vec::<Vec<String>>::new(), "{purpose:?}");
    }
}

#[test]
fn other_tables_reach_fleets_and_functions_with_the_same_plan() {
    let mut wanted = with_functions(&[HOME, AWAY]);
    let found = after(&wanted);
    wanted.tables.certificates = "CaddysTable".to_owned();
    wanted.tables.domains = "restored".to_owned();
    let said = sentences(&deploy(&wanted, &found, Purpose::Deploy).unwrap()).concat();
    for (region, stack) in [(HOME, "domains"), (HOME, "functions"), (HOME, "fleet"), (AWAY, "fleet")] {
        let update = format!("{region}: update gatehouse-prd-{stack}");
        assert!(said.iter().any(|said| said.starts_with(&update)), "{update}: {said:?}");
    }
    assert!(
        deploy(&wanted, &found, Purpose::Update).unwrap().is_empty(),
        "an update leaves the tables as they are"
    );
}

/// What a step gives to a fleet in the home region.
fn given_to_fleet(plan: &Plan) -> &BTreeMap<&'static str, Value> {
    let of_fleet = plan.waves.iter().flatten().find_map(|step| match step {
        Step::Change(change) if change.key == key(Kind::Fleet, HOME) => Some(&change.parameters),
        _ => None,
    });
    of_fleet.unwrap()
}

#[test]
fn instances_that_are_to_be_replaced_keep_their_rights_on_the_tables_that_they_serve_from() {
    let mut wanted = wanted(&[HOME]);
    let found = after(&wanted);
    let arn_of = |key: &str| format!("arn:aws:kms:eu-central-1:123456789012:key/{key}");
    wanted.tables = TablesFile {
        certificates: "restored-certificates".to_owned(),
        domains: "restored-domains".to_owned(),
        state: "restored-state".to_owned(),
        key: arn_of("restored"),
    };
    let plan = deploy(&wanted, &found, Purpose::Deploy).unwrap();
    let given: Vec<_> = given_to_fleet(&plan)
        .iter()
        .map(|(name, value)| match value {
            Value::Known(text) => (*name, text.clone()),
            Value::Output(_, output) => (*name, format!("the new {output}")),
            Value::Open(what) => panic!("{what}"),
        })
        .collect();
    let pseudo = [("AWS::Partition", "aws"), ("AWS::AccountId", ACCOUNT), ("AWS::Region", HOME)];
    let given: Vec<_> = given.iter().map(|(name, text)| (*name, text.as_str())).chain(pseudo).collect();
    let policy = Template::read(Kind::Fleet.template(), &given).unwrap().policy("InstanceRole").unwrap();
    let is_granted = |call: &Call| !policy.judge(call).unwrap().is_empty();
    for which in ["the", "the new"] {
        let table = |name: &str| format!("arn:aws:dynamodb:{HOME}:{ACCOUNT}:table/{which} {name}");
        for call in [
            Call::new("dynamodb:PutItem", table("CertificatesTable")),
            Call::new("dynamodb:DeleteItem", table("CertificatesTable"))
                .with("dynamodb:LeadingKeys", ["LOCK-a"]),
            Call::new("dynamodb:UpdateItem", table("StateTable")),
            Call::new("dynamodb:Query", table("StateTable/index/due")),
            Call::new("dynamodb:GetItem", table("DomainsTable")),
            Call::new("dynamodb:Query", table("DomainsTable/index/feed")),
            Call::new("dynamodb:Query", table("DomainsTable/index/tenant")),
            Call::new("kms:Decrypt", format!("{which} Key"))
                .with("kms:ViaService", [format!("dynamodb.{HOME}.amazonaws.com")]),
        ] {
            assert!(is_granted(&call), "{call}");
        }
    }
    assert!(!is_granted(&Call::new(
        "dynamodb:GetItem",
        "arn:aws:dynamodb:eu-central-1:123456789012:table/a"
    )));
}

#[test]
fn the_next_rollout_takes_the_rights_on_former_tables_and_one_table_that_changes_leaves_the_others() {
    let mut wanted = wanted(&[HOME]);
    let mut found = after(&wanted);
    wanted.tables.domains = "restored".to_owned();
    let said = sentences(&deploy(&wanted, &found, Purpose::Deploy).unwrap());
    let update = "eu-central-1: update gatehouse-prd-fleet: DomainsTable=<DomainsTable of stack domains in \
                  eu-central-1> FormerDomainsTable=the DomainsTable";
    assert_eq!(said[1], [update]);

    // As it is then.
    let domains = found.stacks.get_mut(&key(Kind::Domains, HOME)).unwrap();
    domains.parameters.insert("ExistingDomainsTable".to_owned(), "restored".to_owned());
    domains.outputs.insert("DomainsTable".to_owned(), "restored".to_owned());
    let fleet = found.stacks.get_mut(&key(Kind::Fleet, HOME)).unwrap();
    fleet.parameters.insert("DomainsTable".to_owned(), "restored".to_owned());
    fleet.parameters.insert("FormerDomainsTable".to_owned(), "the DomainsTable".to_owned());
    for purpose in [Purpose::Deploy, Purpose::Update] {
        let said = sentences(&deploy(&wanted, &found, purpose).unwrap());
        assert_eq!(said, [["eu-central-1: update gatehouse-prd-fleet: FormerDomainsTable=\"\""]]);
    }
}

#[test]
fn a_fleet_keeps_its_default_subnets_while_they_are_there() {
    let mut wanted = wanted(&[HOME]);
    let before = after(&wanted);
    let planned = |wanted: &Wanted, vpc: &str, subnets: &[&str]| {
        let mut found = empty_account();
        found.stacks.clone_from(&before.stacks);
        let place = found.places.get_mut(&region(HOME)).unwrap();
        place.has_code = true;
        let subnets = subnets.iter().map(|one| (*one).to_owned()).collect();
        place.network = Some(Network { vpc: vpc.to_owned(), subnets });
        sentences(&deploy(wanted, &found, Purpose::Deploy).unwrap()).concat().join("\n")
    };
    let update = "eu-central-1: update gatehouse-prd-fleet: ";
    assert_eq!(planned(&wanted, "vpc-1", &["subnet-0", "subnet-1", "subnet-2"]), "");
    assert_eq!(planned(&wanted, "vpc-1", &["subnet-2"]), format!("{update}Subnets=subnet-2"));
    let other = planned(&wanted, "vpc-2", &["subnet-1"]);
    assert_eq!(other, format!("{update}Vpc=vpc-2"));
    // Who names subnets has those.
    let subnets = vec!["subnet-1".to_owned(), "subnet-2".to_owned()];
    let named = Network { vpc: "vpc-1".to_owned(), subnets };
    wanted.regions.get_mut(&region(HOME)).unwrap().network = Some(named);
    let other = planned(&wanted, "vpc-1", &["subnet-1", "subnet-2"]);
    assert_eq!(other, format!("{update}Subnets=subnet-1,subnet-2"));
}

#[test]
fn a_package_that_is_uploaded_need_not_be_here() {
    let wanted = with_functions(&[HOME]);
    let mut found = Found { has_package: false, ..after(&wanted) };
    found.functions.is_here = false;
    assert!(deploy(&wanted, &found, Purpose::Deploy).is_ok());
}

/// The same fleet with functions over its domains table.
fn with_functions(regions: &[&str]) -> Wanted {
    let functions = DomainFunctions {
        package: PathBuf::from("functions.zip").into(),
        verifier: Verifier::Public,
        verifier_concurrency: None,
        checker_settings: "[verification]\nedge_names = [\"edge.example.net\"]\n".to_owned(),
        schedule: "rate(5 minutes)".to_owned(),
        alarm_topic: String::new(),
    };
    Wanted { domain_functions: Some(functions), ..wanted(regions) }
}

#[test]
fn functions_come_with_their_code_at_home_where_there_need_be_no_fleet_and_go_when_they_are_not_wanted() {
    // At home in one region, with a fleet in another.
    let mut away = with_functions(&[HOME, AWAY]);
    away.regions.remove(&region(HOME));
    let plan = deploy(&away, &empty_account(), Purpose::Deploy).unwrap();
    assert_eq!(
        sentences(&plan),
        [
            vec![
                "eu-central-1: create gatehouse-prd-artifacts",
                "us-east-1: create gatehouse-prd-artifacts",
                "eu-central-1: create gatehouse-prd-domains",
                "eu-central-1: create gatehouse-prd-edge",
            ],
            vec![
                "us-east-1: put the function's package f.zip into the bucket",
                "eu-central-1: put the function's package functions.zip into the bucket",
                "eu-central-1: protect gatehouse-prd-edge from deletion",
            ],
            vec!["eu-central-1: create gatehouse-prd-functions", "us-east-1: create gatehouse-prd-fleet"],
        ]
    );
    let found = after(&away);
    assert!(deploy(&away, &found, Purpose::Deploy).unwrap().is_empty());

    let mut other = away.clone().confirmed(Some("prd"));
    let functions = other.domain_functions.as_mut().unwrap();
    functions.verifier = Verifier::Private;
    functions.verifier_concurrency = Some(20);
    let said = [["eu-central-1: update gatehouse-prd-functions: Verifier=private VerifierConcurrency=20"]];
    assert_eq!(sentences(&deploy(&other, &found, Purpose::Deploy).unwrap()), said);
    assert!(deploy(&other, &found, Purpose::Update).unwrap().is_empty(), "an update is of fleets alone");

    let none = Wanted { domain_functions: None, ..other };
    let gone = "eu-central-1: delete gatehouse-prd-functions and wait until it is gone";
    assert_eq!(sentences(&deploy(&none, &found, Purpose::Deploy).unwrap()), [[gone]]);
    // They end with the whole stage, and with no region.
    let removed = remove(&away, &found, &Removal::Regions(vec![region(AWAY)])).unwrap();
    assert!(!sentences(&removed).concat().contains(&gone.to_owned()));
    assert!(sentences(&remove(&away, &found, &all(false)).unwrap())[0].contains(&gone.to_owned()));
}

fn all(with_data: bool) -> Removal {
    Removal::All { with_data, confirmed: Some("prd".to_owned()) }
}

fn with_status(mut found: Found, kind: Kind, status: &str) -> Found {
    found.stacks.get_mut(&key(kind, HOME)).unwrap().status = status.to_owned();
    found
}

#[test]
fn functions_that_could_not_be_made_are_made_anew_and_forbid_nothing_else() {
    let wanted = with_functions(&[HOME]);
    let newer = Wanted { image_version: "0.2.0".to_owned(), ..wanted.clone() };
    let none = Wanted { domain_functions: None, ..wanted.clone() };
    let delete = "eu-central-1: delete gatehouse-prd-functions and wait until it is gone";
    for status in ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"] {
        let found = with_status(after(&wanted), Kind::Functions, status);
        let anew = deploy(&wanted, &found, Purpose::Deploy).unwrap();
        assert_eq!(
            sentences(&anew),
            [[delete], ["eu-central-1: create gatehouse-prd-functions"]],
            "{status}"
        );
        assert_eq!(sentences(&deploy(&none, &found, Purpose::Deploy).unwrap()), [[delete]], "{status}");
        let update = [["eu-central-1: update gatehouse-prd-fleet: ImageVersion=0.2.0"]];
        assert_eq!(sentences(&deploy(&newer, &found, Purpose::Update).unwrap()), update, "{status}");
    }
    // One whose update is stuck has a URL that others ask.
    let found = with_status(after(&wanted), Kind::Functions, "UPDATE_ROLLBACK_FAILED");
    assert!(matches!(&deploy(&wanted, &found, Purpose::Deploy).unwrap_err()[..], [Refusal::Stuck { .. }]));
    let lost = none.clone().confirmed(Some("prd"));
    assert_eq!(sentences(&deploy(&lost, &found, Purpose::Deploy).unwrap()), [[delete]]);
    // Nor is one deleted that is being made.
    let found = with_status(after(&wanted), Kind::Functions, "CREATE_IN_PROGRESS");
    assert!(matches!(&deploy(&none, &found, Purpose::Deploy).unwrap_err()[..], [Refusal::Busy { .. }]));
}

#[test]
fn fleets_change_one_region_after_the_other() {
    let mut wanted = wanted(&[HOME, AWAY]);
    let found = after(&wanted);
    wanted.image_version = "0.2.0".to_owned();
    let plan = deploy(&wanted, &found, Purpose::Update).unwrap();
    assert_eq!(
        sentences(&plan),
        [
            ["eu-central-1: update gatehouse-prd-fleet: ImageVersion=0.2.0"],
            ["us-east-1: update gatehouse-prd-fleet: ImageVersion=0.2.0"],
        ]
    );
    let Step::Change(change) = &plan.waves[0][0] else { panic!() };
    assert_eq!(change.alarms, ["the InstancesMissing", "the FunctionFails"]);
}

#[test]
fn another_number_of_instances_makes_none_missing() {
    for (count, alarms) in [
        (1, vec!["the FunctionFails"]),
        (2, vec!["the InstancesMissing", "the FunctionFails"]),
        (3, vec!["the FunctionFails"]),
    ] {
        let mut wanted = wanted(&[HOME]);
        let mut found = after(&wanted);
        found.places.get_mut(&region(HOME)).unwrap().vcpus_permitted = None;
        wanted.image_version = "0.2.0".to_owned();
        wanted.regions.get_mut(&region(HOME)).unwrap().instance_count = count;
        let plan = deploy(&wanted, &found, Purpose::Update).unwrap();
        let Step::Change(change) = &plan.waves[0][0] else { panic!() };
        assert_eq!(change.alarms, alarms, "{count}");
    }
}

#[test]
fn an_accelerator_gets_ipv6_after_all_fleets_and_loses_it_before_them() {
    let ipv4 = wanted(&[HOME, AWAY]);
    let mut dual = ipv4.clone();
    dual.edge.ip_address_type = "DUAL_STACK".to_owned();
    let said = |name: &str, to: &str| [format!("{name}: IpAddressType={to}")];
    let [edge, home, away] = [("eu-central-1", "edge"), ("eu-central-1", "fleet"), ("us-east-1", "fleet")]
        .map(|(region, kind)| format!("{region}: update gatehouse-prd-{kind}"));
    let plan = deploy(&dual, &after(&ipv4), Purpose::Deploy).unwrap();
    let order = [&home, &away, &edge].map(|name| said(name, "DUAL_STACK"));
    assert_eq!(sentences(&plan), order);
    let less = ipv4.clone().confirmed(Some("prd"));
    let plan = deploy(&less, &after(&dual), Purpose::Deploy).unwrap();
    assert_eq!(sentences(&plan), [&edge, &home, &away].map(|name| said(name, "IPV4")));
    // One fleet alone would leave another's endpoints behind.
    let one = dual.clone().only(&[region(HOME)]).unwrap();
    let refused = deploy(&one, &after(&ipv4), Purpose::Deploy).unwrap_err();
    assert_eq!(refused, [Refusal::DualStackWithoutAll]);
    assert!(deploy(&one, &after(&ipv4), Purpose::Update).is_ok());
}

#[test]
fn a_template_that_differs_is_an_update_and_an_interrupted_deploy_goes_on() {
    let wanted = wanted(&[HOME]);
    let mut found = after(&wanted);
    found.stacks.get_mut(&key(Kind::Domains, HOME)).unwrap().template.push_str("\n# older");
    // A change set that nobody carried out leaves this behind.
    found.stacks.get_mut(&key(Kind::Fleet, HOME)).unwrap().status = "REVIEW_IN_PROGRESS".to_owned();
    let plan = deploy(&wanted, &found, Purpose::Deploy).unwrap();
    let wanted = [
        ["eu-central-1: update gatehouse-prd-domains: template"],
        ["eu-central-1: create gatehouse-prd-fleet"],
    ];
    assert_eq!(sentences(&plan), wanted);
}

#[test]
fn another_region_is_a_bucket_its_code_and_a_fleet() {
    let found = after(&wanted(&[HOME]));
    let plan = deploy(&wanted(&[HOME, AWAY]), &found, Purpose::Deploy).unwrap();
    assert_eq!(
        sentences(&plan),
        [
            ["us-east-1: create gatehouse-prd-artifacts"],
            ["us-east-1: put the function's package f.zip into the bucket"],
            ["us-east-1: create gatehouse-prd-fleet"],
        ]
    );
}
