//! Sessions of openssl's client resume at another instance, and after a restart.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    wait,
};

use crate::fixture::{SHOP, assert_served, edge, faulty_settings, on_both_back_ends, start};

on_both_back_ends!(a_session_resumes_at_another_instance_and_after_a_restart);

fn a_session_resumes_at_another_instance_and_after_a_restart(io: &str) {
    let edge = edge();
    let settings = |place| {
        let mut settings = faulty_settings(&edge, place, io);
        settings.domain(SHOP).domain(OTHER);
        // A new key seals a 720th of it after it was made.
        settings.text("tls", "ticket_key_period", "10m");
        settings
    };
    let a = start(&edge, settings(Place::A));
    let mut b = start(&edge, settings(Place::B));
    for name in [SHOP, OTHER] {
        assert_served(&edge, name);
    }
    for instance in [&a, &b] {
        await_shared_key(instance);
    }
    for version in ["-tls1_2", "-tls1_3"] {
        let session = edge.folder().join(version);
        assert_eq!(handshake(&edge, Place::A, SHOP, version, ("-sess_out", &session)), "New");
        let again = |place, name| handshake(&edge, place, name, version, ("-sess_in", &session));
        assert_eq!(again(Place::A, SHOP), "Reused", "{version} at the instance itself");
        assert_eq!(again(Place::B, SHOP), "Reused", "{version} at another instance");
        assert_eq!(again(Place::B, OTHER), "New", "{version} under another name");
    }
    let metrics = b.metrics().unwrap();
    assert!(metrics.sum("gatehouse_tls_tickets_total", &["ticket=\"opened_shared\""]) > 1.5, "{metrics}");
    assert!(metrics.sum("gatehouse_tls_handshakes_total", &["session=\"resumed\""]) > 1.5, "{metrics}");

    b.stop().unwrap();
    b.start_again().unwrap();
    let again = |version| {
        let session = edge.folder().join(version);
        handshake(&edge, Place::B, SHOP, version, ("-sess_in", &session))
    };
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(again(version), "Reused", "{version} after a restart");
    }
    b.stop().unwrap();
    b.settings().raw("tls", "share_tickets", "false");
    b.start_again().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(again(version), "New", "{version} where nothing is shared");
    }
    assert!(b.command(&["status"]).unwrap().contains("a key of this process"));
}

fn await_shared_key(instance: &Gatehouse) {
    wait::until("the fleet's key to seal", Duration::from_secs(20), || {
        let status = instance.command(&["status"])?;
        ensure!(status.contains("the fleet's key"), "{status}");
        Ok(())
    })
    .unwrap();
}

/// `New` or `Reused`, as openssl's client says it after a request.
fn handshake(edge: &Edge, place: Place, name: &str, version: &str, session: (&str, &Path)) -> String {
    let script = format!(
        "printf 'GET / HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n' \
         | timeout 20 openssl s_client -connect {}:443 -servername {name} {version} -ign_eof {} {} 2>&1",
        place.v4(),
        session.0,
        session.1.display()
    );
    let said = edge.network.client.run("sh", &["-c", &script]).unwrap();
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    let line = said.lines().find(|line| line.starts_with("New, ") || line.starts_with("Reused, "));
    line.and_then(|line| line.split(',').next()).unwrap_or(&said).to_owned()
}

/// An entry's least version of TLS holds for its name alone, from the change on, and ends sessions of before.
#[test]
fn a_name_may_be_served_from_a_later_version_on() {
    let edge = edge();
    let gatehouse = start(&edge, edge.shared_settings(Place::A, "auto"));
    for name in [SHOP, OTHER] {
        gatehouse.command(&["domain", "add", name]).unwrap();
        assert_served(&edge, name);
    }
    let session = edge.folder().join("session");
    let old = |name, session| handshake(&edge, Place::A, name, "-tls1_2", session);
    assert_eq!(old(SHOP, ("-sess_out", &session)), "New");
    assert_eq!(old(SHOP, ("-sess_in", &session)), "Reused");

    let told = gatehouse.command(&["domain", "add", SHOP, "--minimum-tls", "1.3", "--replace"]).unwrap();
    assert!(told.contains("minimum_tls (default) -> 1.3"), "{told}");
    assert!(gatehouse.command(&["domain", "show", SHOP]).unwrap().contains("minimum_tls 1.3"));
    for session in ["", &format!("-sess_in {}", session.display())] {
        let script = format!(
            "openssl s_client -connect {}:443 -servername {SHOP} -tls1_2 {session} </dev/null 2>&1 || true",
            Place::A.v4()
        );
        let said = edge.network.client.run("sh", &["-c", &script]).unwrap();
        // RFC 8446 §6: 70.
        assert!(said.contains("alert protocol version") && said.contains("SSL alert number 70"), "{said}");
    }
    assert_eq!(handshake(&edge, Place::A, SHOP, "-tls1_3", ("-sess_out", &session)), "New");
    assert_eq!(old(OTHER, ("-sess_out", &session)), "New");
    let metrics = gatehouse.metrics().unwrap();
    assert!(
        metrics.sum("gatehouse_tls_connections_total", &["outcome=\"protocol_version\""]) > 1.5,
        "{metrics}"
    );

    gatehouse.command(&["domain", "add", SHOP, "--minimum-tls", "1.2", "--replace"]).unwrap();
    assert_eq!(old(SHOP, ("-sess_out", &session)), "New");
}

const OTHER: &str = "other.customer.test";
