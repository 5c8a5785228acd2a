//! What an invocation makes of its region.

use std::collections::VecDeque;

use aws_policy::{Role, proof};

use crate::{
    function::{self, Function, Outcome},
    region::{Busy, Region},
};

#[tokio::test]
async fn an_instance_joins_once_it_is_healthy_and_is_signalled_before() {
    let mut function = Function::start(Region::with(&[("i-a", "InService"), ("i-b", "Pending:Wait")])).await;
    function.region().serve("i-a");
    assert_eq!(function.invoke().await.done(), ["add i-b", "signal i-b", "join i-b"]);
    let region = function.region();
    assert_eq!(region.states(), ["i-a InService", "i-b InService"]);
    assert_eq!(region.endpoints(), ["i-a", "i-b"]);
    let changes: Vec<_> = region.calls().iter().filter(|call| !call.contains(":Describe")).collect();
    let wanted = [
        "globalaccelerator:AddEndpoints",
        "cloudformation:SignalResource",
        "autoscaling:CompleteLifecycleAction",
    ];
    assert_eq!(changes, wanted);
}

#[tokio::test]
async fn several_join_in_one_transaction() {
    let mut function =
        Function::start(Region::with(&[("i-a", "Pending:Wait"), ("i-b", "Pending:Wait")])).await;
    let wanted = ["add i-a i-b", "signal i-a", "join i-a", "signal i-b", "join i-b"];
    assert_eq!(function.invoke().await.done(), wanted);
}

#[tokio::test]
async fn what_leaves_has_its_time_begun_anew_and_then_no_endpoint() {
    let mut function =
        Function::start(Region::with(&[("i-a", "InService"), ("i-b", "Terminating:Wait")])).await;
    function.region().serve("i-a");
    function.region().serve("i-b");
    assert_eq!(function.invoke().await.done(), ["prolong i-b", "remove i-b"]);
    assert_eq!(function.region().endpoints(), ["i-a"]);
    // Its hook ends by itself: nothing is left to do, however often it is woken.
    assert_eq!(function.invoke().await.done(), Vec::<String>::new());
    assert_eq!(function.region().states(), ["i-a InService", "i-b Terminating:Wait"]);
}

#[tokio::test]
async fn a_transaction_under_way_is_waited_for() {
    let mut function = Function::start(Region::with(&[("i-a", "Pending:Wait")])).await;
    function.region().busy = Busy::For(3);
    let outcome = function.invoke().await;
    assert_eq!(outcome.done(), ["add i-a", "signal i-a", "join i-a"]);
    assert_eq!(function.region().busy, Busy::For(0));
}

