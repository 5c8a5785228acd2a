//! Certificates in the table that nobody had to order: made by the test CA, written as Caddy writes them, each with a key of its own and the
//! record that an instance keeps beside it. Left out is only what no handshake reads: the index of renewals.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dynoxide::{AttributeValue, Item};

use crate::{
    authority::Authority,
    edge::Edge,
    gatehouse::{Place, Settings},
};

/// Settings of an instance at A that serves all of them: by one entry for a wildcard, so that no memory is theirs before they are asked for.
pub(super) fn settings(edge: &Edge) -> Settings {
    let mut settings = super::settings(edge.shared_settings(Place::A, "auto"), ["*.customer.test"]);
    settings.raw("domains", "table", "false");
    // Of who may make up names; these are there.
    for budget in ["lookups_per_second", "lookups_per_source_per_second"] {
        settings.raw("domains", budget, "1000000");
    }
    settings
}

/// So many names.
pub(super) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("n{number:06}.customer.test")).collect()
}

/// Puts a certificate for each of `names` into the tables, which an instance has made.
pub(super) fn fill(edge: &Edge, names: &[String]) -> anyhow::Result<()> {
    for (number, names) in names.chunks(CHUNK).enumerate() {
        let (mut certificates, mut records) = (Vec::new(), Vec::new());
        for (place, name) in names.iter().enumerate() {
            let serial = FIRST_SERIAL + u64::try_from(number * CHUNK + place)?;
            certificates.extend(certificate(&edge.authority, name, serial)?);
            records.push(record(name, serial));
        }
        edge.table.import("gatehouse-certificates", &certificates)?;
        edge.table.import("gatehouse-state", &records)?;
    }
    Ok(())
}

/// The three items of a certificate (certmagic, `KeyBuilder`).
fn certificate(authority: &Authority, name: &str, serial: u64) -> anyhow::Result<[Item; 3]> {
    let (chain, key) = authority.pems(name, serial)?;
    let metadata = format!("{{\n\t\"sans\": [\n\t\t\"{name}\"\n\t],\n\t\"issuer_data\": {{}}\n}}");
    let item = |kind: &str, contents: &str| {
        item([
            ("PrimaryKey", format!("certificates/{ISSUER}/{name}/{name}.{kind}")),
            ("Contents", BASE64_STANDARD.encode(contents)),
            ("LastUpdated", "2026-11-01T00:00:00Z".to_owned()),
        ])
    };
    Ok([item("crt", &chain), item("key", &key), item("json", &metadata)])
}

/// The certificate is known, and due long after the measurement.
fn record(name: &str, serial: u64) -> Item {
    item([
        ("pk", format!("name#{name}")),
        ("sk", "certificate".to_owned()),
        ("issuer", ISSUER.to_owned()),
        ("serial", format!("{serial:016x}")),
        ("not_after", "4095-01-01T00:00:00.000000Z".to_owned()),
        ("renew_at", "2095-01-01T00:00:00.000000Z".to_owned()),
    ])
}

fn item<const N: usize>(texts: [(&str, String); N]) -> Item {
    texts.into_iter().map(|(name, text)| (name.to_owned(), AttributeValue::S(text))).collect()
}

/// The testbed's CA as keys name it: by its directory.
const ISSUER: &str = "ca.test-14000-dir";
/// Of eight bytes in DER, whatever is added.
const FIRST_SERIAL: u64 = 1 << 56;
/// Few enough for calls of an instance in between not to wait long.
const CHUNK: usize = 500;
