//! Requests before they are bytes: what a client may mean, and how it may write it.

use proxy_common::fixture::fuzz::Dice;

use super::parts::{BODIES, EXTENSIONS, FIELDS, METHODS, PATHS, PIECES, QUERIES, TRAILERS};

/// A request that a client may send, odd as it may be.
pub(super) struct Draft {
    pub(super) method: &'static str,
    pub(super) target: String,
    /// Names and values, without the ones that frame the body.
    pub(super) fields: Vec<(&'static str, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    framing: Framing,
    version: Version,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Nothing,
    Length,
    Chunked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http11,
    Http10 { keeps_alive: bool },
}

impl Draft {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let body = body(dice);
        let framing = match (body.is_empty(), dice.below(2)) {
            (true, _) if dice.below(4) > 0 => Framing::Nothing,
            (_, 0) => Framing::Chunked,
            (_, _) => Framing::Length,
        };
        // RFC 9112 §6.1: chunked is unknown to HTTP/1.0.
        let is_old = framing != Framing::Chunked && dice.below(8) == 0;
        let version =
            if is_old { Version::Http10 { keeps_alive: dice.below(2) == 0 } } else { Version::Http11 };
        let (method, target) = match dice.below(40) {
            0 => ("OPTIONS", "*".to_owned()),
            _ => (METHODS[dice.below(METHODS.len())], target(dice)),
        };
        let fields = (0..dice.below(6)).map(|_| field(dice)).collect();
        Self { method, target, fields, body, framing, version }
    }

    /// Each part once, in requests that are plain otherwise; fields twice, since servers differ most in repeated ones.
    pub(super) fn of_each_part() -> Vec<Self> {
        let plain = || Self {
            method: "GET",
            target: "/".to_owned(),
            fields: Vec::new(),
            body: Vec::new(),
            framing: Framing::Nothing,
            version: Version::Http11,
        };
        let methods = METHODS.map(|method| Self { method, ..plain() });
        let paths = PATHS.map(|path| Self { target: path.to_owned(), ..plain() });
        let queries = QUERIES.map(|query| Self { target: format!("/{query}"), ..plain() });
        let fields = FIELDS.map(|(name, value)| Self { fields: vec![(name, value.to_vec()); 2], ..plain() });
        let framings = [0, 1, 70_000].map(|size| [(size, Framing::Length), (size, Framing::Chunked)]);
        let bodies = framings.into_iter().flatten().flat_map(|(size, framing)| {
            ["POST", "GET", "BREW"].map(|method| Self { method, body: vec![b'b'; size], framing, ..plain() })
        });
        let types = ["text/plain", "image/gif"].map(|kind| ("content-type", kind.as_bytes().to_vec()));
        let further = [
            Self { method: "OPTIONS", target: "*".to_owned(), ..plain() },
            Self { fields: types.to_vec(), ..plain() },
        ];
        methods.into_iter().chain(paths).chain(queries).chain(fields).chain(bodies).chain(further).collect()
    }

    /// Whether HTTP/2 has no word for it, or its client library none.
    pub(super) fn is_of_http1_alone(&self) -> bool {
        self.target == "*" || self.fields.iter().any(|(name, _)| OF_HTTP1.contains(name))
    }

    /// Its bytes for `host`, and where a client that expects an interim response waits for it.
    pub(super) fn render(&self, host: &str, dice: &mut Dice) -> (Vec<u8>, Option<usize>) {
        let line_end: &[u8] = if dice.below(8) == 0 { b"\n" } else { b"\r\n" };
        let mut bytes = if dice.below(10) == 0 { b"\r\n".to_vec() } else { Vec::new() };
        bytes.extend(self.request_line(host, dice).bytes());
        bytes.extend(line_end);
        let expects = !self.body.is_empty() && self.version == Version::Http11 && dice.below(12) == 0;
        let mut lines = self.own_lines(host, expects);
        lines.extend(self.fields.iter().map(|(name, value)| (*name, value.clone())));
        shuffle(&mut lines, dice);
        for (name, value) in lines {
            bytes.extend(cased(name, dice).bytes());
            bytes.push(b':');
            bytes.extend(BLANKS[dice.below(BLANKS.len())]);
            bytes.extend(value);
            bytes.extend(BLANKS[dice.below(BLANKS.len())]);
            bytes.extend(line_end);
        }
        bytes.extend(line_end);
        let head = bytes.len();
        match self.framing {
            Framing::Nothing => {}
            Framing::Length => bytes.extend(&self.body),
            Framing::Chunked => chunks(&self.body, &mut bytes, dice),
        }
        (bytes, expects.then_some(head))
    }

