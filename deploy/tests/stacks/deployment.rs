//! A fleet's life.

use std::collections::BTreeSet;

use aws_policy::{Role, proof, role::SERVICE_ROLE};
use serde_json::Value;

use crate::account::{Account, Call};

const BOTH: [&str; 2] = ["eu-central-1", "us-east-1"];

fn changes(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| !call.looks()).collect()
}

#[test]
fn two_regions_come_and_change_and_go_and_nothing_is_left() {
    let account = Account::start();
    account.describe("0.1.0", &BOTH);
    let empty = account.left();
    let mut calls = plans_change_nothing(&account);
    calls.extend(a_name_is_looked_for_before_anything_is_changed(&account));
    calls.extend(comes_and_is_well(&account));
    calls.extend(changes_one_region_after_the_other(&account));
    calls.extend(a_region_goes_alone(&account));
    calls.extend(goes_without_its_tables_at_first(&account));

    let removed = account.run("remove --all --with-data --confirm tst");
    removed.succeeded(&account);
    assert!(removed.out.ends_with("\n0 left\n"), "{removed:#?}");
    assert_eq!(account.left(), empty);
    calls.extend(account.calls());
    assert_called_as_granted(&calls);
    let takes_a_role = |call: &&Call| {
        ["cloudformation:CreateChangeSet", "cloudformation:DeleteStack"].contains(&call.action.as_str())
    };
    let has_ours = |call: &Call| call.parameters["RoleARN"] == SERVICE_ROLE;
    assert!(calls.iter().filter(takes_a_role).all(has_ours), "{calls:#?}");
}

fn plans_change_nothing(account: &Account) -> Vec<Call> {
    let mut all = Vec::new();
    for words in ["plan", "deploy --dry-run", "plan --offline"] {
        let plan = account.run(words);
        plan.succeeded(account);
        assert!(plan.out.contains("3. us-east-1: create gatehouse-tst-fleet with"), "{plan:#?}");
        let calls = account.calls();
        assert!(changes(&calls).is_empty(), "{words}: {calls:#?}");
        assert_eq!(calls.is_empty(), words == "plan --offline", "{words}");
        all.extend(calls);
    }
    all
}

fn a_name_is_looked_for_before_anything_is_changed(account: &Account) -> Vec<Call> {
    let zone = account.zone();
    for (zone, name, said) in [
        ("Z0", "edge.example.net", "edge.hosted_zone_id: the account has no zone `Z0`"),
        (
            zone.as_str(),
            "taken.example.net",
            "edge.name: `taken.example.net` has a record of type A in the zone already",
        ),
    ] {
        let edge = format!("[edge]\nhosted_zone_id = \"{zone}\"\nname = \"{name}\"\n");
        account.describe_with("0.1.0", &BOTH, &edge);
        let refused = account.run("deploy");
        assert!(refused.code == Some(1) && refused.err.contains(said), "{refused:#?}");
    }
    account.describe("0.1.0", &BOTH);
    let calls = account.calls();
    assert!(changes(&calls).is_empty(), "{calls:#?}");
    calls
}

fn comes_and_is_well(account: &Account) -> Vec<Call> {
    account.run("deploy").succeeded(account);
    // The fleet's in each region, and the two over the domains table.
    assert!(account.left().contains(&("functions".to_owned(), 4)), "{:?}", account.left());
    dashboards_name_what_there_is(account);
    let mut all = account.calls();
    let again = account.run("deploy");
    again.succeeded(account);
    assert_eq!(again.out, "nothing to do: everything is as wanted\n");
    let calls = account.calls();
    assert!(changes(&calls).is_empty(), "{calls:#?}");
    all.extend(calls);

    let status = account.run("status --json");
    status.succeeded(account);
    assert!(status.err.contains("not looked at, since access is denied: ap-southeast-2\n"), "{status:#?}");
    let status: Value = serde_json::from_str(&status.out).unwrap();
    for (index, region) in BOTH.iter().enumerate() {
        let fleet = &status["fleets"][index];
        assert_eq!((&fleet["region"], &fleet["image_version"]), (&(*region).into(), &"0.1.0".into()));
        let serving = (&fleet["instances"]["in_service"], &fleet["endpoints"][0]["healthy"]);
        assert_eq!(serving, (&1.into(), &true.into()));
        assert_eq!(fleet["alarms"].as_array().unwrap().len(), 2, "{fleet:#}");
    }
    all.extend(account.calls());
    all
}

