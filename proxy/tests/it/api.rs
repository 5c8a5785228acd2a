//! Programs that manage domains by the API.

mod authority;
pub(crate) mod client;
mod description;
mod idempotency;
mod quotas;
mod searches;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testbed::{cleartext, gatehouse::Place, pebble::Pebble, wait};

use self::client::{ALL, API, Client, PORT, settings, token};
use crate::fixture::{FLEET_DELAY, SHOP, assert_served, edge, get, report, start};

#[test]
fn many_entries_are_added_by_one_request() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let client = |tenant| Client::new(&edge, &token(&a, &ALL, tenant).1);
    let operator = client(None);
    let many = |count: usize| {
        let others = (1..count).map(|i| json!({ "domain": format!("n{i}.customer.test"), "tenant": "acme" }));
        let domains: Vec<_> = [json!({ "domain": SHOP })].into_iter().chain(others).collect();
        json!({ "domains": domains })
    };
    let counts = |report: &Value| {
        ["added", "changed", "unchanged", "refused"].map(|count| report[count].as_u64().unwrap())
    };
    let would = operator.expect(200, "POST", "imports?dry_run=true", &many(500));
    assert_eq!((counts(&would), would["dry_run"].as_bool()), ([500, 0, 0, 0], Some(true)));
    operator.expect(404, "GET", &format!("domains/{SHOP}"), &Value::Null);
    let began = Instant::now();
    let done = operator.expect(200, "POST", "imports", &many(500));
    report(&format!("500 entries were added by one request in {} ms", began.elapsed().as_millis()));
    assert_eq!((counts(&done), done["rows"].as_array().unwrap().len()), ([500, 0, 0, 0], 500));
    assert_eq!((done["rows"][1]["row"].as_u64(), done["rows"][1]["action"].as_str()), (Some(2), Some("add")));
    assert_served(&edge, SHOP);
    let again = operator.expect(200, "POST", "imports", &many(500));
    assert_eq!((counts(&again), &again["rows"]), ([0, 0, 500, 0], &json!([])));

    let other = json!({ "domain": SHOP, "target": "http://192.0.2.77" });
    let differs = operator.expect(200, "POST", "imports", &json!({ "domains": [other] }));
    assert_eq!((counts(&differs), &differs["rows"][0]["problem"]["status"]), ([0, 0, 0, 1], &json!(409)));
    let replaced = operator.expect(200, "POST", "imports", &json!({ "domains": [other], "replace": true }));
    assert_eq!(
        (counts(&replaced), &replaced["rows"][0]["changes"][0]["field"]),
        ([0, 1, 0, 0], &json!("target"))
    );

    // Of another tenant, one by one; what is not of others is done.
    let rows = [
        json!({ "domain": SHOP }),
        json!({ "domain": "n1.customer.test" }),
        json!({ "domain": "b.customer.test" }),
    ];
    let foreign =
        client(Some("zeta")).expect(200, "POST", "imports", &json!({ "domains": rows, "replace": true }));
    assert_eq!(counts(&foreign), [1, 0, 0, 2], "{foreign}");

    operator.expect(422, "POST", "imports", &many(501));
    let twice = operator.expect(
        422,
        "POST",
        "imports",
        &json!({ "domains": [{ "domain": "c.test" }, { "domain": "C.test" }] }),
    );
    assert_eq!(twice["field"], "domains[1].domain");
    let unread = operator.expect(
        422,
        "POST",
        "imports",
        &json!({ "domains": [{ "domain": "c.customer.test" }, { "domain": "192.0.2.1" }] }),
    );
    assert_eq!(unread["field"], "domains[1].domain");
    operator.expect(404, "GET", "domains/c.customer.test", &Value::Null);
}

