//! nginx and HAProxy as targets that want a PROXY header on each connection.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use testbed::{
    edge::Edge,
    gatehouse::Place,
    network::{CLIENT, CLIENT_V6, EDGE_A, EDGE_A_V6, LOOPBACK},
    origin::nginx_with,
    process::{self, Process},
};

use crate::fixture::{edge, on_both_back_ends, scrape_until, start};

on_both_back_ends!(targets_are_told_who_the_client_is);

fn targets_are_told_who_the_client_is(io: &str) {
    let edge = edge();
    let told = "location / { return 200 '$proxy_protocol_addr at $proxy_protocol_server_addr:$proxy_protocol_server_port'; }";
    let (cleartext, tls, haproxy) = (local(9_500), local(9_501), local(9_502));
    let _cleartext =
        nginx_with(&edge.network.edge, cleartext, ("proxy_protocol", told), edge.folder()).unwrap();
    let pair = edge.authority.issue("inside", &["origin.internal"]).unwrap();
    let told_over_tls = format!(
        "ssl_certificate {}; ssl_certificate_key {}; {told}",
        pair.chain.display(),
        pair.key.display()
    );
    let listen = ("ssl proxy_protocol", told_over_tls.as_str());
    let _tls = nginx_with(&edge.network.edge, tls, listen, edge.folder()).unwrap();
    let _haproxy = haproxy_at(&edge, haproxy);

    let names = [
        ("line.customer.test", format!("http://{cleartext};proxy_protocol=v1;health=/"), ""),
        ("binary.customer.test", format!("http://{cleartext};proxy_protocol=v2;health=/"), ""),
        ("tls.customer.test", format!("https://{tls};tls=inside;proxy_protocol=v2"), ""),
        ("line-haproxy.customer.test", format!("http://{haproxy};proxy_protocol=v1;health=/"), " for "),
        (
            "binary-haproxy.customer.test",
            format!("http://{haproxy};proxy_protocol=v2;health=/"),
            " for binary-haproxy.customer.test",
        ),
    ];
    let mut settings = edge.settings(Place::A, io);
    let roots = edge.authority.file().display().to_string();
    settings.raw(
        "upstream",
        "tls",
        &format!("{{ inside = {{ roots = \"{roots}\", server_name = \"origin.internal\" }} }}"),
    );
    settings.text("upstream", "check_interval", "1s");
    for (name, target, _) in &names {
        settings.domain_to(name, target);
    }
    let gatehouse = start(&edge, settings);
    let (v4, v6) = ((IpAddr::V4(CLIENT), IpAddr::V4(EDGE_A)), (IpAddr::V6(CLIENT_V6), IpAddr::V6(EDGE_A_V6)));
    for (name, _, authority) in names {
        for (client, at) in [v4, v6] {
            let reply = edge
                .curl(&format!("https://{name}/"))
                .at(at)
                .with(&["--interface", &client.to_string()])
                .run()
                .unwrap();
            let seen = (reply.status, reply.body.as_str());
            assert_eq!(seen, (200, format!("{client} at {at}:443{authority}").as_str()), "{name}");
        }
    }
    // Checks are for nobody, which both take as well.
    scrape_until(&gatehouse, "checks of all endpoints", Duration::from_secs(20), |metrics| {
        metrics.sum("gatehouse_upstream_checks_total", &["result=\"passed\""]) > 7.5
    });
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.sum("gatehouse_upstream_checks_total", &["result=\"failed\""]) < 0.5, "{metrics}");
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new(LOOPBACK, port)
}

/// HAProxy that answers by itself, with whom the PROXY header is for.
fn haproxy_at(edge: &Edge, address: SocketAddr) -> Process {
    let file = edge.folder().join("haproxy-target.conf");
    let answer = "http-request return status 200 content-type text/plain lf-string \"%[src] at %[dst]:%[dst_port] for %[fc_pp_authority]\"";
    let text = format!(
        "global\n maxconn 100\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend told\n bind {address} accept-proxy\n {answer}\n"
    );
    fs::write(&file, text).unwrap();
    let mut command = process::command("haproxy");
    command.args(["-db", "-f"]).arg(&file);
    let mut process = Process::start(&edge.network.edge, "haproxy-target", command, edge.folder()).unwrap();
    process
        .wait_until("HAProxy", Duration::from_secs(10), || {
            edge.network.edge.inside(move || TcpStream::connect(address))??;
            Ok(())
        })
        .unwrap();
    process
}