/// A widget whose dimension has another value than AWS's shows nothing, and no service says so.
fn dashboards_name_what_there_is(account: &Account) {
    let dashboards = account.dashboards();
    assert_eq!(dashboards.as_object().unwrap().len(), BOTH.len(), "{dashboards:#}");
    for region in BOTH {
        let dashboard = &dashboards[format!("gatehouse-tst-fleet-{region}")];
        let text = dashboard.to_string();
        assert!(!text.contains("${"), "{dashboard:#}");
        let widgets = dashboard["widgets"].as_array().unwrap();
        let alarms = widgets[0]["properties"]["alarms"].as_array().unwrap();
        let of_region = format!("arn:aws:cloudwatch:{region}:");
        assert!(alarms.iter().all(|arn| arn.as_str().unwrap().starts_with(&of_region)), "{alarms:?}");
        let metrics = widgets.iter().skip(1).flat_map(|one| one["properties"]["metrics"].as_array().unwrap());
        let mut names = BTreeSet::new();
        for metric in metrics {
            let words: Vec<_> = metric.as_array().unwrap().iter().map_while(Value::as_str).collect();
            let (dimensions, _) = words[2..].as_chunks::<2>();
            for [name, value] in dimensions {
                let fits = match *name {
                    "AutoScalingGroupName" => *value == "gatehouse-tst-fleet",
                    "EndpointGroup" => *value == region,
                    // Of the double's ARN; an id of AWS's is longer.
                    "Accelerator" | "Listener" => {
                        value.len() == 8 && value.chars().all(|char| char.is_ascii_hexdigit())
                    }
                    "FunctionName" => value.starts_with("gatehouse-tst-fleet-Function"),
                    _ => false,
                };
                assert!(fits, "{metric}");
            }
            names.insert(words[1].to_owned());
        }
        for name in ["HealthyEndpointCount", "CPUUtilization", "NetworkOut", "Errors"] {
            assert!(names.contains(name), "{names:?}");
        }
    }
}

fn changes_one_region_after_the_other(account: &Account) -> Vec<Call> {
    account.describe("0.2.0", &BOTH);
    account.run("update").succeeded(account);
    let calls = account.calls();
    let began: Vec<_> =
        changes(&calls).iter().map(|call| (call.region.clone(), call.action.clone())).collect();
    let of = |region: &str| {
        let action = |name| (region.to_owned(), format!("cloudformation:{name}"));
        ["CreateChangeSet", "ExecuteChangeSet"].map(action)
    };
    // The second region has not begun before the first had ended.
    assert_eq!(began, [of(BOTH[0]), of(BOTH[1])].concat());
    let second_alarm = "RollbackConfiguration.RollbackTriggers.member.2.Arn";
    let with_alarms = calls.iter().filter(|call| call.parameters.get(second_alarm).is_some());
    assert_eq!(with_alarms.count(), 2, "{calls:#?}");
    let status = account.run("status");
    status.succeeded(account);
    assert_eq!(status.out.matches(" 0.2.0 ").count(), 2, "{status:#?}");
    calls
}

fn a_region_goes_alone(account: &Account) -> Vec<Call> {
    account.calls();
    let region = account.run("remove --region us-east-1");
    region.succeeded(account);
    assert!(region.out.ends_with("\n10 left\n"), "{region:#?}");
    let calls = account.calls();
    assert!(changes(&calls).iter().all(|call| call.region == "us-east-1"), "{calls:#?}");
    let status = account.run("status");
    assert_eq!(status.code, Some(1), "{status:#?}");
    assert!(status.out.contains("fault: us-east-1: there is no fleet"), "{status:#?}");
    calls
}

