//! Responses of every framing.

use http::{HeaderMap, Method, Request, StatusCode, header};

use super::*;

/// What a response says.
#[derive(Debug, PartialEq, Eq)]
struct Response {
    interim: Vec<(StatusCode, HeaderMap)>,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    end: BodyEnd,
    is_persistent: bool,
}

/// Reads `bytes` as the answer to `method`, received in pieces that end at `cuts`, and then the end of the connection.
fn read(method: &Method, bytes: &[u8], cuts: &[usize]) -> Result<Response, Unread> {
    let (mut received, mut reader) = (Received::new(bytes, cuts), ResponseReader::default());
    let mut interim = Vec::new();
    let head = loop {
        match reader.read(&mut received.buffer, method)? {
            Some(ResponsePart::Final(head)) => break head,
            Some(ResponsePart::Interim(InterimResponse { status, fields })) => {
                interim.push((status, fields.to_map()));
            }
            None if received.more() => {}
            None => return Err(Unread::Truncated),
        }
    };
    let (body, end, trailers) = received.body(head.framing)?;
    let ResponseHead { status, fields, is_persistent, .. } = head;
    let headers = fields.to_map();
    Ok(Response { interim, status, headers, body, trailers, end, is_persistent })
}

fn get(text: &str) -> Result<Response, Unread> {
    read(&Method::GET, text.as_bytes(), &[])
}

#[test]
fn every_framing_is_read() {
    for (text, body, end, is_persistent) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", BodyEnd::Marked, true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            BodyEnd::Marked,
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", BodyEnd::Marked, true),
        ("HTTP/1.1 200\nContent-Length: 2\n\nok", "ok", BodyEnd::Marked, true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            "ok",
            BodyEnd::Marked,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n002 ;a=\"b\"\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            "ok",
            BodyEnd::Marked,
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", BodyEnd::Closed, false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", "", BodyEnd::Closed, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", BodyEnd::Marked, false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", "", BodyEnd::Marked, true),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", "", BodyEnd::Marked, false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", BodyEnd::Marked, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", BodyEnd::Marked, true),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "", BodyEnd::Marked, true),
    ] {
        let response = get(text).unwrap();
        let seen = (String::from_utf8(response.body).unwrap(), response.end, response.is_persistent);
        assert_eq!(seen, (body.to_owned(), end, is_persistent), "{text:?}");
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let response = read(&Method::HEAD, head, &[]).unwrap();
    assert_eq!((response.body.len(), &response.headers[header::CONTENT_LENGTH]), (0, &header_value("9")));
}

#[test]
fn interim_responses_come_one_by_one() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    let text = format!("HTTP/1.1 100 Continue\r\n\r\n{hints}HTTP/1.1 204 No Content\r\n\r\n");
    let response = get(&text).unwrap();
    let statuses: Vec<_> = response.interim.iter().map(|(status, _)| status.as_u16()).collect();
    assert_eq!((statuses, response.status.as_u16()), (vec![100, 103], 204));
    assert_eq!(response.interim[1].1[header::LINK], header_value("</a.css>"));
}

fn header_value(text: &'static str) -> http::HeaderValue {
    http::HeaderValue::from_static(text)
}

#[test]
fn fields_are_taken_over_as_a_proxy_must() {
    let text =
        "HTTP/1.1 204 No Content\r\nBlank : a\r\nFolded: b\r\n c\r\nSet-Cookie: 1\r\nset-cookie: 2\r\n\r\n";
    let headers = get(text).unwrap().headers;
    let value =
        |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(value("blank"), ["a"], "RFC 9112 §5.1");
    assert_eq!(value("folded"), ["b   c"], "RFC 9112 §5.2");
    assert_eq!(value("set-cookie"), ["1", "2"]);
}

#[test]
fn framing_in_doubt_is_refused() {
    use MessageViolation::{Chunk, ContentLength, HeaderSection, StatusLine, TransferEncoding};
    for (fields, violation) in [
        ("Content-Length: 2\r\nContent-Length: 3", ContentLength),
        ("Content-Length: 2, 3", ContentLength),
        ("Content-Length: +2", ContentLength),
        ("Content-Length: 2 2", ContentLength),
        ("Content-Length:", ContentLength),
        ("Content-Length: 99999999999999999999", ContentLength),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", TransferEncoding),
        ("Transfer-Encoding: gzip, chunked", TransferEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TransferEncoding),
        ("Transfer-Encoding: identity", TransferEncoding),
        ("No colon", HeaderSection),
        (": no name", HeaderSection),
        ("A: \0", HeaderSection),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok");
        assert_eq!(get(&text).unwrap_err(), violation.into(), "{fields:?}");
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(get(old).unwrap_err(), TransferEncoding.into());
    for line in ["SSH-2.0-x", "HTTP/2 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "\r\n"] {
        let text = format!("{line}\r\n\r\n");
        assert_eq!(get(&text).unwrap_err(), StatusLine.into(), "{line:?}");
    }
    for chunks in [
        "",
        "x",
        "\r\n",
        "2\nok\r\n",
        "2\r\nokay\r\n",
        "11112222333344445\r\n",
        "-1\r\n",
        "0\r\n\n",
        "2;\n\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let expected = if chunks.is_empty() { Unread::Truncated } else { Chunk.into() };
        assert_eq!(get(&text).unwrap_err(), expected, "{chunks:?}");
    }
}

#[test]
fn what_breaks_off_is_told_from_what_ends() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
    ] {
        assert_eq!(get(text).unwrap_err(), Unread::Truncated, "{text:?}");
    }
}

