//! nginx that demands a client certificate (`ssl_verify_client on`) as a target.

use std::net::SocketAddr;

use testbed::{
    gatehouse::{Gatehouse, Place},
    network::LOOPBACK,
    origin::nginx_with,
};

use crate::fixture::{BINARY, SHOP, edge, get, on_both_back_ends, start};

on_both_back_ends!(a_target_may_demand_a_certificate);

fn a_target_may_demand_a_certificate(io: &str) {
    let edge = edge();
    let server = edge.authority.issue("inside", &["origin.internal"]).unwrap();
    let client = edge.authority.issue("gatehouse-client", &["gatehouse.internal"]).unwrap();
    let (address, ca) = (SocketAddr::new(LOOPBACK, 9_500), edge.authority.file().display());
    let block = format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {ca}; ssl_verify_client on; \
         location / {{ return 200 '$ssl_client_s_dn for $ssl_server_name'; }}",
        server.chain.display(),
        server.key.display()
    );
    let nginx = nginx_with(&edge.network.edge, address, ("ssl", &block), edge.folder()).unwrap();
    let mut settings = edge.settings(Place::A, io);
    let tls = |pair: &str| format!("{{ roots = \"{ca}\", server_name = \"origin.internal\"{pair} }}");
    let pair = format!(", certificate = \"{}\", key = \"{}\"", client.chain.display(), client.key.display());
    settings.raw("upstream", "tls", &format!("{{ known = {}, unknown = {} }}", tls(&pair), tls("")));
    let unknown = "unknown.customer.test";
    settings.domain_to(SHOP, &format!("https://{address};tls=known"));
    settings.domain_to(unknown, &format!("https://{address};tls=unknown"));
    let gatehouse = start(&edge, settings);
    let reply = get(&edge, SHOP);
    let seen = (reply.status, reply.body.as_str());
    assert_eq!(seen, (200, "CN=gatehouse-client for origin.internal"), "{}", nginx.output());
    // nginx says so over HTTP.
    let reply = get(&edge, unknown);
    assert!(reply.status == 400 && reply.body.contains("No required SSL certificate was sent"), "{reply:?}");

    // Entries of the table may not use what was not made for them.
    let target = format!("https://{address};tls=known");
    let refused = gatehouse.command(&["domain", "add", "app.customer.test", "--target", &target]);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("names settings for TLS that entries may not use"), "{refused}");
}

#[test]
fn a_key_that_is_of_another_certificate_ends_the_start() {
    let edge = edge();
    let (one, other) = (edge.authority.issue("one", &["a.test"]), edge.authority.issue("other", &["b.test"]));
    let (one, other) = (one.unwrap(), other.unwrap());
    let mut settings = edge.settings(Place::A, "auto");
    settings.domain(SHOP);
    let (certificate, key) = (one.chain.display(), other.key.display());
    let tls = format!("{{ inside = {{ certificate = \"{certificate}\", key = \"{key}\" }} }}");
    settings.raw("upstream", "tls", &tls);
    let mut gatehouse = Gatehouse::launch(&edge.network, BINARY.as_ref(), settings).unwrap();
    assert!(!gatehouse.wait().unwrap().success());
    let output = gatehouse.process.output();
    assert!(output.contains("upstream.tls.inside.key: `") && output.contains("name the key"), "{output}");
}
