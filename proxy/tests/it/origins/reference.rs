//! What a strict reader makes of a client's bytes (RFC 9112), written from the RFC and from what Gatehouse documents, not from its code:
//! which requests they hold, what each means, and how they end.

use super::message::{Message, Tail, latin1};

/// What `bytes` from a client of `host` hold.
pub(super) struct Reading<'a> {
    pub(super) messages: Vec<Message>,
    pub(super) tail: Tail,
    /// Behind the last whole request.
    pub(super) rest: &'a [u8],
}

/// Reads all requests. Where Gatehouse may read on or refuse, this reads on: what is refused is seen in the answer.
pub(super) fn read<'a>(bytes: &'a [u8], host: &str) -> Reading<'a> {
    let (mut rest, mut messages) = (bytes, Vec::new());
    let tail = loop {
        let behind = without_empty_lines(rest);
        // RFC 9112 §2.2 has clients send CRLF there, and servers may take LF for it.
        let is_doubtful = !rest[..rest.len() - behind.len()].chunks(2).all(|line| line == b"\r\n");
        rest = behind;
        if rest.is_empty() {
            break if is_doubtful { Tail::Incomplete } else { Tail::Clean };
        }
        match request(rest, host) {
            Ok(Request { mut message, length, persists }) => {
                message.is_plain &= !is_doubtful;
                messages.push(message);
                rest = &rest[length..];
                if !persists {
                    break Tail::Closed;
                }
            }
            Err(tail) => break tail,
        }
    };
    Reading { messages, tail, rest }
}

/// RFC 9112 §2.2: empty lines in front of a request line are ignored, and a line may end in LF alone.
fn without_empty_lines(mut bytes: &[u8]) -> &[u8] {
    loop {
        bytes = match bytes {
            [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => rest,
            _ => return bytes,
        };
    }
}

/// A request, how long it is in bytes, and whether another may follow over its connection.
struct Request {
    message: Message,
    length: usize,
    persists: bool,
}

fn request(bytes: &[u8], host: &str) -> Result<Request, Tail> {
    let (lines, head_length) = lines(bytes)?;
    let (first, field_lines) = lines.split_first().ok_or(Tail::Invalid)?;
    let (method, target, is_http10) = request_line(first).ok_or(Tail::Invalid)?;
    let fields =
        field_lines.iter().map(|line| field(line)).collect::<Option<Vec<_>>>().ok_or(Tail::Invalid)?;
    if fields.len() > MOST_FIELDS || fields.iter().any(|(name, _)| is_shadow(name)) {
        return Err(Tail::Invalid);
    }
    let mut message = Message {
        is_plain: is_plain_target(target),
        target: String::new(),
        method: latin1(method),
        is_misdirected: false,
        body: Vec::new(),
        fields,
    };
    let target = target_of(target, &message.method).ok_or(Tail::Invalid)?;
    message.target = target.as_sent;
    message.is_misdirected = is_misdirected(&message, target.authority.as_deref(), host)?;
    let (body, body_length) = body(&message, is_http10, &bytes[head_length..])?;
    message.body = body;
    Ok(Request { persists: persists(is_http10, &message.fields), message, length: head_length + body_length })
}

/// The lines of a header section without their ends, and how long it is.
fn lines(bytes: &[u8]) -> Result<(Vec<&[u8]>, usize), Tail> {
    let (mut lines, mut begin) = (Vec::new(), 0);
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        let line = &bytes[begin..at];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        begin = at + 1;
        if line.is_empty() {
            return if begin > MOST_HEAD { Err(Tail::Invalid) } else { Ok((lines, begin)) };
        }
        lines.push(line);
    }
    Err(if bytes.len() < MOST_HEAD { Tail::Incomplete } else { Tail::Invalid })
}

fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_token = !method.is_empty() && method.iter().all(|byte| is_token(*byte));
    let is_target = !target.is_empty() && target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    let is_http10 = match version {
        b"HTTP/1.0" => true,
        b"HTTP/1.1" => false,
        _ => return None,
    };
    (is_token && is_target && words.next().is_none()).then_some((method, target, is_http10))
}

