//! Private keys that lie in the table encrypted, by a file and by KMS.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use testbed::{
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
    kms::{self, Kms},
};

use crate::fixture::{BINARY, SHOP, assert_served_at, edge, get, start, table};

fn encrypted(edge: &Edge, place: Place, by: &str) -> Settings {
    let mut settings = edge.shared_settings(place, "auto");
    settings.domain(SHOP).text("store", "key_encryption", by);
    settings.raw("certificates", "shared_with_caddy", "false");
    settings
}

/// What the table holds of private keys, each with its item's key: as text, if it is one.
fn private_keys(edge: &Edge) -> Vec<(String, Vec<u8>)> {
    let items =
        table(edge, "Scan", &json!({ "TableName": "gatehouse-certificates", "ConsistentRead": true }));
    let text = |item: &Value, attribute: &str| item[attribute]["S"].as_str().map(ToOwned::to_owned);
    let items = items["Items"].as_array().unwrap().iter().filter_map(|item| {
        let key = text(item, "PrimaryKey").filter(|key| key.contains(".key"))?;
        let contents = text(item, "Contents")?;
        Some((key, STANDARD.decode(contents).unwrap()))
    });
    items.collect()
}

fn assert_encrypted(edge: &Edge, master: &str) {
    let keys = private_keys(edge);
    assert_eq!(keys.len(), 2, "the certificate's and the account's: {keys:?}");
    for (item, contents) in keys {
        let shown = String::from_utf8_lossy(&contents);
        assert!(shown.starts_with("gatehouse-sealed-key-1\n") && shown.contains(master), "{item}: {shown}");
        assert!(!shown.contains("PRIVATE KEY"), "{item}");
    }
}

fn key_file(edge: &Edge, name: &str, keys: &[&str]) -> PathBuf {
    let path = edge.folder().join(name);
    fs::write(&path, keys.join("\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What its first command says that will not run with `settings`.
fn refusal(edge: &Edge, settings: Settings) -> String {
    Gatehouse::launch(&edge.network, BINARY.as_ref(), settings).unwrap_err().to_string()
}

const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";

#[test]
fn a_file_of_keys_encrypts_what_instances_share_and_is_replaced_while_they_serve() {
    let edge = edge();
    let old = key_file(&edge, "old-keys", &[OLD]);
    let by_old = format!("file:{}", old.display());
    let a = start(&edge, encrypted(&edge, Place::A, &by_old));
    assert_served_at(&edge, Place::A, SHOP);
    assert_encrypted(&edge, "file:");
    let b = start(&edge, encrypted(&edge, Place::B, &by_old));
    assert_served_at(&edge, Place::B, SHOP);
    drop(a);

    let both = key_file(&edge, "both-keys", &[NEW, OLD]);
    let a = start(&edge, encrypted(&edge, Place::A, &format!("file:{}", both.display())));
    assert_served_at(&edge, Place::A, SHOP);
    let said = a.command(&["certificate", "rewrap"]).unwrap();
    assert_eq!(said, "2 written anew, 0 as they are to be\n");
    let new = key_file(&edge, "new-keys", &[NEW]);
    drop((a, b));
    let a = start(&edge, encrypted(&edge, Place::A, &format!("file:{}", new.display())));
    assert_served_at(&edge, Place::A, SHOP);
    assert_eq!(a.command(&["certificate", "rewrap"]).unwrap(), "0 written anew, 2 as they are to be\n");
    assert_eq!(
        a.command(&["certificate", "rewrap", "--clear"]).unwrap(),
        "2 written anew, 0 as they are to be\n"
    );
    assert!(private_keys(&edge).iter().all(|(_, key)| key.starts_with(b"-----BEGIN")));
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());
}

#[test]
fn without_the_key_nothing_is_ordered_anew_and_what_is_wrong_is_said() {
    let edge = edge();
    let old = key_file(&edge, "old-keys", &[OLD]);
    let a = start(&edge, encrypted(&edge, Place::A, &format!("file:{}", old.display())));
    assert_served_at(&edge, Place::A, SHOP);
    drop(a);
    let other = key_file(&edge, "other-keys", &[NEW]);
    let a = start(&edge, encrypted(&edge, Place::A, &format!("file:{}", other.display())));
    let reply = get(&edge, SHOP);
    assert_eq!(reply.status, 0, "{reply:?}");
    let said = a.process.output();
    assert!(
        said.contains("an item is encrypted by `file:") && said.contains("add that key to the file"),
        "{said}"
    );
    drop(a);
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());

    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refusal(&edge, encrypted(&edge, Place::A, &format!("file:{}", other.display())));
    assert!(said.contains("store.key_encryption: `") && said.contains("mode 644"), "{said}");
    let mut with_caddy = edge.shared_settings(Place::A, "auto");
    with_caddy.text("store", "key_encryption", "kms:alias/gatehouse");
    let said = refusal(&edge, with_caddy);
    assert!(said.contains("store.key_encryption") && said.contains("which Caddy then cannot read"), "{said}");
}

#[test]
fn kms_encrypts_what_instances_share() {
    let edge = edge();
    let kms = Kms::start(&edge.network.edge, edge.folder()).unwrap();
    let by_kms = |place| {
        let mut settings = encrypted(&edge, place, &format!("kms:{}", kms::ALIAS));
        settings.text("store", "region", kms::REGION);
        settings.environment("AWS_ENDPOINT_URL_KMS", &Kms::url());
        settings
    };
    let a = start(&edge, by_kms(Place::A));
    assert_served_at(&edge, Place::A, SHOP);
    assert_encrypted(&edge, kms.arn());
    let doctor = a.command(&["doctor"]).unwrap_or_else(|error| error.to_string());
    assert!(doctor.contains("private keys are encrypted and read as store.key_encryption says"), "{doctor}");
    kms.replace_key(&edge.network.edge).unwrap();
    let b = start(&edge, by_kms(Place::B));
    assert_served_at(&edge, Place::B, SHOP);
    assert_eq!(b.command(&["certificate", "rewrap"]).unwrap(), "2 written anew, 0 as they are to be\n");
    assert!(!private_keys(&edge).iter().any(|(_, key)| String::from_utf8_lossy(key).contains(kms.arn())));
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());

    // Without KMS, a start goes on, since it may answer soon: what is in nobody's memory is not served.
    drop((a, b, kms));
    let mut c = start(&edge, by_kms(Place::A));
    let reply = get(&edge, SHOP);
    assert_eq!(reply.status, 0, "{reply:?}");
    assert!(
        c.process.output().contains("KMS at http://127.0.0.1:5000/ does not answer"),
        "{}",
        c.process.output()
    );
    c.stop().unwrap();
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "{:?}", edge.ca.relay.counts());
}
