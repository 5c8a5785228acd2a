//! gRPC to origins over HTTP/2, in cleartext and over TLS.

use testbed::{
    gatehouse::Place,
    grpc::{GrpcServer, call_everything},
};

use crate::fixture::{SHOP, edge, on_both_back_ends, report, start};

on_both_back_ends!(every_kind_of_call_is_answered);

fn every_kind_of_call_is_answered(io: &str) {
    let edge = edge();
    let certificate = edge.authority.issue("grpc", &["127.0.0.1"]).unwrap();
    let in_cleartext = GrpcServer::start(&edge.network.edge, 9_400, None, edge.folder()).unwrap();
    let over_tls = GrpcServer::start(&edge.network.edge, 9_401, Some(&certificate), edge.folder()).unwrap();
    let names = [
        (SHOP, ("http", "h2"), &in_cleartext),
        ("grpc.customer.test", ("https", "h2"), &over_tls),
        ("chosen.customer.test", ("https", "auto"), &over_tls),
    ];
    let mut settings = edge.settings(Place::A, io);
    for (name, (scheme, protocol), server) in &names {
        settings.domain_to(name, &format!("{scheme}://{};protocol={protocol}", server.address()));
    }
    let gatehouse = start(&edge, settings);
    for (name, (scheme, protocol), server) in names {
        // The certificate first: an order takes longer than a call.
        let reply = edge.curl(&format!("https://{name}/")).run().unwrap();
        assert_eq!(reply.header("grpc-status").as_deref(), Some("2"), "the server refuses a GET: {reply:?}");
        call_everything(&edge, name).unwrap_or_else(|error| {
            panic!(
                "{io}, {scheme}, {protocol}: {error:#}\n{}\n{}",
                server.output(),
                gatehouse.process.output()
            )
        });
    }
    let metrics = gatehouse.metrics().unwrap();
    let opened = metrics.sum("gatehouse_upstream_requests_total", &["connection=\"opened\""]);
    let used_again = metrics.sum("gatehouse_upstream_requests_total", &["connection=\"reused\""]);
    report(&format!("{io}: {} calls over {opened} connections to two gRPC servers", opened + used_again));
    assert!(used_again > 20.0 * opened, "{opened} connections for {used_again} calls");
}
