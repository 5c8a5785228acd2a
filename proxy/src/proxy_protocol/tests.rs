use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proxy_common::fixture::fuzz::Corpus;

use super::*;
use crate::{name::ServerName, target::ProxyProtocolVersion};

/// A header of version 2.
fn binary(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [version2::SIGNATURE, &[version_and_command, family], &length, block].concat()
}

fn said(bytes: &[u8]) -> Result<Option<Origin>, HeaderFault> {
    parse(bytes).map(|header| header.map(|header| header.origin))
}

const ITSELF: Result<Option<Origin>, HeaderFault> = Ok(Some(Origin::Itself));
const MALFORMED: Result<Option<Origin>, HeaderFault> = Err(HeaderFault::Malformed);

#[test]
fn a_line_says_the_client_or_nothing() {
    let of_client = |address: &str| Ok(Some(Origin::Client(address.parse().unwrap())));
    for (line, expected) in [
        ("PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\n", of_client("198.51.100.7:56324")),
        ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", of_client("255.255.255.255:65535")),
        ("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\nGET", of_client("[2001:db8::7]:56324")),
        ("PROXY TCP6 ::ffff:198.51.100.7 ::1 1 0\r\n", of_client("198.51.100.7:1")),
        ("PROXY UNKNOWN\r\n", ITSELF),
        ("PROXY UNKNOWN ffff:: whatever is here\r\n", ITSELF),
        ("PROXY UNKNOWNS\r\n", MALFORMED),
        ("PROXY  TCP4 198.51.100.7 192.0.2.1 56324 443\r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7 192.0.2.1 56324 443 \r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7 192.0.2.1 56324\r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7 192.0.2.1 056324 443\r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7 192.0.2.1 65536 443\r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7 192.0.2.1 +1 443\r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.07 192.0.2.1 1 443\r\n", MALFORMED),
        ("PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7 2001:db8::1 1 443\r\n", MALFORMED),
        ("PROXY TCP6 198.51.100.7 192.0.2.1 1 443\r\n", MALFORMED),
        ("PROXY TCP6 fe80::1%1 ::1 1 443\r\n", MALFORMED),
        ("PROXY UDP4 198.51.100.7 192.0.2.1 1 443\r\n", MALFORMED),
        ("PROXY tcp4 198.51.100.7 192.0.2.1 1 443\r\n", MALFORMED),
        ("PROXY \r\n", MALFORMED),
        ("PROXY TCP4 198.51.100.7\n192.0.2.1 1 443\r\n", MALFORMED),
        ("PROXY TCP4", Ok(None)),
        ("PRO", Ok(None)),
        ("", Ok(None)),
        ("proxy TCP4 198.51.100.7 192.0.2.1 1 443\r\n", Err(HeaderFault::Absent)),
        ("GET / HTTP/1.1\r\n", Err(HeaderFault::Absent)),
        ("\u{16}\u{3}\u{1}\0", Err(HeaderFault::Absent)),
    ] {
        assert_eq!(said(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn a_line_ends_within_107_bytes() {
    let line = |filler: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(filler));
    assert_eq!(parse(line(91).as_bytes()), Ok(Some(ProxyHeader { origin: Origin::Itself, bytes: 107 })));
    assert_eq!(said(line(92).as_bytes()), MALFORMED);
    assert_eq!(said(&line(500).as_bytes()[..106]), Ok(None));
    assert_eq!(said(&line(500).as_bytes()[..107]), MALFORMED);
}

#[test]
fn a_binary_header_says_the_client_or_nothing() {
    let of_client = |address: &str| Ok(Some(Origin::Client(address.parse().unwrap())));
    let v4 = [198, 51, 100, 7, 192, 0, 2, 1, 0xdc, 0x04, 1, 187];
    let (source, destination) =
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).octets(), Ipv6Addr::LOCALHOST.octets());
    let v6 = [&source[..], &destination, &[0xdc, 0x04, 1, 187]].concat();
    let mapped = Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped().octets();
    let mapped = [&mapped[..], &destination, &[0xdc, 0x04, 1, 187]].concat();
    let field = [0x04, 0, 2, 7, 7];
    for (header, expected) in [
        (binary(0x21, 0x11, &v4), of_client("198.51.100.7:56324")),
        (binary(0x21, 0x11, &[&v4[..], &field, &field].concat()), of_client("198.51.100.7:56324")),
        (binary(0x21, 0x21, &v6), of_client("[2001:db8::7]:56324")),
        (binary(0x21, 0x21, &mapped), of_client("198.51.100.7:56324")),
        (binary(0x21, 0x21, &[&v6[..], &[0xea, 0, 0]].concat()), of_client("[2001:db8::7]:56324")),
        (binary(0x20, 0x11, &v4), ITSELF),
        (binary(0x20, 0xff, b"whatever"), ITSELF),
        (binary(0x20, 0x00, &[]), ITSELF),
        (binary(0x21, 0x00, b"whatever"), ITSELF),
        (binary(0x21, 0x12, &v4), ITSELF),
        (binary(0x21, 0x22, &v6), ITSELF),
        (binary(0x21, 0x31, &[0; 216]), ITSELF),
        (binary(0x21, 0x32, &[0; 216]), ITSELF),
        (binary(0x21, 0x13, &v4), MALFORMED),
        (binary(0x21, 0x41, &v4), MALFORMED),
        (binary(0x21, 0x11, &v4[..11]), MALFORMED),
        (binary(0x21, 0x21, &v6[..35]), MALFORMED),
        (binary(0x21, 0x11, &[&v4[..], &field[..4]].concat()), MALFORMED),
        (binary(0x21, 0x11, &[&v4[..], &[4]].concat()), MALFORMED),
        (binary(0x22, 0x11, &v4), MALFORMED),
        (binary(0x11, 0x11, &v4), MALFORMED),
        (binary(0x31, 0x11, &v4), MALFORMED),
        (binary(0x20, 0x00, &vec![0; LONGEST - 16]), ITSELF),
        (binary(0x20, 0x00, &vec![0; LONGEST - 15]), MALFORMED),
        (binary(0x20, 0x00, &vec![0; 0xffff])[..16].to_vec(), MALFORMED),
        (version2::SIGNATURE.to_vec(), Ok(None)),
        (b"\r\n\r\n".to_vec(), Ok(None)),
        (b"\r\n\r\nGET / HTTP/1.1".to_vec(), Err(HeaderFault::Absent)),
    ] {
        assert_eq!(said(&header), expected, "{header:?}");
    }
}

#[test]
fn a_mutated_corpus_means_the_same_however_it_is_cut() {
    Corpus::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/proxy_protocol")).run(|input| {
        let whole = parse(input);
        let mut first = None;
        for cut in 0..=input.len() {
            let begun = parse(&input[..cut]);
            if begun != Ok(None) {
                first.get_or_insert((cut, begun));
                assert_eq!(begun, whole, "cut at {cut}");
            }
        }
        match whole {
            // The last byte of a header is the first at which it is complete, and what follows it changes nothing.
            Ok(Some(header)) => assert_eq!(first.unwrap().0, header.bytes),
            Ok(None) => assert!(input.len() < LONGEST, "{} bytes are waited for", input.len()),
            Err(_) => assert!(first.unwrap().0 <= LONGEST),
        }
    });
}

