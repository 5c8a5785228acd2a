//! Stacks that go.

use super::*;

#[test]
fn tables_go_last_and_on_request_only() {
    let wanted = wanted(&[HOME, AWAY]);
    let found = after(&wanted);
    let mut expected = vec![
        vec![
            "eu-central-1: delete gatehouse-prd-fleet and wait until it is gone",
            "us-east-1: delete gatehouse-prd-fleet and wait until it is gone",
        ],
        vec!["eu-central-1: take the protection from gatehouse-prd-edge: its static addresses will be lost"],
        vec!["eu-central-1: delete gatehouse-prd-edge and wait until it is gone"],
        vec![
            "eu-central-1: empty the bucket of gatehouse-prd-artifacts, all versions",
            "us-east-1: empty the bucket of gatehouse-prd-artifacts, all versions",
        ],
        vec![
            "eu-central-1: delete gatehouse-prd-artifacts and wait until it is gone",
            "us-east-1: delete gatehouse-prd-artifacts and wait until it is gone",
        ],
    ];
    assert_eq!(sentences(&remove(&wanted, &found, &all(false)).unwrap()), expected);
    let table = "take the deletion protection from the table the";
    let tables = ["CertificatesTable", "DomainsTable", "StateTable"]
        .map(|name| format!("eu-central-1: {table} {name} and delete it"));
    expected.push(tables.iter().map(String::as_str).collect());
    expected.push(vec![
        "eu-central-1: schedule the key the Key for deletion in 30 days: backups cannot be read without it",
    ]);
    expected.push(vec!["eu-central-1: delete gatehouse-prd-domains and wait until it is gone"]);
    assert_eq!(sentences(&remove(&wanted, &found, &all(true)).unwrap()), expected);
}

#[test]
fn tables_that_were_there_before_stay() {
    let wanted = wanted(&[HOME]);
    let mut found = after(&wanted);
    let domains = found.stacks.get_mut(&key(Kind::Domains, HOME)).unwrap();
    let existing = [("ExistingCertificatesTable", "caddy"), ("ExistingKey", "arn")];
    domains.parameters.extend(existing.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let said = sentences(&remove(&wanted, &found, &all(true)).unwrap()).concat().join("\n");
    assert!(!said.contains("CertificatesTable") && !said.contains("the key"), "{said}");
    assert!(said.contains("DomainsTable") && said.contains("StateTable"), "{said}");
}

#[test]
fn a_key_stays_while_a_table_stays_that_it_may_encrypt() {
    let wanted = wanted(&[HOME]);
    for (existing, goes) in [
        ("ExistingCertificatesTable", false),
        ("ExistingDomainsTable", false),
        ("ExistingStateTable", false),
        // None of them.
        ("ExistingKey", true),
    ] {
        let mut found = after(&wanted);
        let domains = found.stacks.get_mut(&key(Kind::Domains, HOME)).unwrap();
        let named = if goes { "" } else { "gatehouse-prd-restored" };
        domains.parameters.insert(existing.to_owned(), named.to_owned());
        let said = sentences(&remove(&wanted, &found, &all(true)).unwrap()).concat().join("\n");
        assert_eq!(said.contains("schedule the key the Key"), goes, "{existing}: {said}");
    }
    // The key of a creation that failed has encrypted nothing that was there before.
    let mut found = with_status(after(&wanted), Kind::Domains, "ROLLBACK_COMPLETE");
    let domains = found.stacks.get_mut(&key(Kind::Domains, HOME)).unwrap();
    domains.parameters.insert("ExistingDomainsTable".to_owned(), "caddy".to_owned());
    domains.made = BTreeMap::from([("Key".to_owned(), "1234abcd".to_owned())]);
    let said = sentences(&remove(&wanted, &found, &all(true)).unwrap()).concat().join("\n");
    assert!(said.contains("schedule the key 1234abcd"), "{said}");
}

#[test]
fn what_a_failed_creation_left_goes_with_it_and_nothing_that_works() {
    let wanted = wanted(&[HOME, AWAY]);
    let mut found = with_status(after(&wanted), Kind::Domains, "ROLLBACK_COMPLETE");
    let domains = found.stacks.get_mut(&key(Kind::Domains, HOME)).unwrap();
    domains.outputs.clear();
    let made = [("CertificatesTable", "gatehouse-prd-certificates"), ("Key", "1234abcd")];
    domains.made = made.map(|(name, id)| (name.to_owned(), id.to_owned())).into();
    let failed = |confirmed: Option<&str>| {
        remove(&wanted, &found, &Removal::Failed { confirmed: confirmed.map(str::to_owned) })
    };
    let refused = failed(None).unwrap_err();
    let tables = vec!["gatehouse-prd-certificates".to_owned()];
    assert_eq!(refused, [Refusal::UnconfirmedTables { tables, stage: "prd".to_owned() }]);
    let expected = [
        "eu-central-1: take the deletion protection from the table gatehouse-prd-certificates and delete it",
        "eu-central-1: schedule the key 1234abcd for deletion in 30 days: backups cannot be read without it",
        "eu-central-1: delete gatehouse-prd-domains and wait until it is gone",
    ];
    assert_eq!(sentences(&failed(Some("prd")).unwrap()).concat(), expected);
    // The whole stage's removal knows them, too.
    assert!(
        sentences(&remove(&wanted, &found, &all(true)).unwrap())
            .concat()
            .ends_with(&expected.map(str::to_owned))
    );
}

#[test]
fn each_stack_that_failed_goes_without_the_stages_name_where_no_table_goes() {
    let wanted = wanted(&[HOME]);
    for kind in [Kind::Artifacts, Kind::Edge, Kind::Fleet] {
        let found = with_status(after(&wanted), kind, "ROLLBACK_FAILED");
        let plan = remove(&wanted, &found, &Removal::Failed { confirmed: None }).unwrap();
        let last = sentences(&plan).concat().pop().unwrap();
        assert_eq!(
            last,
            format!("eu-central-1: delete gatehouse-prd-{} and wait until it is gone", kind.name())
        );
    }
    let refused = remove(&wanted, &after(&wanted), &Removal::Failed { confirmed: None }).unwrap_err();
    assert_eq!(refused, [Refusal::NothingFailed]);
}

#[test]
fn a_region_goes_alone() {
    let wanted = wanted(&[HOME, AWAY]);
    let plan = remove(&wanted, &after(&wanted), &Removal::Regions(vec![region(AWAY)])).unwrap();
    let said = sentences(&plan).concat();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|sentence| sentence.starts_with("us-east-1: ")), "{said:?}");
}

