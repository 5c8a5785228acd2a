//! What the verifier answers.

use std::{
    convert::Infallible,
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use aws_policy::Role;
use gatehouse::store::domain_table::DomainStatus;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, process::Command, sync::Mutex};

use crate::{
    dns::free,
    function::{self, Function, Outcome, SECRET},
    table::Table,
};

#[tokio::test]
async fn each_verdict_has_its_status_and_says_why() {
    let table = Table::start().await;
    for (name, status) in [
        ("shop.example", DomainStatus::Active),
        ("failing.example", DomainStatus::Failing),
        ("pending.example", DomainStatus::Pending),
        ("suspended.example", DomainStatus::Suspended),
        ("removed.example", DomainStatus::Removed),
        ("*.wild.example", DomainStatus::Active),
        ("off.wild.example", DomainStatus::Suspended),
        ("gone.wild.example", DomainStatus::Removed),
    ] {
        table.put(name, status).await;
    }
    let mut function = Function::start("verifier", &table.endpoint, &[]).await;
    for (query, status, said) in [
        ("domain=shop.example", 200, "served: by the entry `shop.example`\n"),
        ("domain=Shop.Example.", 200, "served: by the entry `shop.example`\n"),
        ("domain=failing.example", 200, "served: by the entry `failing.example`\n"),
        ("domain=a.wild.example", 200, "served: by the entry `*.wild.example`\n"),
        ("domain=gone.wild.example", 200, "served: by the entry `*.wild.example`\n"),
        ("domain=pending.example", 404, "not served: its entry is pending, suspended or removed\n"),
        ("domain=suspended.example", 404, "not served: its entry is pending, suspended or removed\n"),
        ("domain=removed.example", 404, "not served: its entry is pending, suspended or removed\n"),
        ("domain=off.wild.example", 404, "not served: its entry is pending, suspended or removed\n"),
        ("domain=a.b.wild.example", 404, "not served: no source knows it\n"),
        ("domain=wild.example", 404, "not served: no source knows it\n"),
        ("domain=other.example", 404, "not served: no source knows it\n"),
    ] {
        for path in ["/", "/ask"] {
            assert_eq!(function.get(path, query).await, (status, said.to_owned()), "{path} {query}");
        }
    }
    for query in ["", "domain=", "domain=192.0.2.1", "domain=-a.example", "domain=a.example&domain=b.example"]
    {
        let (status, said) = function.get("/", query).await;
        assert!(status == 400 && said.starts_with("domain: "), "{query}: {status} {said}");
    }
    assert_eq!(function.request("POST", "/", "domain=shop.example").await.0, 405);
    assert_eq!(function.get("/favicon.ico", "").await.0, 404);
    table.assert_called_as_granted(Role::Verifier);
}

#[tokio::test]
async fn a_table_that_does_not_answer_denies_nothing() {
    let nobody = format!("http://{}", free().await);
    let mut function = Function::start("verifier", &nobody, &[]).await;
    let (status, said) = function.get("/", "domain=shop.example").await;
    assert_eq!((status, said.as_str()), (503, "unknown now: the domains table does not answer; ask again\n"));
    let log = function.end().await;
    assert!(log.contains("\"name\":\"shop.example\"") && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn an_event_that_is_none_of_a_url_is_an_error_and_the_next_is_answered() {
    let table = Table::start().await;
    let mut function = Function::start("verifier", &table.endpoint, &[]).await;
    let event = json!({ "source": "aws.events" });
    let Outcome::Error(said) = function.invoke(event, Duration::from_secs(10)).await else {
        panic!("it was answered")
    };
    assert!(said.contains("rawPath"), "{said}");
    assert_eq!(function.get("/", "domain=shop.example").await.0, 404);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    for (handler, settings, named) in [
        ("verifier", &[][..], "GATEHOUSE_STORE_ENDPOINT"),
        ("bootstrap", &[], "write `verifier` or `checker`"),
        ("verifier", &[("SETTINGS", "[verification]\nrequird = \"dns\"\n")], "verification.required"),
        ("checker", &[("GATEHOUSE_STORE_ENDPOINT", "http://127.0.0.1:9")], "verification.edge_names"),
    ] {
        let said = function::run_in_vain(handler, settings).await;
        assert!(said.contains(named) && !said.contains(SECRET), "{handler}: {said}");
    }
}

/// The server that Gatehouse replaces, with the function's URL as what it asks.
#[tokio::test]
async fn caddy_obtains_certificates_for_names_of_the_table_alone() {
    let table = Table::start().await;
    table.put("shop.example", DomainStatus::Active).await;
    table.put("pending.example", DomainStatus::Pending).await;
    let url = url_of(Function::start("verifier", &table.endpoint, &[]).await).await;
    let folder = tempfile::tempdir().unwrap();
    let https = free().await;
    let (_, port) = https.split_once(':').unwrap();
    let config = format!(
        "{{\n admin off\n skip_install_trust\n auto_https disable_redirects\n https_port {port}\n storage file_system {}\n \
         on_demand_tls {{\n  ask http://{url}/\n }}\n}}\nhttps:// {{\n tls internal {{\n  on_demand\n }}\n respond \"caddy\"\n}}\n",
        folder.path().display()
    );
    let caddyfile = folder.path().join("Caddyfile");
    fs::write(&caddyfile, config).unwrap();
    let mut caddy = Command::new("caddy");
    caddy.args(["run", "--adapter", "caddyfile", "--config"]).arg(&caddyfile).env("HOME", folder.path());
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let _caddy = caddy.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap();

    let mut served = false;
    for _ in 0..100 {
        served = curl("shop.example", port).await == "caddy";
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(served, "{}", log());
    for name in ["pending.example", "other.example"] {
        assert_eq!(curl(name, port).await, "", "{name}: {}", log());
    }
    table.put("other.example", DomainStatus::Active).await;
    assert_eq!(curl("other.example", port).await, "caddy", "{}", log());
}

async fn curl(name: &str, port: &str) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--max-time", "10"]);
    curl.args(["--resolve", &format!("{name}:{port}:127.0.0.1"), &format!("https://{name}:{port}/")]);
    String::from_utf8(curl.output().await.unwrap().stdout).unwrap()
}

/// A function's URL, as Lambda answers at it: one invocation at a time. Its address.
async fn url_of(function: Function) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let function = Arc::new(Mutex::new(function));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let function = Arc::clone(&function);
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let function = Arc::clone(&function);
                async move {
                    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
                    let (status, body) =
                        function.lock().await.request(request.method().as_str(), path, query).await;
                    let response = Response::builder().status(u16::try_from(status).unwrap());
                    Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body)).unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}