fn goes_without_its_tables_at_first(account: &Account) -> Vec<Call> {
    account.calls();
    let refused = account.run("remove --all --with-data");
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    let said = "--confirm: the accelerator's static addresses would be lost";
    assert!(refused.err.contains(said), "{refused:#?}");
    assert!(changes(&account.calls()).is_empty());
    let kept = account.run("remove --all --confirm tst");
    kept.succeeded(account);
    assert!(kept.out.ends_with("\n5 left\n"), "{kept:#?}");
    for left in ["left: table gatehouse-tst-domains", "left: key arn:aws:kms:eu-central-1:"] {
        assert!(kept.out.contains(left), "{kept:#?}");
    }
    account.calls()
}

/// What the deployer's policy grants it, which is all that it calls, and no more.
fn assert_called_as_granted(calls: &[Call]) {
    let judged = calls.iter().flat_map(|call| call.judged.iter().cloned()).collect();
    assert_eq!(proof::faults(Role::Deployer, &judged).unwrap(), Vec::<String>::new());
}

#[test]
fn a_creation_that_fails_is_told_and_cleared_away() {
    let account = Account::start();
    account.describe("0.3.0", &BOTH[..1]);
    let failed = account.run("deploy");
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    let said = "create gatehouse-tst-fleet: it ended as ROLLBACK_COMPLETE, because of Group: Received 0 SUCCESS signal(s)";
    assert!(failed.err.contains(said), "{failed:#?}");
    account.calls();

    account.describe("0.1.0", &BOTH[..1]);
    let refused = account.run("deploy");
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    let said = "refused: stack fleet in eu-central-1: it is `ROLLBACK_COMPLETE`";
    assert!(refused.err.contains(said) && refused.err.contains("nothing was changed"), "{refused:#?}");
    assert!(changes(&account.calls()).is_empty());

    account.run("remove --failed").succeeded(&account);
    account.run("deploy").succeeded(&account);
    account.run("status").succeeded(&account);
}

#[test]
fn tables_that_a_failed_creation_left_are_cleared_away_by_the_command_that_is_named() {
    let account = Account::start();
    // Tables cannot be encrypted by this key; the double has made one of them when that comes out.
    let broken = "[tables]\nkey = \"arn:aws:kms:eu-central-1:123456789012:key/broken\"\n";
    account.describe_with("0.1.0", &BOTH[..1], broken);
    let failed = account.run("deploy");
    assert!(
        failed.err.contains("create gatehouse-tst-domains: it ended as ROLLBACK_COMPLETE"),
        "{failed:#?}"
    );
    account.describe("0.1.0", &BOTH[..1]);
    let refused = account.run("deploy");
    assert!(
        refused.err.contains("`gatehouse-deploy remove --failed --stage tst` deletes it"),
        "{refused:#?}"
    );
    let unconfirmed = account.run("remove --failed");
    assert!(unconfirmed.err.contains("gatehouse-tst-certificates would be deleted"), "{unconfirmed:#?}");
    let removed = account.run("remove --failed --confirm tst");
    removed.succeeded(&account);
    // The bucket and the accelerator have come meanwhile, and stay.
    assert!(removed.out.ends_with("\n3 left\n"), "{removed:#?}");
    account.run("deploy").succeeded(&account);
    account.run("status").succeeded(&account);
    let again = account.run("remove --failed");
    assert!(again.err.contains("--failed: of no stack"), "{again:#?}");
}

/// An account with a fleet of version 0.1.0 in both regions.
fn deployed() -> Account {
    let account = Account::start();
    account.describe("0.1.0", &BOTH);
    account.run("deploy").succeeded(&account);
    account
}