#[test]
fn a_name_is_served_from_its_addition_to_its_removal() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (id, text) = token(&a, &ALL, None);
    let client = Client::new(&edge, &text);
    assert_ne!(get(&edge, SHOP).status, 200);
    let entry = format!("domains/{SHOP}");

    let would = client.expect(200, "POST", "domains?dry_run=true", &json!({ "domain": SHOP }));
    assert_eq!((would["action"].as_str(), would["domain"]["version"].as_u64()), (Some("add"), Some(1)));
    client.expect(404, "GET", &entry, &Value::Null);
    let added = client.call("POST", "domains", &json!({ "domain": SHOP }));
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.header("location"), Some(format!("/api/v1/{entry}")));
    assert_served(&edge, SHOP);
    client.expect(200, "POST", "domains", &json!({ "domain": SHOP }));
    let other =
        client.expect(409, "POST", "domains", &json!({ "domain": SHOP, "target": "http://192.0.2.7" }));
    assert!(other["remedy"].as_str().unwrap().contains("PATCH"), "{other}");

    let tag = client.call("GET", &entry, &Value::Null).header("etag").unwrap();
    let patch = json!({ "host": "client", "target": null });
    client.expect(428, "PATCH", &entry, &patch);
    assert_eq!(client.call_for("PATCH", &entry, &patch, Some(&tag)).status, 200);
    assert_eq!(client.call_for("PATCH", &entry, &patch, Some(&tag)).status, 412);
    assert_eq!(client.call_for("DELETE", &entry, &Value::Null, Some(&tag)).status, 412);
    client.expect(200, "PUT", &format!("{entry}/maintenance"), &Value::Null);
    assert_eq!(get(&edge, SHOP).status, 503);
    client.expect(200, "DELETE", &format!("{entry}/maintenance"), &Value::Null);
    assert_served(&edge, SHOP);
    let retried = client.expect(200, "POST", &format!("{entry}/retry"), &Value::Null);
    assert_eq!(retried, json!({ "domain": SHOP, "had_failed": false }));
    for (method, what, action) in [
        ("POST", "suspend", "suspend"),
        ("PUT", "maintenance", "replace"),
        ("DELETE", "maintenance", "keep"),
        ("POST", "resume", "keep"),
    ] {
        let would = client.expect(200, method, &format!("{entry}/{what}?dry_run=true"), &Value::Null);
        assert_eq!(would["action"], action, "{method} {what}: {would}");
        client.expect(422, method, &format!("{entry}/{what}?dryrun=true"), &Value::Null);
    }
    client.expect(422, "POST", &format!("{entry}/link?dry_run=true"), &json!({}));
    client.expect(422, "POST", &format!("{entry}/retry?dry_run=true"), &json!({}));
    assert_served(&edge, SHOP);
    client.expect(200, "POST", &format!("{entry}/suspend"), &Value::Null);
    assert_ne!(get(&edge, SHOP).status, 200);
    client.expect(200, "POST", &format!("{entry}/resume"), &Value::Null);
    assert_served(&edge, SHOP);
    let removed = client.expect(200, "DELETE", &entry, &Value::Null);
    assert_eq!(removed["action"], "remove");
    client.expect(404, "GET", &entry, &Value::Null);
    assert_ne!(get(&edge, SHOP).status, 200);

    let mut changes = Vec::new();
    let mut part = "audit?limit=3".to_owned();
    loop {
        let page = client.expect(200, "GET", &part, &Value::Null);
        changes.extend(page["items"].as_array().unwrap().iter().map(|change| {
            assert_eq!(
                (change["by"].as_str(), change["domain"].as_str()),
                (Some(&*format!("token {id}")), Some(SHOP))
            );
            change["action"].as_str().unwrap().to_owned()
        }));
        let Some(next) = page["next"].as_str() else { break };
        part = format!("audit?limit=3&cursor={next}");
    }
    assert_eq!(changes, ["add", "replace", "replace", "replace", "suspend", "resume", "remove"]);
}