#[test]
fn what_never_ends_is_refused() {
    use MessageViolation::{ChunkExtras, HeaderSectionSize, InterimResponses};
    let long = "x".repeat(response_reader::MAX_HEADER_SECTION);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (text, violation) in [
        (format!("HTTP/1.1 200 OK\r\nA: {long}"), HeaderSectionSize),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(1_000)), HeaderSectionSize),
        ("HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000), InterimResponses),
        (format!("{chunked}1;{long}"), ChunkExtras),
        (format!("{chunked}{}", "1;a\r\nx\r\n".repeat(20_000)), ChunkExtras),
        (format!("{chunked}0\r\nA: {long}"), ChunkExtras),
        (format!("{chunked}0\r\n{}\r\n", "A: b\r\n".repeat(1_000)), ChunkExtras),
    ] {
        assert_eq!(get(&text).unwrap_err(), violation.into(), "{violation:?}");
    }
}

#[test]
fn a_mutated_corpus_means_the_same_however_it_is_cut() {
    check_cuts("responses", |bytes, cuts| {
        [Method::GET, Method::HEAD].map(|method| read(&method, bytes, cuts))
    });
}

/// What both hyper's client and ours take for a response, they read alike.
#[test]
fn a_mutated_corpus_is_read_as_hyper_reads_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut alike = 0;
    corpus("responses").run(|bytes| {
        let (Ok(ours), Some(theirs)) = (read(&Method::GET, bytes, &[]), runtime.block_on(by_hyper(bytes)))
        else {
            return;
        };
        assert_eq!((ours.status, ours.headers, ours.body, ours.trailers), theirs);
        alike += 1;
    });
    assert!(alike >= 4, "of the seeds alone, hyper reads that many: {alike}");
}

async fn by_hyper(bytes: &[u8]) -> Option<(StatusCode, HeaderMap, Vec<u8>, Option<HeaderMap>)> {
    use http_body_util::{BodyExt, Empty};
    use hyper::client::conn::http1;

    let (near, mut far) = tokio::io::duplex(1 << 20);
    let io = hyper_util::rt::TokioIo::new(near);
    let (mut sender, connection) = http1::handshake(io).await.ok()?;
    let answering = async {
        let request = Request::builder().uri("/").header("host", "a").body(Empty::<Bytes>::new()).ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?;
        let trailers = body.trailers().cloned();
        Some((head.status, head.headers, body.to_bytes().to_vec(), trailers))
    };
    let playing = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        // Not before the request: what comes unasked ends hyper's connection.
        let _ = far.read(&mut [0; 1024]).await;
        let _ = far.write_all(bytes).await;
        drop(far);
    };
    tokio::join!(answering, connection, playing).0
}

#[test]
fn trailers_are_read_and_written() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    let trailers = get(&format!("{chunked}0\r\nX-Sum: 1\r\nb:\r\n\r\n")).unwrap().trailers.unwrap();
    assert_eq!((trailers.len(), &trailers["x-sum"]), (2, &header_value("1")));
    assert_eq!(get(&format!("{chunked}0\r\n\r\n")).unwrap().trailers, None);
    for section in ["no colon", ": no name", "a b: c", "A: \0"] {
        let read = get(&format!("{chunked}0\r\n{section}\r\n\r\n"));
        assert_eq!(read.unwrap_err(), MessageViolation::TrailerSection.into(), "{section:?}");
    }
    let written = |framing| {
        let mut message = MessageWriter::new(BytesMut::from("head."), framing);
        message.put_body(Some(&b"ok"[..]), false).unwrap();
        let mut written = message.copy_to_bytes(message.remaining()).to_vec();
        message.put_end(Some(&trailers)).unwrap();
        assert!(message.is_over());
        written.extend(message.copy_to_bytes(message.remaining()));
        String::from_utf8(written).unwrap()
    };
    assert_eq!(written(OutgoingFraming::Chunked), "head.2\r\nok\r\n0\r\nx-sum: 1\r\nb: \r\n\r\n");
    assert_eq!(written(OutgoingFraming::Length { left: 2 }), "head.ok");
    assert_eq!(written(OutgoingFraming::UntilClose), "head.ok");
}

#[test]
fn a_chunked_body_reads_back() {
    for last_with_data in [true, false] {
        let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut message = MessageWriter::new(BytesMut::from(&head[..]), OutgoingFraming::Chunked);
        let mut written = Vec::new();
        let pieces = [(&b"a"[..], false), (b"", false), (&[b'b'; 300], last_with_data), (b"", true)];
        let end = if last_with_data { 3 } else { 4 };
        for (data, is_last) in &pieces[..end] {
            message.put_body(Some(*data), *is_last).unwrap();
            written.extend(message.copy_to_bytes(message.remaining()));
        }
        let read = read(&Method::GET, &written, &[]).unwrap();
        assert_eq!(read.body, [&b"a"[..], &[b'b'; 300]].concat());
    }
}