#[tokio::test]
async fn a_look_for_which_a_service_is_too_busy_is_made_again() {
    let mut function = Function::start(Region::with(&[("i-a", "Pending:Wait")])).await;
    // The endpoint is added by the first look.
    let busy = [None, Some("ThrottlingException"), Some("InternalServiceErrorException")];
    function.region().faults_of_looks = VecDeque::from(busy);
    assert_eq!(function.invoke().await.done(), ["add i-a", "signal i-a", "join i-a"]);
    assert!(function.region().faults_of_looks.is_empty());
    // In the first one, too.
    function.region().faults_of_looks = VecDeque::from([Some("ThrottlingException")]);
    assert_eq!(function.invoke().await.done(), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_done_before_a_look_is_refused_is_told() {
    let mut function = Function::start(Region::with(&[("i-a", "Pending:Wait")])).await;
    function.region().faults_of_looks = VecDeque::from([None, Some("AccessDeniedException")]);
    let Outcome::Error(said) = function.invoke().await else { panic!("nothing was refused") };
    assert!(said.contains("look again: AccessDeniedException: come again"), "{said}");
    let line = function.end().await;
    assert!(line.contains("\"done\":[\"add i-a\"]"), "{line}");
}

#[tokio::test]
async fn ten_endpoints_of_which_one_is_dead_have_room_for_one() {
    let ids: Vec<_> = (0..11).map(|number| format!("i-{number:02}")).collect();
    let mut instances: Vec<_> = ids.iter().skip(1).map(|id| (id.as_str(), "InService")).collect();
    instances[9].1 = "Pending:Wait";
    let mut function = Function::start(Region::with(&instances)).await;
    // The first has died without a hook.
    ids.iter().take(10).for_each(|id| function.region().serve(id));
    assert_eq!(function.invoke().await.done(), ["remove i-00", "add i-10", "signal i-10", "join i-10"]);
    assert_eq!(function.region().endpoints(), &ids[1..]);
}

#[tokio::test]
async fn what_another_call_has_done_already_is_no_error() {
    let mut function =
        Function::start(Region::with(&[("i-a", "Pending:Wait"), ("i-b", "Pending:Wait")])).await;
    // Between the look and the change, another one adds the first.
    function.region().add_before_change = Some("i-a".to_owned());
    let outcome = function.invoke().await;
    assert_eq!(outcome.done(), ["add i-b", "signal i-a", "join i-a", "signal i-b", "join i-b"]);
    assert_eq!(function.region().endpoints(), ["i-a", "i-b"]);
}

#[tokio::test]
async fn a_stack_that_waits_for_nothing_does_not_keep_an_instance_out() {
    let mut function = Function::start(Region::with(&[("i-a", "Pending:Wait")])).await;
    function.region().stack_waits = false;
    function.invoke().await.done();
    assert_eq!(function.region().states(), ["i-a InService"]);
}

#[tokio::test]
async fn a_missing_right_is_an_error_of_the_invocation_and_the_next_one_mends_it() {
    let mut function = Function::start(Region::with(&[("i-a", "InService")])).await;
    function.region().busy = Busy::Denied;
    let Outcome::Error(said) = function.invoke().await else { panic!("nothing was refused") };
    assert!(said.contains("AccessDeniedException"), "{said}");
    let tries = function.region().calls().iter().filter(|call| call.ends_with(":AddEndpoints")).count();
    assert_eq!(tries, 2);
    function.region().busy = Busy::For(0);
    assert_eq!(function.invoke().await.done(), ["add i-a"]);
}

#[tokio::test]
async fn an_instance_in_service_that_is_unhealthy_is_an_error_of_the_invocation_and_what_is_to_do_is_done() {
    let instances = [("i-a", "InService"), ("i-b", "InService"), ("i-c", "Pending:Wait")];
    let mut function = Function::start(Region::with(&instances)).await;
    for id in ["i-a", "i-b"] {
        function.region().serve(id);
    }
    function.region().sick.insert("i-a".to_owned());
    let Outcome::Error(said) = function.invoke().await else { panic!("nobody is told") };
    assert!(said.contains("in service, and unhealthy at the accelerator: i-a\""), "{said}");
    assert_eq!(function.region().states()[2], "i-c InService");
    function.region().sick.clear();
    assert_eq!(function.invoke().await.done(), Vec::<String>::new());
}

#[tokio::test]
async fn a_group_that_is_not_there_yet_is_waited_for_by_the_next_invocation() {
    let mut function = Function::start(Region::default()).await;
    function.region().serve("i-a");
    assert_eq!(function.invoke().await.done(), Vec::<String>::new());
    assert_eq!(function.region().endpoints(), ["i-a"]);
}

#[tokio::test]
async fn what_it_says_has_no_key_and_what_is_missing_is_named() {
    let mut function = Function::start(Region::with(&[("i-a", "Pending:Wait")])).await;
    function.invoke().await.done();
    let said = function.end().await;
    assert!(said.contains("\"done\":[") && !said.contains(function::SECRET), "{said}");

    let said = function::run_without_settings().await;
    assert!(said.contains("GROUP is not set; Lambda sets it, by the template `fleet`"), "{said}");
}

#[tokio::test]
async fn rights_of_the_template_are_the_calls_that_are_made() {
    let instances = [("i-a", "InService"), ("i-b", "Pending:Wait"), ("i-c", "Terminating:Wait")];
    let mut function = Function::start(Region::with(&instances)).await;
    function.region().serve("i-c");
    function.invoke().await.done();
    let faults = proof::faults(Role::FleetFunction, function.region().judged()).unwrap();
    assert_eq!(faults, Vec::<String>::new());
}