/// A program that leads its customer through the verification.
#[test]
fn a_name_that_waits_says_for_what_and_then_that_it_is_there() {
    let edge = edge();
    edge.ca.resolve(&edge.network.client, SHOP, [203, 0, 113, 9].into()).unwrap();
    let mut settings = settings(&edge, Place::A);
    settings
        .text("verification", "required", "dns")
        .raw("verification", "edge_names", "[\"edge.test\"]")
        .raw("verification", "edge_addresses", &format!("[\"{}\"]", Place::A.v4()))
        .raw("verification", "resolvers", &format!("[\"{}\"]", Pebble::dns_server()))
        .text("verification", "interval", "10s");
    let a = start(&edge, settings);
    let (_, text) = token(&a, &ALL, Some("acme"));
    let client = Client::new(&edge, &text);
    let added = client.expect(201, "POST", "domains", &json!({ "domain": SHOP }));
    assert_eq!(added["domain"]["status"], "pending", "{added}");
    let entry = format!("domains/{SHOP}");
    let records = client.expect(200, "GET", &format!("{entry}/records"), &Value::Null);
    assert_eq!(
        records["records"],
        json!([{ "name": SHOP, "type": "CNAME", "value": "edge.test", "purpose": "traffic" }])
    );
    let found = |outcome: &str, reason: &str| {
        wait::until(&format!("the check to say {reason}"), Duration::from_secs(40), || {
            let shown = client.call("GET", &entry, &Value::Null).json()?;
            let findings = shown["checks"]["findings"].as_array();
            let dns = findings.into_iter().flatten().find(|finding| finding["check"] == "dns");
            let dns = dns.with_context(|| format!("not looked at yet: {shown}"))?;
            ensure!(dns["outcome"] == outcome && dns["reason"] == reason, "{shown}");
            Ok(shown)
        })
        .unwrap()
    };
    let waiting = found("failed", "leads_elsewhere");
    assert_eq!(waiting["status"], "pending", "{waiting}");
    assert!(
        waiting["checks"]["findings"][0]["remedy"].as_str().is_some_and(|remedy| remedy.contains("CNAME"))
    );

    edge.ca.tell_dns(&edge.network.client, "/clear-a", &json!({ "host": format!("{SHOP}.") })).unwrap();
    edge.ca.resolve(&edge.network.client, SHOP, Place::A.v4().into()).unwrap();
    found("passed", "leads_here");
    wait::until("it to be active", Duration::from_secs(20), || {
        let shown = client.call("GET", "domains?status=active", &Value::Null).json()?;
        ensure!(shown["items"][0]["domain"] == SHOP, "{shown}");
        Ok(())
    })
    .unwrap();
    assert_served(&edge, SHOP);
    let changes = client.expect(200, "GET", "audit", &Value::Null);
    assert_eq!(changes["items"][1]["by"], "verification", "{changes}");
}

