//! What an instance answers by itself, and what it writes down of that.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::Context;

use crate::fixture::{Instance, Manager, Place, eventually, health};

#[test]
fn health_is_not_logged_and_an_error_can_be_found_in_the_log() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1");
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    for _ in 0..3 {
        health(place.http()).unwrap();
    }
    let page = ask(place.http(), "GET");
    assert!(page.head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{}", page.head);
    assert!(page.body.contains("There is no site under this name"), "{}", page.body);
    let line = instance.logged(reference(&page.body));
    assert!(line.contains(&format!(" 404 name_refused id={} ", reference(&page.body))), "{line}");
    assert!(line.contains(&format!(" sent={} ", page.body.len())), "{line}");

    let bare = ask(place.http(), "HEAD");
    assert_eq!(bare.body, "");
    assert!(bare.head.contains(&format!("content-length: {}\r\n", page.body.len())), "{}", bare.head);
    assert!(instance.logged("\"HEAD ").contains(" sent=0 "));
    assert!(!instance.log().contains("/health"), "{}", instance.log());
}

struct Answer {
    head: String,
    body: String,
}

fn ask(address: SocketAddr, method: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{method} / HTTP/1.1\r\nHost: foreign.example\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer { head: format!("{head}\r\n"), body: body.to_owned() }
}

fn reference(page: &str) -> &str {
    page.split_once("<code>").and_then(|(_, rest)| rest.split_once("</code>")).unwrap().0
}

impl Instance {
    /// The line of the log that holds `part`; it is written after its answer.
    fn logged(&self, part: &str) -> String {
        eventually(part, || {
            let log = self.log();
            log.lines().find(|line| line.contains(part)).map(str::to_owned).context(log)
        })
    }
}
