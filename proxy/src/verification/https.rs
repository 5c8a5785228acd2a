//! A handshake with the edge as a client of the name makes it: which certificate is presented.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName as TlsName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::judge::Handshake;
use crate::{
    certificates::presented,
    name::{Pattern, ServerName},
    telemetry::error_chain,
};

/// Which certificate `address` presents for `name`. The first handshake of a name waits for its order.
pub(super) async fn handshake(name: &ServerName, address: SocketAddr) -> Handshake {
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Handshake::Unreachable(error.to_string()),
        Err(_) => return Handshake::Unreachable(format!("no connection within {} s", CONNECT.as_secs())),
    };
    let (Ok(config), Ok(server_name)) = (config(), TlsName::try_from(name.to_string())) else {
        return Handshake::Unreachable("no client for TLS can be made".to_owned());
    };
    let connecting = TlsConnector::from(Arc::new(config)).connect(server_name, stream);
    let stream = match timeout(HANDSHAKE, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Handshake::Refused(error_chain(&error)),
        Err(_) => return Handshake::Refused(format!("no certificate within {} s", HANDSHAKE.as_secs())),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let read = chain.first().and_then(|leaf| presented(leaf, &Pattern::Exact(name.clone())));
    read.map_or_else(
        || Handshake::Refused("its certificate cannot be read".to_owned()),
        |leaf| Handshake::Certificate {
            covers: leaf.covers,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer: leaf.issuer,
        },
    )
}

fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(AnyCertificate(provider));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Takes any certificate: what is wrong with it is what the check is to say. Nothing is sent over the connection.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &TlsName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const CONNECT: Duration = Duration::from_secs(5);
/// More than `certificates.wait` is by default.
const HANDSHAKE: Duration = Duration::from_secs(30);
