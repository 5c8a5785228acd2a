//! A start at which table and CA are down serves by the encrypted copy of what was served before.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use testbed::{
    cleartext,
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
    keep_alive_client::Kept,
    kms::{self, Kms},
    relay::Traffic,
    wait,
};

use crate::fixture::{BINARY, SHOP, assert_served, edge, get, scrape_until, start};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
const GONE: &str = "gone.customer.test";
const WIDE: &str = "a.wide.customer.test";
const SUSPENDED: &str = "bad.wide.customer.test";
const UNREAD: &str = "unread.customer.test";
/// What a copy of what [`served_before`] has served does not serve.
const OTHERS: [&str; 3] = [SUSPENDED, UNREAD, "never.heard.test"];

fn key_file(edge: &Edge, name: &str, key: &str) -> String {
    let path = edge.folder().join(name);
    fs::write(&path, key).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    format!("file:{}", path.display())
}

fn folder(edge: &Edge) -> PathBuf {
    edge.folder().join("copy")
}

fn file(edge: &Edge) -> PathBuf {
    folder(edge).join("served")
}

fn copying(edge: &Edge) -> Settings {
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.text("store", "key_encryption", &key_file(edge, "keys", KEY));
    settings.text("store", "local_copy", &folder(edge).to_string_lossy());
    settings.raw("certificates", "shared_with_caddy", "false");
    settings
}

/// What is presented for `name`.
fn certificate(edge: &Edge, name: &str) -> Vec<u8> {
    let roots = edge.ca.roots().to_owned();
    Kept::connect(&edge.network.client, Edge::https(Place::A), name, &roots).unwrap().certificate().unwrap()
}

fn health(edge: &Edge) -> (u16, String) {
    let address = (IpAddr::V4(Place::A.v4()), 80).into();
    let answer = cleartext::get(&edge.network.edge, address, "health", "/health").unwrap();
    (answer.status, answer.body)
}

fn is_in_use(gatehouse: &Gatehouse) -> bool {
    gatehouse.metrics().unwrap().sum("gatehouse_local_copy_in_use", &[]) > 0.5
}

fn await_unserved(edge: &Edge, name: &str) {
    wait::until("a name that is no longer served", Duration::from_secs(30), || {
        let reply = edge.curl(&format!("https://{name}/")).run()?;
        anyhow::ensure!(reply.status == 0, "{reply:?}");
        Ok(())
    })
    .unwrap();
}

fn set_both(edge: &Edge, traffic: &Traffic) {
    edge.table.relay.set(traffic.clone());
    edge.ca.relay.set(traffic.clone());
}

