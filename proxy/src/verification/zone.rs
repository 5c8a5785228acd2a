//! The zone in which the records of a name are set, and names as its provider's form wants them.

use psl::Psl as _;

use crate::name::{Pattern, ServerName};

/// A zone, and the name servers that its parent or itself names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// Its own name, as A-labels.
    pub apex: String,
    /// Its name servers, in lower case, without a final dot; none, they are not known.
    pub servers: Vec<String>,
}

impl Zone {
    /// RFC 1035 §5.1: what zone files call the zone's own name.
    pub const OWN_NAME: &'static str = "@";

    /// The zone of the registered domain of `pattern`, before anything was asked.
    pub(super) fn of_registered_domain(pattern: &Pattern) -> Self {
        Self { apex: registered_domain(pattern.name()).to_owned(), servers: Vec::new() }
    }

    /// The name of a record within the zone, `@` for the zone's own; a name that is not in it stays whole.
    #[must_use]
    pub fn relative<'a>(&self, name: &'a str) -> &'a str {
        if name == self.apex {
            return Self::OWN_NAME;
        }
        let before = name.strip_suffix(&self.apex).and_then(|before| before.strip_suffix('.'));
        before.filter(|before| !before.is_empty()).unwrap_or(name)
    }
}

/// Names that may be the zone's own, the deepest first: from that of `pattern` up to its registered domain, of many the upper ones.
pub(super) fn candidates(pattern: &Pattern) -> Vec<&str> {
    let (name, registered) = (pattern.name(), registered_domain(pattern.name()));
    let parents =
        std::iter::successors(Some(name.as_str()), |name| name.split_once('.').map(|(_, parent)| parent));
    let mut names: Vec<_> = parents.take_while(|name| name.len() >= registered.len()).collect();
    names.split_off(names.len().saturating_sub(MOST_CANDIDATES))
}

fn registered_domain(name: &ServerName) -> &str {
    let domain = psl::List.domain(name.as_str().as_bytes());
    let length = domain.map_or(name.as_str().len(), |domain| domain.as_bytes().len());
    let begin = name.as_str().len().saturating_sub(length);
    name.as_str().get(begin..).unwrap_or(name.as_str())
}

/// Zones are rarely deeper; more questions would be a stranger's to choose.
const MOST_CANDIDATES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_zone_is_looked_for_from_the_name_up_to_its_registered_domain() {
        for (name, found) in [
            ("example.co.uk", &["example.co.uk"][..]),
            ("shop.example.co.uk", &["shop.example.co.uk", "example.co.uk"]),
            ("*.shop.example.com", &["shop.example.com", "example.com"]),
            (
                "a.b.c.d.e.example.com",
                &["c.d.e.example.com", "d.e.example.com", "e.example.com", "example.com"],
            ),
            ("co.uk", &["co.uk"]),
        ] {
            assert_eq!(candidates(&pattern(name)), found, "{name}");
            assert_eq!(Some(&*Zone::of_registered_domain(&pattern(name)).apex), found.last().copied());
        }
    }

    #[test]
    fn names_are_shown_within_their_zone() {
        let zone = Zone { apex: "example.com".to_owned(), servers: Vec::new() };
        for (name, relative) in [
            ("example.com", "@"),
            ("shop.example.com", "shop"),
            ("_gatehouse.shop.example.com", "_gatehouse.shop"),
            ("*.example.com", "*"),
            ("badexample.com", "badexample.com"),
            ("other.example", "other.example"),
            (".example.com", ".example.com"),
        ] {
            assert_eq!(zone.relative(name), relative, "{name}");
        }
    }
}
