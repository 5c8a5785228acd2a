//! An instance of an Auto Scaling group: who it is, and how it leaves.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::{
    fixture::{Instance, Manager, Place, eventually, health},
    server::{Answer, Metadata, Server},
};

#[test]
fn who_is_to_leave_says_so_and_serves_on_until_it_may_stay() {
    let (place, manager, metadata) = (Place::new(), Manager::new(), Metadata::start());
    let (tell, told) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let upstream = holding(tell, released);
    place.write(&format!(
        "[worker]\nthreads = 1\n[instance]\nmetadata = \"{}\"\nlifecycle_poll = \"20ms\"\n\
         [upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
         [domains]\nstatic = [{{ name = \"a.example\", target = \"{}\" }}]",
        metadata.url(),
        upstream.url()
    ));
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    becomes(&place, 200);
    let status: serde_json::Value = serde_json::from_str(&place.run("status --json").out).unwrap();
    let wanted = serde_json::json!({
        "id": "i-0123456789abcdef0", "availability_zone": "eu-south-2b", "region": "eu-south-2", "address": "10.0.0.7"
    });
    assert_eq!(status["instance"], wanted);
    assert!(place.run("status").out.contains("i-0123456789abcdef0 in eu-south-2b (eu-south-2), 10.0.0.7"));
    instance.has_logged("instance  i-0123456789abcdef0 in eu-south-2b (eu-south-2), 10.0.0.7");

    let mut held = Client::ask(&place, "/held");
    told.recv().unwrap();
    metadata.set_target_state("Terminated");
    manager.hear_until("STATUS=Leaving");
    becomes(&place, 503);
    assert!(place.run("status").out.contains("leaving: its Auto Scaling group takes it out of service"));
    let new = Client::ask(&place, "/new").answer();
    assert!(new.starts_with("HTTP/1.1 200") && new.contains("connection: close"), "{new}");
    release.send(()).unwrap();
    let finished = held.answer();
    assert!(finished.ends_with("held to its end"), "{finished}");
    assert!(finished.contains("connection: close"), "{finished}");

    metadata.set_target_state("InService");
    manager.hear_until("STATUS=Serving");
    becomes(&place, 200);
    assert!(Client::ask(&place, "/new").answer().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_metadata_service_that_is_not_there_is_said_once_and_changes_nothing() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(
        "[worker]\nthreads = 1\n[instance]\nmetadata = \"http://127.0.0.1:9\"\nlifecycle_poll = \"1ms\"",
    );
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    becomes(&place, 200);
    instance.has_logged("the target lifecycle state is unknown");
    becomes(&place, 200);
    let log = instance.log();
    assert!(log.contains("instance  unknown: the instance's metadata service does not answer"), "{log}");
    assert_eq!(log.matches("the target lifecycle state is unknown").count(), 1, "{log}");
    let status: serde_json::Value = serde_json::from_str(&place.run("status --json").out).unwrap();
    assert!(status["instance"].is_null(), "{status}");
}

#[test]
fn the_region_of_the_instance_is_taken_when_nothing_else_says_one() {
    let metadata = Metadata::start();
    let says = |more: &str, environment: &[(&str, &str)], region: &str| {
        let (place, manager) = (Place::new(), Manager::new());
        place.write(&format!(
            "[worker]\nthreads = 1\n[domains]\ndefault_target = \"http://10.0.0.1\"\n\
             [store]\nendpoint = \"aws\"\ntimeout = \"100ms\"\n{more}\n[instance]\nmetadata = \"{}\"",
            metadata.url()
        ));
        let credentials = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "a")];
        let nowhere = [("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")];
        let environment = [&credentials[..], &nowhere[..], environment].concat();
        let instance = Instance::start(&place, &manager, Vec::new(), &environment);
        manager.hear_until("READY=1");
        instance.has_logged(&format!("store     DynamoDB {region}"));
    };
    for (setting, environment, region) in [
        ("", &[][..], "eu-south-2"),
        ("", &[("AWS_REGION", "us-west-1")][..], "us-west-1"),
        ("region = \"af-south-1\"", &[("AWS_REGION", "us-west-1")][..], "af-south-1"),
    ] {
        says(setting, environment, region);
    }
}

/// Waits until its health says `wanted`.
pub(crate) fn becomes(place: &Place, wanted: u16) {
    eventually(&format!("health {wanted}"), || {
        let status = health(place.http())?;
        ensure!(status == wanted, "{status}");
        Ok(())
    });
}

/// Answers `/held` when it is released, all else at once.
fn holding(tell: mpsc::Sender<()>, released: mpsc::Receiver<()>) -> Server {
    let released = Arc::new(Mutex::new(released));
    Server::start(move |asked| {
        if asked.path != "/held" {
            return Answer::of(200, "at once");
        }
        tell.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        Answer::of(200, "held to its end")
    })
}

/// A request on a connection of its own that could carry more.
pub(crate) struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    pub(crate) fn ask(place: &Place, path: &str) -> Self {
        let mut client = Self::connect(place);
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        client
    }

    /// One that has not asked yet.
    pub(crate) fn connect(place: &Place) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let root = place.path().join("state/internal-root.pem");
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("a.example").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        Self(StreamOwned::new(session, TcpStream::connect(place.https()).unwrap()))
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// What a second request is answered on a connection that was idle when its instance began to end, of which `end` tells the moment: all of it,
    /// until the other side closes. None where this machine took so long that such a connection may be closed already.
    pub(crate) fn asks_at_the_end(place: &Place, end: impl FnOnce() -> Instant) -> Option<String> {
        let mut client = Self::ask(place, "/");
        let first = client.answer();
        assert!(first.starts_with("HTTP/1.1 200") && !first.contains("connection: close"), "{first}");
        let ended = end();
        let sent = client.0.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        if ended.elapsed() >= IDLE_GRACE {
            return None;
        }
        sent.unwrap();
        let answer = client.answer();
        assert_eq!(client.0.read(&mut [0; 1]).unwrap(), 0, "the connection goes on");
        Some(answer)
    }

    /// All that comes until the other side closes.
    pub(crate) fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = self.0.read(&mut piece) {
            text.extend_from_slice(&piece[..count]);
            let so_far = String::from_utf8_lossy(&text).into_owned();
            if let Some((head, body)) = so_far.split_once("\r\n\r\n")
                && head.contains(&format!("content-length: {}", body.len()))
            {
                return so_far;
            }
        }
        String::from_utf8(text).unwrap()
    }
}

/// For so long an idle connection stays at the end of its instance.
const IDLE_GRACE: Duration = Duration::from_secs(1);
