//! Names, parsed once where they come in, and never a plain string inside.
//! Not here: whether a name may be served (`domains`); how the kernel hashes it (`proxy_common`).
//! Invariant: a [`ServerName`] is lower case, without a trailing dot, a valid A-label name (`names_are_normalised_once`).

use std::{borrow::Borrow, fmt, net::IpAddr, str::FromStr, sync::Arc};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use psl::Psl as _;
use serde::{Deserialize, Serialize};

/// A DNS name as guard and tables compare it: A-labels, lower case, no trailing dot, at most 253 bytes (RFC 1035 §2.3.4).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// Normalises and checks `text`; U-labels become A-labels (RFC 5891 §4.4).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let refuse = |reason| NameError { value: text.chars().take(MAX_NAME).collect(), reason };
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.parse::<IpAddr>().is_ok() || text.starts_with('[') {
            return Err(refuse(Reason::Address));
        }
        // A character of a name is at most four bytes, and takes at least one in its A-label.
        if text.len() > MAX_NAME * 4 {
            return Err(refuse(Reason::Length));
        }
        let ascii = a_labels(text).map_err(refuse)?;
        match shape(&ascii) {
            Ok(()) => Ok(Self(ascii.into())),
            Err(reason) => Err(refuse(reason)),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the first dot: the part a one-label wildcard shares.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.0.split_once('.').map(|(_, parent)| parent)
    }

    /// The wildcard that covers this name, `*.example.com` for `a.example.com`.
    #[must_use]
    pub fn wildcard(&self) -> Option<Pattern> {
        let parent = self.parent().filter(|parent| parent.contains('.'))?;
        Some(Pattern::Wildcard(Self(parent.into())))
    }

    /// The other name of the pair that this one makes: with `www.` in front, or without it where it has it. The other name of that is this
    /// one again.
    pub fn counterpart(&self) -> Result<Self, NoCounterpart> {
        let other = match self.0.strip_prefix(WWW) {
            Some(rest) if rest.starts_with(WWW) => return Err(NoCounterpart::Nested),
            Some(rest) => rest.to_owned(),
            None => format!("{WWW}{self}"),
        };
        let other = Self::parse(&other).map_err(|_| NoCounterpart::Length)?;
        // Whoever has the one would be given a name that others may have.
        let suffix = [self, &other].into_iter().find(|name| name.public_suffix().is_some()).cloned();
        suffix.map_or(Ok(other), |suffix| Err(NoCounterpart::PublicSuffix(suffix)))
    }

    /// Whether it begins with `www.`.
    #[must_use]
    pub fn has_www(&self) -> bool {
        self.0.starts_with(WWW)
    }

    /// Of which part of the Public Suffix List it is an entry, if it is one.
    #[must_use]
    pub fn public_suffix(&self) -> Option<psl::Type> {
        let suffix = psl::List.suffix(self.0.as_bytes())?;
        suffix.typ().filter(|_| suffix.as_bytes() == self.0.as_bytes())
    }

    /// The entries that may speak for this name, in the order in which they do: its own, that of the other name of its pair, if it speaks
    /// for both, and the wildcard that covers it.
    pub fn entries(&self) -> impl Iterator<Item = Pattern> + use<> {
        let pair = self.counterpart().ok().map(Pattern::Exact);
        [Some(Pattern::Exact(self.clone())), pair, self.wildcard()].into_iter().flatten()
    }

    /// What may stand for this name, in the order in which it does: the exact name, then the wildcard that covers it.
    pub fn patterns(&self) -> impl Iterator<Item = Pattern> + use<> {
        Pattern::Exact(self.clone()).patterns()
    }
}

/// So that maps of names are asked with a part of another name; both hash and compare as their text.
impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What a domain entry covers: one name, or every name one label below a suffix (RFC 6125 §6.4.3).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// This name.
    Exact(ServerName),
    /// `*.` and this suffix; the `*` stands for exactly one label.
    Wildcard(ServerName),
}

