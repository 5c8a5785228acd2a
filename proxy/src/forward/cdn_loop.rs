//! Loop detection by `CDN-Loop` (RFC 8586): read from requests, and written towards upstreams.

use http::HeaderValue;

use crate::{config::LoopId, field_name::FieldName, fields::Fields};

/// The name of this fleet, or of this process, in `CDN-Loop`.
#[derive(Debug, Clone)]
pub(super) struct CdnLoop {
    cdn_id: Box<str>,
    /// Where the name is the product's and not the fleet's: which process it is.
    process: Option<Box<str>>,
    written: HeaderValue,
}

impl CdnLoop {
    /// Named by `loop_id`; without one by `process`, a number no other process has.
    pub(super) fn new(loop_id: Option<&LoopId>, process: u64) -> Self {
        if let Some(id) = loop_id {
            return Self { cdn_id: id.as_str().into(), process: None, written: id.header_value() };
        }
        let process = format!("{process:016x}");
        let written = HeaderValue::try_from(format!("{PSEUDONYM};process={process}"));
        // Letters, digits and separators of our own: it is a field value.
        let written = written.unwrap_or_else(|_| HeaderValue::from_static(PSEUDONYM));
        Self { cdn_id: PSEUDONYM.into(), process: Some(process.into()), written }
    }

    /// Whether a request with `headers` has been here before. Where other processes of the fleet have no name in common with this
    /// one, it is enough to have come through [`MOST_HOPS`] of them.
    pub(super) fn has_seen(&self, fields: &Fields) -> bool {
        let mut hops = 0;
        for element in fields.values(FieldName::CdnLoop).flat_map(elements) {
            let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            if !parts.next().is_some_and(|id| id.eq_ignore_ascii_case(self.cdn_id.as_bytes())) {
                continue;
            }
            let Some(process) = &self.process else { return true };
            hops += 1;
            let is_ours = |part: &[u8]| part.strip_prefix(b"process=") == Some(process.as_bytes());
            if hops >= MOST_HOPS || parts.any(is_ours) {
                return true;
            }
        }
        false
    }

    /// RFC 8586 §2: added behind what is there, which stays as it is.
    pub(super) fn mark(&self, fields: &mut Fields) {
        fields.push(FieldName::CdnLoop, &self.written);
    }
}

/// The elements of a list (RFC 9110 §5.6.1); a comma within a quoted string separates nothing.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |byte| {
        let separates = *byte == b',' && !quoted;
        if *byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && *byte == b'\\' && !escaped;
        separates
    })
}

/// A pseudonym (RFC 8586 §2) shared with every other fleet of this product.
const PSEUDONYM: &str = "gatehouse";
/// More fleets of this product than anybody chains on purpose.
const MOST_HOPS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[&str]) -> Fields {
        let mut fields = Fields::default();
        for value in values {
            fields.push(FieldName::CdnLoop, value);
        }
        fields
    }

    #[test]
    fn a_request_is_known_by_what_was_written_into_it() {
        let named = CdnLoop::new(Some(&"edge.operator.example".parse().unwrap()), 7);
        let unnamed = CdnLoop::new(None, 7);
        for (values, by_name, by_process) in [
            (vec![], false, false),
            (vec!["edge.operator.example"], true, false),
            (vec!["EDGE.operator.example ; a=b"], true, false),
            (vec!["other, edge.operator.example"], true, false),
            (vec!["other", "edge.operator.example"], true, false),
            (vec!["other; v=\"a, edge.operator.example\""], false, false),
            (vec!["other; v=\"\\\", edge.operator.example\""], false, false),
            (vec!["edge.operator.example.org"], false, false),
            (vec!["gatehouse;process=0000000000000007"], false, true),
            (vec!["gatehouse; process=0000000000000008"], false, false),
            (vec!["gatehouse", "gatehouse"], false, false),
            (vec!["gatehouse;process=1"; 8], false, true),
        ] {
            let fields = fields(&values);
            assert_eq!(named.has_seen(&fields), by_name, "{values:?}");
            assert_eq!(unnamed.has_seen(&fields), by_process, "{values:?}");
        }
    }

    #[test]
    fn what_is_written_is_known_again_and_leaves_the_rest() {
        for id in [Some("edge.operator.example:8443"), Some("an-operator"), None] {
            let own = CdnLoop::new(id.map(|id| id.parse().unwrap()).as_ref(), 7);
            let mut fields = fields(&["other"]);
            own.mark(&mut fields);
            assert!(own.has_seen(&fields), "{id:?}");
            assert_eq!(fields.first(FieldName::CdnLoop), Some(&b"other"[..]));
        }
    }
}
