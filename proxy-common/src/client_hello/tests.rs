extern crate std;

use std::string::String;
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;
use crate::fixture::Hello;

/// Feeds the pieces one after the other; the last answer, and the name if there is one.
fn walk<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (HelloProgress, Vec<u8>) {
    let (mut state, mut buffer) = (ParserState::default(), NameBuffer::new());
    for piece in pieces {
        match feed(&mut state, piece, &mut buffer) {
            HelloProgress::Incomplete => {}
            HelloProgress::Name => return (HelloProgress::Name, buffer.name(state.name_bytes()).to_vec()),
            progress => return (progress, Vec::new()),
        }
    }
    (HelloProgress::Incomplete, Vec::new())
}

fn check(bytes: &[u8], expected: HelloProgress) {
    assert_eq!(walk([bytes]).0, expected, "{bytes:02x?}");
}

/// Replaces `from` by `to`, which must be there, once.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn the_name_is_found_wherever_it_stands() {
    let plain = Hello::with("shop.example.com");
    for hello in [
        plain.clone(),
        Hello { key_share_first: true, ..plain.clone() },
        Hello { key_share_first: true, key_share_bytes: 1216, ..plain.clone() },
        Hello { extensions_before: 0, ..plain.clone() },
        Hello { extensions_before: MAX_EXTENSIONS as usize - 1, ..plain.clone() },
        Hello { record_bytes: 100, ..plain },
    ] {
        let (progress, name) = walk([hello.bytes().as_slice()]);
        assert_eq!(progress, HelloProgress::Name, "{hello:?}");
        assert_eq!(name, b"shop.example.com", "{hello:?}");
    }
}

#[test]
fn a_name_in_the_first_segment_is_judged_though_the_rest_is_missing() {
    let hello =
        Hello { key_share_bytes: 1216, extensions_before: 15, ..Hello::with("shop.example.com") }.bytes();
    assert!(hello.len() > 1400);
    let end = hello.windows(16).position(|window| window == b"shop.example.com").unwrap() + 16;
    check(&hello[..end], HelloProgress::Name);
    check(&hello[..end - 1], HelloProgress::Incomplete);
}

#[test]
fn a_hello_without_server_name_has_no_name() {
    check(&Hello::nameless().bytes(), HelloProgress::NoName);
    // TLS 1.2 without extensions; with an empty list of them
    check(&minimal(&[]), HelloProgress::NoName);
    check(&minimal(&[0, 0]), HelloProgress::NoName);
}

#[test]
fn what_is_no_hello_is_told_by_its_first_bytes() {
    for bytes in [
        b"GET / HTTP/1.1\r\n".as_slice(),
        b"G",
        &[23, 3, 3, 0, 40],
        &[20, 3, 3, 0, 1, 1],
        &[22, 2, 0, 0, 40],
        // ClientKeyExchange, a later handshake message
        &[22, 3, 3, 0, 70, 16, 0, 0, 66],
    ] {
        check(bytes, HelloProgress::NotHello);
    }
    check(&[22], HelloProgress::Incomplete);
    check(&[22, 3, 1, 0], HelloProgress::Incomplete);
    check(&[], HelloProgress::Incomplete);
}

#[test]
fn hellos_that_contradict_themselves_are_malformed() {
    let plain = Hello::with("shop.example.com").bytes();
    let list = crate::fixture::name_list(b"shop.example.com");
    for (what, from, to) in [
        (
            "session id of 33 bytes",
            [&[32], [0xa5; 32].as_slice()].concat(),
            [&[33], [0xa5; 32].as_slice()].concat(),
        ),
        ("odd cipher suites", vec![0, 6, 0x13, 1], vec![0, 5, 0x13, 1]),
        ("no cipher suites", vec![0, 6, 0x13, 1], vec![0, 0, 0x13, 1]),
        ("no compression method", vec![0x13, 3, 1, 0], vec![0x13, 3, 0, 0]),
        ("extension beyond the message", vec![0x5a, 0, 0, 6], vec![0x5a, 0, 0xff, 6]),
        ("list longer than its extension", list.clone(), [&[0, 20], &list[2..]].concat()),
        ("list shorter than its extension", list.clone(), [&[0, 18], &list[2..]].concat()),
        ("name shorter than its list", list.clone(), [&list[..3], &[0, 15], &list[5..]].concat()),
        ("empty name", list.clone(), [&list[..3], &[0, 0], &list[5..]].concat()),
        ("another type of name", list.clone(), [&list[..2], &[1], &list[3..]].concat()),
    ] {
        assert_eq!(walk([replaced(&plain, &from, &to).as_slice()]).0, HelloProgress::Malformed, "{what}");
    }
}

