//! What the package's scripts and the image's do to a machine, with programs in the place of systemd's, dpkg's and apt's.
//! Not here: the package in a Debian of its own (`package::trial`), the image (`ami-tests`).

use std::fs;

use super::{stubs::Stubs, workspace};

const SYSTEMD: [&str; 4] = ["systemctl", "systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"];

#[test]
fn a_service_that_cannot_start_leaves_the_package_installed() {
    for (version, call) in [
        ("", "deb-systemd-invoke start gatehouse.service"),
        ("0.0.9", "deb-systemd-invoke restart gatehouse.service gatehouse-console.service"),
    ] {
        let stubs = Stubs::new(&format!("postinst-{version}"));
        stubs.programs(&SYSTEMD, 0);
        stubs.programs(&["deb-systemd-invoke"], 1);
        fs::create_dir_all(stubs.path("root/run/systemd/system")).unwrap();
        let root = stubs.path("root");
        let ran =
            stubs.run("packer/package/scripts/postinst", &["configure", version], &[("DPKG_ROOT", &root)]);
        assert!(stubs.calls().iter().any(|made| made == call), "{:?}", stubs.calls());
        assert!(ran.status.success(), "{version}: {ran:?}");
    }
}

/// `docs/security.md` proposes a file in that folder for the key without which the tables' private keys are lost.
#[test]
fn purging_leaves_what_others_put_beside_the_settings() {
    let stubs = Stubs::new("postrm");
    stubs.programs(&SYSTEMD, 0);
    let purge = || {
        stubs.write("root/etc/gatehouse/gatehouse.toml.dpkg-old", "");
        stubs.write("root/etc/gatehouse/conf.d/50-fleet.toml", "");
        stubs.write("root/etc/default/gatehouse", "");
        stubs.write("root/var/lib/gatehouse/store.db", "");
        stubs.run("packer/package/scripts/postrm", &["purge"], &[("DPKG_ROOT", &stubs.path("root"))])
    };
    let ran = purge();
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    for gone in ["etc/gatehouse", "etc/default/gatehouse", "var/lib/gatehouse"] {
        assert!(!stubs.path("root").join(gone).exists(), "{gone}");
    }
    let key = stubs.write("root/etc/gatehouse/keys", "secret\n");
    let ran = purge();
    assert_eq!(fs::read_to_string(key).unwrap(), "secret\n");
    let left: Vec<_> = fs::read_dir(stubs.path("root/etc/gatehouse")).unwrap().collect();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && left.len() == 1 && said.contains("/etc/gatehouse"), "{left:?} {said}");
}

/// What a unit requires keeps it from starting, and stops it.
#[test]
fn the_service_requires_no_unit_that_the_guard_alone_needs() {
    let unit = fs::read_to_string(workspace().join("packer/package/gatehouse.service")).unwrap();
    let of = |key: &str| {
        unit.lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for key in ["Requires", "RequiresMountsFor", "Requisite", "BindsTo", "PartOf", "AssertPathIsMountPoint"] {
        assert_eq!(of(key), "", "{key}");
    }
    for key in ["Wants", "After"] {
        assert!(of(key).split(' ').any(|unit| unit == "run-gatehouse-bpf.mount"), "{key}");
    }
    assert!(of("ExecStartPre").starts_with("-+"), "what fails there ends the start");
    assert!(of("ReadWritePaths").split(' ').any(|path| path == "-/run/gatehouse/bpf"));
}

#[test]
fn packages_of_the_image_wait_for_debians_own_updates() {
    let stubs = Stubs::new("packages");
    stubs.programs(&["systemctl", "systemd-run", "apt-get"], 0);
    stubs.programs(&["dpkg-query"], 1);
    let ran = stubs.run("packer/provision/10-packages.sh", &[], &[]);
    assert!(ran.status.success(), "{ran:?}");
    let calls = stubs.calls();
    let [stopped, waited, .., installed] = &calls[..] else { panic!("{calls:?}") };
    assert!(stopped.contains("stop apt-daily.timer apt-daily-upgrade.timer"), "{calls:?}");
    assert!(
        waited.contains("--wait") && waited.contains("After=apt-daily.service apt-daily-upgrade.service"),
        "{calls:?}"
    );
    assert!(installed.contains("install ca-certificates"), "{calls:?}");
    let of_apt: Vec<_> = calls.iter().filter(|call| call.starts_with("apt-get ")).collect();
    assert!(of_apt.len() == 3 && of_apt.iter().all(|call| call.contains("Lock::Timeout=")), "{calls:?}");
}
