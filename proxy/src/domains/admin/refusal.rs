//! Why a request is refused, and what to do instead.

use std::fmt;

use psl::Type;

use super::{authority::AuthorityRefusal, report::target};
use crate::{
    config::{PairFault, WWW, WwwPair},
    name::Pattern,
    store::domain_table::DomainRecord,
    target::Target,
};

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such entry.
    Absent(Pattern),
    /// The configuration decides on it.
    Static(Pattern),
    /// Nothing would read the change.
    TableOff,
    /// It is there and says something else.
    Exists {
        /// As it is.
        there: Box<DomainRecord>,
        /// As it would be.
        wanted: Box<DomainRecord>,
    },
    /// It is there, and suspended.
    Suspended(Pattern),
    /// It was never verified.
    Pending(Pattern),
    /// Neither a target of its own nor a default one.
    NoTarget(Pattern),
    /// Its target's address is forbidden.
    Address {
        /// Whose.
        pattern: Pattern,
        /// Which.
        target: Target,
    },
    /// Its target's socket is not permitted.
    Socket {
        /// Whose.
        pattern: Pattern,
        /// Which.
        target: Target,
    },
    /// Its target wants settings for TLS that entries may not use, or that are not there.
    Tls {
        /// Whose.
        pattern: Pattern,
        /// Which.
        target: Target,
    },
    /// Its target is this proxy.
    OwnListener {
        /// Whose.
        pattern: Pattern,
        /// Which.
        target: Target,
    },
    /// Names below belong to many owners.
    PublicSuffix {
        /// As asked for.
        pattern: Pattern,
        /// In which part of the list it stands.
        kind: Type,
    },
    /// No public CA issues for it.
    Underscore(Pattern),
    /// It is so long that no proof of it can be asked for.
    Unprovable(Pattern),
    /// It cannot speak for both names of a pair.
    Pair {
        /// Which.
        pattern: Pattern,
        /// As asked for.
        www: WwwPair,
        /// Why.
        fault: PairFault,
    },
    /// Its tenant has as many entries as it may.
    Quota {
        /// Who.
        tenant: String,
        /// How many.
        limit: u64,
    },
    /// Who asks may not have it, or not as it was asked for.
    Authority(AuthorityRefusal),
}

/// A refusal in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// `domain`, `target` or a setting.
    pub field: &'static str,
    /// As given.
    pub value: String,
    /// What is wrong with it.
    pub fault: String,
    /// What to do instead.
    pub remedy: String,
}

impl Explained {
    pub(super) fn of_domain(name: &Pattern, fault: String, remedy: impl Into<String>) -> Self {
        Self { field: "domain", value: name.to_string(), fault, remedy: remedy.into() }
    }
}

