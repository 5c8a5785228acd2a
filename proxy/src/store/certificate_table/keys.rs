//! Caddy's key space (certmagic, `KeyBuilder` and `ACMEIssuer.issuerKey`).

use std::{fmt, sync::Arc};

use crate::name::{Pattern, ServerName};

/// An issuer as keys name it, like `acme-v02.api.letsencrypt.org-directory`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IssuerKey(Arc<str>);

/// The keys of the three items of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteKeys {
    /// Of the chain.
    pub chain: String,
    /// Of the private key.
    pub key: String,
    /// Of Caddy's metadata.
    pub metadata: String,
}

/// The keys of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountKeys {
    /// Of what the CA said of it.
    pub account: String,
    /// Of its private key.
    pub key: String,
}

/// What the items of a folder of Caddy's key space are, which its storage of files has as folders: a certificate, or an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaddyFolder {
    /// `certificates/<issuer>/<name>`.
    Certificate(IssuerKey, Pattern),
    /// `acme/<issuer>/users/<address>`, with the address as the key holds it.
    Account(IssuerKey, String),
}

impl CaddyFolder {
    /// Reads a folder's path; `None` for others, and for a certificate of what is no name of the DNS.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let mut steps = path.split('/');
        let step = (steps.next()?, steps.next()?, steps.next()?, steps.next(), steps.next());
        let folder = match step {
            ("certificates", issuer, name, None, None) => {
                let wildcard = name.strip_prefix(WILDCARD).map(|suffix| format!("*{suffix}"));
                let pattern = Pattern::parse(wildcard.as_deref().unwrap_or(name)).ok()?;
                Self::Certificate(IssuerKey::parse(issuer)?, pattern)
            }
            ("acme", issuer, "users", Some(email), None) if !email.starts_with('.') => {
                Self::Account(IssuerKey::parse(issuer)?, email.to_owned())
            }
            _ => return None,
        };
        // Whatever else is there, keys of ours lead nowhere else.
        (folder.to_string() == path).then_some(folder)
    }
}

impl fmt::Display for CaddyFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = match self {
            Self::Certificate(issuer, pattern) => issuer.site(pattern).chain,
            Self::Account(issuer, email) => issuer.account(email).account,
        };
        f.write_str(first.rsplit_once('/').map_or("", |(folder, _)| folder))
    }
}

impl IssuerKey {
    /// Of the CA with this directory: host and path, joined by hyphens.
    #[must_use]
    pub fn of_directory(url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.replace(['/', '\\'], "-");
        match path.trim_matches('-') {
            "" => Self(safe(host).into()),
            path => Self(safe(&format!("{host}-{path}")).into()),
        }
    }

    /// Of the internal issuer; no directory has this key, since a host and `-internal` make no URL of an ACME directory.
    #[must_use]
    pub fn internal() -> Self {
        Self("gatehouse-internal".into())
    }

    /// Of certificates that the operator brings; no directory has this key, either.
    #[must_use]
    pub fn own() -> Self {
        Self("gatehouse-own".into())
    }

    /// Whether it is none of ACME: Caddy looks for nothing under its key.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        *self == Self::internal() || *self == Self::own()
    }

    /// As a key holds it; `None` for what no key of Caddy's holds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_safe = safe(text) == text && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        is_safe.then(|| Self(text.into()))
    }

    /// As keys hold it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The keys of its certificate for `pattern`.
    #[must_use]
    pub fn site(&self, pattern: &Pattern) -> SiteKeys {
        let name = safe(&pattern.to_string());
        let stem = format!("certificates/{}/{name}/{name}", self.0);
        SiteKeys {
            chain: format!("{stem}.crt"),
            key: format!("{stem}.key"),
            metadata: format!("{stem}.json"),
        }
    }

    /// The keys of the account of `email` with it.
    #[must_use]
    pub fn account(&self, email: &str) -> AccountKeys {
        // certmagic, `emailUsername` and `emptyEmail`.
        let email = if email.trim().is_empty() { "default" } else { email };
        let user = match email.split_once('@') {
            Some(("", rest)) => rest,
            Some((user, _)) => user,
            None => email,
        };
        let stem = format!("acme/{}/users/{}/{}", self.0, safe(email), safe(user));
        AccountKeys { account: format!("{stem}.json"), key: format!("{stem}.key") }
    }

    /// The key of the item that holds the key of the account of `email`.
    #[must_use]
    pub fn account_key(&self, email: &str) -> String {
        self.account(email).key
    }

    pub(super) fn challenge(&self, name: &ServerName) -> String {
        format!("acme/{}/challenge_tokens/{}.json", self.0, safe(name.as_str()))
    }
}

/// The lock of a name's order, as Caddy and every instance take it. Its name is not made safe.
pub(super) fn lock(name: &Pattern) -> String {
    format!("LOCK-issue_cert_{name}")
}

/// Whether a key is of what is ever deleted.
pub(super) fn is_deleted(key: &str) -> bool {
    DELETED.iter().any(|pattern| matches(pattern, key))
}

/// As IAM's `StringLike` goes, less `?`: `*` is any text.
fn matches(pattern: &str, key: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == key };
    let Some(rest) = key.strip_prefix(before) else { return false };
    rest.char_indices()
        .map(|(at, _)| at)
        .chain([rest.len()])
        .any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
}

