//! A successor that takes over from a running instance, or does not.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Mutex, mpsc},
    time::Instant,
};

use anyhow::ensure;
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    fixture::{Instance, Manager, Place, Said, eventually, health, tell},
    lifecycle::Client,
    load::Load,
    server::{Answer, Server},
    tables::Tables,
};

/// A process that nobody here has started; dropped, it is killed.
struct Successor(Pid);

impl Successor {
    fn of(answer: &Value) -> Self {
        Self(Pid::from_raw(i32::try_from(answer["pid"].as_i64().unwrap()).unwrap()))
    }

    /// Ends it by SIGTERM, which must make it exit 0. Its parent is the predecessor, and when that has ended, this process.
    fn end(self) {
        kill(self.0, Signal::SIGTERM).unwrap();
        eventually("the end of the successor", || match waitpid(self.0, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, code) => {
                ensure!(code == 0, "exit code {code}");
                Ok(())
            }
            other => anyhow::bail!("{other:?}"),
        });
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

/// Tables elsewhere, an instance on them, and its manager.
struct Stage {
    place: Place,
    manager: Manager,
    tables: Tables,
}

impl Stage {
    fn new(more: &str) -> Self {
        prctl::set_child_subreaper(true).unwrap();
        let stage = Self { place: Place::new(), manager: Manager::new(), tables: Tables::start() };
        stage.write(more);
        stage.run("tables create");
        stage
    }

    fn write(&self, more: &str) {
        self.place.write(&self.settings(more));
    }

    fn settings(&self, more: &str) -> String {
        let url = self.tables.url();
        format!(
            "[store]\nendpoint = \"{url}\"\nregion = \"eu-south-2\"\ntimeout = \"1s\"\n[worker]\nthreads = 2\n{more}"
        )
    }

    fn start(&self) -> Instance {
        let instance = Instance::start(&self.place, &self.manager, Vec::new(), &CREDENTIALS);
        self.manager.hear_until("STATUS=Serving");
        instance
    }

    fn run(&self, line: &str) -> Said {
        self.place.run_with("gatehouse.toml", line, &CREDENTIALS)
    }

    fn upgrade(&self) -> (Value, Successor) {
        let said = self.run("upgrade --json");
        assert_eq!(said.code, Some(0), "{said:?}");
        let answer: Value = serde_json::from_str(&said.out).unwrap();
        let successor = Successor::of(&answer);
        (answer, successor)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&tell(&self.place, "status --json").out).unwrap()
    }

    /// A program that is no Gatehouse.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.place.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

#[test]
fn a_successor_takes_over_and_no_request_is_lost() {
    let stage = Stage::new("drain_deadline = \"5s\"");
    let mut first = stage.start();
    let before = stage.status();
    let load = Load::start(&stage.place, &[200]);
    load.answered_once_more();
    let (answer, successor) = stage.upgrade();
    load.answered_once_more();
    assert_eq!(answer["predecessor"], before["pid"]);
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    assert!(first.end().success(), "{}", first.log());
    load.answered_once_more();
    let (answered, failed) = load.end();
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:?}", failed.len());
    let after = stage.status();
    assert_eq!((&after["pid"], &after["http"]), (&answer["pid"], &before["http"]));

    let heard = stage.manager.hear_until("READY=1");
    let texts: Vec<_> = heard.iter().map(|heard| heard.text.as_str()).collect();
    let place_of = |text: &str| texts.iter().position(|heard| heard.contains(text)).unwrap();
    // The predecessor names it before it says anything, and is silent from then on.
    assert!(place_of(&format!("MAINPID={}", answer["pid"])) < place_of("READY=1"), "{texts:?}");
    assert!(
        texts.iter().all(|text| !text.contains("FDSTORE=1") && !text.contains("STOPPING=1")),
        "{texts:?}"
    );
    // The log goes on where it was, the successor's lines behind the predecessor's.
    eventually("the successor's banner", || {
        let log = first.log();
        ensure!(log.matches("has started").count() == 2, "{log}");
        Ok(())
    });
    let log = first.log();
    assert!(log.contains("a successor serves: nothing more is accepted"), "{log}");
    successor.end();
    assert!(!stage.place.path().join("state/control.sock").exists());
    assert!(TcpStream::connect(stage.place.http()).is_err(), "nobody holds a socket any more");
}

