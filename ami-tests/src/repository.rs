//! A package repository with one newer version of Gatehouse, served to the machines.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use hyper::{Response, StatusCode};
use testbed::{
    namespace::{self, Namespace},
    network::HOST,
    service::{self, Service},
};

/// It is served as long as this value lives.
pub(crate) struct Repository {
    /// The version it offers.
    pub(crate) version: String,
    _service: Service,
}

impl Repository {
    /// Makes a newer version of `package` in `folder` and serves it inside `edge`.
    pub(crate) fn start(edge: &Namespace, package: &Path, folder: &Path) -> anyhow::Result<Self> {
        let version = newer(package, folder)?;
        let mut scan = Command::new("dpkg-scanpackages");
        let index = namespace::run(scan.args(["--multiversion", "."]).current_dir(folder))?;
        fs::write(folder.join("Packages"), index)?;
        let address = SocketAddr::new(IpAddr::V4(HOST), PORT);
        let folder = folder.to_owned();
        let service = Service::start(edge, address, move |listener| {
            service::http(listener, None, move |request| {
                let file = folder.join(request.uri().path().trim_start_matches('/'));
                async move { answer(file) }
            })
        })?;
        Ok(Self { version, _service: service })
    }

    /// The line for apt's list of sources.
    pub(crate) fn source() -> String {
        format!("deb [trusted=yes] http://{HOST}:{PORT} ./")
    }
}

/// The package unpacked, its version raised, packed again.
fn newer(package: &Path, folder: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(folder)?;
    let work = tempfile::tempdir()?;
    let tree = work.path().join("tree");
    namespace::run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&tree))?;
    let file = tree.join("DEBIAN/control");
    let control = fs::read_to_string(&file)?;
    let now = control.lines().find_map(|line| line.strip_prefix("Version: ")).context("no version")?;
    let next = format!("{now}+next1");
    let raised = control.replace(&format!("Version: {now}\n"), &format!("Version: {next}\n"));
    ensure!(raised != control, "the version in {} was not found", file.display());
    fs::write(&file, raised)?;
    // Little compression: the machines unpack it under emulation.
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "-Zgzip", "-z1", "--build"])
        .arg(&tree)
        .arg(folder.join("gatehouse.deb"));
    namespace::run(&mut build)?;
    Ok(next)
}

fn answer(file: PathBuf) -> anyhow::Result<Response<service::Body>> {
    let (status, body) = match fs::read(file) {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(_) => (StatusCode::NOT_FOUND, Vec::new()),
    };
    Ok(Response::builder().status(status).body(service::full(body))?)
}

const PORT: u16 = 8088;