#[test]
fn an_update_that_turns_back_stops_before_the_next_region() {
    let account = deployed();
    account.calls();

    account.describe("0.3.0", &BOTH);
    let failed = account.run("update");
    assert_eq!(failed.code, Some(1), "{failed:#?}");
    assert!(failed.err.contains("it ended as UPDATE_ROLLBACK_COMPLETE"), "{failed:#?}");
    assert!(failed.err.contains("steps after it that were not begun: 1"), "{failed:#?}");
    let calls = account.calls();
    assert!(changes(&calls).iter().all(|call| call.region == BOTH[0]), "{calls:#?}");
    let status = account.run("status");
    status.succeeded(&account);
    assert_eq!(status.out.matches(" 0.1.0 ").count(), 2, "{status:#?}");

    // What turned back can be updated again.
    account.describe("0.2.0", &BOTH);
    account.run("update").succeeded(&account);
    assert_eq!(account.run("status").out.matches(" 0.2.0 ").count(), 2);
}

#[test]
fn an_update_by_version_takes_the_one_image_of_it_that_each_region_has() {
    let account = deployed();
    account.calls();

    for (version, said) in [
        ("0.4.0", vec!["refused: --image-version: `0.4.0` is the version of 2 images in us-east-1 (ami-"]),
        (
            "0.5.0",
            vec!["refused: --image-version: this account has no image of version `0.5.0` in us-east-1"],
        ),
        ("0.9.0", vec!["`0.9.0` in eu-central-1", "`0.9.0` in us-east-1"]),
        ("0.2.*", vec!["error: --image-version: `0.2.*` is not a version"]),
    ] {
        let refused = account.run(&format!("update --image-version {version}"));
        assert_eq!(refused.code, Some(1), "{refused:#?}");
        assert!(said.iter().all(|said| refused.err.contains(said)), "{said:?}: {refused:#?}");
        let count = refused.err.matches("refused: ").count() + refused.err.matches("error: ").count();
        assert_eq!(count, said.len(), "{refused:#?}");
    }
    let dry = account.run("update --image-version 0.2.0 --dry-run");
    dry.succeeded(&account);
    for region in BOTH {
        let step = ": update gatehouse-tst-fleet: ImageId=ami-";
        let line = dry.out.lines().find(|line| line.contains(region)).unwrap();
        assert!(line.contains(step) && line.ends_with(" ImageVersion=0.2.0"), "{dry:#?}");
    }
    assert!(changes(&account.calls()).is_empty());

    let updated = account.run("update --image-version 0.2.0");
    updated.succeeded(&account);
    let said = "fleet-tst.toml: write `image_version = \"0.2.0\"`, or the next `deploy` or `update` goes back to `0.1.0`";
    assert!(updated.err.contains(said), "{updated:#?}");
    assert_eq!(account.run("status").out.matches(" 0.2.0 ").count(), 2);
    // Which is so.
    let back = account.run("deploy --dry-run");
    assert_eq!(back.out.matches("ImageVersion=0.1.0").count(), 2, "{back:#?}");
    account.describe("0.2.0", &BOTH);
    let again = account.run("update --image-version 0.2.0");
    assert_eq!(again.out, "nothing to do: everything is as wanted\n");
    assert!(!again.err.contains("goes back"), "{again:#?}");
    // The command comes before an id in the file.
    account.describe_with("0.2.0", &["us-east-1"], "[regions.eu-central-1]\nimage_id = \"ami-1\"\n");
    let named = account.run("update --image-version 0.2.0");
    assert_eq!(named.out, "nothing to do: everything is as wanted\n", "{named:#?}");
    assert!(named.err.contains("take `image_id` out of `[regions.eu-central-1]`"), "{named:#?}");
}

