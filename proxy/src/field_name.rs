//! Names of header fields as gateways of the CGI kind (RFC 3875 §4.1.18) read them: without their punctuation, or with any.

/// The letters and digits of a field's name.
#[derive(Clone, Copy)]
pub(crate) struct Letters<'a> {
    name: &'a str,
    count: usize,
}

impl<'a> Letters<'a> {
    /// Of `name`, which is lower case, as `http::HeaderName` is.
    pub(crate) fn of(name: &'a str) -> Self {
        Self { name, count: name.bytes().filter(u8::is_ascii_alphanumeric).count() }
    }

    /// Whether they are those of one of `names`, which have no punctuation.
    pub(crate) fn are_one_of(self, names: &[&str]) -> bool {
        // The number first: it is wrong for nearly all.
        names.iter().any(|name| name.len() == self.count && self.letters().eq(name.bytes()))
    }

    /// Whether they begin with `prefix`, which has no punctuation.
    pub(crate) fn begin_with(self, prefix: &str) -> bool {
        self.count >= prefix.len() && self.letters().take(prefix.len()).eq(prefix.bytes())
    }

    /// Whether they are those of `other`.
    pub(crate) fn are_those_of(self, other: &str) -> bool {
        self.letters().eq(Letters::of(other).letters())
    }

    fn letters(self) -> impl Iterator<Item = u8> {
        self.name.bytes().filter(u8::is_ascii_alphanumeric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_makes_no_difference() {
        for (name, is_it) in [
            ("content-length", true),
            ("content_length", true),
            ("contentlength", true),
            ("-content-length-", true),
            ("content-lengths", false),
            ("content-lengt", false),
            ("xontent-length", false),
            ("", false),
        ] {
            assert_eq!(Letters::of(name).are_one_of(&["host", "contentlength"]), is_it, "{name}");
        }
        assert!(Letters::of("x_forwarded-for").begin_with("xforwarded"));
        assert!(!Letters::of("x_forward").begin_with("xforwarded"));
    }
}
