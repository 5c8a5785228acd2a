//! What the proxy answers itself, by the operator's pages.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::fixture::{Instance, Manager, Place};

#[test]
fn pages_are_the_operators_and_follow_a_reload() {
    let (place, manager) = (Place::new(), Manager::new());
    let pages = place.path().join("pages");
    fs::create_dir(&pages).unwrap();
    fs::write(pages.join("4xx.html"), "{{status}} at ours").unwrap();
    place.write(&format!(
        "[error_pages]\ndirectory = {:?}\ncontent_security_policy = \"default-src 'self'\"",
        pages.to_str().unwrap()
    ));
    let _instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    let page = ask(place.http(), "text/html");
    assert!(page.starts_with("HTTP/1.1 404 ") && page.ends_with("\r\n\r\n404 at ours"), "{page}");
    assert!(page.contains("\r\ncontent-security-policy: default-src 'self'\r\n"), "{page}");
    let json = ask(place.http(), "application/json");
    assert!(json.contains("\r\ncontent-type: application/problem+json\r\n"), "{json}");
    let (_, told) = json.split_once("\r\n\r\n").unwrap();
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    assert_eq!((&told["status"], &told["title"]), (&404.into(), &"Not Found".into()), "{told}");

    fs::write(pages.join("404.html"), "{{sttus}}").unwrap();
    let said = place.run("reload");
    assert!(said.code == Some(2) && said.err.contains("404.html`, line 1: `{{sttus}}`"), "{said:?}");
    assert!(ask(place.http(), "*/*").ends_with("404 at ours"), "the pages in force stay");
    fs::write(pages.join("404.html"), "mended").unwrap();
    assert_eq!(place.run("reload").code, Some(0));
    assert!(ask(place.http(), "*/*").ends_with("\r\n\r\nmended"), "a page that is mended is read");
}

/// What a name that is not served is answered with in cleartext.
fn ask(address: SocketAddr, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: nobody.example\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
