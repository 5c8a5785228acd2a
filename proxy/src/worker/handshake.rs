//! The answer to a ClientHello: permission, a validation's certificate, or the name's own.
//! Not here: the bytes of the handshake (`tls`), and so what carries them.

use std::{net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tracing::info;

use super::{
    Shared,
    configs::Configs,
    metrics::{CertificateOrigin, ConnectionOutcome},
};
use crate::{
    certificates::CertificateRefusal,
    clock,
    config::TlsVersion,
    domains::{Caller, Permission},
    name::ServerName,
    telemetry::admit_line,
    tls::{Alert, HelloFacts},
};

/// The server's answer to a ClientHello.
pub(super) enum HelloResponse {
    Serve { name: ServerName, config: Arc<ServerConfig>, found: CertificateOrigin },
    Validate { config: Arc<ServerConfig> },
}

/// The alert that refuses a ClientHello, and what its connection is counted as.
pub(super) struct Refuse(pub(super) Alert, pub(super) ConnectionOutcome);

/// What a ClientHello is answered from: of one worker, and whatever carries the handshake.
pub(super) struct Handshakes<'a> {
    pub(super) shared: &'a Shared,
    pub(super) configs: &'a Configs,
}

impl Handshakes<'_> {
    /// Asks for permission first, then for what the handshake goes on with.
    pub(super) async fn judge(&self, hello: HelloFacts, peer: SocketAddr) -> Result<HelloResponse, Refuse> {
        // RFC 6066 §3. For a hello without a name RFC 8446 §9.2 recommends `missing_extension`; both cases get one alert here.
        let name = hello.server_name.or_else(|| self.shared.default_name.clone());
        let name = name.ok_or(Refuse(Alert::UnrecognizedName, ConnectionOutcome::RefuseNoName))?;
        let domains = &self.shared.domains;
        let permission = domains.permission(&name, Caller::Client(peer.ip())).await;
        if let Permission::Deny(_) = permission {
            return Err(Refuse(Alert::UnrecognizedName, ConnectionOutcome::RefuseForeign));
        }
        // RFC 8737 §3: a validation gets the challenge's certificate and nothing else.
        if hello.acme_challenge {
            return self.validate(&name, &permission, peer).await;
        }
        self.certificate(name, &permission, peer).await
    }

    async fn validate(
        &self,
        name: &ServerName,
        permission: &Permission,
        peer: SocketAddr,
    ) -> Result<HelloResponse, Refuse> {
        let unknown = || Refuse(Alert::UnrecognizedName, ConnectionOutcome::RefuseChallenge);
        let answer = self.shared.certificates.tls_alpn_answer(name, permission, peer.ip()).await;
        let answer = answer.ok_or_else(unknown)?;
        let config = self.shared.server_configs.answering(answer).map_err(|_| unknown())?;
        Ok(HelloResponse::Validate { config })
    }

    /// This worker's cache, then the process's, then the table or an order.
    async fn certificate(
        &self,
        name: ServerName,
        permission: &Permission,
        peer: SocketAddr,
    ) -> Result<HelloResponse, Refuse> {
        let minimum = self.minimum_tls(&name, permission);
        if let Some(config) = self.configs.get(&name, minimum, clock::wall()) {
            return Ok(HelloResponse::Serve { name, config, found: CertificateOrigin::Worker });
        }
        let shared = self.shared;
        let cached = shared.certificates.cached(&name).filter(|slot| slot.current(clock::wall()).is_some());
        let (slot, found) = match cached {
            Some(slot) => (slot, CertificateOrigin::Process),
            None => match shared.certificates.obtain(&name, permission, peer.ip()).await {
                Ok(slot) => (slot, CertificateOrigin::Obtained),
                Err(refusal) => {
                    self.tell_without_certificate(&name, permission, refusal, peer);
                    return Err(refusal.into());
                }
            },
        };
        let config = self.configs.insert(&name, minimum, slot, clock::wall(), &shared.server_configs);
        let config = config.ok_or(Refuse(Alert::InternalError, ConnectionOutcome::RefuseNoCertificate))?;
        Ok(HelloResponse::Serve { name, config, found })
    }

    /// The oldest version of TLS that clients of `name` may speak: the newer of its entry's and the settings'. While the entry cannot be
    /// read, the last one known holds: an outage lowers nothing.
    fn minimum_tls(&self, name: &ServerName, permission: &Permission) -> TlsVersion {
        let of_entry = match permission {
            Permission::Allow(entry) => entry.settings.minimum_tls,
            Permission::Unknown(reason) => {
                self.shared.domains.last_known(name, *reason).and_then(|entry| entry.settings.minimum_tls)
            }
            Permission::Deny(_) => None,
        };
        of_entry.map_or(self.shared.minimum_tls, |minimum| minimum.max(self.shared.minimum_tls))
    }

    /// A name that may be served, and is not.
    fn tell_without_certificate(
        &self,
        name: &ServerName,
        permission: &Permission,
        refusal: CertificateRefusal,
        client: SocketAddr,
    ) {
        if let CertificateRefusal::Denied | CertificateRefusal::Unknown = refusal {
            return self.shared.domains.tell_refused(name, permission, client.ip());
        }
        if let Some(left_out) = admit_line("no_certificate", name.as_str()) {
            info!(server_name = %name, reason = ?refusal, %client, left_out, "there is no certificate for a name; `gatehouse certificate show` says why");
        }
    }
}

impl From<CertificateRefusal> for Refuse {
    fn from(refusal: CertificateRefusal) -> Self {
        match refusal {
            CertificateRefusal::Denied => Self(Alert::UnrecognizedName, ConnectionOutcome::RefuseForeign),
            CertificateRefusal::Unknown => Self(Alert::InternalError, ConnectionOutcome::RefuseUnknown),
            CertificateRefusal::Busy
            | CertificateRefusal::Slow
            | CertificateRefusal::BackingOff
            | CertificateRefusal::Failed => {
                Self(Alert::InternalError, ConnectionOutcome::RefuseNoCertificate)
            }
        }
    }
}
