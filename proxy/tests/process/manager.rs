//! What a service manager hears, keeps, and hands over.

use std::{net::TcpListener, os::fd::OwnedFd};

use nix::sys::signal::Signal;

use crate::{
    fixture::{Heard, Instance, Manager, Place, health},
    load::Load,
    server::{Answer, Server},
    tables::Tables,
};

#[test]
fn a_restart_with_kept_sockets_loses_no_connection() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1\ndrain_deadline = \"3s\"");
    let mut first = Instance::start(&place, &manager, Vec::new(), &[]);
    let kept = kept(manager.hear_until("READY=1"));
    let names: Vec<_> = kept.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, place.kept());

    let load = Load::start(&place, &[200, 503]);
    load.answered_once_more();
    first.signal(Signal::SIGTERM);
    manager.hear_until("STOPPING=1");
    assert!(first.end().success());
    // Nobody accepts now: who connects waits in the queue of a socket that lives on.
    let mut second = Instance::start(&place, &manager, kept, &[]);
    let told = manager.hear_until("READY=1");
    assert!(told.iter().all(|heard| heard.descriptors.is_empty()), "what is kept already is not given again");
    load.answered_once_more();
    let (answered, failed) = load.end();
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:?}", failed.len());
    second.signal(Signal::SIGTERM);
    assert!(second.end().success());
}

#[test]
fn a_socket_of_no_address_is_given_up() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1");
    let stale = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stale.local_addr().unwrap();
    let _instance = Instance::start(&place, &manager, vec![("https.old".to_owned(), stale.into())], &[]);
    let told = manager.hear_until("READY=1");
    assert!(told.iter().any(|heard| heard.text == "FDSTOREREMOVE=1\nFDNAME=https.old"));
    assert!(std::net::TcpStream::connect(address).is_err(), "nobody holds it any more");
}

#[test]
fn a_start_ends_also_when_the_store_is_down() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1\n[store]\nendpoint = \"http://127.0.0.1:9\"\nregion = \"eu-central-1\"\ntimeout = \"1s\"");
    let credentials = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "a")];
    let _instance = Instance::start(&place, &manager, Vec::new(), &credentials);
    let told = manager.hear_until("READY=1");
    if !told.last().unwrap().text.contains("STATUS=Unable to serve") {
        manager.hear_until("STATUS=Unable to serve");
    }
    assert_eq!(health(place.http()).unwrap(), 503);
}

#[test]
fn a_start_that_fails_tells_the_manager_what_to_do() {
    let denying = Server::start(|_| Answer::of(400, DENIED));
    let empty = Tables::start();
    let at = |url: &str| format!("[store]\nendpoint = \"{url}\"\nregion = \"eu-south-2\"");
    for (settings, code, told) in [
        (
            "[limits]\nconnections = 0\nidel = \"1s\"".to_owned(),
            2,
            "gatehouse.toml:4: `limits.idel`: no such setting; did you mean",
        ),
        (
            "[limits]\nconnections = 0\nheader_fields = 0".to_owned(),
            2,
            "there is no value for `unlimited`; gatehouse.toml",
        ),
        (
            "[store]\nendpoint = \"aws\"\n[instance]\nmetadata = \"off\"".to_owned(),
            2,
            "store.region: not set, and neither",
        ),
        (at(empty.url()), 1, "table `gatehouse-certificates`: not there; make it: `gatehouse tables create`"),
        (
            at(&denying.url()),
            1,
            "table `gatehouse-certificates`: the store refuses these credentials; check the role's policy",
        ),
        ("[guard]\ninterfaces = [\"no-such\"]".to_owned(), 2, "guard.interfaces: "),
    ] {
        let (place, manager) = (Place::new(), Manager::new());
        place.write(&settings);
        fails(&place, &manager, code, told);
        assert!(!place.path().join("state").exists(), "{told}: a state directory was made");
    }
}

#[test]
fn a_broken_fragment_and_a_taken_port_are_told_with_their_place() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("");
    let taken = TcpListener::bind(place.http()).unwrap();
    fails(&place, &manager, 1, &format!("listen.http: `{}` is listened on already by ", place.http()));
    drop(taken);
    place.write_fragment("50-fleet.toml", "[limits]\nidle = 7s\n");
    fails(&place, &manager, 2, "conf.d/50-fleet.toml:2: not TOML");
}

/// Starts an instance that must end with `code`, and its last word must hold `told`.
fn fails(place: &Place, manager: &Manager, code: i32, told: &str) {
    let mut instance = Instance::start(place, manager, Vec::new(), &[]);
    let heard = manager.hear_until("STATUS=Failed: ");
    assert_eq!(instance.end().code(), Some(code), "{}", instance.log());
    let last = &heard.last().unwrap().text;
    assert!(last.contains(told), "{told}: {last}");
    assert!(last.lines().count() == 1 && last.len() <= "STATUS=".len() + 400, "{last}");
    assert!(heard.iter().all(|heard| !heard.text.contains("READY=1")), "{told}: it was ready before");
}

/// What DynamoDB says to a role without a policy.
const DENIED: &str = r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"User: arn:aws:sts::123456789012:assumed-role/edge/i-0123456789abcdef0 is not authorized to perform: dynamodb:BatchGetItem on resource: arn:aws:dynamodb:eu-south-2:123456789012:table/gatehouse-certificates because no identity-based policy allows the dynamodb:BatchGetItem action"}"#;

#[test]
fn a_watchdog_is_patted_while_all_is_well() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1");
    let _instance = Instance::start(&place, &manager, Vec::new(), &[("WATCHDOG_USEC", "3000000")]);
    manager.hear_until("READY=1");
    for _ in 0..2 {
        manager.hear_until("WATCHDOG=1");
    }
}

fn kept(told: Vec<Heard>) -> Vec<(String, OwnedFd)> {
    let name = |text: &str| text.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(str::to_owned);
    let stored = told.into_iter().filter(|heard| heard.text.starts_with("FDSTORE=1\n"));
    stored
        .flat_map(|heard| heard.descriptors.into_iter().map(move |kept| (name(&heard.text).unwrap(), kept)))
        .collect()
}
