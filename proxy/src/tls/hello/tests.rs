use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

use super::*;

#[test]
fn a_hello_is_read_however_it_is_cut() {
    let hello = hello("good.example", &[]);
    for record in [1, 3, 64, 1000, 16_384] {
        for piece in [1, 5, 300, 4096, 20_000] {
            let read = feed(&in_records(&hello, record), piece).map(|hello| hello.server_name);
            assert_eq!(read, Ok(Some(name("good.example"))), "records of {record}, pieces of {piece}");
        }
    }
}

#[test]
fn what_a_hello_asks_for_is_read_from_it() {
    let protocols = |list: &[&str]| hello("good.example", list);
    let named = |text: &str| renamed(&hello("aaaa.bbb.ccc", &[]), "aaaa.bbb.ccc", text);
    for (case, hello, server_name, acme_challenge) in [
        ("no list", protocols(&[]), Some("good.example"), false),
        ("HTTP", protocols(&["h2", "http/1.1"]), Some("good.example"), false),
        ("a validation", protocols(&["acme-tls/1"]), Some("good.example"), true),
        ("RFC 8737 §3: alone", protocols(&["acme-tls/1", "h2"]), Some("good.example"), false),
        ("upper case", named("AAAA.bbb.CCC"), Some("aaaa.bbb.ccc"), false),
        ("RFC 6066 §3: no trailing dot, yet seen", named("aaaa.bb.ccc."), Some("aaaa.bb.ccc"), false),
        ("RFC 6066 §3: no addresses", named("192.0.2.1234"), None, false),
        ("an address", named("192.0.20.123"), None, false),
    ] {
        match feed(&in_records(&hello, 16_384), 20_000) {
            Ok(read) => {
                let expected = HelloFacts { server_name: server_name.map(name), acme_challenge };
                assert_eq!(read, expected, "{case}");
            }
            Err(end) => assert_eq!(server_name, None, "{case} ends in {end:?}"),
        }
    }
}

#[test]
fn garbage_never_panics() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let good = in_records(&hello("good.example", &["h2"]), 16_384);
    let mut accepted = 0;
    for _ in 0..10_000 {
        let bytes = dice.spoil(&good);
        accepted += usize::from(feed(&bytes, dice.below(bytes.len() + 1) + 1).is_ok());
    }
    assert!(accepted > 0, "some spoilt hellos are still hellos");
}

#[test]
fn the_answer_to_plain_http_states_its_length() {
    let (head, body) = PLAIN_HTTP.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{} bytes", body.len());
}

/// What the acceptor makes of `bytes` in pieces; an incomplete hello ends as [`HandshakeEnd::HelloTimeout`].
fn feed(bytes: &[u8], piece: usize) -> Result<HelloFacts, HandshakeEnd> {
    let mut acceptor = Acceptor::default();
    for piece in bytes.chunks(piece.min(Chunk::SIZE)) {
        match digest(&mut acceptor, &mut Chunk::copy_of(piece)) {
            Ok(Some(accepted)) => return Ok(HelloFacts::of(&accepted.client_hello())),
            Ok(None) => {}
            Err(refused) => return Err(refused.end),
        }
    }
    Err(HandshakeEnd::HelloTimeout)
}

/// A ClientHello as rustls makes it, without its record header.
fn hello(server_name: &'static str, protocols: &[&str]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let mut client = ClientConnection::new(config.into(), server_name.try_into().unwrap()).unwrap();
    let mut record = Vec::new();
    client.write_tls(&mut record).unwrap();
    record.split_off(RECORD_HEADER)
}

/// A handshake message in records of at most `size` bytes (RFC 8446 §5.1 allows any fragmentation).
fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// The hello with another name of the same length in it.
fn renamed(hello: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = hello.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    [&hello[..at], to.as_bytes(), &hello[at + to.len()..]].concat()
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

/// Xorshift: what spoils one run spoils the next alike.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).unwrap()
    }

    /// Noise, a good hello cut short, or one with some bytes changed.
    fn spoil(&mut self, good: &[u8]) -> Vec<u8> {
        match self.below(3) {
            0 => (0..self.below(600)).map(|_| self.roll().to_le_bytes()[0]).collect(),
            1 => good[..self.below(good.len())].to_vec(),
            _ => {
                let mut bytes = good.to_vec();
                for _ in 0..=self.below(4) {
                    let at = self.below(bytes.len());
                    bytes[at] = self.roll().to_le_bytes()[0];
                }
                bytes
            }
        }
    }
}

const RECORD_HEADER: usize = 5;
