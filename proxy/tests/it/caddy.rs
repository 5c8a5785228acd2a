//! Beside the server that Gatehouse replaces: what Caddy obtained is served here, and what was obtained here Caddy serves, with no order
//! in between. Debian's Caddy keeps files where a fleet's has a table: names and bytes are the same.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use nix::sys::signal::Signal;
use serde_json::json;
use testbed::{
    authority::Authority, caddy::Site, edge::Edge, gatehouse::Place, keep_alive_client::Kept,
    process::Process, wait,
};

use crate::fixture::{SHOP, assert_served, edge, start, table};

#[test]
fn what_caddy_obtained_is_imported_and_served_without_an_order() {
    let edge = edge();
    // An instance of the fleet is there before, which makes the tables.
    let other = start(&edge, edge.shared_settings(Place::B, "auto"));
    let files = storage(&edge);
    // For names that it orders at once Caddy registers an account each, and may keep the key of one and the URL of the other.
    end(&mut caddy(&edge, &files, &[SHOP]));
    let mut caddy = caddy(&edge, &files, &[SHOP, BLOG]);
    let obtained = [SHOP, BLOG].map(|name| presented(&edge, name));
    end(&mut caddy);
    let (orders, accounts) = (edge.ca.relay.count("newOrder"), edge.ca.relay.count("newAccount"));
    assert_eq!((orders, accounts), (2, 1));
    let damaged = damage_a_copy(&files, &edge.authority);

    let import = |more: &[&str]| {
        let arguments = ["import", "caddy", files.to_str().unwrap()];
        other.command(&[&arguments, more].concat())
    };
    let said = import(&["--dry-run"]).unwrap_err().to_string();
    assert!(said.contains("3 copied, 1 damaged (nothing was written)"), "{said}");
    assert!(items(&edge).is_empty(), "{:?}", items(&edge).keys());
    let said = import(&[]).unwrap_err().to_string();
    assert!(said.contains("3 copied, 1 damaged") && said.contains("cannot be used"), "{said}");
    assert!(said.contains(&format!("`{damaged}.key` holds no usable private key in PEM form")), "{said}");
    let said = import(&["--json"]).unwrap_err().to_string();
    assert_eq!(said.matches("\"unchanged\"").count(), 3, "{said}");
    assert_keys_are_not_told(&said, &files);

    let items = items(&edge);
    for (name, contents) in kept_files(&files) {
        let is_copied = items.get(&name) == Some(&contents);
        assert_eq!(is_copied, !name.contains(&damaged) && !name.contains("last_clean"), "{name}");
    }
    wait::until(
        "both to be due at their time, although nobody has asked for them",
        Duration::from_secs(10),
        || {
            let listed = other.command(&["certificate", "list"])?;
            ensure!(listed.contains(SHOP) && listed.contains(BLOG), "{listed}");
            Ok(())
        },
    )
    .unwrap();
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.domain(SHOP).domain(BLOG).domain(NEW);
    let _gatehouse = start(&edge, settings);
    for (name, obtained) in [SHOP, BLOG].into_iter().zip(obtained) {
        assert_served(&edge, name);
        assert_eq!(presented(&edge, name), obtained, "{name}: another certificate than Caddy's");
    }
    assert_eq!(edge.ca.relay.count("newOrder"), 2, "it was ordered anew");
    assert_served(&edge, NEW);
    let counts = edge.ca.relay.counts();
    assert_eq!(
        (counts["newOrder"], counts["newAccount"]),
        (3, accounts),
        "Caddy's account orders on: {counts:?}"
    );
}