#[test]
fn a_region_in_trouble_is_named_and_holds_up_no_other() {
    let account = deployed();
    let status = |region: &str, kind: &str| {
        account.trouble(kind, region);
        let table = account.run("status --within 5");
        let json = account.run("status --within 5 --json");
        assert_eq!((table.code, json.code), (Some(1), Some(1)), "{kind} {region}: {table:#?}");
        let status: Value = serde_json::from_str(&json.out).unwrap();
        let shown = status["fleets"].as_array().unwrap().iter();
        let shown: Vec<_> = shown.map(|fleet| fleet["region"].as_str().unwrap().to_owned()).collect();
        let unanswered = status["unanswered_regions"].as_array().unwrap().clone();
        (table.out, shown, unanswered)
    };
    for (kind, said) in [
        ("silent", "fault: us-east-1: nothing was answered within 5 s; see whether AWS"),
        ("failing", "fault: us-east-1: cloudformation:DescribeStacks: status 500: ; see whether AWS"),
    ] {
        let (table, shown, unanswered) = status("us-east-1", kind);
        assert!(table.contains(said), "{table}");
        assert!(
            !table.contains("no fleet") && !table.contains("missing"),
            "not known is not absent: {table}"
        );
        let line = table.lines().find(|line| line.starts_with("eu-central-1 ")).unwrap();
        assert!(line.contains("CREATE_COMPLETE") && line.contains("1/1"), "{table}");
        assert_eq!(shown, ["eu-central-1"]);
        assert_eq!(unanswered.len(), 1, "{unanswered:?}");
        assert_eq!(unanswered[0]["region"], "us-east-1");
    }
    // Neither the account's number nor its regions are told then.
    let (table, shown, _) = status("eu-central-1", "silent");
    assert!(table.contains("fault: eu-central-1: nothing was answered within 5 s"), "{table}");
    assert!(table.contains("fault: the account's regions are not known"), "{table}");
    assert_eq!(shown, ["us-east-1"]);
    // There is Global Accelerator's API.
    let (table, shown, _) = status("us-west-2", "failing");
    assert!(
        table.contains("fault: us-east-1: its endpoints are not known: us-west-2: globalaccelerator:"),
        "{table}"
    );
    assert_eq!(shown, BOTH);
    // A region that was not asked for holds up nothing.
    let chosen = account.run("status --region us-east-1 --within 5 --json");
    let status: Value = serde_json::from_str(&chosen.out).unwrap();
    assert_eq!(status["unanswered_regions"], serde_json::json!([]), "{chosen:#?}");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_changed() {
    let account = Account::start();
    account.describe("0.1.0", &["eu-central-1", "eu-moon-1"]);
    for (said, outcome) in [
        ("region: `eu-moon-1` is none that this account may use", account.run("deploy")),
        ("--stage: `Prd` is not a stage", account.run_bare("deploy --stage Prd")),
        ("--region: `eu-west-1` is not in the fleet's file", account.run("deploy --region eu-west-1")),
        ("credentials: none were found", account.run_bare("deploy --stage tst")),
        ("--file: cannot read `fleet-abc.toml`", account.run_bare("plan --offline --stage abc")),
        ("no image of version `0.9.0` is published there", {
            account.describe("0.9.0", &BOTH);
            account.run("deploy")
        }),
        ("stack fleet in eu-central-1: there is none to update", {
            account.describe("0.1.0", &BOTH);
            account.run("update")
        }),
    ] {
        assert_eq!(outcome.code, Some(1), "{outcome:#?}");
        assert!(outcome.err.contains(said), "{said}: {outcome:#?}");
    }
    // A region that is named has to answer.
    let denied = account.run("remove --region ap-southeast-2");
    assert!(
        denied.err.contains("ap-southeast-2: cloudformation:DescribeStacks: AccessDenied"),
        "{denied:#?}"
    );
    // Wrong usage.
    for words in ["remove --region us-east-1 --with-data", "remove --failed --all", "remove"] {
        assert_eq!(account.run(words).code, Some(2), "{words}");
    }
    assert!(changes(&account.calls()).is_empty());
    assert_eq!(account.left(), []);
}