impl Pattern {
    /// Reads `name` or `*.suffix`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            None => ServerName::parse(text).map(Self::Exact),
            Some(suffix) => match ServerName::parse(suffix) {
                Ok(suffix) if suffix.parent().is_some() => Ok(Self::Wildcard(suffix)),
                Ok(_) => Err(NameError { value: text.to_owned(), reason: Reason::WildcardTooWide }),
                Err(error) => Err(NameError { value: text.to_owned(), reason: error.reason }),
            },
        }
    }

    /// The name it is about: of a wildcard, what follows `*.`.
    #[must_use]
    pub fn name(&self) -> &ServerName {
        let (Self::Exact(name) | Self::Wildcard(name)) = self;
        name
    }

    /// What may stand for it, in the order in which it does: a name, then the wildcard that covers it; a wildcard alone.
    pub fn patterns(&self) -> impl Iterator<Item = Self> + use<> {
        let wider = match self {
            Self::Exact(name) => name.wildcard(),
            Self::Wildcard(_) => None,
        };
        std::iter::once(self.clone()).chain(wider)
    }

    /// [`ServerName::counterpart`]; a wildcard has none.
    pub fn counterpart(&self) -> Result<ServerName, NoCounterpart> {
        match self {
            Self::Exact(name) => name.counterpart(),
            Self::Wildcard(_) => Err(NoCounterpart::Wildcard),
        }
    }

    /// Whether `name` is served under this entry.
    #[must_use]
    pub fn covers(&self, name: &ServerName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Wildcard(suffix) => name.parent() == Some(suffix.as_str()),
        }
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a domain name: {reason}")]
pub struct NameError {
    value: String,
    reason: Reason,
}

/// Why a name makes no pair with another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCounterpart {
    /// It stands for many names.
    #[error("a wildcard has no other name")]
    Wildcard,
    /// One of the two belongs to many owners.
    #[error("`{0}` is a public suffix, and the names below it have many owners")]
    PublicSuffix(ServerName),
    /// The other one begins with `www.` as well, and has a pair of its own.
    #[error("without `www.` it still begins with `www.`")]
    Nested,
    /// The other one is no name.
    #[error("with `www.` in front it has more than 253 characters")]
    Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Reason {
    #[error("write between 1 and 253 characters")]
    Length,
    #[error("each label between dots has 1 to 63 characters")]
    Label,
    #[error("letters, digits and `-` only, and no `-` at a label's end")]
    Character,
    #[error("an IP address cannot be served; write the name that points to it")]
    Address,
    #[error("this Unicode name has no A-label form (RFC 5891)")]
    Unicode,
    #[error("a label begins with `xn--` and is not an A-label (RFC 5890); write the name in Unicode")]
    NoALabel,
    #[error("a wildcard needs at least two labels behind `*.`, like `*.example.com`")]
    WildcardTooWide,
}

/// `text` with its U-labels as A-labels, in lower case. What is ASCII already has to be what a U-label becomes (RFC 5890 §2.3.2.1),
/// or two names would look alike. Which other ASCII is permitted is decided by the [`shape`], whatever the other labels contain.
fn a_labels(text: &str) -> Result<String, Reason> {
    let lower = text.to_ascii_lowercase();
    let reason = match (text.is_ascii(), lower.split('.').any(|label| label.starts_with("xn--"))) {
        (true, false) => return Ok(lower),
        (true, true) => Reason::NoALabel,
        (false, _) => Reason::Unicode,
    };
    // RFC 5891 §4.2.3.1 asks for no `--` in third place; names of servers have it, and as ASCII they are served.
    let ascii = Uts46::new().to_ascii(
        text.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::CheckFirstLast,
        DnsLength::Ignore,
    );
    ascii.map(std::borrow::Cow::into_owned).map_err(|_| reason)
}

