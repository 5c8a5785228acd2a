//! Two record layers in memory, behind a handshake of rustls with itself, for each cipher suite.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig, client::UnbufferedClientConnection,
    crypto::aws_lc_rs, pki_types::PrivateKeyDer, server::UnbufferedServerConnection,
};

use super::*;
use crate::tls::handshake::{Handshake, Side, Step};

/// One of each scheme and key length.
const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const TLS13: CipherSuite = SUITES[0];
const TLS12: CipherSuite = SUITES[3];

/// Both ends of a connection that agreed on a suite.
struct Pair {
    client: RecordLayer,
    server: RecordLayer,
}

/// The configurations of both sides; each handshake may resume the one before.
struct Peers {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Peers {
    fn of(suite: CipherSuite) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|supported| supported.suite() == suite);
        let provider = Arc::new(provider);
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("{suite:?} is of one version"))
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.enable_secret_extraction = true;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        server.enable_secret_extraction = true;
        Self { client: client.into(), server: server.into() }
    }

    /// A connection; what the client sends first comes to the server with the end of its handshake, but for the last `late` bytes.
    fn connect(&self, first: &[u8], late: usize) -> Pair {
        let client = UnbufferedClientConnection::new(Arc::clone(&self.client), NAME.try_into().unwrap());
        let mut client = Handshake::new(client.unwrap(), Vec::new());
        let server = UnbufferedServerConnection::new(Arc::clone(&self.server)).unwrap();
        let mut server = Handshake::new(server, Vec::new());
        let (mut is_server_over, mut to_server) = (false, Vec::new());
        loop {
            let (is_client_over, flight) = advance(&mut client);
            to_server.extend(flight);
            if is_client_over {
                break;
            }
            server.receive(&to_server).unwrap();
            to_server.clear();
            let (is_over, to_client) = advance(&mut server);
            is_server_over |= is_over;
            client.receive(&to_client).unwrap();
        }
        let mut client = client.finish().unwrap().records;
        to_server.extend(sealed(&mut client, first));
        let later = to_server.split_off(to_server.len().saturating_sub(late));
        let mut to_client = Vec::new();
        if !is_server_over {
            server.receive(&std::mem::take(&mut to_server)).unwrap();
            let (is_over, flight) = advance(&mut server);
            assert!(is_over, "the server needs no more");
            to_client = flight;
        }
        let mut server = server.finish().unwrap().records;
        feed(&mut server, &to_server);
        feed(&mut server, &later);
        feed(&mut client, &to_client);
        Pair { client, server }
    }
}

impl Pair {
    fn of(suite: CipherSuite) -> Self {
        Peers::of(suite).connect(b"", 0)
    }
}

/// Goes on until it has to receive, or is over.
fn advance<C: Side>(handshake: &mut Handshake<C>) -> (bool, Vec<u8>) {
    let mut flight = Vec::new();
    loop {
        match handshake.step().unwrap() {
            Step::Continue => {}
            Step::Send => flight.extend(handshake.take_flight()),
            Step::Receive => return (false, flight),
            Step::Finish => return (true, flight),
        }
    }
}

/// All of `bytes` as records, behind whatever else the peer has to be told.
fn sealed(layer: &mut RecordLayer, mut bytes: &[u8]) -> Vec<u8> {
    let mut records: Vec<u8> = layer.outgoing().flat_map(|chunk| chunk.to_vec()).collect();
    while !bytes.is_empty() {
        let (count, record) = layer.seal(&[IoSlice::new(bytes)], 0).unwrap();
        records.extend(layer.outgoing().flat_map(|chunk| chunk.to_vec()));
        records.extend_from_slice(&record);
        bytes = &bytes[count..];
    }
    records
}

/// Passes `ciphertext` on as it would be received.
fn feed(layer: &mut RecordLayer, ciphertext: &[u8]) {
    if ciphertext.is_empty() {
        return;
    }
    match layer.incomplete() {
        Some(chunk) => assert_eq!(chunk.fill(ciphertext), ciphertext.len()),
        None => layer.receive(Chunk::copy_of(ciphertext)),
    }
}

