//! The testbed itself, without Gatehouse.
#![allow(clippy::unwrap_used, reason = "tests unwrap, and fixtures are tests")]

use std::{net::SocketAddr, path::Path, time::Duration};

use testbed::{
    curl::Curl,
    edge::Edge,
    hello::{Ending, Hello, KeyShare, attempt},
    keep_alive_client::Kept,
    load::{Load, Plan, Protocol},
    network::LOOPBACK,
    relay::Traffic,
    wait,
};

#[test]
fn an_edge_comes_up_and_goes_without_a_trace() {
    let edge = Edge::start().unwrap();
    let names = [edge.network.edge.name().to_owned(), edge.network.client.name().to_owned()];
    let folder = edge.folder().to_owned();

    let target = format!("{}/a?b", edge.upstream.target());
    let echoed = edge.network.edge.run("curl", &["-sS", "-d", "four", &target]).unwrap();
    assert!(echoed.contains(r#""path":"/a?b""#) && echoed.contains(r#""body_bytes":4"#), "{echoed}");
    let ca = edge.authority.file().to_str().unwrap();
    let secure = ["-sS", "--cacert", ca, &edge.upstream.tls_target()];
    assert!(edge.network.edge.run("curl", &secure).unwrap().contains("upstream.test:9443"));
    assert_eq!(edge.upstream.requests(), 2);

    let directory =
        || Curl::new(edge.network.clone(), edge.authority.file(), &edge.ca.directory()).run().unwrap();
    let reply = directory();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body.contains("https://ca.test:14000/order-plz"), "{}", reply.body);
    edge.ca.relay.set(Traffic::Cut);
    assert_eq!(directory().status, 0);
    assert_eq!(edge.ca.relay.count("directory"), 1);
    assert!(edge.ca.relay.count("directory cut") >= 1);

    assert!(call(&edge, "ListTables", "{}").contains("TableNames"));

    drop(edge);
    for name in names {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name} is still there");
    }
    assert!(!folder.exists());
}

#[test]
fn only_a_reader_who_does_not_insist_sees_the_table_as_it_was() {
    let edge = Edge::start().unwrap();
    let key = r#""AttributeDefinitions":[{"AttributeName":"k","AttributeType":"S"}],"KeySchema":[{"AttributeName":"k","KeyType":"HASH"}]"#;
    call(&edge, "CreateTable", &format!(r#"{{"TableName":"table",{key},"BillingMode":"PAY_PER_REQUEST"}}"#));
    let put = |value: &str| {
        let item = format!(r#"{{"k":{{"S":"a"}},"v":{{"S":"{value}"}}}}"#);
        let condition = r#""ConditionExpression":"attribute_not_exists(k) OR v <> :v""#;
        let values = format!(r#""ExpressionAttributeValues":{{":v":{{"S":"{value}"}}}}"#);
        call(&edge, "PutItem", &format!(r#"{{"TableName":"table","Item":{item},{condition},{values}}}"#))
    };
    let get = |insists: bool| {
        let item = r#""TableName":"table","Key":{"k":{"S":"a"}}"#;
        call(&edge, "GetItem", &format!(r#"{{{item},"ConsistentRead":{insists}}}"#))
    };
    put("old");
    wait::until("the first write to be seen by all", Duration::from_secs(10), || {
        anyhow::ensure!(get(false).contains("old"), "{}", get(false));
        Ok(())
    })
    .unwrap();
    put("new");
    assert!(put("new").contains("ConditionalCheckFailed"), "it is decided on what is, not on what was");
    let seen = (get(true), get(false));
    assert!(seen.0.contains("new") && seen.1.contains("old"), "{seen:?}");
    wait::until("the second write to be seen by all", Duration::from_secs(10), || {
        anyhow::ensure!(get(false).contains("new"), "{}", get(false));
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_is_held_is_counted_and_goes_on_when_let_go() {
    let edge = Edge::start().unwrap();
    edge.ca.relay.set(Traffic::HoldOnly("directory"));
    let ask = || Curl::new(edge.network.clone(), edge.authority.file(), &edge.ca.directory());
    let (patient, hasty) = (ask().spawn().unwrap(), ask().with(&["--max-time", "3"]).spawn().unwrap());
    wait::until("both to be held", Duration::from_secs(3), || {
        let held = edge.ca.relay.count("directory held");
        anyhow::ensure!(held == 2, "{held}");
        Ok(())
    })
    .unwrap();
    assert_eq!(hasty.reply().unwrap().status, 0);
    assert_eq!(edge.ca.relay.count("directory"), 0);
    edge.ca.relay.set(Traffic::Pass);
    assert_eq!(patient.reply().unwrap().status, 200);
    assert_eq!(edge.ca.relay.count("directory"), 1, "whoever has gone wants no answer");
}

#[test]
fn clients_tell_a_server_that_serves_from_one_that_does_not() {
    let edge = Edge::start().unwrap();
    let (namespace, roots) = (&edge.network.edge, edge.authority.file());
    let (tls, closed) = (SocketAddr::new(LOOPBACK, 9_443), SocketAddr::new(LOOPBACK, 9_444));

    let mut kept = Kept::connect(namespace, tls, "upstream.test", roots).unwrap();
    assert_eq!([kept.get("/").unwrap(), kept.get("/again").unwrap()], [200, 200]);
    let hello = Hello::new("upstream.test", KeyShare::PostQuantum, |_| true).unwrap();
    let patience = Duration::from_secs(2);
    assert_eq!(attempt(namespace, tls, hello.cut(3), patience).unwrap().ending, Ending::Answered);
    assert!(attempt(namespace, closed, hello.whole(), patience).is_err());

    let load = |to, requests_per_connection| {
        let (name, path) = ("upstream.test".to_owned(), "/".to_owned());
        let plan =
            Plan { to, name, path, protocol: Protocol::Http1, connections: 2, requests_per_connection };
        Load::start(namespace, roots, plan).unwrap()
    };
    let served = load(tls, 3);
    wait::until("some requests", Duration::from_secs(10), || {
        anyhow::ensure!(served.seen().served > 20, "{:?}", served.seen());
        Ok(())
    })
    .unwrap();
    let seen = served.stop_after(Duration::ZERO).unwrap();
    assert!(seen.failures.is_empty() && seen.connections >= 6, "{seen:?}");
    let refused = load(closed, 3);
    wait::until("a refused connection", Duration::from_secs(10), || {
        anyhow::ensure!(!refused.seen().failures.is_empty(), "{:?}", refused.seen());
        Ok(())
    })
    .unwrap();
    let seen = refused.stop_after(Duration::ZERO).unwrap();
    assert!(seen.served == 0 && !seen.failures.is_empty(), "{seen:?}");
}

/// A call of the table's API from inside the edge: its answer.
fn call(edge: &Edge, operation: &str, body: &str) -> String {
    let target = format!("x-amz-target: DynamoDB_20120810.{operation}");
    let endpoint = edge.table.endpoint();
    let arguments = [
        ["-sS", &endpoint],
        ["--aws-sigv4", "aws:amz:eu-central-1:dynamodb"],
        ["--user", "testbed:secret"],
        ["-H", &target],
        ["-H", "content-type: application/x-amz-json-1.0"],
        ["-d", body],
    ];
    edge.network.edge.run("curl", arguments.as_flattened()).unwrap()
}