#[test]
fn a_request_that_takes_long_is_answered_by_the_predecessor() {
    let (tell, told) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let upstream = Server::start(move |asked| {
        if asked.path == "/held" {
            tell.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
        }
        Answer::of(200, "an answer")
    });
    let stage = Stage::new(&format!(
        "[upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
         [domains]\nstatic = [{{ name = \"a.example\", target = \"{}\" }}]",
        upstream.url()
    ));
    let mut first = stage.start();
    let mut held = Client::ask(&stage.place, "/held");
    told.recv().unwrap();
    let (_, _successor) = stage.upgrade();
    let by_successor = Client::ask(&stage.place, "/").answer();
    assert!(
        by_successor.starts_with("HTTP/1.1 200") && !by_successor.contains("connection: close"),
        "{by_successor}"
    );
    assert!(!first.log().contains("ended"), "it waits for its last request");
    release.send(()).unwrap();
    let answer = held.answer();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("an answer"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(first.end().success());
}

#[test]
fn a_request_that_comes_just_after_an_upgrade_is_answered_by_the_predecessor_and_told_to_close() {
    let upstream = Server::start(|_| Answer::of(200, "an answer"));
    let answer = (0..5).find_map(|_| {
        let stage = Stage::new(&format!(
            "[upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
             [domains]\nstatic = [{{ name = \"a.example\", target = \"{}\" }}]",
            upstream.url()
        ));
        let mut first = stage.start();
        let mut upgrading = stage.place.command("gatehouse.toml", "upgrade");
        let mut upgrading = upgrading.envs(CREDENTIALS).spawn().unwrap();
        let answer = Client::asks_at_the_end(&stage.place, || {
            let mut before = Instant::now();
            eventually("the successor", || {
                let is_there = first.log().contains("a successor serves: nothing more is accepted");
                if !is_there {
                    before = Instant::now();
                }
                ensure!(is_there, "{}", first.log());
                Ok(())
            });
            before
        });
        assert!(upgrading.wait().unwrap().success());
        let _successor = Successor::of(&stage.status());
        assert!(first.end().success());
        answer
    });
    let answer = answer.expect("this machine is too slow");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

#[test]
fn a_successor_that_fails_changes_nothing_and_is_told() {
    let stage = Stage::new("");
    let mut first = stage.start();
    let before = stage.status()["pid"].clone();
    let loud = stage.script("loud", "for line in 1 2 3; do echo \"line $line\" >&2; done; exit 7");
    let asleep = stage.script("asleep", "echo 'I begin' >&2; exec sleep 60");
    let silent = stage.script("silent", "exit 0");
    let absent = stage.place.path().join("absent");
    for (program, more, told) in [
        (&loud, "", &["ended before it was ready: exit status: 7; it wrote last:", "  line 3"][..]),
        (&silent, "", &["exit status: 0; it wrote nothing"]),
        (&asleep, " --within 1", &["was not ready within 1 s, and was ended", "  I begin"]),
        (&absent, "", &["cannot be started; name a program", "No such file"]),
    ] {
        let said = stage.run(&format!("upgrade --binary {}{more}", program.display()));
        assert_eq!(said.code, Some(1), "{said:?}");
        for part in told.iter().chain(&["nothing was changed: the running instance goes on"]) {
            assert!(said.err.contains(part), "{part}: {said:?}");
        }
        assert_eq!(stage.status()["pid"], before);
        assert_eq!(health(stage.place.http()).unwrap(), 200);
    }
    // Settings that the command reads and the successor refuses.
    fs::copy(stage.place.path().join("gatehouse.toml"), stage.place.path().join("good.toml")).unwrap();
    stage.write("[log]\nfilter = \"=\"");
    let said = stage.place.run_with("good.toml", "upgrade --json", &CREDENTIALS);
    assert!(said.code == Some(1) && said.err.contains("log.filter"), "{said:?}");
    first.has_logged("no successor has taken over; this instance goes on");
    // It takes the next one, and the manager has heard of nobody else.
    stage.write("");
    let (answer, successor) = stage.upgrade();
    let heard = stage.manager.hear_until("READY=1");
    let main: Vec<_> = heard.iter().filter(|heard| heard.text.contains("MAINPID=")).collect();
    assert_eq!(main.len(), 1);
    assert_eq!(main[0].text, format!("MAINPID={}", answer["pid"]));
    assert!(heard.iter().all(|heard| !heard.text.contains("STATUS=Failed")));
    assert!(first.end().success());
    successor.end();
}

#[test]
fn a_second_upgrade_waits_its_turn_and_a_stop_ends_both() {
    let stage = Stage::new("");
    let mut first = stage.start();
    let started = stage.place.path().join("started");
    let asleep = stage.script("asleep", &format!("echo $$ >{}; exec sleep 60", started.display()));
    let line = format!("upgrade --binary {} --within 60", asleep.display());
    let mut waiting = stage.place.command("gatehouse.toml", &line).spawn().unwrap();
    let pid: i32 = eventually("the successor", || Ok(fs::read_to_string(&started)?.trim().parse()?));
    let second = stage.run("upgrade");
    assert!(second.code == Some(1) && second.err.contains("an upgrade is under way"), "{second:?}");
    first.signal(Signal::SIGTERM);
    assert!(first.end().success(), "{}", first.log());
    assert!(!waiting.wait().unwrap().success());
    eventually("the end of the successor", || {
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        ensure!(kill(Pid::from_raw(pid), None).is_err(), "it lives");
        Ok(())
    });
}

#[test]
fn a_successor_may_have_other_workers_and_addresses() {
    let stage = Stage::new("");
    let mut first = stage.start();
    let load = Load::start(&stage.place, &[200]);
    load.answered_once_more();
    let (place, old) = (&stage.place, fs::read_to_string(stage.place.path().join("gatehouse.toml")).unwrap());
    let (https, metrics) = (place.https(), place.http().to_string().replace(":8080", ":9464"));
    let (moved, moved_metrics) =
        (https.to_string().replace(":8443", ":8444"), metrics.replace(":9464", ":9465"));
    let new = old.replace("threads = 2", "threads = 1").replace(&https.to_string(), &moved);
    fs::write(place.path().join("gatehouse.toml"), new.replace(&metrics, &moved_metrics)).unwrap();
    let (_, second) = stage.upgrade();
    let status = stage.status();
    assert_eq!((&status["workers"], &status["https"]), (&Value::from(1), &serde_json::json!([moved])));
    assert!(first.end().success());
    for (address, listens) in
        [(https.to_string(), false), (moved, true), (metrics, false), (moved_metrics, true)]
    {
        assert_eq!(TcpStream::connect(&address).is_ok(), listens, "{address}");
    }
    // Its store keeps the sockets of the addresses that there are now.
    let heard = stage.manager.hear_until("READY=1");
    let [https_name, _] = place.kept();
    let texts: Vec<_> = heard.iter().map(|heard| heard.text.as_str()).collect();
    let place_of = |wanted: &str| texts.iter().position(|text| text.starts_with(wanted));
    let removal = place_of(&format!("FDSTOREREMOVE=1\nFDNAME={https_name}"));
    assert!(removal.is_some() && removal > place_of("MAINPID="), "nobody else would be heard: {texts:?}");
    let moved_name = https_name.replace("-8443", "-8444");
    assert!(
        texts.iter().any(|text| text.starts_with(&format!("FDSTORE=1\nFDNAME={moved_name}\n"))),
        "{texts:?}"
    );
    fs::write(place.path().join("gatehouse.toml"), old.replace("threads = 2", "threads = 3")).unwrap();
    let (_, third) = stage.upgrade();
    load.answered_once_more();
    let (answered, failed) = load.end();
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:?}", failed.len());
    assert_eq!(stage.status()["workers"], 3);
    eventually("the end of the second", || {
        let _ = waitpid(second.0, Some(WaitPidFlag::WNOHANG));
        ensure!(kill(second.0, None).is_err(), "it lives");
        Ok(())
    });
    third.end();
}

#[test]
fn what_one_process_has_at_a_time_is_not_upgraded() {
    let (place, _manager, _instance) = Instance::serving("[worker]\nthreads = 1");
    let said = place.run("upgrade");
    assert!(said.code == Some(1) && said.err.contains("store.endpoint: `embedded`"), "{said:?}");
    assert!(said.err.contains("restart instead"), "{said:?}");
    assert_eq!(health(place.http()).unwrap(), 200);
}

#[test]
fn who_knows_fewer_names_does_not_take_over() {
    let stage = Stage::new("[domains]\npoll = \"100ms\"");
    let first = stage.start();
    // Names that the instance has in memory cannot be read any more.
    let Stage { place, manager: _manager, tables } = stage;
    drop(tables);
    let said = place.run_with("gatehouse.toml", "upgrade --json", &CREDENTIALS);
    // One that has taken over would outlive this test.
    let _unwanted = serde_json::from_str(&said.out).ok().as_ref().map(Successor::of);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("it would serve worse"), "{said:?}");
    assert_eq!(health(place.http()).unwrap(), 200, "{}", first.log());
    // The instance still answers where the successor would have.
    let status = place.run("status --json");
    assert!(status.out.contains("\"pid\""), "{status:?}");
}

const CREDENTIALS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "a")];