/// What there is to read, `piece` bytes at a time.
fn read(layer: &mut RecordLayer, piece: usize) -> Result<Vec<u8>, RecordFault> {
    let mut all = Vec::new();
    loop {
        let mut place = vec![MaybeUninit::new(0); piece];
        match layer.read(&mut place)? {
            None | Some(0) => return Ok(all),
            #[expect(unsafe_code, reason = "memory that was initialised above")]
            // SAFETY: every byte of `place` was initialised when it was made.
            Some(count) => all.extend(place[..count].iter().map(|byte| unsafe { byte.assume_init() })),
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
fn each_cipher_suite_carries_data_both_ways_however_long() {
    for suite in SUITES {
        let mut pair = Pair::of(suite);
        for length in [1, 2, 100, 16_384, 16_385, 50_000] {
            let data = pattern(length);
            let mut heard = Vec::new();
            for record in records(&sealed(&mut pair.client, &data)) {
                feed(&mut pair.server, record);
                heard.extend(read(&mut pair.server, 5000).unwrap());
            }
            assert!(heard == data, "{suite:?}: {length} bytes to the server");
            heard.clear();
            for record in records(&sealed(&mut pair.server, &data)) {
                feed(&mut pair.client, record);
                heard.extend(read(&mut pair.client, 70_000).unwrap());
            }
            assert!(heard == data, "{suite:?}: {length} bytes to the client");
        }
        assert!(pair.client.is_empty() && pair.server.is_empty(), "{suite:?}: a buffer is held");
    }
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_read() {
    for suite in SUITES {
        let peers = Peers::of(suite);
        // In full, then resumed; whole, and cut within its tag.
        for late in [0, 3] {
            let mut pair = peers.connect(b"first", late);
            assert_eq!(read(&mut pair.server, 100).unwrap(), b"first", "{suite:?}");
            let answer = sealed(&mut pair.server, b"answer");
            feed(&mut pair.client, &answer);
            assert_eq!(read(&mut pair.client, 100).unwrap(), b"answer", "{suite:?}");
        }
    }
}

#[test]
fn several_slices_share_a_record() {
    let mut pair = Pair::of(TLS13);
    let slices = [&b"head"[..], b"", b"body"].map(IoSlice::new);
    for skipped in 0..=8 {
        let (count, record) = pair.client.seal(&slices, skipped).unwrap();
        assert_eq!((count, record.len()), (8 - skipped, 5 + 8 - skipped + 1 + 16));
        feed(&mut pair.server, &record);
        assert_eq!(read(&mut pair.server, 100).unwrap(), b"headbody"[skipped..]);
    }
}

#[test]
fn keys_are_updated_at_the_peers_request_and_before_they_are_used_up() {
    let mut pair = Pair::of(TLS13);
    pair.client.limit = 3;
    let mut updates = 0;
    for round in 0..20 {
        let data = format!("round {round}");
        let to_server = sealed(&mut pair.client, data.as_bytes());
        updates += records(&to_server).len() - 1;
        feed(&mut pair.server, &to_server);
        assert_eq!(read(&mut pair.server, 100).unwrap(), data.as_bytes());
    }
    assert!((5..=7).contains(&updates), "{updates} updates of keys that seal 3 records");
    // The server is asked for new keys, too.
    pair.client.put(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 1]).unwrap();
    pair.client.renew_sealing().unwrap();
    let asked = sealed(&mut pair.client, b"new keys?");
    feed(&mut pair.server, &asked);
    assert_eq!(read(&mut pair.server, 100).unwrap(), b"new keys?");
    let answer = sealed(&mut pair.server, b"new keys");
    assert_eq!(records(&answer).len(), 2, "the update, and what is sealed by it");
    feed(&mut pair.client, &answer);
    assert_eq!(read(&mut pair.client, 100).unwrap(), b"new keys");
}

/// RFC 8446 §4.6.3: who is silent answers many requests with one update. A peer that never reads would else have us hold an answer to each.
#[test]
fn a_peer_that_asks_again_and_again_gets_one_answer() {
    let mut pair = Pair::of(TLS13);
    for _ in 0..200 {
        pair.client.put(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 1]).unwrap();
        pair.client.renew_sealing().unwrap();
        let asked = sealed(&mut pair.client, b"x");
        feed(&mut pair.server, &asked);
        assert_eq!(read(&mut pair.server, 100).unwrap(), b"x");
    }
    let answer = sealed(&mut pair.server, b"new keys");
    assert_eq!(records(&answer).len(), 2, "one update, and what is sealed by it");
    feed(&mut pair.client, &answer);
    assert_eq!(read(&mut pair.client, 100).unwrap(), b"new keys");
    assert_eq!(records(&sealed(&mut pair.server, b"more")).len(), 1, "it was answered");
}

#[test]
fn who_wants_another_handshake_again_and_again_is_refused() {
    let mut pair = Pair::of(TLS12);
    let mut ask = || {
        pair.client.put(ContentType::Handshake, &[1, 0, 0, 0]).unwrap();
        let asked = sealed(&mut pair.client, b"x");
        feed(&mut pair.server, &asked);
        (read(&mut pair.server, 100), pair.server.outgoing().count())
    };
    for _ in 0..MAX_RENEGOTIATIONS {
        assert_eq!(ask(), (Ok(b"x".to_vec()), 1));
    }
    assert_eq!(ask(), (Err(RecordFault::Unexpected), 0));
}

#[test]
fn keys_of_tls_1_2_end_with_their_connection() {
    let mut pair = Pair::of(TLS12);
    pair.client.limit = pair.client.sealing.sequence() + 1;
    sealed(&mut pair.client, b"last");
    assert_eq!(pair.client.seal(&[IoSlice::new(b"more")], 0).err(), Some(RecordFault::KeysUsedUp));
}

#[test]
fn a_message_may_come_in_parts_but_nothing_between_them() {
    let update = [KEY_UPDATE, 0, 0, 1, 0];
    for is_interrupted in [false, true] {
        let mut pair = Pair::of(TLS13);
        let whole = if is_interrupted { 4 } else { 5 };
        for byte in update.into_iter().take(whole) {
            pair.client.put(ContentType::Handshake, &[byte]).unwrap();
        }
        let mut parts: Vec<u8> = pair.client.outgoing().flat_map(|chunk| chunk.to_vec()).collect();
        if is_interrupted {
            parts.extend(sealed(&mut pair.client, b"data"));
        }
        feed(&mut pair.server, &parts);
        let expected = if is_interrupted { Err(RecordFault::Unexpected) } else { Ok(Vec::new()) };
        assert_eq!(read(&mut pair.server, 100), expected);
    }
}

#[test]
fn what_has_no_place_behind_a_handshake_is_refused() {
    let said = |suite, content_type, message: &[u8]| {
        let mut pair = Pair::of(suite);
        pair.client.put(content_type, message).unwrap();
        let record = sealed(&mut pair.client, b"");
        feed(&mut pair.server, &record);
        (read(&mut pair.server, 100), pair.server.outgoing().count())
    };
    let (alert, handshake) = (ContentType::Alert, ContentType::Handshake);
    for (suite, content_type, message, expected) in [
        (TLS13, alert, &[1, 90][..], Ok(0)),
        (TLS13, alert, &[2, 40], Err(RecordFault::Alerted(40))),
        (TLS13, alert, &[1, 40], Err(RecordFault::Alerted(40))),
        (TLS12, alert, &[1, 40], Ok(0)),
        (TLS12, alert, &[2, 40], Err(RecordFault::Alerted(40))),
        (TLS13, alert, &[1], Err(RecordFault::Malformed)),
        (TLS13, handshake, &[KEY_UPDATE, 0, 0, 1, 2], Err(RecordFault::Illegal)),
        (TLS13, handshake, &[KEY_UPDATE, 0, 0, 1, 255], Err(RecordFault::Illegal)),
        (TLS13, handshake, &[KEY_UPDATE, 0, 0, 2, 0, 0], Err(RecordFault::Malformed)),
        (TLS13, handshake, &[KEY_UPDATE, 0, 0, 0], Err(RecordFault::Malformed)),
        (TLS13, handshake, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE], Err(RecordFault::Unexpected)),
        (TLS13, handshake, &[NEW_SESSION_TICKET, 0, 0, 1, 0], Err(RecordFault::Unexpected)),
        (TLS13, handshake, &[1, 0, 0, 1, 0], Err(RecordFault::Unexpected)),
        (TLS13, handshake, &[KEY_UPDATE, 255, 0, 0], Err(RecordFault::Unexpected)),
        (TLS13, handshake, &[], Err(RecordFault::Unexpected)),
        // RFC 5246 §7.2.2: a second handshake is declined, which is told.
        (TLS12, handshake, &[1, 0, 0, 0], Ok(1)),
    ] {
        let (read, told) = said(suite, content_type, message);
        let outcome = read.map(|data| data.len() + told);
        assert_eq!(outcome, expected, "{suite:?}: {content_type:?} {message:?}");
    }
}

#[test]
fn records_without_data_come_to_an_end() {
    for (content_type, message) in [
        (ContentType::ApplicationData, &[][..]),
        (ContentType::Alert, &[1, 90]),
        (ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0]),
    ] {
        let mut pair = Pair::of(TLS13);
        let mut read_all = |count: u8, then: &[u8]| {
            for _ in 0..count {
                pair.client.put(content_type, message).unwrap();
                if content_type == ContentType::Handshake {
                    pair.client.renew_sealing().unwrap();
                }
            }
            let records = sealed(&mut pair.client, then);
            feed(&mut pair.server, &records);
            read(&mut pair.server, 100)
        };
        assert_eq!(read_all(MAX_DATALESS, b"data"), Ok(b"data".to_vec()), "{content_type:?}");
        assert_eq!(read_all(MAX_DATALESS, b"data"), Ok(b"data".to_vec()), "data makes up for them");
        assert_eq!(read_all(MAX_DATALESS + 1, b"data"), Err(RecordFault::Dataless), "{content_type:?}");
    }
}