/// What a name begins with, as [`ServerName`] and [`Pattern`] write names: in lower case, with A-labels. A part of a U-label begins no A-label, so
/// the last label of one that is no ASCII is taken for whole.
#[must_use]
pub fn beginning(text: &str) -> String {
    // As of a name: more is the beginning of none.
    let is_too_long = text.len() > MAX_NAME * 4;
    let a_labels = if is_too_long { None } else { a_labels(text).ok() };
    a_labels.unwrap_or_else(|| text.to_ascii_lowercase())
}

fn shape(ascii: &str) -> Result<(), Reason> {
    if ascii.is_empty() || ascii.len() > MAX_NAME {
        return Err(Reason::Length);
    }
    // What ends in a number is an address, if anything: rustls and browsers read it so (WHATWG URL, "ends in a number checker").
    let last = ascii.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::Address);
    }
    ascii.split('.').try_for_each(|label| {
        if label.is_empty() || label.len() > MAX_LABEL {
            return Err(Reason::Label);
        }
        // Underscores are no host names (RFC 952), yet CNAMEs of customers carry them, and CAs refuse them by themselves.
        let permitted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !label.bytes().all(permitted) || label.starts_with('-') || label.ends_with('-') {
            return Err(Reason::Character);
        }
        Ok(())
    })
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

macro_rules! text_forms {
    ($($name:ty),+) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{self}") }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> { Self::parse(text) }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> { Self::parse(&text) }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String { name.to_string() }
        }
    )+};
}
text_forms!(ServerName, Pattern);

