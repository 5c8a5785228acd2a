//! The testbed itself, without Gatehouse.

use std::{net::SocketAddr, path::Path, time::Duration};

use testbed::{
    curl::Curl,
    edge::Edge,
    hello::{Ending, Hello, KeyShare, attempt},
    kept::Kept,
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

    let list = [
        ["--aws-sigv4", "aws:amz:eu-central-1:dynamodb"],
        ["--user", "key:secret"],
        ["-H", "x-amz-target: DynamoDB_20120810.ListTables"],
        ["-H", "content-type: application/x-amz-json-1.0"],
        ["-d", "{}"],
    ];
    let endpoint = edge.table.endpoint();
    let arguments = [&["-sS", &endpoint][..], list.as_flattened()].concat();
    assert!(edge.network.edge.run("curl", &arguments).unwrap().contains("TableNames"));

    drop(edge);
    for name in names {
        assert!(!Path::new("/run/netns").join(&name).exists(), "{name} is still there");
    }
    assert!(!folder.exists());
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
    let seen = load(closed, 3).stop_after(Duration::from_millis(100)).unwrap();
    assert!(seen.served == 0 && !seen.failures.is_empty(), "{seen:?}");
}
