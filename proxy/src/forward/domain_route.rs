//! Where a domain's requests go, and what its entry says of them.

use std::sync::Arc;

use http::Uri;

use super::{
    authority::Authority,
    refusal::RequestRefusal,
    upstream::{ChosenBy, Route, UpstreamFailure},
};
use crate::{
    config::{Maintenance, UpstreamHost},
    domains::{DomainEntry, Permission, PermissionSource, UnknownReason},
    name::ServerName,
    target::Target,
};

/// What a request for a domain is forwarded by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DomainRoute {
    pub(super) upstream: Route,
    pub(super) host: UpstreamHost,
    /// The name that requests are led to instead of being forwarded, if their site is at another.
    pub(super) leads_to: Option<ServerName>,
    pub(super) tenant: Arc<str>,
}

/// A request that may be forwarded.
pub(super) struct Admitted {
    pub(super) host: Authority,
    pub(super) route: DomainRoute,
}

impl Admitted {
    /// Where a request for `target` is led instead of being forwarded, if its site is at another name.
    pub(super) fn redirect(&self, target: &Uri) -> Option<String> {
        let name = self.route.leads_to.clone()?;
        Some(Authority { name, port: self.host.port }.https_url(target))
    }
}

/// What the settings say where an entry says nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct RouteDefaults<'a> {
    pub(super) target: Option<&'a Target>,
    pub(super) host: UpstreamHost,
}

/// The entry that allows a name. What is served while its source cannot be asked goes by the last entry that is known, and nowhere without
/// one: the default target may be another tenant's.
pub(super) fn entry_of(
    permission: Permission,
    last_known: impl FnOnce(UnknownReason) -> Option<Arc<DomainEntry>>,
) -> Result<Arc<DomainEntry>, RequestRefusal> {
    match permission {
        Permission::Deny(_) => Err(RequestRefusal::Withdrawn),
        Permission::Allow(domain_entry) => Ok(domain_entry),
        Permission::Unknown(unknown_reason) => last_known(unknown_reason).ok_or(RequestRefusal::EntryUnknown),
    }
}

impl DomainRoute {
    /// For requests for `name`, which the entry speaks for.
    pub(super) fn of(
        name: &ServerName,
        domain_entry: &DomainEntry,
        defaults: RouteDefaults<'_>,
    ) -> Result<Self, RequestRefusal> {
        if domain_entry.settings.maintenance == Some(Maintenance::On) {
            return Err(RequestRefusal::Maintenance);
        }
        let by_default = || {
            let target = defaults.target.cloned();
            target.map(|target| Route { target, chosen_by: ChosenBy::Configuration })
        };
        let upstream = own_target(domain_entry).or_else(by_default);
        let upstream = upstream.ok_or(RequestRefusal::Failure(UpstreamFailure::NoTarget))?;
        // A Unix socket has no name that Host could say; endpoints of one target read the same.
        let of_target =
            upstream.target.has_authority().then(|| domain_entry.settings.host.unwrap_or(defaults.host));
        Ok(Self {
            host: of_target.unwrap_or(UpstreamHost::Client),
            upstream,
            leads_to: domain_entry.leads(name),
            tenant: Arc::clone(&domain_entry.tenant),
        })
    }
}

