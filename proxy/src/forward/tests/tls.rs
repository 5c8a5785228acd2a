//! Upstreams over TLS.

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::*;
use crate::target::TlsName;

#[test]
fn targets_over_tls_are_verified() {
    let (roots, server) = tls_upstream(&[]);
    for (roots, status, outcome) in [
        (Some(roots.path().to_owned()), "200", RequestOutcome::Forward),
        (None, "502", RequestOutcome::Untrusted),
    ] {
        let setting = Setting { origin: "https://127.0.0.1", roots, ..Setting::default() };
        on_both(&setting, async |edge| {
            let mut client = edge.client().await;
            say(&mut client, GET).await;
            let stream = edge.accept().await.into_std().unwrap();
            let answering = std::thread::spawn({
                let server = Arc::clone(&server);
                move || answer_over_tls(stream, server)
            });
            let head = head_of(&mut client).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            edge.counted(outcome, 1).await;
            drop(answering.join());
        });
    }
}

/// A file with the root, and the configuration, of an upstream at 127.0.0.1 that knows these protocols of ALPN.
pub(super) fn tls_upstream(protocols: &[&[u8]]) -> (tempfile::NamedTempFile, Arc<ServerConfig>) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    roots.write_all(certified.cert.pem().as_bytes()).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut server = builder.with_single_cert(vec![certificate], key.into()).unwrap();
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    (roots, Arc::new(server))
}

/// Answers one request, if the client gets so far as to send it.
fn answer_over_tls(stream: std::net::TcpStream, server: Arc<ServerConfig>) {
    stream.set_nonblocking(false).unwrap();
    let connection = rustls::ServerConnection::new(server).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let mut request = [0; 4096];
    if stream.read(&mut request).is_ok_and(|count| count > 0) {
        stream.write_all(OK.as_bytes()).unwrap();
    }
}

/// A certificate that signs itself, and its key, as files.
struct Pair {
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    certificate: tempfile::NamedTempFile,
    key: tempfile::NamedTempFile,
}

impl Pair {
    fn of(name: &str) -> Self {
        let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let file = |text: String| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let (certificate, key) = (file(certified.cert.pem()), file(certified.signing_key.serialize_pem()));
        Self { certified, certificate, key }
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certified.cert.der().clone()
    }
}

/// `upstream.internal`, which demands a certificate of one of `clients`.
fn demanding(server: &Pair, clients: [&Pair; 2]) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for client in clients {
        roots.add(client.der()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
    let key = PrivatePkcs8KeyDer::from(server.certified.signing_key.serialize_der());
    Arc::new(builder.with_single_cert(vec![server.der()], key.into()).unwrap())
}

/// Answers requests on the next connection with what certificate its client has shown, for as long as it lasts.
async fn answer_with_certificate(edge: &Edge, server: &Arc<ServerConfig>, clients: [&Pair; 2]) {
    let stream = edge.accept().await;
    let Ok(stream) = tokio_rustls::TlsAcceptor::from(Arc::clone(server)).accept(stream).await else { return };
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let place = clients.iter().position(|client| client.der() == shown).unwrap();
    tokio::task::spawn_local(answer_each(stream, move |_| {
        Some(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{place}"))
    }));
}

#[test]
fn connections_that_have_shown_a_certificate_serve_no_endpoint_with_another() {
    let (server, clients) = (Pair::of("upstream.internal"), [Pair::of("first"), Pair::of("second")]);
    let clients = clients.each_ref();
    let config = demanding(&server, clients);
    let own = |client: &Pair| config::UpstreamTls {
        roots: Some(server.certificate.path().to_owned()),
        certificate: Some(client.certificate.path().to_owned()),
        key: Some(client.key.path().to_owned()),
        server_name: Some("upstream.internal".parse().unwrap()),
        entries: false,
    };
    let names = ["first", "second"].map(|name| TlsName::parse(name).unwrap());
    let tls = names.into_iter().zip(clients.map(own)).collect();
    let upstream = config::UpstreamConfig { tls, ..config::UpstreamConfig::default() };
    let setting =
        Setting { origin: "https://127.0.0.1", parameters: ";tls=first", upstream, ..Setting::default() };
    on_both(&setting, async |edge| {
        // The same worker's relay, behind another domain whose target names other settings.
        let target = format!("https://{};tls=second", edge.upstream.local_addr().unwrap());
        let second = edge.beside(&setting, &target);
        let mut clients_of_both = [edge.client().await, TcpStream::connect(second).await.unwrap()];
        for round in 0..2 {
            for (place, client) in clients_of_both.iter_mut().enumerate() {
                say(client, GET).await;
                if round == 0 {
                    answer_with_certificate(&edge, &config, clients).await;
                }
                assert!(head_of(client).await.starts_with("HTTP/1.1 200 "));
                exactly(client, &place.to_string()).await;
            }
        }
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Open), 2);
        assert_eq!(edge.metrics.connections.count(ConnectionOrigin::Reuse), 2);
    });
}

#[test]
fn an_upstream_that_demands_a_certificate_refuses_who_has_none_and_roots_of_its_own_are_the_only_ones() {
    let (server, client) = (Pair::of("127.0.0.1"), Pair::of("client"));
    let config = demanding(&server, [&client, &client]);
    let without = config::UpstreamTls {
        roots: Some(server.certificate.path().to_owned()),
        ..config::UpstreamTls::default()
    };
    // It would be trusted by `upstream.roots`, and is not by the roots that its endpoint names.
    let other = config::UpstreamTls { roots: Some(client.certificate.path().to_owned()), ..without.clone() };
    for (tls, outcome) in [(without, RequestOutcome::Closed), (other, RequestOutcome::Untrusted)] {
        let tls = [(TlsName::parse("inside").unwrap(), tls)].into();
        let upstream = config::UpstreamConfig { tls, ..config::UpstreamConfig::default() };
        let roots = Some(server.certificate.path().to_owned());
        let origin = "https://127.0.0.1";
        let setting = Setting { origin, parameters: ";tls=inside", roots, upstream, ..Setting::default() };
        on_both(&setting, async |edge| {
            let mut asking = edge.client().await;
            say(&mut asking, GET).await;
            answer_with_certificate(&edge, &config, [&client, &client]).await;
            let head = head_of(&mut asking).await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
            edge.counted(outcome, 1).await;
        });
    }
}

#[test]
fn an_entry_of_the_table_uses_no_settings_that_are_not_for_entries() {
    for (entries, outcome) in [(false, RequestOutcome::Forbidden), (true, RequestOutcome::Unreachable)] {
        let tls = config::UpstreamTls { entries, ..config::UpstreamTls::default() };
        let tls = [(TlsName::parse("inside").unwrap(), tls)].into();
        let permitted_networks = vec!["127.0.0.0/8".to_owned().try_into().unwrap()];
        let upstream =
            config::UpstreamConfig { tls, permitted_networks, ..config::UpstreamConfig::default() };
        let (origin, source) = ("https://127.0.0.1", PermissionSource::Table);
        let setting = Setting { origin, parameters: ";tls=inside", upstream, source, ..Setting::default() };
        on_both(&setting, async |edge| {
            let mut client = edge.client().await;
            let Edge { upstream, metrics, .. } = edge;
            drop(upstream);
            say(&mut client, GET).await;
            assert!(head_of(&mut client).await.starts_with("HTTP/1.1 502 "));
            counted_all(&metrics, outcome, 1, 1).await;
        });
    }
}