/// One component of a key (certmagic, `KeyBuilder.Safe`).
pub(super) fn safe(text: &str) -> String {
    let lower = text.to_lowercase();
    let mut rest = lower.trim();
    let mut made = String::with_capacity(rest.len());
    while let Some(first) = rest.chars().next() {
        let (taken, put) = match REPLACED.iter().find(|(from, _)| rest.starts_with(from)) {
            Some((from, to)) => (from.len(), *to),
            None if first.is_ascii_alphanumeric() || "_@.-".contains(first) => {
                made.push(first);
                (first.len_utf8(), "")
            }
            None => (first.len_utf8(), ""),
        };
        made.push_str(put);
        rest = rest.get(taken..).unwrap_or_default();
    }
    made
}

/// Keys of what is ever deleted: locks and challenges that have ended, what a CA said of an account whose key was replaced, certificates
/// that are revoked, removed, or of no use any more. The policy of a fleet's instances permits the deletion of these alone.
pub(crate) const DELETED: [&str; 4] =
    ["LOCK-*", "acme/*/challenge_tokens/*", "acme/*/users/*", "certificates/*"];

const WILDCARD: &str = "wildcard_";
const REPLACED: [(&str, &str); 5] = [(" ", "_"), ("+", "_plus_"), ("*", WILDCARD), (":", "-"), ("..", "")];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn components_are_made_safe_as_caddy_makes_them() {
        for (given, made) in [
            ("Example.COM", "example.com"),
            (" a b ", "a_b"),
            ("ops+acme@example.com", "ops_plus_acme@example.com"),
            ("*.example.com", "wildcard_.example.com"),
            ("localhost:14100", "localhost-14100"),
            ("../../etc/passwd", "etcpasswd"),
            ("a...b", "a.b"),
            ("a. .b", "a._.b"),
            ("b\u{fc}cher\0\n", "bcher"),
            ("\u{212a}elvin", "kelvin"),
        ] {
            assert_eq!(safe(given), made, "{given:?}");
        }
    }

    #[test]
    fn issuers_are_named_by_host_and_path() {
        for (url, key) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org-directory"),
            ("https://localhost:14100/dir", "localhost-14100-dir"),
            ("https://ca.example/acme/v1/", "ca.example-acme-v1"),
            ("https://ca.example", "ca.example"),
            ("https://ca.example/", "ca.example"),
            ("https://ca.example/dir?x=1", "ca.example-dir"),
        ] {
            assert_eq!(IssuerKey::of_directory(url).as_str(), key, "{url}");
        }
    }

    #[test]
    fn accounts_lie_under_their_address() {
        let issuer = IssuerKey::of_directory("https://localhost:14100/dir");
        for (email, key) in [
            ("ops@example.com", "acme/localhost-14100-dir/users/ops@example.com/ops.key"),
            ("", "acme/localhost-14100-dir/users/default/default.key"),
            ("@example.com", "acme/localhost-14100-dir/users/@example.com/example.com.key"),
        ] {
            assert_eq!(issuer.account(email).key, key, "{email}");
        }
    }

    #[test]
    fn folders_of_caddys_storage_are_read_as_they_are_named() {
        for path in [
            "certificates/acme-v02.api.letsencrypt.org-directory/shop.example.com",
            "certificates/ca.example-dir/wildcard_.example.com",
            "acme/localhost-14100-dir/users/ops@example.com",
            "acme/localhost-14100-dir/users/ops_plus_acme@example.com",
            "acme/localhost-14100-dir/users/default",
        ] {
            assert_eq!(CaddyFolder::parse(path).unwrap().to_string(), path);
        }
        let wildcard = CaddyFolder::parse("certificates/ca.example-dir/wildcard_.example.com");
        let pattern = Pattern::parse("*.example.com").unwrap();
        assert_eq!(
            wildcard,
            Some(CaddyFolder::Certificate(IssuerKey::parse("ca.example-dir").unwrap(), pattern))
        );
        for path in [
            "",
            "certificates/local",
            "certificates/local/10.0.0.1",
            "certificates/local/Shop.example.com",
            "certificates/../shop.example.com",
            "certificates/./shop.example.com",
            "certificates//shop.example.com",
            "certificates/local/..",
            "certificates/local/shop.example.com/x",
            "acme/ca.example-dir/users/../x",
            "acme/ca.example-dir/users/",
            "acme/ca.example-dir/users/..",
            "acme/ca.example-dir/users/.",
            "acme/ca.example-dir/challenge_tokens/shop.example.com.json",
        ] {
            assert_eq!(CaddyFolder::parse(path), None, "{path}");
        }
    }

    mod properties {
        use super::*;

        proptest! {
            #[test]
            fn no_text_leaves_its_component(text in "\\PC{0,60}") {
                let made = safe(&text);
                prop_assert!(made.chars().all(|c| c.is_ascii_alphanumeric() || "_@.-".contains(c)), "{}", made);
                prop_assert!(!made.contains('/'));
            }

            #[test]
            fn what_is_safe_stays_as_it_is(text in "[a-z0-9@_-]{0,40}") {
                prop_assert_eq!(safe(&text), text);
            }
        }
    }
}
