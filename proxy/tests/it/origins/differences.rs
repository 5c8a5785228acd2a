//! Where a server reads a request otherwise than the others, each with its reason. What is not in this table must be read as it was meant.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use testbed::origin::Server::{self, Apache, Gunicorn, Lighttpd, Nginx, Node, Uvicorn, Waitress};

use super::message::Message;

/// Something that a server does with some requests.
pub(super) struct Difference {
    server: Server,
    instead: Instead,
    /// Why that is no fault of ours.
    because: &'static str,
}

enum Instead {
    /// It answers these itself, with one of these statuses.
    Answer(fn(&Message) -> bool, &'static [u16]),
    /// Its program is not told of such fields.
    Hide(fn(&str, &[String]) -> bool),
    /// Its program is told of fields by such names.
    Rename(fn(&str) -> String),
    /// Its program is told of the first of several such fields.
    First(&'static str),
    /// Its program is told of such targets.
    Retarget(fn(&str) -> &str),
}

/// How often each row of [`TABLE`] that is about answers was met.
pub(super) struct Met([AtomicU64; TABLE.len()]);

impl Default for Met {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; TABLE.len()])
    }
}

impl Met {
    /// Whether `server` may answer `message` itself with `status`, or break it off ([`BREAKS`]).
    pub(super) fn allow(&self, server: Server, message: &Message, status: u16) -> bool {
        let mut rows = TABLE.iter().zip(&self.0).filter(|(row, _)| row.server == server);
        rows.any(|(row, met)| match row.instead {
            Instead::Answer(when, statuses) if when(message) && statuses.contains(&status) => {
                met.fetch_add(1, Ordering::Relaxed);
                true
            }
            _ => false,
        })
    }

    /// Whether `server` must answer `message` itself.
    pub(super) fn must(server: Server, message: &Message) -> bool {
        let mut rows = TABLE.iter().filter(|row| row.server == server);
        rows.any(|row| matches!(row.instead, Instead::Answer(when, _) if when(message)))
    }

    /// The rows about answers that describe none of the run: they are out of date.
    pub(super) fn unmet(&self) -> Vec<&'static str> {
        let is_answer = |row: &Difference| matches!(row.instead, Instead::Answer(..));
        let rows = TABLE.iter().zip(&self.0).filter(|(row, _)| is_answer(row));
        rows.filter(|(_, met)| met.load(Ordering::Relaxed) == 0).map(|(row, _)| row.because).collect()
    }
}

