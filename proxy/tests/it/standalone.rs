//! The binary alone: no settings, no AWS, no privileges.

use std::{path::Path, time::Duration};

use anyhow::ensure;
use testbed::{
    cleartext,
    network::LOOPBACK,
    process::{self, Process},
};

use crate::fixture::{BINARY, edge};

#[test]
fn without_settings_and_privileges_it_serves_from_an_issuer_of_its_own() {
    let edge = edge();
    let folder = tempfile::tempdir().unwrap();
    let mut command = process::command("setpriv");
    // User 0 with no capability left owns its files and may do nothing else that root may.
    command
        .args(["--bounding-set", "-all", "--inh-caps", "-all", "--", BINARY, "run"])
        // Entries lead to this host only where the operator says so.
        .env("GATEHOUSE_UPSTREAM_PERMITTED_NETWORKS", "[\"127.0.0.0/8\"]")
        .current_dir(folder.path());
    let mut gatehouse = Process::start(&edge.network.edge, "standalone", command, folder.path()).unwrap();
    gatehouse
        .wait_until("health on :8080", Duration::from_secs(20), || {
            let answer = cleartext::get(&edge.network.edge, (LOOPBACK, 8080).into(), "health", "/health")?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .unwrap();
    let told = gatehouse.output();
    assert!(told.lines().any(|line| line.contains("guard") && line.contains("off")), "{told}");

    let here = |command: &str| {
        let script = format!("cd {} && exec {command}", folder.path().display());
        edge.network.edge.run("sh", &["-c", &script]).unwrap()
    };
    here(&format!("{BINARY} validate"));
    here(&format!("{BINARY} domain add www.example.com --target {}", edge.upstream.target()));
    assert!(here(&format!("{BINARY} domain list")).contains("www.example.com"));
    let root = Path::new("gatehouse-state").join("internal-root.pem");
    let place = "--resolve www.example.com:8443:127.0.0.1 https://www.example.com:8443/";
    let body = here(&format!("curl -sS --cacert {} {place}", root.display()));
    assert!(body.contains(r#"["user-custom-domain","www.example.com"]"#), "{body}");
    assert!(here(&format!("{BINARY} certificate list")).contains("www.example.com"));
    assert!(here(&format!("{BINARY} status")).contains("off"));
}