#[test]
fn an_orderly_end_is_the_last_that_is_read() {
    for suite in [TLS13, TLS12] {
        let mut pair = Pair::of(suite);
        let mut records = sealed(&mut pair.client, b"data");
        pair.client.say(Alert::CloseNotify).unwrap();
        records.extend(sealed(&mut pair.client, b"behind"));
        feed(&mut pair.server, &records);
        assert_eq!(read(&mut pair.server, 100).unwrap(), b"data");
        let again = pair.server.read(&mut [MaybeUninit::uninit(); 9]);
        assert_eq!((again, pair.server.is_empty()), (Ok(Some(0)), false));
    }
}

#[test]
fn a_record_of_wrong_size_or_kind_is_refused_by_its_header() {
    for (header, is_tls13, expected) in [
        (&[23, 3, 3, 0x41, 0][..], true, Ok(None)),
        (&[23, 3, 3, 0x41, 1], true, Err(RecordFault::Overflow)),
        (&[22, 3, 3, 0, 1], true, Err(RecordFault::Unexpected)),
        (&[20, 3, 3, 0, 1, 1], true, Err(RecordFault::Unexpected)),
        (&[22, 3, 3, 0, 1], false, Ok(None)),
        (&[20, 3, 3, 0, 1, 1], false, Err(RecordFault::Unexpected)),
        (&[24, 3, 3, 0, 1, 1], false, Err(RecordFault::Unexpected)),
        (&[23, 3, 3, 0, 1, 1], true, Ok(Some(6))),
        (&[23, 3, 3, 0, 1, 1, 1], true, Ok(Some(6))),
        (&[23, 3, 3, 0], true, Ok(None)),
    ] {
        assert_eq!(whole(header, is_tls13), expected, "{header:?}");
    }
}