/// The fields as `server` tells its program of them. That it does so, and no otherwise, is asserted by whoever compares.
pub(super) fn told(
    server: Server,
    mut fields: BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Vec<String>> {
    for row in TABLE.iter().filter(|row| row.server == server) {
        match row.instead {
            Instead::Hide(hides) => fields.retain(|name, values| !hides(name, values)),
            Instead::Rename(rename) => {
                let mut renamed = BTreeMap::<_, Vec<_>>::new();
                for (name, values) in fields {
                    renamed.entry(rename(&name)).or_default().extend(values);
                }
                fields = renamed;
            }
            Instead::First(name) => {
                if let Some(values) = fields.get_mut(name) {
                    values.truncate(1);
                }
            }
            Instead::Answer(..) | Instead::Retarget(_) => {}
        }
    }
    fields
}

/// The target as `server` tells its program of it.
pub(super) fn told_target(server: Server, target: &str) -> &str {
    let rows = TABLE.iter().filter(|row| row.server == server);
    rows.fold(
        target,
        |target, row| if let Instead::Retarget(retarget) = row.instead { retarget(target) } else { target },
    )
}

const fn row(server: Server, because: &'static str, instead: Instead) -> Difference {
    Difference { server, instead, because }
}

/// For a status: the server ends the connection, and the answer with it.
pub(super) const BREAKS: u16 = 0;

const TABLE: [Difference; 35] = [
    row(
        Nginx,
        "it ignores fields whose names have other punctuation than `-`",
        Instead::Hide(|name, _| !is_dashed(name)),
    ),
    row(
        Nginx,
        "its methods are of capitals, `-` and `_`",
        Instead::Answer(|message| !is_capital(&message.method), &[400]),
    ),
    row(Nginx, "it knows no target but paths", Instead::Answer(|message| message.target == "*", &[400])),
    row(
        Nginx,
        "it takes targets for paths of files, whose escapes are whole and not zero",
        Instead::Answer(|message| !is_decodable(path(message)), &[400]),
    ),
    row(
        Nginx,
        "it takes targets for paths of files, which do not lead out of the root",
        Instead::Answer(|message| leads_out(&decoded(path(message))), &[400]),
    ),
    row(
        Nginx,
        "it refuses to choose between two fields of those it heeds",
        Instead::Answer(
            |message| HEEDED_BY_NGINX.iter().any(|name| message.values(name).count() > 1),
            &[400],
        ),
    ),
    row(
        Apache,
        "it tells of no fields whose names have other punctuation than `-`",
        Instead::Hide(|name, _| !is_dashed(name)),
    ),
    row(
        Apache,
        "it answers for the whole server",
        Instead::Answer(|message| message.target == "*", &[200, 400]),
    ),
    row(
        Apache,
        "it takes targets for paths of files, whose escapes are whole and not zero",
        Instead::Answer(|message| !is_decodable(path(message)), &[400, 404]),
    ),
    row(
        Apache,
        "it takes targets for paths of files, which do not lead out of the root",
        Instead::Answer(|message| leads_out(&path(message).replace("%2e", ".").replace("%2E", ".")), &[400]),
    ),
    row(
        Apache,
        "it passes no control characters on to programs",
        Instead::Answer(
            |message| decoded(path(message)).contains(|letter: char| letter.is_ascii_control()),
            &[400, 403, 404],
        ),
    ),
    row(
        Apache,
        "it is a proxy to its programs, and obeys Max-Forwards",
        Instead::Answer(
            |message| message.values("max-forwards").any(|value| !matches!(value.parse(), Ok(1_u32..))),
            &[200, 400],
        ),
    ),
    row(Lighttpd, "it refuses to choose between two types", Instead::Answer(has_unlike_types, &[400])),
    row(Lighttpd, "it leaves one of two equal dates", Instead::First("if-modified-since")),
    row(Lighttpd, "it leaves one of two equal lists", Instead::First("if-none-match")),
    row(Lighttpd, "it leaves one of two equal types", Instead::First("content-type")),
    row(Lighttpd, "it tells of names with `_` for all punctuation", Instead::Rename(underscored)),
    row(
        Lighttpd,
        "it tells of no empty fields",
        Instead::Hide(|_, values| values.iter().all(String::is_empty)),
    ),
    row(
        Lighttpd,
        "it has a list of methods",
        Instead::Answer(|message| !has(&KNOWN_TO_LIGHTTPD, message), &[400, 501]),
    ),
    row(
        Lighttpd,
        "it answers for the whole server",
        Instead::Answer(|message| message.target == "*", &[200]),
    ),
    row(
        Lighttpd,
        "it takes no body with GET and HEAD",
        Instead::Answer(|message| has(&["GET", "HEAD"], message) && has_body(message), &[400]),
    ),
    row(
        Lighttpd,
        "it takes no control characters and no first halves of letters in targets",
        Instead::Answer(|message| !is_text(&message.target), &[400]),
    ),
    row(
        Node,
        "llhttp has a list of methods; a body on its way breaks the answer off",
        Instead::Answer(|message| !has(&KNOWN_TO_NODE, message), &[400, 502, BREAKS]),
    ),
    row(
        Node,
        "its targets are ASCII; a body on its way breaks the answer off",
        Instead::Answer(is_beyond_ascii, &[400, 502, BREAKS]),
    ),
    row(
        Gunicorn,
        "its methods have three to twenty letters",
        Instead::Answer(|message| is_short(&message.method), &[400]),
    ),
    row(
        Gunicorn,
        "it takes no small letters for a method, and no `#`",
        Instead::Answer(|message| has_small_letters(message) || message.method.contains('#'), &[400]),
    ),
    row(
        Gunicorn,
        "it drops fields whose names it could take for others",
        Instead::Hide(|name, _| name.contains('_')),
    ),
    row(
        Gunicorn,
        "it refuses to choose between two types",
        Instead::Answer(|message| message.values("content-type").count() > 1, &[400]),
    ),
    row(Gunicorn, "its targets are ASCII", Instead::Answer(is_beyond_ascii, &[400])),
    row(Uvicorn, "its targets are ASCII", Instead::Answer(is_beyond_ascii, &[400])),
    row(Uvicorn, "ASGI does not tell an empty query from none", Instead::Retarget(without_empty_query)),
    row(Waitress, "its targets are ASCII", Instead::Answer(is_beyond_ascii, &[400])),
    row(
        Waitress,
        "it trusts nobody's X-Forwarded-* unless told whom to trust",
        Instead::Hide(|name, _| name.starts_with("x-forwarded-")),
    ),
    row(
        Waitress,
        "it drops fields whose names it could take for others",
        Instead::Hide(|name, _| name.contains('_')),
    ),
    row(Waitress, "it takes no small letters for a method", Instead::Answer(has_small_letters, &[400])),
];

fn has_small_letters(message: &Message) -> bool {
    message.method.contains(|letter: char| letter.is_ascii_lowercase())
}

fn has_unlike_types(message: &Message) -> bool {
    let mut types = message.values("content-type");
    let first = types.next();
    types.any(|other| Some(other) != first)
}

/// RFC 3986 §2 has no such letters; browsers escape them.
fn is_beyond_ascii(message: &Message) -> bool {
    !message.target.is_ascii()
}

fn has_body(message: &Message) -> bool {
    !message.body.is_empty() || message.values("transfer-encoding").next().is_some()
}

/// RFC 9110 §9.1 has no limit.
fn is_short(method: &str) -> bool {
    method.len() < 3 || method.len() > 20
}

fn path(message: &Message) -> &str {
    message.target.split('?').next().unwrap_or_default()
}

/// With its escapes decoded, where they are whole; ISO 8859-1.
fn decoded(target: &str) -> String {
    let mut pieces = target.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => text.extend([&char::from(byte).to_string(), &piece[2..]]),
            None => text.extend(["%", piece]),
        }
    }
    text
}

