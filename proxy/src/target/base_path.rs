//! The path below which an endpoint is asked: `/app` of `http://10.0.0.5/app`.
//! Invariant: no client asks for what is beside it (`what_could_step_up_is_known`).

use std::{borrow::Cow, fmt};

/// A path put before that of each request; it does not end with `/`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BasePath(Box<str>);

impl BasePath {
    /// Reads `/app` or `/app/`. None of what an upstream could read as something else is in it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"%\\?#,;\"<>".contains(&byte);
        let mut steps = path.strip_prefix('/')?.split('/');
        let is_path = path.len() <= LONGEST
            && path.bytes().all(is_plain)
            && steps.all(|step| !matches!(step, "" | "." | ".."));
        is_path.then(|| Self(path.into()))
    }

    /// What is asked for below it in place of `target`, a path with its query or `*` (RFC 9112 §3.2.4).
    pub(crate) fn join(&self, target: &str) -> String {
        if target == "*" { format!("{self}/") } else { format!("{self}{target}") }
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether some server would read a step up in `path`: `..`, also with `\` for `/`, with what some cut off behind it, or encoded once or
/// several times (RFC 3986 §2.4 forbids to decode twice, and servers behind servers do).
pub(crate) fn may_step_up(path: &str) -> bool {
    let mut read = Cow::Borrowed(path.as_bytes());
    for _ in 0..DECODINGS {
        if read.split(|byte| matches!(byte, b'/' | b'\\')).any(is_step_up) {
            return true;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&read).collect();
        if decoded == *read {
            return false;
        }
        read = Cow::Owned(decoded);
    }
    // Encoded more often than anybody means it.
    true
}

fn is_step_up(step: &[u8]) -> bool {
    // Java's servers know parameters of a step, and those in C strings.
    let name = step.split(|byte| matches!(byte, b';' | 0)).next().unwrap_or_default();
    name.trim_ascii_end() == b".."
}

/// Bytes of a base path.
pub(super) const LONGEST: usize = 256;
/// How often a path is decoded to see what is in it.
const DECODINGS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_plain() {
        let longest = format!("/{}", "a".repeat(LONGEST - 1));
        for (text, read) in [
            ("/app", Some("/app")),
            ("/app/", Some("/app")),
            ("/a/b.c/~d", Some("/a/b.c/~d")),
            (longest.as_str(), Some(longest.as_str())),
            (&format!("{longest}a"), None),
            ("", None),
            ("/", None),
            ("app", None),
            ("/a//b", None),
            ("//a", None),
            ("/a//", None),
            ("/a/../b", None),
            ("/./a", None),
            ("/a%2fb", None),
            ("/a\\b", None),
            ("/a?b", None),
            ("/a b", None),
            ("/b\u{fc}cher", None),
        ] {
            assert_eq!(BasePath::parse(text).map(|path| path.to_string()).as_deref(), read, "{text}");
        }
        let base = BasePath::parse("/app/").unwrap();
        for (target, joined) in
            [("/", "/app/"), ("/a?b=/../c", "/app/a?b=/../c"), ("*", "/app/"), ("//a", "/app//a")]
        {
            assert_eq!(base.join(target), joined);
        }
    }

    #[test]
    fn what_could_step_up_is_known() {
        for (path, steps_up) in [
            ("/", false),
            ("/a/b.c", false),
            ("/a..b/..c/d..", false),
            ("/...", false),
            ("/.", false),
            ("/100%", false),
            ("/100%25", false),
            ("/a%2fb", false),
            ("/..", true),
            ("/../a", true),
            ("/a/../b", true),
            ("/a/..", true),
            ("/%2e%2e/a", true),
            ("/.%2E/a", true),
            ("/a%2f..%2fb", true),
            ("/a\\..\\b", true),
            ("/a%5c..%5Cb", true),
            ("/..;/a", true),
            ("/..;x=1/a", true),
            ("/..%3bx/a", true),
            ("/..%00/a", true),
            ("/..%20/a", true),
            ("/%252e%252e/a", true),
            ("/%25252e%25252e/a", true),
            ("/%2525252525252e", true),
        ] {
            assert_eq!(may_step_up(path), steps_up, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_path_without_two_dots_or_escapes_passes(path in "(/[a-zA-Z0-9_~-]{0,5}(\\.[a-z]{1,3})?){0,6}") {
            proptest::prop_assert!(!may_step_up(&path));
        }
    }
}