/// What one of the two names of a pair begins with.
pub(crate) const WWW: &str = "www.";
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn what_is_a_name_is_one_to_rustls_and_parses_to_itself(text in "\\PC{0,80}|[*a-zA-Z0-9._-]{1,70}") {
                if let Ok(name) = ServerName::parse(&text) {
                    prop_assert_eq!(ServerName::parse(name.as_str()).unwrap(), name.clone());
                    prop_assert!(rustls::pki_types::DnsName::try_from(name.as_str()).is_ok(), "{}", name);
                }
                if let Ok(pattern) = Pattern::parse(&text) {
                    prop_assert_eq!(Pattern::parse(&pattern.to_string()).unwrap(), pattern);
                }
            }
        }
    }

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    #[test]
    fn names_are_normalised_once() {
        for (given, kept) in [
            ("Example.COM", "example.com"),
            ("example.com.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("_acme-challenge.example.com", "_acme-challenge.example.com"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(name(given).as_str(), kept, "{given}");
        }
    }

    #[test]
    fn a_beginning_is_found_in_the_form_in_which_people_read_the_name() {
        for (given, sought) in [
            ("SHOP.cust", "shop.cust"),
            ("bücher", "xn--bcher-kva"),
            ("*.Bücher.exam", "*.xn--bcher-kva.exam"),
            ("xn--bch", "xn--bch"),
            ("", ""),
        ] {
            assert_eq!(beginning(given), sought);
        }
        assert_eq!(beginning(&"ü".repeat(4000)).len(), 8000);
    }

    #[test]
    fn what_no_dns_name_can_be_is_refused() {
        let long_label = "a".repeat(64) + ".example";
        let long_name = "a.".repeat(127) + "example";
        for text in [
            "",
            ".",
            "a..b",
            "-a.example",
            "a-.example",
            "a b.example",
            "192.0.2.1",
            "192.0.2",
            "shop.example.0",
            "2001:db8::1",
            "[::1]",
            "a\0.example",
            "*.example.com",
            &long_label,
            &long_name,
        ] {
            assert!(ServerName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_and_its_a_label_form_are_treated_alike() {
        for (unicode, ascii) in [
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("_x.bücher.example", Some("_x.xn--bcher-kva.example")),
            ("_dmarc.BÜCHER.example.", Some("_dmarc.xn--bcher-kva.example")),
            ("faß.example", Some("xn--fa-hia.example")),
            ("☃.example", Some("xn--n3h.example")),
            ("r3---sn-a.bücher.example", Some("r3---sn-a.xn--bcher-kva.example")),
            ("-bücher.example", None),
            ("bücher-.example", None),
            ("b ü.example", None),
            ("a／ü.example", None),
        ] {
            let parsed = ServerName::parse(unicode).ok();
            assert_eq!(parsed.as_ref().map(ServerName::as_str), ascii, "{unicode}");
            let Some(ascii) = ascii else { continue };
            for form in [ascii.to_owned(), ascii.to_uppercase(), format!("{ascii}.")] {
                assert_eq!(name(&form).as_str(), ascii, "{form}");
            }
            let wildcard = Pattern::parse(&format!("*.{unicode}")).unwrap();
            assert_eq!(wildcard, Pattern::parse(&format!("*.{ascii}")).unwrap());
        }
    }

    #[test]
    fn what_looks_like_an_a_label_and_is_none_is_refused() {
        for text in [
            "xn--a",
            "xn--a.example",
            "XN--A.example",
            "www.xn--.example",
            "xn---.example",
            // The A-labels of `abc`, which is no U-label, and of upper case `Ü`, which its own mapping changes.
            "xn--abc-.example",
            "xn--bcher-2pa.example",
            "xn--0000000000000000000000.example",
        ] {
            let refused = ServerName::parse(text).unwrap_err().to_string();
            assert!(refused.contains("begins with `xn--` and is not an A-label"), "{refused}");
        }
    }

    #[test]
    fn a_pair_is_two_names_of_which_each_is_the_others() {
        let suffix = |text| Err(NoCounterpart::PublicSuffix(name(text)));
        let longest = format!("{}.example", [&*"a".repeat(60); 4].join("."));
        for (given, other) in [
            ("example.com", Ok("www.example.com")),
            ("www.example.com", Ok("example.com")),
            ("Shop.example.com", Ok("www.shop.example.com")),
            ("wwwexample.com", Ok("www.wwwexample.com")),
            ("www.xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("www.www.example.com", Err(NoCounterpart::Nested)),
            ("www.co.uk", suffix("co.uk")),
            ("www.com", suffix("com")),
            ("co.uk", suffix("co.uk")),
            ("github.io", suffix("github.io")),
            ("www.github.io", suffix("github.io")),
            (&longest, Err(NoCounterpart::Length)),
        ] {
            let found = name(given).counterpart();
            assert_eq!(found.as_ref().map(ServerName::as_str), other.as_ref().copied(), "{given}");
            if let Ok(found) = found {
                assert_eq!(found.counterpart(), Ok(name(given)));
            }
        }
        assert_eq!(Pattern::parse("*.example.com").unwrap().counterpart(), Err(NoCounterpart::Wildcard));
    }

    #[test]
    fn a_names_own_entry_comes_before_its_pairs_and_that_before_a_wildcard() {
        for (given, entries) in [
            ("example.com", &["example.com", "www.example.com"][..]),
            ("www.example.com", &["www.example.com", "example.com", "*.example.com"]),
            ("a.example.com", &["a.example.com", "www.a.example.com", "*.example.com"]),
            ("www.www.example.com", &["www.www.example.com", "*.www.example.com"]),
            ("www.co.uk", &["www.co.uk", "*.co.uk"]),
            ("localhost", &["localhost", "www.localhost"]),
        ] {
            let found: Vec<_> = name(given).entries().map(|entry| entry.to_string()).collect();
            assert_eq!(found, entries, "{given}");
        }
    }

    #[test]
    fn wildcard_covers_exactly_one_label() {
        for (pattern, given, covered) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("a.example.com", "A.example.com.", true),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().covers(&name(given)),
                covered,
                "{pattern} against {given}"
            );
        }
        assert!(Pattern::parse("*.com").is_err());
        assert_eq!(name("a.example.com").wildcard().unwrap().to_string(), "*.example.com");
        assert_eq!(name("example.com").wildcard(), None);
    }
}
