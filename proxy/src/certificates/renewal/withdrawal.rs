//! Certificates that must no longer be served, since their names are no longer allowed.

use std::{collections::HashSet, sync::Arc};

use tracing::info;

use crate::{
    certificates::CertificatesInner,
    domains::{Delta, Patterns},
    name::{Pattern, ServerName},
};

/// Withdraws certificates that the domain set no longer allows, at each change of it.
pub(in crate::certificates) async fn withdraw(inner: Arc<CertificatesInner>) {
    let mut names = inner.domains.names();
    let mut before = names.borrow_and_update().patterns.clone();
    while names.changed().await.is_ok() {
        let allowed = names.borrow_and_update().patterns.clone();
        for pattern in withdrawn(&allowed.since(&before), &allowed, || inner.cache.patterns()) {
            if inner.cache.withdraw(&pattern) {
                info!(%pattern, "certificate withdrawn");
            }
        }
        before = allowed;
    }
}

/// The certificates of names that are no longer allowed. One withdrawn by mistake costs a table read when its name comes again.
fn withdrawn(delta: &Delta, allowed: &Patterns, cached: impl Fn() -> Vec<Pattern>) -> Vec<Pattern> {
    let is_allowed = |name: &ServerName| {
        allowed.contains(&Pattern::Exact(name.clone()))
            || name.wildcard().is_some_and(|all| allowed.contains(&all))
    };
    let is_gone = |pattern: &Pattern| match pattern {
        Pattern::Exact(name) => !is_allowed(name),
        Pattern::Wildcard(_) => true,
    };
    let mut gone: Vec<_> = delta.removed.iter().filter(|pattern| is_gone(pattern)).cloned().collect();
    let wildcards: HashSet<_> =
        delta.removed.iter().filter(|pattern| matches!(pattern, Pattern::Wildcard(_))).collect();
    // Below a wildcard lie names that are in no list.
    if !wildcards.is_empty() {
        let below = |name: &ServerName| name.wildcard().is_some_and(|all| wildcards.contains(&all));
        let names = cached().into_iter().filter(|pattern| match pattern {
            Pattern::Exact(name) => below(name) && !is_allowed(name),
            Pattern::Wildcard(_) => false,
        });
        gone.extend(names);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn what_is_allowed_no_longer_is_withdrawn_also_below_a_wildcard() {
        let cached = ["a.example.com", "b.example.com", "c.example.org", "*.example.com"];
        for (before, after, gone) in [
            (&["a.example.com", "c.example.org"][..], &["a.example.com"][..], &["c.example.org"][..]),
            (&["a.example.com", "*.example.com"], &["*.example.com"], &[]),
            (&["*.example.com", "b.example.com"], &["b.example.com"], &["*.example.com", "a.example.com"]),
            (&["c.example.org"], &["c.example.org", "d.example.org"], &[]),
        ] {
            let set = |texts: &[&str]| patterns(texts).into_iter().collect::<Patterns>();
            let (before, after) = (set(before), set(after));
            let mut withdrawn = withdrawn(&after.since(&before), &after, || patterns(&cached));
            let mut gone = patterns(gone);
            withdrawn.sort();
            gone.sort();
            assert_eq!(withdrawn, gone);
        }
    }
}
