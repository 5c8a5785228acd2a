//! First boot without a cloud: cloud-init's `NoCloud`, a small disk with the label CIDATA
//! (<https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>).

use std::{fs, path::Path, process::Command};

use testbed::{gatehouse::Place, namespace, network::CLIENT};

/// User data of a machine: `files` are entries of `write_files`.
pub(crate) fn user_data(files: &str) -> String {
    // A root shell at the second serial line, as early as there is a service manager, and after each boot.
    format!(
        "#cloud-config\nwrite_files:\n{files}bootcmd:\n  - [systemd-run, --no-block, --unit=serial-shell, \
         --property=DefaultDependencies=no, --property=Restart=always, /bin/sh, -c, \
         \"stty --file=/dev/ttyS1 raw clocal -echo -hupcl; exec sh </dev/ttyS1 >/dev/ttyS1 2>&1\"]\n"
    )
}

/// An entry of `write_files`: settings of Gatehouse.
pub(crate) fn settings(text: &str) -> String {
    format!("  - path: /etc/gatehouse/conf.d/50-fleet.toml\n    content: |\n{}", indented(text, 6))
}

/// A text as a block of YAML.
pub(crate) fn indented(text: &str, by: usize) -> String {
    let indent = " ".repeat(by);
    text.lines().flat_map(|line| [indent.as_str(), line, "\n"]).collect()
}

/// Writes the disk.
pub(super) fn write(disk: &Path, place: Place, user_data: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (v4, v6) = (place.v4(), place.v6());
    let meta_data = format!("instance-id: {0}\nlocal-hostname: gatehouse-{0}\n", place.label());
    let network = format!(
        "version: 2\nethernets:\n  eth0:\n    addresses: [{v4}/24, \"{v6}/64\"]\n    gateway4: {CLIENT}\n"
    );
    fs::File::create(disk)?.set_len(SIZE)?;
    namespace::run(Command::new("/usr/sbin/mkfs.vfat").args(["-n", "CIDATA"]).arg(disk))?;
    for (name, text) in [("user-data", user_data), ("meta-data", &meta_data), ("network-config", &network)] {
        let file = folder.path().join(name);
        fs::write(&file, text)?;
        namespace::run(Command::new("mcopy").arg("-i").arg(disk).arg(&file).arg(format!("::{name}")))?;
    }
    Ok(())
}

const SIZE: u64 = 2 << 20;
