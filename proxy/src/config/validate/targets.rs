//! Targets that lead back to this proxy, and what they want that the settings do not have.

use std::net::{IpAddr, SocketAddr};

use super::Findings;
use crate::{
    config::Config,
    name::ServerName,
    target::{Endpoint, Location, Target, TargetHost},
};

/// A target that is one of our listeners would make the proxy ask itself.
pub(super) fn loops(config: &Config, findings: &mut Findings) {
    for (field, target) in all(config) {
        let mut listeners = config.listen.https.iter().chain(&config.listen.http);
        if let Some(own) = listeners.find(|own| leads_to(target, **own)) {
            let fault = format!("`{target}` is this proxy's own listener `{own}`");
            findings.add(&field, fault, "give the address of the server behind it");
        }
        let control = config.control_socket();
        let mut locations = target.endpoints().iter().map(|endpoint| &endpoint.location);
        if locations.any(|location| matches!(location, Location::Unix(path) if path.as_path() == control)) {
            let fault = format!("`{target}` is this proxy's own control socket");
            findings.add(&field, fault, "give the socket of the server behind it");
        }
    }
}

/// Settings for TLS that say half of something, and targets that name settings which are not there.
pub(super) fn tls(config: &Config, findings: &mut Findings) {
    let named = &config.upstream.tls;
    for (name, tls) in named {
        let (field, fault) = match (&tls.certificate, &tls.key) {
            (Some(_), None) => ("key", "absent, although there is a `certificate`"),
            (None, Some(_)) => ("certificate", "absent, although there is a `key`"),
            (None, None) | (Some(_), Some(_)) => continue,
        };
        findings.add(&format!("upstream.tls.{name}.{field}"), fault, "give both, or neither");
    }
    for (field, target) in all(config) {
        let mut wanted = target.endpoints().iter().filter_map(|endpoint| endpoint.tls.as_ref());
        if let Some(name) = wanted.find(|name| !named.contains_key(*name)) {
            let fault = format!("`{target}` wants `upstream.tls.{name}`, which is not there");
            findings.add(
                &field,
                fault,
                format!("write a table `[upstream.tls.{name}]`, or correct the name"),
            );
        }
    }
}

/// The targets of the settings, each with its field.
fn all(config: &Config) -> impl Iterator<Item = (String, &Target)> {
    let entries = config.domains.r#static.iter().enumerate();
    let targets = entries.map(|(i, entry)| (format!("domains.static[{i}].target"), &entry.target));
    let default = ("domains.default_target".to_owned(), &config.domains.default_target);
    targets.chain([default]).filter_map(|(field, target)| Some((field, target.as_ref()?)))
}

/// Whether one of `target`'s endpoints is the listener `own`.
pub(crate) fn leads_to(target: &Target, own: SocketAddr) -> bool {
    target.endpoints().iter().any(|endpoint| is_listener(endpoint, own))
}

fn is_listener(endpoint: &Endpoint, own: SocketAddr) -> bool {
    let Location::Tcp { host, port } = &endpoint.location else { return false };
    let here = match host {
        TargetHost::Address(ip) if own.ip().is_unspecified() => ip.is_loopback() || ip.is_unspecified(),
        TargetHost::Address(ip) => *ip == own.ip(),
        TargetHost::Name(name) => is_localhost(name) && is_local(own.ip()),
    };
    here && *port == own.port()
}

fn is_localhost(name: &ServerName) -> bool {
    name.as_str() == "localhost"
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}