#[test]
fn padding_is_taken_off_and_nothing_but_padding_refused() {
    for (content, expected) in [
        (&b"data\x17\0\0\0"[..], Ok(b"data".to_vec())),
        (b"\x17", Ok(Vec::new())),
        (b"\0\0\0", Err(RecordFault::Unexpected)),
        (b"", Err(RecordFault::Unexpected)),
        (b"x\x14", Err(RecordFault::Unexpected)),
    ] {
        let mut pair = Pair::of(TLS13);
        let record = pair.client.sealing.seal_as_it_is(content);
        feed(&mut pair.server, &record);
        assert_eq!(read(&mut pair.server, 100), expected, "{content:?}");
    }
    let mut pair = Pair::of(TLS13);
    let record = pair.client.sealing.seal_as_it_is(&[vec![7; 16_385], vec![23]].concat());
    feed(&mut pair.server, &record);
    assert_eq!(read(&mut pair.server, 100), Err(RecordFault::Overflow));
}

/// The records in `bytes`.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, ..] = *bytes {
        let (record, rest) = bytes.split_at(5 + usize::from(u16::from_be_bytes([high, low])));
        records.push(record);
        bytes = rest;
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_is_read_however_it_is_written_and_cut(
        suite in 0..SUITES.len(),
        writes in prop::collection::vec(1..6000_usize, 1..6),
        cuts in prop::collection::vec(1..9000_usize, 1..40),
        piece in 1..20_000_usize,
    ) {
        let mut pair = Pair::of(SUITES[suite]);
        let (mut sent, mut ciphertext, mut heard) = (Vec::new(), Vec::new(), Vec::new());
        for length in writes {
            let data = pattern(length);
            ciphertext.extend(sealed(&mut pair.client, &data));
            sent.extend(data);
        }
        let mut rest = ciphertext.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            // As much as there is room for, as from a socket.
            let room = pair.server.incomplete().map_or(Chunk::SIZE, |chunk| chunk.spare());
            let (part, more) = rest.split_at((*cut).min(rest.len()).min(room));
            feed(&mut pair.server, part);
            heard.extend(read(&mut pair.server, piece).unwrap());
            rest = more;
        }
        prop_assert!(heard == sent);
        prop_assert!(pair.server.is_empty());
    }

    #[test]
    fn nothing_that_was_changed_is_read(
        suite in 0..SUITES.len(),
        length in 1..300_usize,
        place in any::<prop::sample::Index>(),
        change in 1..=255_u8,
    ) {
        let mut pair = Pair::of(SUITES[suite]);
        let mut record = sealed(&mut pair.client, &pattern(length));
        let at = place.index(record.len());
        // RFC 8446 §5.1: the version is not looked at, though TLS 1.3 authenticates it.
        prop_assume!(pair.server.opening.is_tls13() || !(1..3).contains(&at));
        record[at] ^= change;
        feed(&mut pair.server, &record);
        // A longer record is waited for.
        let read = read(&mut pair.server, 1000);
        prop_assert!(read.is_err() || read == Ok(Vec::new()), "{} of {} bytes", at, record.len());
    }
}

const NAME: &str = "good.example";
