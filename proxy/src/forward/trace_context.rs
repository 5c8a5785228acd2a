//! W3C Trace Context, level 1: a request's place in a trace that its client has begun. We have no span of our own, so that both fields pass
//! unchanged, or not at all (§3.2.2.5, §3.3.1.1: without a valid `traceparent` there is no `tracestate`).
//! Invariant: an upstream that continues a trace reads one that is well formed (`a_trace_goes_on_if_it_is_well_formed`).

use crate::{field_name::FieldName, fields::Fields};

/// Removes both fields unless there is one valid `traceparent`.
pub(super) fn keep_valid(fields: &mut Fields) {
    if !fields.only(FieldName::Traceparent).is_some_and(is_parent) {
        fields.remove(FieldName::Traceparent);
        fields.remove(FieldName::Tracestate);
    }
}

/// §3.2: `version-trace_id-parent_id-flags` in lower case. A later version may be followed by more (§4.3), which version 0 is not.
fn is_parent(value: &[u8]) -> bool {
    let (known, more) = value.split_at_checked(LENGTH).unwrap_or((b"", value));
    let mut parts = known.split(|byte| *byte == b'-');
    let (Some(version), Some(trace), Some(parent), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_whole = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => more.is_empty() || more.starts_with(b"-"),
    };
    is_whole
        && [(version, 2), (trace, 32), (parent, 16), (flags, 2)]
            .iter()
            .all(|(part, length)| part.len() == *length && part.iter().copied().all(is_lower_hex))
        && is_id(trace)
        && is_id(parent)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// §3.2.2.3, §3.2.2.4: all zeros are no id.
fn is_id(part: &[u8]) -> bool {
    part.iter().any(|byte| *byte != b'0')
}

/// Of version 0.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn kept(parents: &[&str]) -> (usize, usize) {
        let mut fields = Fields::default();
        for parent in parents {
            fields.push(FieldName::Traceparent, parent);
        }
        for state in ["rojo=00f067aa0ba902b7", "congo=t61rcWkgMzE"] {
            fields.push(FieldName::Tracestate, state);
        }
        keep_valid(&mut fields);
        (fields.values(FieldName::Traceparent).count(), fields.values(FieldName::Tracestate).count())
    }

    #[test]
    fn a_trace_goes_on_if_it_is_well_formed() {
        let later = VALID.replacen("00", "cc", 1);
        for (parent, is_valid) in [
            (VALID.to_owned(), true),
            (VALID.replace("-01", "-00"), true),
            (VALID.replace("-01", "-ff"), true),
            (later.clone(), true),
            (format!("{later}-what-comes-later"), true),
            (format!("{later}."), false),
            (format!("{VALID}-"), false),
            (format!("{VALID}-more"), false),
            (VALID.replacen("00", "ff", 1), false),
            (VALID.replacen("00", "0", 1), false),
            (VALID.to_uppercase(), false),
            (VALID.replace('-', "_"), false),
            (VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), false),
            (VALID.replace("b7ad6b7169203331", &"0".repeat(16)), false),
            (VALID.replace("b7ad6b7169203331", "b7ad6b716920333g"), false),
            (VALID.replace("0af7651916cd43dd8448eb211c80319c-", "0af7651916cd43dd8448eb211c80319-c"), false),
            (VALID.replace("-01", "-1"), false),
            (VALID.replace("-01", ""), false),
            (String::new(), false),
        ] {
            assert_eq!(kept(&[&parent]), if is_valid { (1, 2) } else { (0, 0) }, "{parent}");
        }
        assert_eq!(kept(&[]), (0, 0), "a state without a trace");
        assert_eq!(kept(&[VALID, VALID]), (0, 0), "two traces");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_judged(bytes: Vec<u8>, parent in "[0-9a-f-]{50,60}") {
            for value in [bytes.as_slice(), parent.as_bytes()] {
                if is_parent(value) {
                    proptest::prop_assert!(value.len() >= LENGTH);
                }
            }
        }
    }
}