impl Refusal {
    /// Whether the request or the settings are wrong, whatever entry is there.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        match self {
            Self::Absent(_)
            | Self::Static(_)
            | Self::Exists { .. }
            | Self::Suspended(_)
            | Self::Pending(_)
            | Self::Quota { .. } => false,
            Self::Authority(refusal) => refusal.is_of_request(),
            Self::TableOff
            | Self::NoTarget(_)
            | Self::Address { .. }
            | Self::Socket { .. }
            | Self::Tls { .. }
            | Self::OwnListener { .. }
            | Self::PublicSuffix { .. }
            | Self::Underscore(_)
            | Self::Unprovable(_)
            | Self::Pair { .. } => true,
        }
    }

    /// Its parts.
    #[must_use]
    pub fn explain(&self) -> Explained {
        match self {
            Self::Absent(name) => {
                let remedy = "`gatehouse domain list` shows those that are";
                Explained::of_domain(name, format!("domain `{name}` is not in the table"), remedy)
            }
            Self::Static(name) => {
                let fault = format!("domain `{name}` is set in the configuration");
                Explained::of_domain(name, fault, "change `domains.static` there")
            }
            Self::TableOff => Explained {
                field: "domains.table",
                value: "false".to_owned(),
                fault: "domains.table: `false`, so the table is not read".to_owned(),
                remedy: "set it to `true`, or give the name in `domains.static`".to_owned(),
            },
            Self::Exists { there, wanted } => exists(there, wanted),
            Self::Suspended(name) => {
                let remedy = format!("`gatehouse domain resume {name}` serves it again");
                Explained::of_domain(name, format!("domain `{name}` exists and is suspended"), remedy)
            }
            Self::Pending(name) => {
                let remedy = format!(
                    "`gatehouse domain records {name}` shows the DNS records it waits for; `gatehouse domain add {name} --verified`, with its target, serves it without them"
                );
                Explained::of_domain(
                    name,
                    format!("domain `{name}` is not verified yet, and not served"),
                    remedy,
                )
            }
            Self::NoTarget(name) => no_target(name),
            Self::Address { target, .. } => of_target(
                target,
                "is on this host, or at an address that no target may have",
                "give the address of the server behind it, or list its network in `upstream.permitted_networks`",
            ),
            Self::Socket { target, .. } => of_target(
                target,
                "is at a Unix socket that entries may not lead to",
                "list it or its directory in `upstream.permitted_sockets`",
            ),
            Self::Tls { target, .. } => of_target(
                target,
                "names settings for TLS that entries may not use",
                "leave `;tls=` out, or write `[upstream.tls.NAME]` with `entries = true`",
            ),
            Self::OwnListener { target, .. } => {
                of_target(target, "is this proxy's own listener", "give the address of the server behind it")
            }
            Self::PublicSuffix { pattern, kind } => public_suffix(pattern, *kind),
            Self::Quota { tenant, limit } => Explained {
                field: "tenant",
                value: tenant.clone(),
                fault: format!("tenant `{tenant}` has the {limit} entries that it may have"),
                remedy: "remove some of them, or have the operator raise `domains.entries_per_tenant` or `domains.quotas`".to_owned(),
            },
            Self::Authority(refusal) => refusal.explain(),
            Self::Pair { pattern, www, fault } => {
                let (fault, remedy) = fault.explain(pattern, *www);
                let fault = format!("{WWW}: {fault}");
                Explained { field: WWW, value: www.to_string(), fault, remedy: remedy.to_owned() }
            }
            Self::Underscore(name) => {
                let fault =
                    format!("domain `{name}` has a `_`, and CAs issue no certificate for such a name");
                Explained::of_domain(name, fault, "use a name of letters, digits and `-`")
            }
            Self::Unprovable(name) => Explained::of_domain(
                name,
                format!("domain `{name}` is so long that no record in front of it can prove it"),
                "use a shorter name, or have the operator add it with `--verified`",
            ),
        }
    }
}

fn no_target(name: &Pattern) -> Explained {
    Explained {
        field: "target",
        value: String::new(),
        fault: format!(
            "domain `{name}` has no target: none is given, and `domains.default_target` is not set"
        ),
        remedy: "give one like `--target http://10.0.0.5:8080`, or set `domains.default_target`".to_owned(),
    }
}

fn exists(there: &DomainRecord, wanted: &DomainRecord) -> Explained {
    let name = &there.pattern;
    let (what, is, would) = if there.target != wanted.target {
        ("target", target(there), target(wanted))
    } else if there.tenant != wanted.tenant {
        ("tenant", there.tenant.clone(), wanted.tenant.clone())
    } else {
        ("settings", there.settings.to_string(), wanted.settings.to_string())
    };
    Explained::of_domain(
        name,
        format!("domain `{name}` exists with {what} `{is}`, not `{would}`"),
        "to change it, add `--replace`",
    )
}

fn public_suffix(pattern: &Pattern, kind: Type) -> Explained {
    let suffix = pattern.name();
    let fault =
        format!("domain `{pattern}`: `{suffix}` is a public suffix, and the names below it have many owners");
    let remedy = match kind {
        Type::Icann => "add the names one by one",
        Type::Private => "add the names one by one; if all of them are yours, give it in `domains.static`",
    };
    Explained::of_domain(pattern, fault, remedy)
}

fn of_target(target: &Target, fault: &str, remedy: &str) -> Explained {
    let (fault, remedy) = (format!("target: `{target}` {fault}"), remedy.to_owned());
    Explained { field: "target", value: target.to_string(), fault, remedy }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Explained { fault, remedy, .. } = self.explain();
        write!(f, "{fault}; {remedy}")
    }
}

impl std::error::Error for Refusal {}