#[test]
fn a_list_is_read_in_parts_at_either_instance() {
    let edge = edge();
    let (a, _b) = (start(&edge, settings(&edge, Place::A)), start(&edge, settings(&edge, Place::B)));
    let (_, text) = token(&a, &ALL, Some("acme"));
    let clients = [Place::A, Place::B].map(|place| Client::new(&edge, &text).at(place));
    let names: Vec<_> = (0..5).map(|number| format!("n{number}.customer.test")).collect();
    for name in names.iter().map(String::as_str).chain(["other.customer.test"]) {
        clients[0].expect(201, "POST", "domains", &json!({ "domain": name }));
    }
    wait::until("the index to have all", FLEET_DELAY, || {
        let page = clients[0].call("GET", "domains", &Value::Null).json()?;
        ensure!(page["items"].as_array().is_some_and(|items| items.len() == 6), "{page}");
        Ok(())
    })
    .unwrap();
    let (mut listed, mut path) = (Vec::new(), "domains?prefix=n&limit=2".to_owned());
    for client in clients.iter().cycle().take(4) {
        let page = client.expect(200, "GET", &path, &Value::Null);
        listed.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["domain"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        clients[0].expect(400, "GET", &format!("domains?prefix=o&limit=2&cursor={next}"), &Value::Null);
        path = format!("domains?prefix=n&limit=2&cursor={next}");
    }
    assert_eq!(listed, names);
}

#[test]
fn a_token_has_its_rate_and_others_do_not_suffer() {
    let edge = edge();
    let mut settings = settings(&edge, Place::A);
    settings.raw("api", "requests_per_second", "1").raw("api", "requests_burst", "2");
    let a = start(&edge, settings);
    let [one, other] = [(); 2].map(|()| token(&a, &ALL, None).1);
    let client = Client::new(&edge, &one);
    let limited =
        (0..20).map(|_| client.call("GET", "domains", &Value::Null)).find(|reply| reply.status == 429);
    let limited = limited.expect("no request beyond the rate was refused");
    assert_eq!(limited.header("retry-after").as_deref(), Some("1"), "{limited:?}");
    Client::new(&edge, &other).expect(200, "GET", "domains", &Value::Null);
    client.expect(200, "GET", "health", &Value::Null);
}

#[test]
fn requests_are_bounded_and_faults_are_named() {
    let edge = edge();
    let a = start(&edge, settings(&edge, Place::A));
    let (_, text) = token(&a, &ALL, None);
    let client = Client::new(&edge, &text);
    let large = json!({ "domain": "x".repeat(70_000) });
    assert_eq!(client.expect(413, "POST", "domains", &large)["type"], "urn:gatehouse:problem:too-large");
    for (body, field) in [
        (json!({ "domain": "192.0.2.1" }), "domain"),
        (json!({ "domain": "shop.customer.test", "target": "gopher://x" }), "target"),
        (json!({ "domain": "shop.customer.test", "minimum_tls": "1.1" }), "minimum_tls"),
        (json!({ "domain": "co.uk" }), "domain"),
        (json!({ "domain": "shop.customer.test", "colour": "red" }), "colour"),
    ] {
        let problem = client.expect(422, "POST", "domains", &body);
        assert_eq!(problem["field"], field, "{problem}");
    }
    let plain = client.edge.curl(&format!("https://{API}:{PORT}/api/v1/domains"));
    let authorization = format!("Authorization: {}", client.authorization.as_deref().unwrap());
    let reply =
        plain.with(&["-H", &authorization, "-H", "Content-Type: text/plain", "--data", "{}"]).run().unwrap();
    assert_eq!(reply.status, 415, "{reply:?}");
    for path in ["domains?limit=0", "domains?limit=101", "domains?colour=red", "audit?day=2026-02-30"] {
        client.expect(422, "GET", path, &Value::Null);
    }
    client.expect(404, "GET", "nothing", &Value::Null);
    let method = client.call("POST", "health", &Value::Null);
    assert_eq!((method.status, method.header("allow").as_deref()), (405, Some("GET,HEAD")), "{method:?}");
}

/// A body that is on its way when the instance ends.
#[test]
fn a_request_in_flight_is_answered_although_the_instance_ends() {
    let edge = edge();
    let mut settings = edge.settings(Place::A, "auto");
    settings.text("api", "listen", "127.0.0.1:9470");
    let mut a = start(&edge, settings);
    let (_, text) = token(&a, &ALL, None);
    let body = json!({ "domain": SHOP }).to_string();
    let head = format!(
        "POST /api/v1/domains HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {text}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let begin = move || {
        let mut stream = TcpStream::connect("127.0.0.1:9470").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut interim = [0; 25];
        // It is asked for once the token has been looked up and the body is read.
        stream.read_exact(&mut interim).unwrap();
        assert!(interim.starts_with(b"HTTP/1.1 100 "));
        stream
    };
    let mut stream = edge.network.edge.inside(begin).unwrap();
    let answer = edge.network.edge.thread(move || {
        let refused = wait::until("a refused connection", Duration::from_secs(10), || {
            ensure!(TcpStream::connect("127.0.0.1:9470").is_err());
            Ok(())
        });
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (refused, answer)
    });
    let answer = answer.unwrap();
    a.stop().unwrap();
    let (refused, answer) = answer.join().unwrap();
    refused.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    a.start_again().unwrap();
    assert!(a.command(&["domain", "show", SHOP]).is_ok());
    let open =
        cleartext::get(&edge.network.edge, ([127, 0, 0, 1], 9470).into(), "api", "/api/v1/health").unwrap();
    assert_eq!(open.status, 200);
}