/// What is written for a client at these addresses.
fn written(version: ProxyProtocolVersion, client: &str, local: &str) -> Vec<u8> {
    let server_name = Some(ServerName::parse("shop.example").unwrap());
    let (client, local) = (client.parse().unwrap(), local.parse().unwrap());
    header(version, Some(&ProxiedClient { client, local, server_name }))
}

#[test]
fn a_line_is_written_as_the_specification_has_it() {
    for (client, local, line) in [
        ("198.51.100.7:56324", "192.0.2.1:443", "PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\n"),
        ("[::ffff:198.51.100.7]:0", "192.0.2.1:443", "PROXY TCP4 198.51.100.7 192.0.2.1 0 443\r\n"),
        ("[2001:db8::7]:5", "[2001:db8::1]:443", "PROXY TCP6 2001:db8::7 2001:db8::1 5 443\r\n"),
        ("[2001:db8::7]:5", "192.0.2.1:443", "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 5 443\r\n"),
    ] {
        let header = written(ProxyProtocolVersion::V1, client, local);
        assert_eq!(String::from_utf8(header).unwrap(), line);
    }
    assert_eq!(said(&header(ProxyProtocolVersion::V1, None)), ITSELF);
}

#[test]
fn a_binary_header_says_the_addresses_the_protocol_behind_it_and_the_name() {
    let fields = b"\x01\0\x08http/1.1\x02\0\x0cshop.example";
    let v4 = [198, 51, 100, 7, 192, 0, 2, 1, 0xdc, 0x04, 1, 187];
    let header_of = |client, local| written(ProxyProtocolVersion::V2, client, local);
    let expected = binary(0x21, 0x11, &[&v4[..], fields].concat());
    assert_eq!(header_of("198.51.100.7:56324", "192.0.2.1:443"), expected);
    let (source, destination) = (
        Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped().octets(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets(),
    );
    let v6 = [&source[..], &destination, &[0xdc, 0x04, 1, 187]].concat();
    let expected = binary(0x21, 0x21, &[&v6[..], fields].concat());
    assert_eq!(header_of("198.51.100.7:56324", "[2001:db8::1]:443"), expected);
    assert_eq!(header(ProxyProtocolVersion::V2, None), binary(0x20, 0x00, &[]));
}

mod properties {
    use super::*;

    fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let port = any::<u16>;
        let v4 = (any::<Ipv4Addr>(), any::<Ipv4Addr>(), port(), port())
            .prop_map(|(from, to, a, b)| (SocketAddr::new(from.into(), a), SocketAddr::new(to.into(), b)));
        let v6 = (any::<Ipv6Addr>(), any::<Ipv6Addr>(), port(), port())
            .prop_map(|(from, to, a, b)| (SocketAddr::new(from.into(), a), SocketAddr::new(to.into(), b)));
        let mixed = (any::<Ipv6Addr>(), any::<Ipv4Addr>(), port(), port())
            .prop_map(|(from, to, a, b)| (SocketAddr::new(from.into(), a), SocketAddr::new(to.into(), b)));
        prop_oneof![v4, v6, mixed.clone(), mixed.prop_map(|(from, to)| (to, from))]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_what_follows_is_left(
            (client, local) in addresses(),
            version in prop_oneof![Just(ProxyProtocolVersion::V1), Just(ProxyProtocolVersion::V2)],
            name in proptest::option::of("([a-z0-9]{1,60}\\.){1,3}example"),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let server_name = name.map(|name| ServerName::parse(&name).unwrap());
            let header = header(version, Some(&ProxiedClient { client, local, server_name }));
            let bytes = header.len();
            let origin = Origin::Client(SocketAddr::new(client.ip().to_canonical(), client.port()));
            prop_assert_eq!(parse(&[header, rest].concat()), Ok(Some(ProxyHeader { origin, bytes })));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
            let _ = parse(&[version2::SIGNATURE, &bytes].concat());
            let _ = parse(&[version1::SIGNATURE, &bytes].concat());
        }
    }
}
