//! Eight real servers behind Gatehouse read what it sends as its clients meant it, and nothing else.
//!
//! Requests are generated from a seed: usual ones, odd ones, changed ones, attempts at smuggling. For each, either Gatehouse answers itself
//! and the origin sees nothing, or the origin reads exactly one request with the method, target, fields and body that a strict reader of ours
//! finds in the client's bytes. A sentinel follows over the same upstream connection: its answer tells what the origin read before it.
//! Where a server differs from the others, [`differences`] has a row with the reason.
//! `ORIGIN_REQUESTS` and `ORIGIN_SEED` ask for more of them, and others.

mod client;
mod conversation;
mod differences;
mod draft;
mod expected;
mod generate;
mod http2;
mod message;
mod parts;
mod reference;

use std::{
    env,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustls::ClientConfig;
use testbed::{
    authority,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    keep_alive_client::Kept,
    network::LOOPBACK,
    origin::{Origin, Server},
    service::Service,
    wait,
};

use self::{
    conversation::{Conversation, Tally},
    differences::Met,
    expected::Route,
    generate::Generator,
    http2::Http2,
};
use crate::fixture::{SHOP, assert_served, edge, on_both_back_ends, report, start};

on_both_back_ends!(what_is_sent_is_read_as_it_was_meant);

fn what_is_sent_is_read_as_it_was_meant(io: &str) {
    let edge = edge();
    let origins = origins(&edge);
    let gatehouse = gatehouse(&edge, io, &origins);
    let (requests, seed) = (number("ORIGIN_REQUESTS", REQUESTS), number("ORIGIN_SEED", seed(io)));
    let (met, began) = (Met::default(), Instant::now());
    let outcomes = std::thread::scope(|scope| {
        let (edge, met) = (&edge, &met);
        let hold = |origin| scope.spawn(move || converse(edge, origin, met, requests, seed));
        let threads: Vec<_> = origins.iter().map(hold).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let tallies: Vec<Tally> = outcomes.iter().map(|(tally, _)| *tally).collect();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    report(&format!(
        "{io}: ORIGIN_SEED={seed}, {} cases for eight origins in {} s: {} requests read as meant, {} answered by servers, {} by Gatehouse",
        sum(|tally| tally.cases),
        began.elapsed().as_secs(),
        sum(|tally| tally.read),
        sum(|tally| tally.answered_by_server),
        sum(|tally| tally.answered_by_us),
    ));
    for (origin, (tally, failures)) in origins.iter().zip(&outcomes) {
        println!("{}: {tally:?}\n{}", origin.server().name(), failures.join("\n"));
    }
    assert!(outcomes.iter().all(|(_, failures)| failures.is_empty()), "{io}, seed {seed}: see above");
    assert_eq!(met.unmet(), [""; 0], "rows of the table of differences that nothing met");
    for Tally { cases, read, sentinels, on_same_connection, .. } in &tallies {
        assert!(
            read * 3 > *cases && on_same_connection * 2 > *sentinels,
            "too little came through: {tallies:?}"
        );
    }
    check_log(&gatehouse, &origins, &tallies);
}

/// An origin that refuses a request while it is still sent may reset the connection right behind its answer.
#[test]
fn an_answer_whose_connection_is_reset_reaches_the_client() {
    let edge = edge();
    let address = SocketAddr::new(LOOPBACK, 9_300);
    let _origin = Service::start(&edge.network.edge, address, async |listener| {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.readable().await;
            let _ = stream.try_read(&mut [0; 4096]);
            let _ = stream.try_write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    })
    .unwrap();
    let mut settings = edge.settings(Place::A, "epoll");
    settings.domain_to(SHOP, &format!("http://{address}"));
    let _gatehouse = start(&edge, settings);
    let ask = || Kept::connect(&edge.network.client, Edge::https(Place::A), SHOP, edge.ca.roots())?.get("/");
    let outcomes: Vec<_> = (0..30).map(|_| ask()).collect();
    let is_answered = |outcome: &anyhow::Result<u16>| matches!(outcome, Ok(400 | 502));
    let answered = outcomes.iter().filter(|outcome| is_answered(outcome)).count();
    assert_eq!(answered, outcomes.len(), "{:?}", outcomes.iter().find(|outcome| !is_answered(outcome)));
}

/// Every server, started; none of them is waited for before all are.
fn origins(edge: &Edge) -> Vec<Origin> {
    let launch = |server| Origin::launch(&edge.network.edge, server, edge.folder()).unwrap();
    let mut origins: Vec<_> = Server::ALL.into_iter().map(launch).collect();
    for origin in &mut origins {
        origin.wait_until_listening(&edge.network.edge).unwrap();
    }
    origins
}

/// One worker: its upstream connections are one pool, so that a sentinel finds the connection that was used before it.
fn gatehouse(edge: &Edge, io: &str, origins: &[Origin]) -> Gatehouse {
    let mut settings = edge.settings(Place::A, io);
    settings.raw("worker", "threads", "1").text("log", "format", "json").text("log", "filter", "info");
    for origin in origins {
        settings.domain_to(&host(origin.server()), &origin.target());
    }
    let gatehouse = start(edge, settings);
    for origin in origins {
        let reply = assert_served(edge, &host(origin.server()));
        assert_eq!(reply.body, "ok\n");
    }
    gatehouse
}

/// Holds a conversation with one origin to its end, or to the first few failures.
fn converse(edge: &Edge, origin: &Origin, met: &Met, requests: u64, seed: u64) -> (Tally, Vec<String>) {
    let server = origin.server();
    let host = host(server);
    let roots = authority::roots(edge.ca.roots()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let authority = origin.target().replace("http://", "");
    let mut generator = Generator::new(&host, seed.wrapping_mul(8) + server as u64);
    let mut conversation = Conversation {
        route: Route { server, host, authority },
        namespace: &edge.network.client,
        to: Edge::https(Place::A),
        config: Arc::new(config),
        met,
        client: None,
        http2: Http2::new().unwrap(),
        connection: None,
        tally: Tally::default(),
    };
    conversation.forget().unwrap();
    let mut failures = Vec::new();
    for number in 0..requests {
        let case = generator.next();
        let Err(failure) = conversation.hold(&case) else { continue };
        failures.push(format!("case {number}: {failure:#}"));
        if failures.len() == MOST_FAILURES || conversation.forget().is_err() {
            break;
        }
    }
    (conversation.tally, failures)
}

/// What the log of requests says was forwarded is what an origin's program read. What a server answers itself it may answer while the
/// request is still sent, and then either side may end the connection: that is logged as it comes, as is what a client began only.
fn check_log(gatehouse: &Gatehouse, origins: &[Origin], tallies: &[Tally]) {
    for (origin, tally) in origins.iter().zip(tallies) {
        let name = host(origin.server());
        // One more: the request that the start was checked with.
        let least = tally.read + tally.sentinels + 1;
        // The log is written by a thread of its own, which may lag.
        let forwarded = wait::until("the log of the last request", Duration::from_secs(5), || {
            let forwarded = forwarded(&gatehouse.process.output(), &name);
            ensure!(forwarded >= least, "{name}: {forwarded} requests forwarded, {least} read");
            Ok(forwarded)
        });
        let (forwarded, most) = (forwarded.unwrap(), least + tally.answered_by_server + tally.unfinished);
        assert!(forwarded <= most, "{name}: {forwarded} requests forwarded, at most {most} were sent");
    }
}

/// How many lines of a log are about requests for `name` that were forwarded.
fn forwarded(log: &str, name: &str) -> u64 {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    entries.filter(|entry| entry["server_name"] == name && entry["outcome"] == "forwarded").count() as u64
}

fn host(server: Server) -> String {
    format!("{}.customer.test", server.name())
}

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} = {text}: write a whole number, like 1000"))
    })
}

fn seed(io: &str) -> u64 {
    if io == "uring" { 1 } else { 2 }
}

/// To each of eight origins, with each of two back ends: ten thousand in all.
const REQUESTS: u64 = 625;
const MOST_FAILURES: usize = 60;