#[test]
fn names_that_no_dns_name_can_be_are_malformed() {
    for (name, expected) in [
        ("192.0.2.1".into(), HelloProgress::Malformed),
        ("2001:db8::1".into(), HelloProgress::Malformed),
        ("a".repeat(255), HelloProgress::Malformed),
        ("a".repeat(254), HelloProgress::Name),
    ] {
        let name: String = name;
        check(&Hello::with(&name).bytes(), expected);
    }
}

#[test]
fn hellos_beyond_the_bounds_are_too_long() {
    let plain = Hello::with("shop.example.com");
    check(
        &Hello { extensions_before: MAX_EXTENSIONS as usize, ..plain.clone() }.bytes(),
        HelloProgress::TooLong,
    );
    check(&Hello { record_bytes: 8, ..plain.clone() }.bytes(), HelloProgress::TooLong);
    check(&replaced(&plain.bytes(), &[1, 0, 0], &[1, 1, 0]), HelloProgress::TooLong);
}

#[test]
fn a_record_of_another_type_or_an_empty_one_inside_the_hello_is_malformed() {
    let bytes = Hello { record_bytes: 100, ..Hello::with("shop.example.com") }.bytes();
    for (at, value) in [(105, 23), (105, 21), (106, 4)] {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        check(&bytes, HelloProgress::Malformed);
    }
    let mut empty = bytes;
    empty.splice(108..110, [0, 0]);
    check(&empty, HelloProgress::Malformed);
}

/// A ClientHello of TLS 1.2 that ends in `extensions`, or before them.
fn minimal(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], body.as_slice()].concat()
}

/// What rustls reads from a whole hello: its name in lower case and without a trailing dot, or that it wants more.
#[derive(PartialEq, Debug)]
enum Seen {
    Name(Option<Vec<u8>>),
    Incomplete,
    Refused,
}

fn rustls_sees(mut bytes: &[u8]) -> Seen {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).unwrap();
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Seen::Name(accepted.client_hello().server_name().map(|name| folded(name.as_bytes())));
            }
            Ok(None) => {}
            Err(_) => return Seen::Refused,
        }
    }
    Seen::Incomplete
}

fn folded(name: &[u8]) -> Vec<u8> {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(b".").map(<[u8]>::to_vec).unwrap_or(name)
}