/// The target that a domain entry names.
fn own_target(domain_entry: &DomainEntry) -> Option<Route> {
    let chosen_by = match domain_entry.source {
        PermissionSource::Static => ChosenBy::Configuration,
        PermissionSource::Table | PermissionSource::Ask => ChosenBy::Entry,
    };
    domain_entry.target.clone().map(|target| Route { target, chosen_by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DomainSettings, SiteRedirect, WwwPair},
        forward::metrics::RequestOutcome,
        name::Pattern,
    };

    fn name() -> ServerName {
        ServerName::parse("shop.example").unwrap()
    }

    fn domain_entry(target: Option<&str>) -> Arc<DomainEntry> {
        Arc::new(DomainEntry {
            pattern: Pattern::parse("shop.example").unwrap(),
            target: target.map(|target| Target::parse(target).unwrap()),
            settings: DomainSettings::default(),
            tenant: "default".into(),
            source: PermissionSource::Table,
            version: 1,
            changed_at_micros: 1,
        })
    }

    #[test]
    fn a_name_in_doubt_goes_where_its_last_entry_says_and_never_to_the_default_instead() {
        let (own, default) = ("http://10.0.0.1:80", Target::parse("http://10.0.0.2:80").unwrap());
        let defaults = RouteDefaults { target: Some(&default), host: UpstreamHost::Target };
        for (what, permission, last_known, seen) in [
            ("allowed, own target", Permission::Allow(domain_entry(Some(own))), None, Ok(own)),
            (
                "allowed, none of its own",
                Permission::Allow(domain_entry(None)),
                None,
                Ok("http://10.0.0.2:80"),
            ),
            ("table down, nothing known", Permission::Unknown(UnknownReason::SourceDown), None, Err(503)),
            ("budget spent, nothing known", Permission::Unknown(UnknownReason::BudgetSpent), None, Err(503)),
            (
                "budget spent",
                Permission::Unknown(UnknownReason::BudgetSpent),
                Some(domain_entry(Some(own))),
                Ok(own),
            ),
            (
                "ask down, no own target",
                Permission::Unknown(UnknownReason::AskDown),
                Some(domain_entry(None)),
                Ok("http://10.0.0.2:80"),
            ),
        ] {
            let entry = entry_of(permission, |_| last_known);
            let found = entry.and_then(|entry| DomainRoute::of(&name(), &entry, defaults));
            let found = found.map(|route| route.upstream.target).map_err(|refusal| {
                assert_eq!(refusal.outcome(), RequestOutcome::EntryUnknown, "{what}");
                assert!(refusal.retry_after().is_some(), "{what}");
                refusal.status().as_u16()
            });
            assert_eq!(found, seen.map(|target| Target::parse(target).unwrap()), "{what}");
        }
    }

    #[test]
    fn what_an_entry_says_of_host_comes_before_the_settings() {
        use UpstreamHost::{Client, Target as Own};
        for (said, by_default, host) in
            [(None, Own, Own), (None, Client, Client), (Some(Client), Own, Client), (Some(Own), Client, Own)]
        {
            let entry = Arc::unwrap_or_clone(domain_entry(Some("http://10.0.0.1")));
            let entry = DomainEntry { settings: DomainSettings { host: said, ..entry.settings }, ..entry };
            let defaults = RouteDefaults { target: None, host: by_default };
            let route = DomainRoute::of(&name(), &entry, defaults);
            assert_eq!(route.unwrap().host, host, "{said:?}, {by_default:?}");
        }
    }

    #[test]
    fn the_other_name_of_a_pair_is_led_to_the_entrys_own_or_forwarded_alike() {
        use SiteRedirect::{Apex, Off, Www};
        let entry = Arc::unwrap_or_clone(domain_entry(Some("http://10.0.0.1")));
        for (own, www, redirect, asked, led) in [
            ("shop.example", WwwPair::Redirect, None, "www.shop.example", Some("shop.example")),
            ("shop.example", WwwPair::Redirect, None, "shop.example", None),
            ("www.shop.example", WwwPair::Redirect, None, "shop.example", Some("www.shop.example")),
            ("shop.example", WwwPair::Serve, None, "www.shop.example", None),
            ("shop.example", WwwPair::Serve, Some(Www), "shop.example", Some("www.shop.example")),
            ("shop.example", WwwPair::Serve, Some(Www), "www.shop.example", None),
            ("shop.example", WwwPair::Serve, Some(Apex), "www.shop.example", Some("shop.example")),
            ("shop.example", WwwPair::Off, Some(Off), "shop.example", None),
            // A hand may write both; neither leads in circles.
            ("shop.example", WwwPair::Redirect, Some(Www), "shop.example", None),
            ("shop.example", WwwPair::Redirect, Some(Www), "www.shop.example", Some("shop.example")),
        ] {
            let settings = DomainSettings { www: Some(www), redirect, ..entry.settings };
            let entry = DomainEntry { pattern: Pattern::parse(own).unwrap(), settings, ..entry.clone() };
            let defaults = RouteDefaults { target: None, host: UpstreamHost::Target };
            let route = DomainRoute::of(&ServerName::parse(asked).unwrap(), &entry, defaults).unwrap();
            let found = route.leads_to.as_ref().map(ServerName::as_str);
            assert_eq!(found, led, "{own}: {asked} by {www} and {redirect:?}");
        }
    }

    #[test]
    fn an_outage_of_the_table_ends_no_maintenance() {
        let entry = Arc::unwrap_or_clone(domain_entry(Some("http://10.0.0.1")));
        let settings = DomainSettings { maintenance: Some(Maintenance::On), ..entry.settings };
        let entry = Arc::new(DomainEntry { settings, ..entry });
        let defaults = RouteDefaults { target: None, host: UpstreamHost::Target };
        for permission in
            [Permission::Allow(Arc::clone(&entry)), Permission::Unknown(UnknownReason::SourceDown)]
        {
            let entry = entry_of(permission, |_| Some(Arc::clone(&entry))).unwrap();
            let refused = DomainRoute::of(&name(), &entry, defaults).unwrap_err();
            assert_eq!(refused.outcome(), RequestOutcome::Maintenance);
        }
    }
}