    fn request_line(&self, host: &str, dice: &mut Dice) -> String {
        let version = if self.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
        let target = match (self.target.as_str(), dice.below(8)) {
            // RFC 9112 §3.2.4.
            ("*", 0..4) => format!("https://{host}"),
            ("*", _) | (_, 1..) => self.target.clone(),
            (path, 0) => format!("https://{host}{path}"),
        };
        format!("{} {target} {version}", self.method)
    }

    /// What the request must have beside its fields.
    fn own_lines(&self, host: &str, expects: bool) -> Vec<(&'static str, Vec<u8>)> {
        let mut lines = vec![("host", host.as_bytes().to_vec())];
        match self.framing {
            Framing::Nothing => {}
            Framing::Length => lines.push(("content-length", self.body.len().to_string().into_bytes())),
            Framing::Chunked => lines.push(("transfer-encoding", b"chunked".to_vec())),
        }
        if self.version == (Version::Http10 { keeps_alive: true }) {
            lines.push(("connection", b"keep-alive".to_vec()));
        }
        if expects {
            lines.push(("expect", b"100-continue".to_vec()));
        }
        lines
    }
}

fn target(dice: &mut Dice) -> String {
    let query = QUERIES[dice.below(QUERIES.len())];
    let query =
        if query.ends_with("LONG") { query.replace("LONG", &"q%20".repeat(1_500)) } else { query.to_owned() };
    if dice.below(2) == 0 {
        return format!("{}{query}", PATHS[dice.below(PATHS.len())]);
    }
    let pieces: Vec<&str> = (0..=dice.below(4)).map(|_| PIECES[dice.below(PIECES.len())]).collect();
    format!("/{}{query}", pieces.join("/"))
}

fn field(dice: &mut Dice) -> (&'static str, Vec<u8>) {
    let (name, value) = FIELDS[dice.below(FIELDS.len())];
    let value = if value == b"LONG" { vec![b'v'; 1_000 + dice.below(7_000)] } else { value.to_vec() };
    (name, value)
}

fn body(dice: &mut Dice) -> Vec<u8> {
    let length = BODIES[dice.below(BODIES.len())];
    (0..length).map(|_| dice.byte()).collect()
}

fn chunks(body: &[u8], bytes: &mut Vec<u8>, dice: &mut Dice) {
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(1 + dice.below(rest.len()));
        let zeros = "0".repeat(dice.below(4));
        let size =
            if dice.below(2) == 0 { format!("{:x}", chunk.len()) } else { format!("{:X}", chunk.len()) };
        bytes.extend(format!("{zeros}{size}{}\r\n", EXTENSIONS[dice.below(EXTENSIONS.len())]).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
        rest = behind;
    }
    bytes.extend(format!("0{}\r\n", EXTENSIONS[dice.below(EXTENSIONS.len())]).bytes());
    bytes.extend(TRAILERS[dice.below(TRAILERS.len())].bytes());
    bytes.extend(b"\r\n");
}

fn shuffle<T>(items: &mut [T], dice: &mut Dice) {
    for at in (1..items.len()).rev() {
        items.swap(at, dice.below(at + 1));
    }
}

fn cased(name: &str, dice: &mut Dice) -> String {
    match dice.below(3) {
        0 => name.to_owned(),
        1 => name.to_ascii_uppercase(),
        _ => name
            .chars()
            .map(|letter| if dice.below(2) == 0 { letter.to_ascii_uppercase() } else { letter })
            .collect(),
    }
}

/// RFC 9110 §5.6.3.
const BLANKS: [&[u8]; 6] = [b" ", b" ", b" ", b"", b"\t", b"  \t "];
/// RFC 9113 §8.2.2.
const OF_HTTP1: [&str; 6] =
    ["connection", "keep-alive", "upgrade", "proxy-connection", "te", "http2-settings"];