fn is_decodable(path: &str) -> bool {
    let is_whole = |piece: &str| {
        piece.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    path.split('%').skip(1).all(is_whole) && !path.contains("%00")
}

fn leads_out(path: &str) -> bool {
    let depth = path.split('/').try_fold(0_i32, |depth, piece| match piece {
        "" | "." => Some(depth),
        ".." => (depth > 0).then_some(depth - 1),
        _ => Some(depth + 1),
    });
    depth.is_none()
}

fn is_text(target: &str) -> bool {
    let bytes: Vec<u8> = decoded(target).chars().filter_map(|letter| u8::try_from(letter).ok()).collect();
    let only_goes_on = |byte: &u8| (0x80..0xc0).contains(byte);
    let mut chunks = bytes.utf8_chunks();
    chunks.all(|chunk| !chunk.valid().contains(char::is_control) && chunk.invalid().iter().all(only_goes_on))
}

fn without_empty_query(target: &str) -> &str {
    if target.find('?') == Some(target.len() - 1) { &target[..target.len() - 1] } else { target }
}

fn is_dashed(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_capital(method: &str) -> bool {
    method.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte))
}

fn underscored(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn has(methods: &[&str], message: &Message) -> bool {
    methods.contains(&message.method.as_str())
}

const KNOWN_TO_NODE: [&str; 11] =
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "MKCOL", "M-SEARCH"];
const KNOWN_TO_LIGHTTPD: [&str; 10] =
    ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "MKCOL"];
const HEEDED_BY_NGINX: [&str; 3] = ["authorization", "if-modified-since", "if-none-match"];
