//! The fields of a header section, in the order they came: text, most of it where it was received, and an index of it.
//! A request's fields pass mostly as they are. A map would make a name, a value and a place in a table of each, and text of them again.
//! Invariants: what is written out is read as the same fields (`what_is_written_is_read_as_the_same_fields`); no value ends its line
//! (`no_value_ends_its_line`).

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::field_name::FieldName;

/// Field lines (RFC 9110 §5). Their names keep the case they were received in.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// Text that was received, with all else that lies between the fields.
    received: Bytes,
    /// Further text, whose places count on from those of `received`.
    added: Vec<u8>,
    lines: Vec<Line>,
    /// The bits of the names that there are, and of some that there were.
    names: u64,
}

/// Where a field lies.
#[derive(Debug, Clone)]
struct Line {
    known: FieldName,
    /// Whether it is written as that name is.
    is_exact: bool,
    name: Range<usize>,
    value: Range<usize>,
    /// Whether it can be written out as it lies: a colon and a space between name and value, and CRLF behind.
    is_plain: bool,
}

impl Line {
    fn is(&self, name: FieldName) -> bool {
        self.is_exact && self.known == name
    }
}

/// A field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// Whatever its punctuation.
    pub(crate) known: FieldName,
    is_exact: bool,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl Field<'_> {
    /// Its name if it is one that is known, and written as such.
    pub(crate) fn exact(&self) -> Option<FieldName> {
        self.is_exact.then_some(self.known)
    }

    /// Whether it has this name, which may be any.
    fn is(&self, name: &HeaderName) -> bool {
        self.name.eq_ignore_ascii_case(name.as_str().as_bytes())
    }
}

impl Fields {
    /// Those that were parsed where they lie in `received`, each in a line of its own; nothing if one does not lie there.
    pub(crate) fn received(received: Bytes, parsed: &[httparse::Header<'_>]) -> Option<Self> {
        let lines = Vec::with_capacity(parsed.len() + ADDED);
        let mut fields = Self { received, added: Vec::new(), lines, names: 0 };
        for field in parsed {
            fields.push_received(field)?;
        }
        Some(fields)
    }

    /// The same, where a value may have several lines (obs-fold), of which one is made (RFC 9112 §5.2).
    pub(crate) fn received_folded(received: Bytes, parsed: &[httparse::Header<'_>]) -> Option<Self> {
        let mut fields = Self::received(received, parsed)?;
        let values = fields.lines.iter().map(|line| fields.text(&line.value)).enumerate();
        let folded = values.filter(|(_, value)| memchr::memchr(b'\n', value).is_some());
        let folded: Vec<_> = folded.map(|(place, value)| (place, value.to_vec())).collect();
        for (place, value) in folded {
            let value = fields.append(|text| text.extend_from_slice(&value));
            fields.one_line(&value);
            let line = fields.lines.get_mut(place)?;
            (line.value, line.is_plain) = (value, false);
        }
        Some(fields)
    }

    fn push_received(&mut self, field: &httparse::Header<'_>) -> Option<()> {
        let name = self.place(field.name.as_bytes())?;
        // An empty one may lie anywhere.
        let value = if field.value.is_empty() { name.end..name.end } else { self.place(field.value)? };
        let behind = |place: usize| self.received.get(place..place + 2);
        let is_plain = name.end + 2 == value.start
            && behind(name.end) == Some(b": ")
            && behind(value.end) == Some(b"\r\n");
        let (known, is_exact) = FieldName::read(field.name.as_bytes());
        self.index(Line { known, is_exact, name, value, is_plain });
        Some(())
    }

    fn index(&mut self, line: Line) {
        self.names |= line.known.bit();
        self.lines.push(line);
    }

    /// Where `part` lies in what was received.
    fn place(&self, part: &[u8]) -> Option<Range<usize>> {
        let start = part.as_ptr().addr().checked_sub(self.received.as_ptr().addr())?;
        let place = start..start.checked_add(part.len())?;
        (place.end <= self.received.len()).then_some(place)
    }

    fn text(&self, place: &Range<usize>) -> &[u8] {
        let before = self.received.len();
        let text = if place.start < before {
            self.received.get(place.clone())
        } else {
            self.added.get(place.start - before..place.end - before)
        };
        text.unwrap_or_default()
    }

    fn field(&self, line: &Line) -> Field<'_> {
        let Line { known, is_exact, .. } = *line;
        Field { known, is_exact, name: self.text(&line.name), value: self.text(&line.value) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|line| self.field(line))
    }

    /// The values of all fields of this name, as it is written.
    pub(crate) fn values(&self, name: FieldName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let may_be = self.names & name.bit() != 0;
        let lines = if may_be { self.lines.as_slice() } else { &[] };
        lines.iter().filter(move |line| line.is(name)).map(|line| self.text(&line.value))
    }

    /// The value of the first of them.
    pub(crate) fn first(&self, name: FieldName) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The value of the only one; nothing if there are more.
    pub(crate) fn only(&self, name: FieldName) -> Option<&[u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The value of the first, in memory of its own or shared.
    pub(crate) fn kept(&self, name: FieldName) -> Option<Bytes> {
        let value = self.first(name)?;
        let is_received = self.place(value).is_some() && !value.is_empty();
        Some(if is_received { self.received.slice_ref(value) } else { Bytes::copy_from_slice(value) })
    }

    pub(crate) fn has(&self, name: FieldName) -> bool {
        self.first(name).is_some()
    }

    /// The values of all fields of this name, which may be any.
    pub(crate) fn values_named<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|field| field.is(name)).map(|field| field.value)
    }

