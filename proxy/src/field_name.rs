//! Names of header fields as gateways of the CGI kind (RFC 3875 §4.1.18) read them: without their punctuation, or with any.

/// The letters and digits of a field's name.
#[derive(Clone, Copy)]
pub(crate) struct Letters<'a> {
    name: &'a str,
    count: usize,
}

impl<'a> Letters<'a> {
    /// Of `name`, which is lower case, as `http::HeaderName` is.
    pub(crate) const fn of(name: &'a str) -> Self {
        let (mut count, mut rest) = (0, name.as_bytes());
        while let [byte, behind @ ..] = rest {
            count += byte.is_ascii_alphanumeric() as usize;
            rest = behind;
        }
        Self { name, count }
    }

    /// The whole name.
    pub(crate) fn name(self) -> &'a str {
        self.name
    }

    /// Whether they are those of one of `names`, which have no punctuation.
    pub(crate) fn are_one_of(self, names: &[&str]) -> bool {
        names.iter().any(|name| name.len() == self.count && self.letters().eq(name.bytes()))
    }

    /// Whether they begin with `prefix`, which has no punctuation.
    pub(crate) fn begin_with(self, prefix: &str) -> bool {
        self.count >= prefix.len() && self.letters().take(prefix.len()).eq(prefix.bytes())
    }

    fn letters(self) -> impl Iterator<Item = u8> {
        self.name.bytes().filter(u8::is_ascii_alphanumeric)
    }
}

/// By the letters alone.
impl PartialEq for Letters<'_> {
    fn eq(&self, other: &Self) -> bool {
        // The number first: it is wrong for nearly all.
        self.count == other.count && self.letters().eq(other.letters())
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
            assert_eq!(Letters::of(name) == Letters::of("content-length"), is_it, "{name}");
        }
        assert!(Letters::of("x_forwarded-for").begin_with("xforwarded"));
        assert!(!Letters::of("x_forward").begin_with("xforwarded"));
    }
}