#[test]
fn what_was_obtained_here_is_exported_and_served_by_caddy_without_an_order() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.domain(SHOP).domain(BLOG);
    let mut gatehouse = start(&edge, settings);
    let obtained = [SHOP, BLOG].map(|name| {
        assert_served(&edge, name);
        presented(&edge, name)
    });
    gatehouse.stop().unwrap();
    assert_eq!((edge.ca.relay.count("newOrder"), edge.ca.relay.count("newAccount")), (2, 1));

    let files = storage(&edge);
    let export = ["export", "caddy", files.to_str().unwrap()];
    let said = gatehouse.command(&export).unwrap();
    assert!(said.ends_with("\n3 copied\n"), "{said}");
    assert_keys_are_not_told(&said, &files);
    let (items, exported) = (items(&edge), kept_files(&files));
    assert_eq!(exported.len(), 8, "{:?}", exported.keys());
    for (name, contents) in exported {
        assert_eq!(items.get(&name), Some(&contents), "{name}");
        let mode = fs::metadata(files.join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let said = gatehouse.command(&export).unwrap();
    assert!(said.ends_with("\n3 unchanged\n"), "{said}");

    let mut caddy = caddy(&edge, &files, &[SHOP, BLOG, NEW]);
    for (name, obtained) in [SHOP, BLOG].into_iter().zip(obtained) {
        assert_eq!(
            presented(&edge, name),
            obtained,
            "{name}: another certificate than ours; {}",
            caddy.output()
        );
    }
    let counts = edge.ca.relay.counts();
    assert_eq!((counts["newOrder"], counts["newAccount"]), (3, 1), "{counts:?}; {}", caddy.output());
    end(&mut caddy);
}

const BLOG: &str = "blog.customer.test";
/// Where the instance answers questions.
const ASK: &str = "127.0.0.1:9466";
/// Had no certificate before.
const NEW: &str = "new.customer.test";

/// Beside the certificate of [`SHOP`] lies one of another name whose key a full disk has cut off; the name.
fn damage_a_copy(files: &Path, authority: &Authority) -> String {
    let damaged = "damaged.customer.test".to_owned();
    let issuers = files.join("certificates");
    let issuer =
        fs::read_dir(&issuers).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let issuer = issuer.unwrap();
    fs::create_dir_all(issuer.join(&damaged)).unwrap();
    for kind in ["crt", "key", "json"] {
        let whole = fs::read(issuer.join(SHOP).join(format!("{SHOP}.{kind}"))).unwrap();
        let part = if kind == "key" { &whole[..60] } else { &whole[..] };
        fs::write(issuer.join(&damaged).join(format!("{damaged}.{kind}")), part).unwrap();
    }
    let chain = authority.issue("damaged", &[&damaged]).unwrap();
    fs::copy(chain.chain, issuer.join(&damaged).join(format!("{damaged}.crt"))).unwrap();
    damaged
}

/// No line of a private key is in `said`, neither as it lies in files nor encoded once more.
fn assert_keys_are_not_told(said: &str, files: &Path) {
    let files = kept_files(files);
    let keys = files.iter().filter(|(name, _)| name.rsplit('.').next() == Some("key"));
    let lines = keys.flat_map(|(_, key)| std::str::from_utf8(key).unwrap().lines());
    let secrets: Vec<_> = lines.filter(|line| !line.starts_with("-----") && line.len() > 20).collect();
    assert!(secrets.len() >= 3, "there are keys to look for");
    for secret in secrets {
        assert!(!said.contains(secret) && !said.contains(&BASE64_STANDARD.encode(secret)), "{said}");
    }
}

/// What the table holds of certificates and accounts.
fn items(edge: &Edge) -> BTreeMap<String, Vec<u8>> {
    let scanned =
        table(edge, "Scan", &json!({ "TableName": "gatehouse-certificates", "ConsistentRead": true }));
    let items = scanned["Items"].as_array().unwrap().iter().filter_map(|item| {
        let (name, contents) = (item["PrimaryKey"]["S"].as_str()?, item["Contents"]["S"].as_str()?);
        let is_wanted = name.starts_with("certificates/") || name.contains("/users/");
        is_wanted.then(|| (name.to_owned(), BASE64_STANDARD.decode(contents).unwrap()))
    });
    items.collect()
}

fn storage(edge: &Edge) -> PathBuf {
    let folder = edge.folder().join("caddy");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A fleet that is replaced one server at a time: Caddy asks an instance which names it may obtain certificates for.
#[test]
fn caddy_on_demand_asks_an_instance_and_obtains_for_its_names_alone() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::B, "auto");
    settings.text("control", "ask", ASK);
    let instance = start(&edge, settings);
    instance.command(&["domain", "add", SHOP]).unwrap();
    let files = storage(&edge);
    let options = format!(" on_demand_tls {{\n  ask http://{ASK}/ask\n }}\n");
    let site = Site { options: &options, address: "https://", lines: " tls {\n  on_demand\n }\n" };
    let _caddy = caddy_with(&edge, &files, &site, &[SHOP]);
    assert_eq!(edge.ca.relay.count("newOrder"), 1);
    let refused = edge.curl(&format!("https://{BLOG}/")).run().unwrap();
    assert_ne!(refused.status, 200, "{refused:?}");
    assert_eq!(
        edge.ca.relay.count("newOrder"),
        1,
        "nothing is ordered for a name that the instance does not serve"
    );
    instance.command(&["domain", "add", BLOG]).unwrap();
    let reply = edge.curl(&format!("https://{BLOG}/")).run().unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "caddy"), "{reply:?}");
}

/// Caddy in the place of instance A, once it serves.
fn caddy(edge: &Edge, files: &Path, names: &[&str]) -> Process {
    caddy_with(edge, files, &Site { address: &names.join(", "), ..Site::default() }, names)
}

/// The same with more in its Caddyfile.
fn caddy_with(edge: &Edge, files: &Path, site: &Site<'_>, names: &[&str]) -> Process {
    let mut caddy = testbed::caddy::start(edge, files, site).unwrap();
    caddy
        .wait_until("Caddy to serve", Duration::from_secs(20), || {
            for name in names {
                let reply = edge.curl(&format!("https://{name}/")).run()?;
                ensure!(reply.status == 200 && reply.body == "caddy", "{name}: {reply:?}");
            }
            Ok(())
        })
        .unwrap();
    caddy
}

fn end(caddy: &mut Process) {
    caddy.signal(Signal::SIGTERM).unwrap();
    caddy.wait(Duration::from_secs(10)).unwrap();
}

fn presented(edge: &Edge, name: &str) -> Vec<u8> {
    let to = Edge::https(Place::A);
    Kept::connect(&edge.network.client, to, name, edge.ca.roots()).unwrap().certificate().unwrap()
}

/// All files, by their path below `folder`: what a table of the same fleet has as keys.
fn kept_files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}