#[test]
fn a_bucket_stays_with_the_functions_whose_code_it_holds() {
    let (with, without) = (with_functions(&[HOME, AWAY]), wanted(&[HOME, AWAY]));
    let home = Removal::Regions(vec![region(HOME)]);
    let fleet = "eu-central-1: delete gatehouse-prd-fleet and wait until it is gone";
    assert_eq!(sentences(&remove(&with, &after(&with), &home).unwrap()), [[fleet]]);
    let bucket = "eu-central-1: delete gatehouse-prd-artifacts and wait until it is gone".to_owned();
    assert!(sentences(&remove(&without, &after(&without), &home).unwrap()).concat().contains(&bucket));
    assert!(sentences(&remove(&with, &after(&with), &all(false)).unwrap()).concat().contains(&bucket));
}

#[test]
fn what_failed_can_be_removed_and_what_is_under_way_cannot() {
    let wanted = wanted(&[HOME]);
    let one = |status: &str| Found {
        stacks: BTreeMap::from([(
            key(Kind::Fleet, HOME),
            FoundStack { status: status.to_owned(), ..FoundStack::default() },
        )]),
        ..empty_account()
    };
    for (status, steps) in [
        ("ROLLBACK_COMPLETE", Some(1)),
        ("DELETE_FAILED", Some(1)),
        ("REVIEW_IN_PROGRESS", Some(1)),
        ("DELETE_IN_PROGRESS", None),
    ] {
        let plan = remove(&wanted, &one(status), &all(false));
        assert_eq!(plan.ok().map(|plan| plan.waves.len()), steps, "{status}");
    }
}

#[test]
fn a_removal_is_refused_without_the_stages_name_or_a_stack() {
    let wanted = wanted(&[HOME, AWAY]);
    let found = after(&wanted);
    for confirmed in [None, Some("tst".to_owned())] {
        let refused = remove(&wanted, &found, &Removal::All { with_data: false, confirmed }).unwrap_err();
        assert_eq!(refused, [Refusal::Unconfirmed { stage: "prd".to_owned() }]);
    }
    let refused = remove(&wanted, &found, &Removal::Regions(vec![region("eu-west-1")])).unwrap_err();
    assert_eq!(refused, [Refusal::NothingToRemove(region("eu-west-1"))]);
}
