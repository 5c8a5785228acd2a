//! Which responses are compressed, and for whom. Pure, but for the number of those under way.
//! Not here: the compression itself (`encoder`), where it happens (`body`).
//! Invariants: a response is sent in no coding that its client does not take (`a_client_gets_what_it_prefers_of_what_it_takes`); what must not be
//! changed is not (`what_must_stay_as_it_is_does`).

mod encoder;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderName, HeaderValue, StatusCode, header};

pub(super) use self::encoder::Encoder;
use super::rewrite;
use crate::{
    config::{CompressionConfig, ContentCoding},
    field_name::FieldName,
    fields::Fields,
};

/// What a client says of compressed responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Preference {
    /// The coding that it likes best of those that it takes (RFC 9110 §12.5.3).
    coding: Option<ContentCoding>,
    /// Whether it has a response with a weak validator, as compressed ones have (RFC 9110 §13.1.2).
    has_weak: bool,
}

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It passes as it is.
    Leave,
    /// It passes as it is to this client, and would be compressed for another.
    Vary,
    /// Its validators are those of a compressed response (RFC 9111 §4.3.4).
    Weaken,
    Compress(ContentCoding),
}

/// The compressed responses under way in the process: each has its own memory.
#[derive(Clone, Default)]
pub struct Streams(Arc<AtomicUsize>);

/// A response that is compressed; dropping it makes room for another.
pub(super) struct CompressedStream(Arc<AtomicUsize>);

impl Streams {
    /// Counts one more, if there are fewer than `most`.
    pub(super) fn begin(&self, most: usize) -> Option<CompressedStream> {
        // It exists from here on, so that its drop undoes the count whatever is found.
        let stream = CompressedStream(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(stream)
    }
}

impl Drop for CompressedStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Preference {
    /// Of a request with these `fields`, of what the settings compress with.
    pub(super) fn of(fields: &Fields, settings: &CompressionConfig) -> Self {
        // Most instances compress nothing, and look at no field for it.
        if settings.encodings.is_empty() {
            return Self::default();
        }
        let mut best = None;
        let identity = weight(fields, "identity").unwrap_or(0);
        for coding in &settings.encodings {
            let quality = coding.names().iter().find_map(|name| weight(fields, name));
            let quality = quality.or_else(|| weight(fields, "*")).unwrap_or(0);
            let beats = best.is_none_or(|(best, _)| quality > best);
            if quality > 0 && quality >= identity && beats {
                best = Some((quality, *coding));
            }
        }
        let has_weak = fields.list_named(&header::IF_NONE_MATCH).any(|tag| tag.starts_with(b"W/"));
        Self { coding: best.map(|(_, coding)| coding), has_weak }
    }
}

/// In thousandths, how much a client likes this coding; none if it does not say.
fn weight(fields: &Fields, coding: &str) -> Option<u16> {
    fields.list_named(&header::ACCEPT_ENCODING).find_map(|element| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_meant = parts.next()?.eq_ignore_ascii_case(coding.as_bytes());
        is_meant.then(|| parts.find_map(quality).unwrap_or(1_000))
    })
}

/// RFC 9110 §12.4.2: at most three digits behind the point. What is none is taken for "not acceptable".
fn quality(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?;
    let (name, value) = text.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, digits) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let is_plain = digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{digits:0<3}").parse::<u16>().ok().filter(|_| is_plain);
    Some(match (whole, thousandths) {
        ("0", Some(thousandths)) => thousandths,
        ("1", Some(0)) => 1_000,
        _ => 0,
    })
}

impl Treatment {
    /// Of a response with these `fields`, whose body is `length` long if that is known, for a client of this `preference`.
    pub(super) fn of(
        settings: &CompressionConfig,
        preference: Preference,
        (status, fields): (StatusCode, &Fields),
        length: Option<u64>,
    ) -> Self {
        if settings.encodings.is_empty() || must_stay(fields) {
            return Self::Leave;
        }
        if status == StatusCode::NOT_MODIFIED {
            // It says nothing of the type. Whoever has the response as it is keeps its strong validator, which ranges need.
            return if preference.has_weak { Self::Weaken } else { Self::Leave };
        }
        // RFC 9110 §15.3.5 to §15.3.7: these have no content, or a part of it.
        let has_whole_content = !status.is_informational()
            && ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT]
                .contains(&status);
        let is_worth_it = length.is_none_or(|length| length >= settings.minimum_size.bytes());
        if !has_whole_content || !is_worth_it || !is_listed(fields, settings) {
            return Self::Leave;
        }
        preference.coding.map_or(Self::Vary, Self::Compress)
    }

    /// Changes the fields of a response as it says.
    pub(super) fn apply(self, fields: &mut Fields) {
        match self {
            Self::Leave => {}
            Self::Vary => vary(fields),
            Self::Weaken => {
                vary(fields);
                weaken(fields);
            }
            Self::Compress(coding) => {
                vary(fields);
                weaken(fields);
                fields.remove(FieldName::ContentLength);
                // RFC 9110 §14.3: of what is compressed on the way there are no ranges.
                fields.remove_named(&header::ACCEPT_RANGES);
                fields.push_named(&header::CONTENT_ENCODING, &coding.field_value());
            }
        }
    }
}