/// RFC 9112 §5: no white space in front of the colon, and no folded lines.
fn field(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let value_is_valid =
        line[colon + 1..].iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    let is_valid = !name.is_empty() && name.iter().all(|byte| is_token(*byte)) && value_is_valid;
    is_valid.then(|| (latin1(name).to_ascii_lowercase(), latin1(value)))
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What RFC 3986 §3.3, §3.4 let stand in a path and a query. Browsers send more, which is passed on as it is or refused.
pub(super) fn is_plain_target(target: &[u8]) -> bool {
    let escapes_are_whole = target.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        target.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(byte);
    escapes_are_whole && target.iter().all(is_plain)
}

/// A target in the form that an origin gets (RFC 9112 §3.2), and what it had in absolute form.
struct Target {
    as_sent: String,
    authority: Option<String>,
}

fn target_of(target: &[u8], method: &str) -> Option<Target> {
    let target = latin1(target);
    if target.contains('#') || method == "CONNECT" {
        return None;
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Some(Target { as_sent: target, authority: None });
    }
    let (scheme, rest) = target.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let as_sent = match path {
        // RFC 9112 §3.2.4.
        "" if method == "OPTIONS" => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let authority = Some(authority.to_owned());
    scheme.eq_ignore_ascii_case("https").then_some(Target { as_sent, authority })
}

/// Whether the request is for another host, which is answered with 421; an error is one that no answer but 400 fits.
fn is_misdirected(message: &Message, authority: Option<&str>, host: &str) -> Result<bool, Tail> {
    let mut hosts = message.values("host");
    let (Some(own), None) = (hosts.next(), hosts.next()) else { return Err(Tail::Invalid) };
    let (name, port) = own.split_once(':').unwrap_or((own, ""));
    let is_port = port.is_empty()
        || (port.bytes().all(|digit| digit.is_ascii_digit())
            && port.parse() != Ok(0_u16)
            && port.parse::<u16>().is_ok());
    if !is_port {
        return Err(Tail::Invalid);
    }
    let plain = |authority: &str| {
        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        let port = if port == "443" { "" } else { port };
        (name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(), port.to_owned())
    };
    match authority {
        Some(authority) if plain(authority) != plain(own) => Err(Tail::Invalid),
        _ => Ok(plain(name).0 != host),
    }
}

/// RFC 9112 §9.3.
fn persists(is_http10: bool, fields: &[(String, String)]) -> bool {
    let has = |option: &str| options(fields).any(|one| one.eq_ignore_ascii_case(option));
    !has("close") && (!is_http10 || has("keep-alive"))
}

/// The elements of Connection.
pub(super) fn options(fields: &[(String, String)]) -> impl Iterator<Item = &str> {
    let values = fields.iter().filter(|(name, _)| name == "connection").map(|(_, value)| value);
    values.flat_map(|value| value.split(',')).map(|option| option.trim_matches([' ', '\t']))
}

/// A body by its one framing (RFC 9112 §6.3), and how long it is with what marks its end.
fn body(message: &Message, is_http10: bool, bytes: &[u8]) -> Result<(Vec<u8>, usize), Tail> {
    let (codings, lengths): (Vec<_>, Vec<_>) =
        (message.values("transfer-encoding").collect(), message.values("content-length").collect());
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok((Vec::new(), 0)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length: u64 = length.parse().map_err(|_| Tail::Invalid)?;
            let body = usize::try_from(length).ok().and_then(|length| bytes.get(..length));
            body.map(|body| (body.to_vec(), body.len())).ok_or(Tail::Incomplete)
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") && !is_http10 => chunked(bytes),
        _ => Err(Tail::Invalid),
    }
}

/// RFC 9112 §7.1. Lines end in CRLF here: a lone LF is where readers disagree.
fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, usize), Tail> {
    let (mut body, mut at, mut extras) = (Vec::new(), 0, 0);
    loop {
        let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 16 || (digits == 0 && at < bytes.len()) {
            return Err(Tail::InvalidBody);
        }
        let after = bytes.get(at + digits).ok_or(Tail::Incomplete)?;
        let size =
            u64::from_str_radix(&latin1(&bytes[at..at + digits]), 16).map_err(|_| Tail::InvalidBody)?;
        if !b";\r \t".contains(after) {
            return Err(Tail::InvalidBody);
        }
        at = line(bytes, at + digits, &mut extras)?.1;
        if size == 0 {
            break;
        }
        let data = usize::try_from(size)
            .ok()
            .and_then(|size| bytes.get(at..)?.get(..size))
            .ok_or(Tail::Incomplete)?;
        body.extend(data);
        at += data.len();
        match bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Err(Tail::Incomplete),
            _ => return Err(Tail::InvalidBody),
        }
    }
    // RFC 9112 §7.1.2: the trailer section is passed on, so that it must be one.
    let (mut is_valid, mut trailers) = (true, 0);
    loop {
        let (length, next) = line(bytes, at, &mut extras)?;
        if length == 0 {
            let is_valid = is_valid && trailers <= MOST_TRAILERS;
            return if is_valid { Ok((body, next)) } else { Err(Tail::InvalidBody) };
        }
        is_valid &= field(&bytes[at..at + length]).is_some();
        trailers += 1;
        at = next;
    }
}

const MOST_TRAILERS: usize = 32;

/// A line of a chunked body: its length, and where the next one begins.
fn line(bytes: &[u8], begin: usize, extras: &mut usize) -> Result<(usize, usize), Tail> {
    let length = bytes[begin..].iter().take_while(|byte| !b"\r\n".contains(byte)).count();
    *extras += length;
    if *extras > MOST_EXTRAS {
        return Err(Tail::InvalidBody);
    }
    match bytes[begin + length..] {
        [b'\r', b'\n', ..] => Ok((length, begin + length + 2)),
        [] | [b'\r'] => Err(Tail::Incomplete),
        _ => Err(Tail::InvalidBody),
    }
}

/// A field that some server takes for one that decides where a message ends or whom it is for.
fn is_shadow(name: &str) -> bool {
    let letters = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    !GUARDED.contains(&name) && GUARDED.iter().any(|guarded| letters(guarded) == letters(name))
}

const GUARDED: [&str; 8] =
    ["content-length", "transfer-encoding", "host", "connection", "upgrade", "expect", "te", "trailer"];
/// `limits.header_size`, `limits.header_fields`.
const MOST_HEAD: usize = 32 << 10;
const MOST_FIELDS: usize = 128;
const MOST_EXTRAS: usize = 16 << 10;
