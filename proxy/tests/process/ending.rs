//! How long an instance takes to end, by what it has to do.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use nix::sys::signal::Signal;

use crate::{
    fixture::{Instance, Place, eventually, health},
    lifecycle::{Client, becomes},
    server::{Answer, Server},
};

#[test]
fn an_instance_that_nobody_uses_ends_at_once() {
    let (_place, _manager, mut instance) = Instance::serving("[worker]\nthreads = 2");
    let took = end(&mut instance);
    // 0.2 s by itself; a machine that builds beside it may take a while to let it run.
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn a_request_that_comes_just_after_sigterm_is_answered_and_told_to_close() {
    let upstream = Server::start(|_| Answer::of(200, "an answer"));
    let answer = (0..5).find_map(|_| {
        let (place, _manager, mut instance) = Instance::serving(&format!(
            "[worker]\nthreads = 1\n[upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
             [domains]\nstatic = [{{ name = \"a.example\", target = \"{}\" }}]",
            upstream.url()
        ));
        let answer = Client::asks_at_the_end(&place, || {
            let told = Instant::now();
            instance.signal(Signal::SIGTERM);
            // By then its one worker has told its connections, too.
            becomes(&place, 503);
            told
        });
        assert!(instance.end().success());
        answer
    });
    let answer = answer.expect("this machine is too slow");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
}

/// Their connections are closed by the drain itself, and whoever had one connects again.
#[test]
fn an_instance_whose_clients_have_connected_long_ago_listens_on_for_those_that_connect_again() {
    let (place, _manager, mut instance) = Instance::serving("[worker]\nthreads = 1");
    let client = TcpStream::connect(place.http()).unwrap();
    counts_a_connection(&place);
    // Two seconds after the last one, an instance without connections would be unused.
    thread::park_timeout(Duration::from_millis(2100));
    let closed = thread::spawn(move || {
        thread::park_timeout(Duration::from_millis(300));
        drop(client);
    });
    let took = end(&mut instance);
    closed.join().unwrap();
    assert!(took > Duration::from_millis(1900), "{took:?}");
}

#[test]
fn checks_of_health_do_not_keep_an_instance_listening() {
    let (place, _manager, mut instance) =
        Instance::serving("[worker]\nthreads = 1\ndrain_deadline = \"60s\"");
    let (address, ended) = (place.http(), Arc::new(AtomicBool::new(false)));
    let has_ended = Arc::clone(&ended);
    let checks = thread::spawn(move || {
        let mut answers = Vec::new();
        while !has_ended.load(Ordering::Relaxed)
            && let Ok(status) = health(address)
        {
            answers.push(status);
            thread::park_timeout(Duration::from_millis(50));
        }
        answers
    });
    let took = end(&mut instance);
    ended.store(true, Ordering::Relaxed);
    let answers = checks.join().unwrap();
    assert!(took < Duration::from_secs(20), "two thirds of the deadline are 40 s: {took:?}");
    assert!(answers.contains(&503), "{answers:?}");
}

#[test]
fn a_connection_that_only_trickles_ends_with_the_drain_deadline() {
    let (place, _manager, mut instance) = Instance::serving("[worker]\nthreads = 1\ndrain_deadline = \"3s\"");
    let mut client = TcpStream::connect(place.http()).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nx-slow: ").unwrap();
    counts_a_connection(&place);
    let trickle = thread::spawn(move || {
        while client.write_all(b"a").is_ok() {
            thread::park_timeout(Duration::from_millis(50));
        }
    });
    let took = end(&mut instance);
    trickle.join().unwrap();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    assert!(
        instance.log().contains("drain deadline reached; open connections are closed"),
        "{}",
        instance.log()
    );
}

/// Waits until the instance knows of its one connection.
fn counts_a_connection(place: &Place) {
    eventually("the connection to be counted", || {
        let status = place.run("status").out;
        ensure!(status.contains("connections 1\n"), "{status}");
        Ok(())
    });
}

/// How long it takes from SIGTERM to the end of the process.
fn end(instance: &mut Instance) -> Duration {
    let told = Instant::now();
    instance.signal(Signal::SIGTERM);
    assert!(instance.end().success());
    told.elapsed()
}
