//! The testbed itself, without Gatehouse.

use std::path::Path;

use testbed::{curl::Curl, edge::Edge, relay::Traffic};

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
