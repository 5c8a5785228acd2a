//! A package repository with one package in it, served to the machines.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

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
    /// Lays `package` into `folder` and serves that inside `edge`.
    pub(crate) fn start(edge: &Namespace, package: &Path, folder: &Path) -> anyhow::Result<Self> {
        let version = namespace::run(Command::new("dpkg-deb").arg("--field").arg(package).arg("Version"))?;
        let version = version.trim().to_owned();
        fs::create_dir_all(folder)?;
        fs::copy(package, folder.join("gatehouse.deb"))?;
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

fn answer(file: PathBuf) -> anyhow::Result<Response<service::Body>> {
    let (status, body) = match fs::read(file) {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(_) => (StatusCode::NOT_FOUND, Vec::new()),
    };
    Ok(Response::builder().status(status).body(service::full(body))?)
}

const PORT: u16 = 8088;