/// What is encoded already, a part, told to be left as it is (RFC 9111 §5.2.2.6), or says what its bytes are (RFC 9530); and gRPC, which
/// compresses by itself.
fn must_stay(fields: &Fields) -> bool {
    let is_encoded =
        fields.list_named(&header::CONTENT_ENCODING).any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let is_no_transform = fields
        .list_named(&header::CACHE_CONTROL)
        .any(|directive| directive.eq_ignore_ascii_case(b"no-transform"));
    let says_its_bytes = DIGESTS.iter().any(|name| fields.named(name).is_some());
    is_encoded
        || is_no_transform
        || says_its_bytes
        || fields.named(&header::CONTENT_RANGE).is_some()
        || rewrite::is_grpc(fields)
}

fn is_listed(fields: &Fields, settings: &CompressionConfig) -> bool {
    let Some(value) = fields.only(FieldName::ContentType) else { return false };
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    settings.types.iter().any(|listed| listed.is(essence))
}

/// RFC 9110 §12.5.5: caches keep one for each coding.
fn vary(fields: &mut Fields) {
    let is_said = fields
        .list_named(&header::VARY)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !is_said {
        fields.push_named(&header::VARY, &HeaderValue::from_static("accept-encoding"));
    }
}

/// RFC 9110 §8.8.1: a strong validator is of the same bytes, and these are others.
fn weaken(fields: &mut Fields) {
    let Some(strong) = fields.named(&header::ETAG).filter(|tag| tag.starts_with(b"\"")) else { return };
    let weak = [b"W/", strong].concat();
    let Ok(weak) = HeaderValue::from_bytes(&weak) else { return };
    fields.remove_named(&header::ETAG);
    fields.push_named(&header::ETAG, &weak);
}

