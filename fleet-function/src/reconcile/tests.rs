use super::*;
use Action::{Add, Join, Leave, Remove};
use Health::{Healthy, Initial, Unhealthy};

fn seen(endpoints: &[(&str, Health)], instances: &[(&str, &str)]) -> Seen {
    let endpoints = endpoints.iter().map(|(id, health)| ((*id).to_owned(), *health)).collect();
    let instances: BTreeMap<_, _> =
        instances.iter().map(|(id, state)| ((*id).to_owned(), Lifecycle::of(state))).collect();
    Seen { endpoints, group: Some(Group { desired: instances.len(), instances }) }
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn each_state_leads_to_its_endpoint() {
    for (state, endpoint, wanted, awaited) in [
        ("Pending", None, vec![], 0),
        ("Pending:Wait", None, vec![Add(set(&["i-a"]))], 1),
        ("Pending:Wait", Some(Initial), vec![], 1),
        ("Pending:Wait", Some(Unhealthy), vec![], 1),
        ("Pending:Wait", Some(Healthy), vec![Join("i-a".to_owned())], 0),
        ("Pending:Proceed", None, vec![Add(set(&["i-a"]))], 0),
        ("InService", None, vec![Add(set(&["i-a"]))], 0),
        ("InService", Some(Healthy), vec![], 0),
        // The accelerator sends it nothing, and the group decides over its end.
        ("InService", Some(Unhealthy), vec![], 0),
        ("Terminating", Some(Healthy), vec![Remove(set(&["i-a"]))], 0),
        ("Terminating:Wait", Some(Healthy), vec![Leave(set(&["i-a"]))], 0),
        ("Terminating:Wait", None, vec![], 0),
        ("Terminating:Proceed", Some(Unhealthy), vec![Remove(set(&["i-a"]))], 0),
        ("Standby", Some(Healthy), vec![Remove(set(&["i-a"]))], 0),
        ("Warmed:Running", None, vec![], 0),
        ("A state of next year", Some(Healthy), vec![Remove(set(&["i-a"]))], 0),
    ] {
        let endpoints: Vec<_> = endpoint.map(|health| ("i-a", health)).into_iter().collect();
        let plan = Plan::of(&seen(&endpoints, &[("i-a", state)]));
        assert_eq!((plan.actions, plan.awaited), (wanted, awaited), "{state} with {endpoint:?}");
    }
}

#[test]
fn who_is_in_service_and_unhealthy_is_named_and_nobody_else() {
    for (state, health, is_named) in [
        ("InService", Unhealthy, true),
        ("Pending:Proceed", Unhealthy, true),
        ("InService", Healthy, false),
        ("InService", Initial, false),
        ("Pending:Wait", Unhealthy, false),
        ("Terminating:Wait", Unhealthy, false),
        ("Standby", Unhealthy, false),
    ] {
        let plan =
            Plan::of(&seen(&[("i-a", health), ("i-b", Healthy)], &[("i-a", state), ("i-b", "InService")]));
        assert_eq!(!plan.unhealthy.is_empty(), is_named, "{state} {health:?}: {:?}", plan.unhealthy);
    }
}

#[test]
fn an_instance_that_died_leaves_its_endpoint_and_nobody_elses() {
    let plan = Plan::of(&seen(
        &[
            ("i-dead", Unhealthy),
            ("i-a", Healthy),
            ("arn:aws:elasticloadbalancing:eu-central-1:1:a", Healthy),
        ],
        &[("i-a", "InService")],
    ));
    assert_eq!(plan.actions, [Remove(set(&["i-dead"]))]);
}

#[test]
fn an_answer_without_instances_puts_nobody_out() {
    let endpoints = [("i-a", Healthy), ("i-b", Healthy)];
    let none = seen(&endpoints, &[]);
    let group = |desired| Some(Group { desired, instances: BTreeMap::new() });
    assert_eq!(Plan::of(&Seen { group: None, ..none.clone() }), Plan::default());
    assert_eq!(Plan::of(&Seen { group: group(2), ..none.clone() }), Plan::default());
    // A group that wants none has none.
    assert_eq!(Plan::of(&Seen { group: group(0), ..none }).actions, [Remove(set(&["i-a", "i-b"]))]);
}

#[test]
fn at_most_ten_have_an_endpoint_and_who_serves_comes_first() {
    let ids: Vec<String> = (0..12).map(|number| format!("i-{number:02}")).collect();
    let mut instances: Vec<_> = ids.iter().map(|id| (id.as_str(), "InService")).collect();
    instances[0].1 = "Pending:Wait";
    let endpoints: Vec<_> = ids[1..9].iter().map(|id| (id.as_str(), Healthy)).collect();
    let plan = Plan::of(&seen(&endpoints, &instances));
    assert_eq!((plan.actions, plan.without_room), (vec![Add(set(&["i-09", "i-10"]))], 2));

    // What goes makes room at once.
    let endpoints: Vec<_> = ids[2..12].iter().map(|id| (id.as_str(), Healthy)).collect();
    instances[11].1 = "Terminating:Wait";
    let plan = Plan::of(&seen(&endpoints, &instances));
    let wanted = [Leave(set(&["i-11"])), Add(set(&["i-01"]))];
    assert_eq!((plan.actions.as_slice(), plan.without_room), (wanted.as_slice(), 1));
}
