//! Beside the server that Gatehouse replaces: what Caddy obtained is served here, and what was obtained here Caddy serves, with no order
//! in between. Debian's Caddy keeps files where a fleet's has a table: names and bytes are the same.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use nix::sys::signal::Signal;
use serde_json::json;
use testbed::{
    edge::Edge,
    gatehouse::Place,
    keep_alive_client::Kept,
    process::{self, Process},
};

use crate::fixture::{SHOP, assert_served, edge, start, table};

#[test]
fn what_caddy_obtained_is_served_without_an_order() {
    let edge = edge();
    // An instance of the fleet is there before, which makes the tables.
    let _other = start(&edge, edge.shared_settings(Place::B, "auto"));
    let files = storage(&edge);
    let mut caddy = caddy(&edge, &files);
    let obtained = presented(&edge);
    end(&mut caddy);
    assert_eq!(edge.ca.relay.count("newOrder"), 1);

    let kept = kept_files(&files);
    assert!(kept.iter().any(|name| name.ends_with(&format!("{SHOP}.crt"))), "{kept:?}");
    for name in kept {
        let contents = BASE64_STANDARD.encode(fs::read(files.join(&name)).unwrap());
        let item = json!({
            "PrimaryKey": { "S": name },
            "Contents": { "S": contents },
            "LastUpdated": { "S": "2026-11-24T02:15:08Z" },
        });
        table(&edge, "PutItem", &json!({ "TableName": "gatehouse-certificates", "Item": item }));
    }
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.domain(SHOP);
    let _gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    assert_eq!(presented(&edge), obtained, "another certificate than Caddy's");
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "it was ordered anew");
}

#[test]
fn what_was_obtained_here_caddy_serves_without_an_order() {
    let edge = edge();
    let mut settings = edge.shared_settings(Place::A, "auto");
    settings.domain(SHOP);
    let mut gatehouse = start(&edge, settings);
    assert_served(&edge, SHOP);
    let obtained = presented(&edge);
    gatehouse.stop().unwrap();
    assert_eq!(edge.ca.relay.count("newOrder"), 1);

    let files = storage(&edge);
    let scanned =
        table(&edge, "Scan", &json!({ "TableName": "gatehouse-certificates", "ConsistentRead": true }));
    for item in scanned["Items"].as_array().unwrap() {
        let (Some(name), Some(contents)) = (item["PrimaryKey"]["S"].as_str(), item["Contents"]["S"].as_str())
        else {
            continue;
        };
        let path = files.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, BASE64_STANDARD.decode(contents).unwrap()).unwrap();
    }
    let mut caddy = caddy(&edge, &files);
    assert_eq!(presented(&edge), obtained, "another certificate than ours; {}", caddy.output());
    assert_eq!(edge.ca.relay.count("newOrder"), 1, "it was ordered anew; {}", caddy.output());
    end(&mut caddy);
}

fn storage(edge: &Edge) -> PathBuf {
    let folder = edge.folder().join("caddy");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Caddy in the place of instance A, once it serves.
fn caddy(edge: &Edge, files: &Path) -> Process {
    let config = edge.folder().join("Caddyfile");
    let (directory, roots) = (edge.ca.directory(), edge.ca.directory_roots().display());
    let text = format!(
        "{{\n admin off\n storage file_system {}\n acme_ca {directory}\n acme_ca_root {roots}\n email operator@example.com\n \
         default_bind {}\n}}\n{SHOP} {{\n respond \"caddy\"\n}}\n",
        files.display(),
        Edge::https(Place::A).ip(),
    );
    fs::write(&config, text).unwrap();
    let mut command = process::command("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&config);
    command.env("HOME", edge.folder());
    let mut caddy = Process::start(&edge.network.edge, "caddy", command, edge.folder()).unwrap();
    caddy
        .wait_until("Caddy to serve", Duration::from_secs(20), || {
            let reply = edge.curl(&format!("https://{SHOP}/")).run()?;
            ensure!(reply.status == 200 && reply.body == "caddy", "{reply:?}");
            Ok(())
        })
        .unwrap();
    caddy
}

fn end(caddy: &mut Process) {
    caddy.signal(Signal::SIGTERM).unwrap();
    caddy.wait(Duration::from_secs(10)).unwrap();
}

fn presented(edge: &Edge) -> Vec<u8> {
    let to = Edge::https(Place::A);
    Kept::connect(&edge.network.client, to, SHOP, edge.ca.roots()).unwrap().certificate().unwrap()
}

/// All files, by their path below `folder`: what a table of the same fleet has as keys.
fn kept_files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}