    /// The value of the first of them.
    pub(crate) fn named<'a>(&'a self, name: &'a HeaderName) -> Option<&'a [u8]> {
        self.values_named(name).next()
    }

    /// The elements of a list-based field of any name, over all of its lines (RFC 9110 §5.6.1).
    pub(crate) fn list_named<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.values_named(name).flat_map(elements)
    }

    /// The elements of a list-based field, over all of its lines (RFC 9110 §5.6.1).
    pub(crate) fn list(&self, name: FieldName) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.values(name).flat_map(elements)
    }

    /// Removes those that are not to stay.
    pub(crate) fn retain(&mut self, stays: impl Fn(Field<'_>) -> bool) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.retain(|line| stays(self.field(line)));
        self.lines = lines;
    }

    /// Removes all of this name, as it is written.
    pub(crate) fn remove(&mut self, name: FieldName) {
        if self.names & name.bit() != 0 {
            self.lines.retain(|line| !line.is(name));
        }
    }

    /// Removes all of this name, which may be any.
    pub(crate) fn remove_named(&mut self, name: &HeaderName) {
        self.retain(|field| !field.is(name));
    }

    /// Adds a field.
    pub(crate) fn push(&mut self, name: FieldName, value: impl AsRef<[u8]>) {
        self.push_with(name, |text| text.extend_from_slice(value.as_ref()));
    }

    /// Adds a field whose value `write` appends.
    pub(crate) fn push_with(&mut self, name: FieldName, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(!name.as_str().is_empty(), "{name:?} is the name of several fields");
        self.push_line((name, true), name.as_str(), write);
    }

    /// Adds a field of any name.
    pub(crate) fn push_named(&mut self, name: &HeaderName, value: &HeaderValue) {
        let known = FieldName::read(name.as_str().as_bytes());
        self.push_line(known, name.as_str(), |text| text.extend_from_slice(value.as_bytes()));
    }

    /// Puts a field in place of those of this name.
    pub(crate) fn set(&mut self, name: FieldName, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.push(name, value);
    }

    fn push_line(
        &mut self,
        (known, is_exact): (FieldName, bool),
        name: &str,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.added.capacity() == 0 {
            self.added.reserve(ADDED_BYTES);
        }
        let name = self.append(|text| text.extend_from_slice(name.as_bytes()));
        self.added.extend_from_slice(b": ");
        let value = self.append(write);
        self.one_line(&value);
        self.added.extend_from_slice(b"\r\n");
        self.index(Line { known, is_exact, name, value, is_plain: true });
    }

    /// Where what `write` appends lies.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let before = self.received.len();
        let start = before + self.added.len();
        write(&mut self.added);
        start..before + self.added.len()
    }

    /// RFC 9110 §5.5: what could end a line is replaced by a space in text that was added.
    fn one_line(&mut self, place: &Range<usize>) {
        let before = self.received.len();
        let text = self.added.get_mut(place.start - before..place.end - before).unwrap_or_default();
        let ends_line = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
        // All of it, since it is mostly short and never does.
        if text.iter().fold(false, |ends, byte| ends | ends_line(*byte)) {
            text.iter_mut().filter(|byte| ends_line(**byte)).for_each(|byte| *byte = b' ');
        }
    }

    /// How many bytes [`Fields::put`] writes at most.
    pub(crate) fn size(&self) -> usize {
        self.lines.iter().map(|line| line.name.len() + line.value.len() + BETWEEN).sum()
    }

    /// Writes the lines of those that are not left out.
    pub(crate) fn put(&self, bytes: &mut BytesMut, is_left_out: impl Fn(FieldName) -> bool) {
        // Most lines lie one behind the other, as they are to be written.
        let mut waiting = 0..0;
        for line in &self.lines {
            if line.is_exact && is_left_out(line.known) {
                continue;
            }
            if line.is_plain && line.name.start == waiting.end && waiting.end != self.received.len() {
                waiting.end = line.value.end + 2;
                continue;
            }
            bytes.put_slice(self.text(&waiting));
            waiting = 0..0;
            if line.is_plain {
                waiting = line.name.start..line.value.end + 2;
            } else {
                for part in [self.text(&line.name), b": ", self.text(&line.value), b"\r\n"] {
                    bytes.put_slice(part);
                }
            }
        }
        bytes.put_slice(self.text(&waiting));
    }

    /// As HTTP/2 takes them.
    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for Field { name, value, .. } in self.iter() {
            // What was read or added is a name and a value.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }
}

impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        let text = map.iter().map(|(name, value)| name.as_str().len() + value.len() + BETWEEN).sum::<usize>();
        let (added, lines) = (Vec::with_capacity(text + ADDED_BYTES), Vec::with_capacity(map.len() + ADDED));
        let mut fields = Self { received: Bytes::new(), added, lines, names: 0 };
        for (name, value) in map {
            fields.push_named(name, value);
        }
        fields
    }
}

/// The elements of one line of a list-based field.
pub(crate) fn elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// What a line has beside name and value.
const BETWEEN: usize = b": \r\n".len();
/// Fields that are added to a request, so that there is room for them.
const ADDED: usize = 8;
/// Bytes of these.
const ADDED_BYTES: usize = 384;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fields of `section`, which ends with an empty line.
    fn read(section: &[u8]) -> Fields {
        let section = Bytes::copy_from_slice(section);
        let mut place = [httparse::EMPTY_HEADER; 32];
        let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&section, &mut place)
        else {
            panic!("{section:?}");
        };
        Fields::received(section.clone(), parsed).unwrap()
    }

    fn lines(fields: &Fields) -> Vec<(String, Vec<u8>)> {
        let line =
            |field: Field<'_>| (String::from_utf8_lossy(field.name).to_lowercase(), field.value.to_vec());
        fields.iter().map(line).collect()
    }

    fn written(fields: &Fields) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        fields.put(&mut bytes, |_| false);
        assert!(bytes.len() <= fields.size());
        bytes.to_vec()
    }

    #[test]
    fn fields_are_found_as_they_are_written() {
        let fields = read(
            b"Host: a\r\nX_Forwarded_For: 1\r\nx-forwarded-for:2 ,3\r\nX-Forwarded-For: 4\r\nCookie:\r\n\r\n",
        );
        assert_eq!(fields.first(FieldName::Host), Some(&b"a"[..]));
        assert!(fields.values(FieldName::XForwardedFor).eq([&b"2 ,3"[..], b"4"]), "not the one with `_`");
        assert!(fields.list(FieldName::XForwardedFor).rev().eq([&b"4"[..], b"3", b"2"]));
        assert_eq!(
            (fields.only(FieldName::XForwardedFor), fields.only(FieldName::Host)),
            (None, Some(&b"a"[..]))
        );
        assert_eq!((fields.first(FieldName::Cookie), fields.has(FieldName::Date)), (Some(&b""[..]), false));
        assert_eq!(fields.kept(FieldName::Host).as_deref(), Some(&b"a"[..]));
        assert_eq!(fields.kept(FieldName::Cookie).as_deref(), Some(&b""[..]));
        assert_eq!(fields.named(&HeaderName::from_static("x_forwarded_for")), Some(&b"1"[..]));
        assert_eq!(fields.len(), 5);
    }

    #[test]
    fn what_lies_between_fields_that_stay_is_not_written() {
        let mut fields = read(b"A: 1\r\nConnection: b\r\nB: 2\r\nC:3\r\nD: 4 \r\nE: 5\nF: 6\r\n\r\n");
        fields.remove(FieldName::Connection);
        fields.remove_named(&HeaderName::from_static("b"));
        fields.push(FieldName::Host, "h");
        fields.set(FieldName::Host, "i");
        fields.push(FieldName::Date, "now");
        let all = b"A: 1\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\nhost: i\r\ndate: now\r\n";
        assert_eq!(written(&fields).escape_ascii().to_string(), all.escape_ascii().to_string());
        let mut bytes = BytesMut::new();
        fields.put(&mut bytes, |name| name == FieldName::Date);
        assert!(bytes.ends_with(b"host: i\r\n"), "{bytes:?}");
    }

    #[test]
    fn no_value_ends_its_line() {
        let mut fields = Fields::default();
        fields.push(FieldName::UserCustomDomain, b"a\r\nhost: b\0");
        assert_eq!(written(&fields), b"user-custom-domain: a  host: b \r\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_fields(
            received in prop::collection::vec(("[A-Za-z_-]{1,12}", "( |\t)?", "([!-~][ -~]{0,8})?", "( |\t)?"), 0..12),
            leaves in prop::collection::vec(any::<bool>(), 12),
            added in prop::collection::vec("[ -~]{0,9}", 0..4),
        ) {
            let mut section = String::new();
            for (name, before, value, behind) in &received {
                section.extend([name, ":", before, value, behind, "\r\n"]);
            }
            section.push_str("\r\n");
            let mut fields = read(section.as_bytes());
            let mut expected: Vec<(String, Vec<u8>)> =
                received.iter().map(|(name, _, value, _)| (name.to_lowercase(), value.trim_end().into())).collect();
            prop_assert_eq!(lines(&fields), expected.clone());
            let mut stays = leaves.iter().map(|leaves| !leaves);
            expected.retain(|_| stays.next().unwrap());
            let places: Vec<usize> = (0..received.len()).filter(|place| !leaves[*place]).collect();
            fields.lines = places.iter().map(|place| fields.lines[*place].clone()).collect();
            for value in &added {
                fields.push(FieldName::XForwardedFor, value);
                expected.push(("x-forwarded-for".to_owned(), value.trim().into()));
            }
            let mut again = written(&fields);
            again.extend_from_slice(b"\r\n");
            prop_assert_eq!(lines(&read(&again)), expected.clone());
            let map = read(&again).to_map();
            let mut of_map = lines(&Fields::from(&map));
            of_map.sort();
            expected.sort();
            prop_assert_eq!(of_map, expected);
        }
    }
}
