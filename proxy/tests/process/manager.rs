//! What a service manager hears, keeps, and hands over.

use std::{
    net::TcpListener,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::ensure;
use nix::sys::signal::Signal;

use crate::{
    fixture::{Heard, Instance, Manager, Place, eventually, health},
    server::{Answer, Server},
};

#[test]
fn a_restart_with_kept_sockets_loses_no_connection() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1\ndrain_deadline = \"3s\"");
    let mut first = Instance::start(&place, &manager, Vec::new(), &[]);
    let kept = kept(manager.hear_until("READY=1"));
    let names: Vec<_> = kept.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, place.kept());

    let load = Load::start(&place);
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
        (at(&empty.url), 1, "table `gatehouse-certificates`: not there; make it: `gatehouse tables create`"),
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

/// The engine's own server, with no table in it.
struct Tables {
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Tables {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let database = dynoxide::Database::memory().unwrap();
        runtime.spawn(dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()));
        Self { url, _runtime: runtime }
    }
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

/// Clients that connect again and again, and want an answer each time.
struct Load {
    going: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(place: &Place) -> Self {
        let (going, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let client = |address| {
            let (going, answered) = (Arc::clone(&going), Arc::clone(&answered));
            thread::spawn(move || {
                let mut failed = Vec::new();
                while going.load(Ordering::Relaxed) {
                    match health(address) {
                        Ok(200 | 503) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Ok(status) => failed.push(status.to_string()),
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                failed
            })
        };
        let clients = (0..4).map(|_| client(place.http())).collect();
        Self { going, answered, clients }
    }

    /// Waits until requests that begin now have been answered.
    fn answered_once_more(&self) {
        let wanted = self.answered.load(Ordering::Relaxed) + 20;
        eventually(&format!("{wanted} answers"), || {
            let answered = self.answered.load(Ordering::Relaxed);
            ensure!(answered >= wanted, "{answered}");
            Ok(())
        });
    }

    fn end(self) -> (usize, Vec<String>) {
        self.going.store(false, Ordering::Relaxed);
        let failed = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.answered.load(Ordering::Relaxed), failed)
    }
}
