//! A request as its client means it, and as an origin is to see it.

use std::fmt;

/// A request; texts are ISO 8859-1, byte by byte.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) method: String,
    /// As the origin is to get it.
    pub(super) target: String,
    /// Names in lower case, values without white space around them; in the order sent.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether it is for another host than its connection.
    pub(super) is_misdirected: bool,
    /// Whether it has nothing that Gatehouse might refuse.
    pub(super) is_plain: bool,
}

/// How a client's bytes end behind the last whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// There is nothing more.
    Clean,
    /// What follows is ignored, since the last request ends the connection.
    Closed,
    /// There is the beginning of another.
    Incomplete,
    /// There is what must be refused.
    Invalid,
    /// There is a request that may be forwarded, whose body then shows that it must be refused.
    InvalidBody,
}

impl Message {
    /// The values of a field.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, fields, body, .. } = self;
        write!(f, "{method} {target} {fields:?} with {} bytes", body.len())
    }
}

pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