/// Fields that hold a sum over the bytes that are sent.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            fields.push_named(&name, &value.parse().unwrap());
        }
        fields
    }

    fn text(fields: &Fields) -> Vec<String> {
        let line = |name: &[u8], value: &[u8]| {
            format!("{}: {}", String::from_utf8_lossy(name).to_lowercase(), String::from_utf8_lossy(value))
        };
        fields.iter().map(|field| line(field.name, field.value)).collect()
    }

    fn settings() -> CompressionConfig {
        CompressionConfig { encodings: vec![ContentCoding::Gzip], ..CompressionConfig::default() }
    }

    #[test]
    fn a_client_gets_what_it_prefers_of_what_it_takes() {
        for (accepted, is_gzip) in [
            (&[][..], false),
            (&[""], false),
            (&["gzip"], true),
            (&["GZip"], true),
            (&["x-gzip"], true),
            (&["gzip, deflate, br, zstd"], true),
            (&["br", "gzip"], true),
            (&["deflate, br"], false),
            (&["*"], true),
            (&["identity"], false),
            (&["gzip;q=0"], false),
            (&["gzip;q=0.000, *"], false),
            (&["*;q=0"], false),
            (&["gzip; q=0.5"], true),
            (&["gzip;Q=0.001"], true),
            (&["gzip;q=0.5, identity"], false),
            (&["gzip;q=0.5, identity;q=0.5"], true),
            (&["gzip;q=0.5, identity;q=0.4"], true),
            (&["identity;q=0, *"], true),
            (&["gzip;q=1.000"], true),
            // What is no quality is not "yes".
            (&["gzip;q=1.001"], false),
            (&["gzip;q=2"], false),
            (&["gzip;q=.5"], false),
            (&["gzip;q=0.0001"], false),
            (&["gzip;q=yes"], false),
            (&["gzipped"], false),
        ] {
            let lines: Vec<_> = accepted.iter().map(|value| ("accept-encoding", *value)).collect();
            let preference = Preference::of(&fields(&lines), &settings());
            assert_eq!(preference.coding, is_gzip.then_some(ContentCoding::Gzip), "{accepted:?}");
        }
        let off = CompressionConfig::default();
        assert_eq!(Preference::of(&fields(&[("accept-encoding", "gzip")]), &off), Preference::default());
    }

    const ANY: Preference = Preference { coding: Some(ContentCoding::Gzip), has_weak: false };
    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

    #[test]
    fn what_must_stay_as_it_is_does() {
        let treated = |status: u16, lines: &[(&str, &str)], length| {
            let status = StatusCode::from_u16(status).unwrap();
            Treatment::of(&settings(), ANY, (status, &fields(lines)), length)
        };
        let compressed = Treatment::Compress(ContentCoding::Gzip);
        for (status, lines, length, treatment) in [
            (200, &[HTML][..], Some(1024), compressed),
            (200, &[HTML], None, compressed),
            (404, &[HTML], None, compressed),
            (200, &[HTML], Some(1023), Treatment::Leave),
            (204, &[HTML], None, Treatment::Leave),
            (205, &[HTML], None, Treatment::Leave),
            (206, &[HTML, ("content-range", "bytes 0-1/2")], None, Treatment::Leave),
            (416, &[HTML, ("content-range", "bytes */2")], None, Treatment::Leave),
            (200, &[], None, Treatment::Leave),
            (200, &[("content-type", "image/png")], None, Treatment::Leave),
            (200, &[HTML, HTML], None, Treatment::Leave),
            (200, &[("content-type", "application/grpc")], None, Treatment::Leave),
            (200, &[HTML, ("content-encoding", "br")], None, Treatment::Leave),
            (200, &[HTML, ("content-encoding", "identity")], None, compressed),
            (200, &[HTML, ("cache-control", "max-age=9, No-Transform")], None, Treatment::Leave),
            (
                200,
                &[HTML, ("cache-control", "private"), ("cache-control", "no-transform")],
                None,
                Treatment::Leave,
            ),
            (200, &[HTML, ("cache-control", "private")], None, compressed),
            (200, &[HTML, ("content-digest", "sha-256=:a:")], None, Treatment::Leave),
            (200, &[HTML, ("content-md5", "a")], None, Treatment::Leave),
            (304, &[], Some(0), Treatment::Weaken),
            (304, &[("cache-control", "no-transform")], Some(0), Treatment::Leave),
        ] {
            assert_eq!(treated(status, lines, length), treatment, "{status} {lines:?} {length:?}");
        }
        let judged = |settings, preference| {
            Treatment::of(&settings, preference, (StatusCode::OK, &fields(&[HTML])), None)
        };
        assert_eq!(judged(settings(), Preference::default()), Treatment::Vary);
        assert_eq!(judged(CompressionConfig::default(), Preference::default()), Treatment::Leave);
    }

    #[test]
    fn fields_say_what_was_done() {
        let applied = |treatment: Treatment, lines: &[(&str, &str)]| {
            let mut fields = fields(lines);
            treatment.apply(&mut fields);
            text(&fields)
        };
        let lines =
            [("etag", "\"a\""), ("accept-ranges", "bytes"), ("content-length", "5"), ("vary", "cookie")];
        let kept = ["etag: \"a\"", "accept-ranges: bytes", "content-length: 5", "vary: cookie"];
        assert_eq!(applied(Treatment::Leave, &lines), kept);
        assert_eq!(applied(Treatment::Vary, &lines), [&kept[..], &["vary: accept-encoding"]].concat());
        assert_eq!(
            applied(Treatment::Compress(ContentCoding::Gzip), &lines),
            ["vary: cookie", "vary: accept-encoding", "etag: W/\"a\"", "content-encoding: gzip"]
        );
        let weak = [("etag", "W/\"a\""), ("vary", "Accept-Encoding, cookie")];
        assert_eq!(applied(Treatment::Weaken, &weak), ["etag: W/\"a\"", "vary: Accept-Encoding, cookie"]);
        assert_eq!(applied(Treatment::Vary, &[("vary", "*")]), ["vary: *"]);
    }

    #[test]
    fn as_many_are_compressed_at_a_time_as_may_be() {
        let streams = Streams::default();
        let two = (streams.begin(2), streams.begin(2));
        assert!(two.0.is_some() && two.1.is_some() && streams.begin(2).is_none());
        drop(two);
        assert!(streams.begin(1).is_some());
    }
}
