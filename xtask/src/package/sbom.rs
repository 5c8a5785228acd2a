//! The SBOM, as `CycloneDX` 1.5 in JSON.
//!
//! `cargo-cyclonedx` writes one per manifest of the workspace, and none knows of the XDP program inside the binary.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Workspace,
    crates::{Crate, Origin},
};

/// What is linked into the binary and the XDP program; the same bytes for the same sources, so without a serial number.
pub(super) fn write(workspace: &Workspace, time: &str, crates: &BTreeSet<Crate>) -> anyhow::Result<String> {
    let (version, name) = (workspace.version.as_str(), workspace.product.name());
    let itself = workspace.product.cargo_package();
    let components: Vec<Value> = crates.iter().filter(|found| found.name != itself).map(component).collect();
    let paper = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application",
                "bom-ref": format!("{name}@{version}"),
                "name": name,
                "version": version,
            },
        },
        "components": components,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&paper)?))
}

fn component(found: &Crate) -> Value {
    let Crate { name, version, licence, repository, origin, .. } = found;
    let licence = licence.as_ref().map(|licence| licence.replace(" / ", " OR ").replace('/', " OR "));
    // Package URL specification, type `cargo`: for what others can find there.
    let url = (*origin == Origin::Registry).then(|| json!(format!("pkg:cargo/{name}@{version}")));
    let fields = [
        ("type", Some(json!("library"))),
        ("bom-ref", Some(json!(format!("{name}@{version}")))),
        ("name", Some(json!(name))),
        ("version", Some(json!(version))),
        ("scope", Some(json!("required"))),
        ("licenses", licence.map(|licence| json!([{ "expression": licence }]))),
        ("purl", url),
        ("externalReferences", repository.as_ref().map(|url| json!([{ "type": "vcs", "url": url }]))),
    ];
    let known = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
    Value::Object(known.collect())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_crate_of_the_registry_has_a_package_url_and_ours_has_none() {
        let found = |origin| Crate {
            name: "a".into(),
            version: "1.0.0".into(),
            licence: Some("MIT/Apache-2.0".into()),
            repository: None,
            folder: PathBuf::new(),
            origin,
        };
        let registry = component(&found(Origin::Registry));
        assert_eq!(registry["purl"], "pkg:cargo/a@1.0.0");
        assert_eq!(registry["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(component(&found(Origin::Ours)).get("purl"), None);
    }
}