/// The first flight of a real client.
fn rustls_hello(name: &str, post_quantum: bool, alpn: &[Vec<u8>], sni: bool) -> Vec<u8> {
    let mut provider = aws_lc_rs::default_provider();
    if !post_quantum {
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.to_vec();
    config.enable_sni = sni;
    let name = ServerName::try_from(name).unwrap().to_owned();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_size_of_a_post_quantum_hello_is_beyond_one_segment() {
    assert!(rustls_hello("example.com", true, &[], true).len() > 1460);
    assert!(rustls_hello("example.com", false, &[], true).len() < 600);
}

fn dns_name() -> impl Strategy<Value = String> {
    "[a-zA-Z]([a-zA-Z0-9-]{0,30}[a-zA-Z0-9])?(\\.[a-zA-Z]([a-zA-Z0-9-]{0,50}[a-zA-Z0-9])?){0,3}"
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> =
        cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[(u8, usize, u8)]) {
    for (kind, at, value) in mutations {
        let at = at % bytes.len();
        match kind {
            0 => bytes[at] = *value,
            1 => bytes[at] = bytes[at].wrapping_add(value % 3).wrapping_sub(1),
            2 => bytes.insert(at, *value),
            _ => drop(bytes.remove(at)),
        }
    }
}

/// What stands before the extensions of a hello in one record, and the extensions.
fn taken_apart(hello: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let body = &hello[9..];
    let session_id = 34;
    let cipher_suites = session_id + 1 + number(&body[session_id..][..1]);
    let compression = cipher_suites + 2 + number(&body[cipher_suites..][..2]);
    let extensions = compression + 1 + number(&body[compression..][..1]);
    let (mut rest, mut taken) = (&body[extensions + 2..], Vec::new());
    while !rest.is_empty() {
        let (one, more) = rest.split_at(4 + number(&rest[2..4]));
        taken.push(one.to_vec());
        rest = more;
    }
    (body[..extensions].to_vec(), taken)
}

fn put_together(head: &[u8], extensions: &[Vec<u8>], record_bytes: usize) -> Vec<u8> {
    let extensions = extensions.concat();
    let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
    let body = [head, &length(extensions.len()), &extensions].concat();
    let message = [&[1, 0], &length(body.len())[..], &body].concat();
    let records = message.chunks(record_bytes);
    records.flat_map(|record| [&[22, 3, 1], &length(record.len())[..], record].concat()).collect()
}

/// Whether our answer and rustls's can both stand: a name it accepts is ours too, or is left to it.
fn agree(bytes: &[u8]) -> Result<HelloProgress, String> {
    let ((progress, ours), theirs) = (walk([bytes]), rustls_sees(bytes));
    let ours = folded(&ours);
    let stands = match (progress, &theirs) {
        (HelloProgress::Name, Seen::Name(name)) => name.as_ref() == Some(&ours),
        (HelloProgress::NoName, Seen::Name(name)) => name.is_none(),
        (HelloProgress::TooLong | HelloProgress::Malformed, _) | (_, Seen::Refused | Seen::Incomplete) => {
            true
        }
        (HelloProgress::Incomplete | HelloProgress::NotHello, Seen::Name(_)) => false,
    };
    let ours = String::from_utf8_lossy(&ours);
    if stands { Ok(progress) } else { Err(std::format!("ours {progress:?} {ours}, theirs {theirs:?}")) }
}

#[test]
fn permuted_hellos_are_put_together_as_they_were_taken_apart() {
    let hello = rustls_hello("shop.example.com", true, &[b"h2".to_vec()], true);
    let (head, extensions) = taken_apart(&hello);
    assert_eq!(put_together(&head, &extensions, 1 << 14), hello);
    assert_eq!(agree(&hello), Ok(HelloProgress::Name));
    let twice = [extensions.clone(), extensions.clone()].concat();
    assert_eq!(rustls_sees(&put_together(&head, &twice, 1 << 14)), Seen::Refused);
}

mod properties {
    use super::*;

    /// Bytes like those of a `server_name` extension: of no, one or two names of some type, lengths perhaps wrong.
    fn name_extension() -> impl Strategy<Value = Vec<u8>> {
        let name =
            prop_oneof![dns_name(), "[0-9.]{1,16}", "[0-9a-f:]{2,20}", "[ -~]{0,12}", Just(String::new())];
        let entry = (
            prop_oneof![9 => Just(0_u8), 1 => any::<u8>()],
            name,
            prop_oneof![9 => Just(0_i8), 1 => -2..3_i8],
        );
        (proptest::collection::vec(entry, 0..3), prop_oneof![9 => Just(0_i8), 1 => -2..3_i8]).prop_map(
            |(entries, off)| {
                let length = |bytes: usize, off: i8| {
                    u16::try_from(bytes).unwrap().wrapping_add_signed(off.into()).to_be_bytes()
                };
                let mut list = Vec::new();
                for (kind, name, off) in entries {
                    list.extend([&[kind], &length(name.len(), off)[..], name.as_bytes()].concat());
                }
                let content = [&length(list.len(), off)[..], &list].concat();
                [&[0, 0], &length(content.len(), 0)[..], &content].concat()
            },
        )
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            walk([bytes.as_slice()]);
            walk([[22, 3, 1, 1, 0, 1, 0, 0, 0xfc].as_slice(), &bytes]);
        }

        #[test]
        fn the_answer_does_not_depend_on_the_cut(
            name in dns_name(), key_share_first: bool, extensions_before in 0..60usize, record_bytes in 20..400usize,
            cuts in proptest::collection::vec(any::<usize>(), 0..30),
            mutations in proptest::collection::vec((0..4u8, 0..300usize, any::<u8>()), 0..3),
        ) {
            let hello = Hello { extensions_before, key_share_first, record_bytes, ..Hello::with(&name) };
            let mut bytes = hello.bytes();
            mutate(&mut bytes, &mutations);
            prop_assert_eq!(walk(pieces(&bytes, &cuts)), walk([bytes.as_slice()]));
            prop_assert_eq!(walk(bytes.chunks(1)), walk([bytes.as_slice()]));
        }

        #[test]
        fn a_real_hello_has_the_name_rustls_sees(
            name in dns_name(), post_quantum: bool, sni: bool, alpn in proptest::collection::vec("[a-z0-9/.]{1,20}", 0..5),
        ) {
            let alpn: Vec<Vec<u8>> = alpn.into_iter().map(String::into_bytes).collect();
            let bytes = rustls_hello(&name, post_quantum, &alpn, sni);
            let (progress, ours) = walk([bytes.as_slice()]);
            prop_assert_eq!(progress == HelloProgress::NoName, !sni);
            prop_assert_eq!(rustls_sees(&bytes), Seen::Name(sni.then(|| folded(&ours))));
        }

        #[test]
        fn the_order_of_extensions_and_what_stands_among_them_change_no_name(
            name in dns_name(), post_quantum: bool, record_bytes in 60..3000usize,
            places in proptest::collection::vec(any::<proptest::sample::Index>(), 16),
            twice in proptest::option::weighted(0.2, any::<proptest::sample::Index>()),
            names in proptest::option::weighted(0.5, name_extension()),
            mutations in proptest::collection::vec((0..4u8, any::<usize>(), any::<u8>()), 0..2),
        ) {
            let (head, mut extensions) = taken_apart(&rustls_hello(&name, post_quantum, &[], true));
            if let Some(names) = names {
                extensions.retain(|extension| !extension.starts_with(&[0, 0]));
                extensions.push(names);
            }
            extensions.extend(twice.map(|twice| twice.get(&extensions).clone()));
            for (at, place) in places.iter().enumerate().take(extensions.len()) {
                let other = place.index(extensions.len());
                extensions.swap(at, other);
            }
            let mut bytes = put_together(&head, &extensions, record_bytes);
            mutate(&mut bytes, &mutations);
            prop_assert!(agree(&bytes).is_ok(), "{:?}", agree(&bytes));
        }

        #[test]
        fn a_mutated_hello_has_the_name_rustls_sees_or_is_refused(
            name in dns_name(), record_bytes in 60..600usize,
            mutations in proptest::collection::vec((0..4u8, any::<usize>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = Hello { record_bytes, ..Hello::with(&name) }.bytes();
            mutate(&mut bytes, &mutations);
            prop_assert!(agree(&bytes).is_ok(), "{:?}", agree(&bytes));
        }
    }

    #[test]
    fn a_mutated_corpus_has_one_answer_however_it_is_cut() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/client_hello");
        crate::fixture::fuzz::Corpus::read(corpus).run(|bytes| {
            let whole = walk([bytes]);
            for size in [1, 7, 100] {
                assert_eq!(walk(bytes.chunks(size)), whole, "pieces of {size}");
            }
            assert!(whole.1.len() <= 253, "RFC 1035 §2.3.4");
        });
    }
}