/// An instance that has served three names of the table, and has ended; what it presented for them.
fn served_before(edge: &Edge, settings: Settings) -> (Gatehouse, Vec<(&'static str, Vec<u8>)>) {
    let mut gatehouse = start(edge, settings);
    for name in [SHOP, GONE, "*.wide.customer.test", SUSPENDED, UNREAD] {
        gatehouse.command(&["domain", "add", name]).unwrap();
    }
    gatehouse.command(&["domain", "suspend", SUSPENDED]).unwrap();
    let presented = [SHOP, GONE, WIDE].map(|name| {
        assert_served(edge, name);
        (name, certificate(edge, name))
    });
    gatehouse.stop().unwrap();
    (gatehouse, presented.into())
}

fn assert_serves_by_the_copy(
    edge: &Edge,
    gatehouse: &Gatehouse,
    presented: &[(&'static str, Vec<u8>)],
    others: &[&str],
) {
    assert!(is_in_use(gatehouse));
    let said = health(edge);
    assert_eq!(
        said,
        (200, "restored: the tables do not answer, names of the local copy are served\n".to_owned())
    );
    let status = gatehouse.command(&["status"]).unwrap();
    assert!(status.contains("restored: the tables do not answer"), "{status}");
    for (name, before) in presented {
        assert_served(edge, name);
        assert_eq!(certificate(edge, name), *before, "{name}: another certificate");
    }
    for name in others {
        assert_eq!(get(edge, name).status, 0, "{name}");
    }
}

#[test]
fn a_restart_without_table_and_ca_serves_what_was_served_before() {
    let edge = edge();
    let (mut gatehouse, presented) = served_before(&edge, copying(&edge));
    let copy = fs::read(file(&edge)).unwrap();
    let mode = fs::metadata(file(&edge)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    for word in ["customer", "PRIVATE KEY", "CERTIFICATE"] {
        assert!(!copy.windows(word.len()).any(|window| window == word.as_bytes()), "{word} in clear");
    }
    // The table learns of it, this instance does not before the table answers it.
    let removed = gatehouse.command(&["domain", "remove", GONE]).unwrap();
    assert!(removed.contains(GONE), "{removed}");
    let orders = edge.ca.relay.count("newOrder");

    set_both(&edge, &Traffic::Cut);
    gatehouse.start_again().unwrap();
    assert_serves_by_the_copy(&edge, &gatehouse, &presented, &OTHERS);
    let log = gatehouse.process.output();
    assert!(log.contains("the tables do not answer: names of the local copy are served"), "{log}");
    gatehouse.stop().unwrap();
    assert_eq!(fs::read(file(&edge)).unwrap(), copy, "while the tables do not answer it stays as it is");

    // Once more, and now they say nothing at all.
    set_both(&edge, &Traffic::Hold);
    gatehouse.start_again().unwrap();
    assert_served(&edge, SHOP);
    assert!(is_in_use(&gatehouse));

    set_both(&edge, &Traffic::Pass);
    scrape_until(&gatehouse, "the end of the copy's use", Duration::from_secs(90), |metrics| {
        metrics.sum("gatehouse_local_copy_in_use", &[]) < 0.5
    });
    await_unserved(&edge, GONE);
    assert_served(&edge, SHOP);
    assert_eq!(certificate(&edge, SHOP), presented[0].1, "the table has the same");
    assert_served(&edge, UNREAD);
    assert_eq!(health(&edge), (200, "ok\n".to_owned()));
    assert_eq!(edge.ca.relay.count("newOrder"), orders + 1, "of the name that had no certificate yet");

    // A start with the tables there forgets nothing that nobody has asked for since, and no longer knows what was removed.
    gatehouse.stop().unwrap();
    gatehouse.start_again().unwrap();
    assert!(!is_in_use(&gatehouse));
    gatehouse.stop().unwrap();
    set_both(&edge, &Traffic::Cut);
    gatehouse.start_again().unwrap();
    for name in [SHOP, WIDE, UNREAD] {
        assert_served(&edge, name);
    }
    assert_eq!(get(&edge, GONE).status, 0);
}

#[test]
fn a_copy_that_was_changed_cleared_or_sealed_by_another_key_serves_nothing() {
    let edge = edge();
    let (mut gatehouse, presented) = served_before(&edge, copying(&edge));
    let copy = fs::read(file(&edge)).unwrap();
    set_both(&edge, &Traffic::Cut);
    let mut changed = copy.clone();
    // Of the list: certificates come behind it.
    changed[200] ^= 1;
    for (what, file_now, key, told) in [
        ("changed", &changed, KEY, "was cut or changed since it was written"),
        ("another key", &copy, OTHER_KEY, "which is not the key of the settings"),
    ] {
        fs::write(file(&edge), file_now).unwrap();
        key_file(&edge, "keys", key);
        // It starts, and is not healthy: it has no name to serve.
        let process = gatehouse.settings().spawn(&edge.network.edge, BINARY.as_ref()).unwrap();
        gatehouse.process = process;
        wait::until("a start that serves nothing", Duration::from_secs(30), || {
            let address = (IpAddr::V4(Place::A.v4()), 80).into();
            let answer = cleartext::get(&edge.network.edge, address, "health", "/health")?;
            anyhow::ensure!(answer.status == 503 && answer.body == "unable\n", "{answer:?}");
            Ok(())
        })
        .unwrap();
        assert_eq!(get(&edge, SHOP).status, 0, "{what}");
        let log = gatehouse.process.output();
        assert!(log.contains("the local copy cannot be used") && log.contains(told), "{what}: {log}");
        gatehouse.stop().unwrap();
    }

    fs::write(file(&edge), &copy).unwrap();
    key_file(&edge, "keys", KEY);
    gatehouse.start_again().unwrap();
    assert_serves_by_the_copy(&edge, &gatehouse, &presented, &OTHERS);
    // While it runs: what is in memory is served on.
    let said = gatehouse.command(&["cache", "clear"]).unwrap();
    assert!(said.contains(&format!("is removed, {} bytes", copy.len())), "{said}");
    assert!(!file(&edge).exists());
    assert_served(&edge, SHOP);
    gatehouse.stop().unwrap();
    assert!(!file(&edge).exists(), "nothing is written that the tables have not said");
    let said = gatehouse.command(&["cache", "clear", "--json"]).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["bytes"], serde_json::Value::Null, "{said}");
}

#[test]
fn a_copy_whose_key_kms_has_is_used_as_soon_as_kms_answers() {
    let edge = edge();
    let kms = Kms::start(&edge.network.edge, edge.folder()).unwrap();
    let mut settings = copying(&edge);
    settings.text("store", "key_encryption", &format!("kms:{}", kms::ALIAS)).text(
        "store",
        "region",
        kms::REGION,
    );
    settings.environment("AWS_ENDPOINT_URL_KMS", &Kms::url());
    let (mut gatehouse, presented) = served_before(&edge, settings);
    // A machine that loses its power writes nothing at the end: what has come since was written while it ran.
    gatehouse.start_again().unwrap();
    assert_served(&edge, UNREAD);
    scrape_until(&gatehouse, "a copy of the name", Duration::from_mins(1), |metrics| {
        metrics.sum("gatehouse_local_copy_certificates", &[]) > 3.5
    });
    gatehouse.process.signal(Signal::SIGKILL).unwrap();
    gatehouse.wait().unwrap();
    set_both(&edge, &Traffic::Cut);
    kms.set(Traffic::Cut);
    let process = gatehouse.settings().spawn(&edge.network.edge, BINARY.as_ref()).unwrap();
    gatehouse.process = process;
    wait::until("a start that cannot open its copy", Duration::from_secs(40), || {
        let log = gatehouse.process.output();
        anyhow::ensure!(log.contains("the local copy cannot be used") && log.contains("KMS at"), "{log}");
        anyhow::ensure!(gatehouse.health()? == 503, "{log}");
        Ok(())
    })
    .unwrap();
    assert_eq!(get(&edge, SHOP).status, 0);
    kms.set(Traffic::Pass);
    gatehouse.wait_until_ready().unwrap();
    assert_serves_by_the_copy(&edge, &gatehouse, &presented, &[SUSPENDED, "never.heard.test"]);
    assert_served(&edge, UNREAD);
}

#[test]
fn a_copy_without_a_key_is_refused() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.text("store", "local_copy", &folder(&edge).to_string_lossy());
    let refused = Gatehouse::launch(&edge.network, BINARY.as_ref(), settings).unwrap_err().to_string();
    assert!(
        refused.contains("store.local_copy") && refused.contains("set `store.key_encryption`"),
        "{refused}"
    );
}
