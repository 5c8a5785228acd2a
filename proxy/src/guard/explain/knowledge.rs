//! What is known of a guard: its rules, and what they say of single names and sources.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use proxy_common::{
    budget::BudgetRate,
    maps::{GuardSettings, Mode, PortEntry, SourceAddress, SourceRule},
    model::{KEY, Model},
    name_hash::exact,
};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, GuardConfig, GuardMode, Network},
    domains::NameSet,
    guard::{Enforcement, Ports, policy, source_networks::prefix},
    name::{Pattern, ServerName},
    telemetry::metrics::Label as _,
};

/// Names and sources that an instance is asked about, at most [`GuardQuestion::MOST`] of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardQuestion {
    /// The names.
    pub(crate) names: Vec<ServerName>,
    /// The sources.
    pub(crate) sources: Vec<IpAddr>,
}

/// What an instance answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GuardFacts {
    /// What the guard decides by; absent, it is off.
    pub(crate) rules: Option<GuardRules>,
    /// The names that were asked about.
    pub(crate) names: Vec<NameFacts>,
    /// The sources that were asked about.
    pub(crate) sources: Vec<SourceFacts>,
}

/// What the guard decides by, apart from names and networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GuardRules {
    /// What happens to unknown names, as it is in force.
    pub(crate) mode: GuardMode,
    /// Whether it happens now: `on`, or why not.
    pub(crate) enforcement: String,
    /// The same in a word.
    pub(crate) enforces: bool,
    /// What is guarded.
    pub(crate) ports: Ports,
    /// Whether any network is denied.
    pub(crate) denies_networks: bool,
    /// The budget of unknown names, which counts in mode `adaptive`.
    pub(crate) unknown_names: Budget,
    /// Each source's own share of it; absent, it is not known.
    #[serde(default)]
    pub(crate) unknown_names_per_source: Option<Budget>,
    /// Each source's budget of SYNs; absent, there is no limit.
    pub(crate) syns_per_source: Option<Budget>,
}

/// A budget of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Budget {
    /// How many are added in a second.
    pub(crate) per_second: u32,
    /// How many it holds.
    pub(crate) burst: u32,
    /// How many are left; absent, it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left: Option<u32>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameFacts {
    /// The name.
    pub(crate) name: ServerName,
    /// The entry by which the kernel lets it pass.
    pub(crate) in_kernel: Option<Pattern>,
    /// The entry that covers it in the names which the guard follows.
    pub(crate) listed: Option<Pattern>,
    /// For how long user space denies it.
    pub(crate) denied_for_seconds: Option<u64>,
}

/// What is known of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceFacts {
    /// The source.
    pub(crate) source: IpAddr,
    /// The smallest network with a rule that it is in.
    pub(crate) network: Option<NetworkRule>,
}

/// A network with a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRule {
    /// The network.
    pub(crate) network: Network,
    /// The setting that lists it.
    pub(crate) listed_in: RuleList,
}

/// A setting that lists networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RuleList {
    /// Their packets are dropped.
    #[serde(rename = "guard.deny")]
    Deny,
    /// Their packets are not dropped for their source.
    #[serde(rename = "guard.exempt")]
    Exempt,
}

/// Where it is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KnowledgeOrigin {
    /// The instance here and its kernel.
    Kernel,
    /// The instance here, whose guard is off: rules are those of the settings, names are the instance's.
    GuardOff,
    /// The settings alone, for no instance runs here.
    Settings,
}

/// What is known of a guard.
pub(crate) struct Knowledge {
    pub(crate) origin: KnowledgeOrigin,
    pub(crate) rules: GuardRules,
    names: HashMap<ServerName, NameFacts>,
    sources: HashMap<IpAddr, SourceFacts>,
}

impl RuleList {
    /// The setting.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "guard.deny",
            Self::Exempt => "guard.exempt",
        }
    }
}

impl GuardQuestion {
    /// Most names, and most sources, of one question.
    pub(crate) const MOST: usize = 256;
}

impl NameFacts {
    /// Without a kernel.
    fn listed_by(name: &ServerName, is_listed: impl Fn(&Pattern) -> bool) -> Self {
        Self {
            name: name.clone(),
            in_kernel: None,
            listed: name.patterns().find(is_listed),
            denied_for_seconds: None,
        }
    }
}

impl GuardFacts {
    /// By the names that the guard follows, without a kernel.
    pub(in crate::guard) fn of_names(question: &GuardQuestion, known: &NameSet) -> Self {
        let is_listed = |pattern: &Pattern| known.patterns.contains(pattern);
        let names = question.names.iter().map(|name| NameFacts::listed_by(name, is_listed));
        Self { rules: None, names: names.collect(), sources: Vec::new() }
    }
}

impl GuardRules {
    /// By the settings, as if all went well with a guard that follows them.
    pub(crate) fn of_settings(config: &Config) -> Self {
        let GuardConfig { deny, .. } = &config.guard;
        let ports = Ports::of(&config.guard, &config.listen);
        Self::new(policy::settings(&config.guard), Enforcement::On, ports, !deny.is_empty(), None)
    }

    pub(in crate::guard) fn new(
        settings: GuardSettings,
        enforcement: Enforcement,
        ports: Ports,
        denies_networks: bool,
        unknown_left: Option<u32>,
    ) -> Self {
        let mode = match Mode::enforcing(settings.mode) {
            Some(Mode::Adaptive) => GuardMode::Adaptive,
            Some(Mode::Strict) => GuardMode::Strict,
            Some(Mode::Observe) | None => GuardMode::Observe,
        };
        let limited = settings.syns_per_source_per_second > 0;
        Self {
            mode,
            enforcement: enforcement.as_str().to_owned(),
            enforces: enforcement.is_on(),
            ports,
            denies_networks,
            unknown_names: Budget {
                per_second: settings.unknown_per_second,
                burst: settings.unknown_burst,
                left: unknown_left,
            },
            unknown_names_per_source: Some(Budget {
                per_second: settings.unknown_per_source_per_second,
                burst: settings.unknown_per_source_burst,
                left: None,
            }),
            syns_per_source: limited.then_some(Budget {
                per_second: settings.syns_per_source_per_second,
                burst: settings.syns_per_source_burst,
                left: None,
            }),
        }
    }

    fn settings(&self) -> GuardSettings {
        let of_source = self.unknown_names_per_source.unwrap_or(self.unknown_names);
        GuardSettings {
            mode: Mode::from(self.mode) as u32,
            unknown_per_second: self.unknown_names.per_second,
            unknown_burst: self.unknown_names.burst,
            unknown_per_source_per_second: of_source.per_second,
            unknown_per_source_burst: of_source.burst,
            // A model sends nothing, and tells of nothing.
            resets_per_second: 0,
            sampled_rejections_per_second: 0,
            syns_per_source_per_second: self.syns_per_source.map_or(0, |budget| budget.per_second),
            syns_per_source_burst: self.syns_per_source.map_or(0, |budget| budget.burst),
        }
    }
}

impl Budget {
    /// The state of such a budget at `now_ns`; one of which nothing is known is full.
    fn arrival_ns(&self, now_ns: u64) -> u64 {
        let rate = BudgetRate { per_second: self.per_second, burst: self.burst };
        rate.arrival_with(self.left.unwrap_or(self.burst), now_ns)
    }
}

impl Knowledge {
    pub(crate) fn new(origin: KnowledgeOrigin, rules: GuardRules) -> Self {
        Self { origin, rules, names: HashMap::new(), sources: HashMap::new() }
    }

    /// Those of `names` and `sources` of which nothing is known, in questions that an instance answers.
    pub(crate) fn unasked(
        &self,
        names: &BTreeSet<ServerName>,
        sources: &BTreeSet<IpAddr>,
    ) -> Vec<GuardQuestion> {
        let names: Vec<_> = names.iter().filter(|name| !self.names.contains_key(*name)).cloned().collect();
        let sources: Vec<_> =
            sources.iter().filter(|source| !self.sources.contains_key(*source)).copied().collect();
        let mut names = names.chunks(GuardQuestion::MOST);
        let mut sources = sources.chunks(GuardQuestion::MOST);
        let mut questions = Vec::new();
        loop {
            let (names, sources) = (names.next(), sources.next());
            if names.is_none() && sources.is_none() {
                return questions;
            }
            questions.push(GuardQuestion {
                names: names.unwrap_or_default().to_vec(),
                sources: sources.unwrap_or_default().to_vec(),
            });
        }
    }

    /// Takes an instance's answer to `question`. One whose guard is off has no lists: the settings' would be in force.
    pub(crate) fn learn(&mut self, facts: GuardFacts, config: &Config, question: &GuardQuestion) {
        let sources = match facts.rules {
            Some(_) => facts.sources,
            None => sources_by(&config.guard, &question.sources),
        };
        self.add(facts.names, sources);
    }

    /// As [`Knowledge::learn`], by the settings alone.
    pub(crate) fn learn_from(&mut self, config: &Config, question: &GuardQuestion) {
        let is_listed =
            |pattern: &Pattern| config.domains.r#static.iter().any(|entry| entry.name == *pattern);
        let names = question.names.iter().map(|name| NameFacts::listed_by(name, is_listed));
        self.add(names.collect(), sources_by(&config.guard, &question.sources));
    }

    fn add(&mut self, names: Vec<NameFacts>, sources: Vec<SourceFacts>) {
        self.names.extend(names.into_iter().map(|facts| (facts.name.clone(), facts)));
        self.sources.extend(sources.into_iter().map(|facts| (facts.source, facts)));
    }

    pub(crate) fn name(&self, name: &ServerName) -> Option<&NameFacts> {
        self.names.get(name)
    }

    pub(crate) fn source(&self, source: IpAddr) -> Option<&SourceFacts> {
        self.sources.get(&source)
    }

    /// The entry by which `name` passes: in the kernel, or where no kernel is asked, in what it would be told.
    pub(super) fn passes<'a>(&self, name: &'a NameFacts) -> Option<&'a Pattern> {
        match self.origin {
            KnowledgeOrigin::Kernel => name.in_kernel.as_ref(),
            KnowledgeOrigin::GuardOff | KnowledgeOrigin::Settings => name.listed.as_ref(),
        }
    }

    /// The kernel's tables, as far as they are known, at `now_ns`.
    pub(super) fn model(&self, now_ns: u64) -> Model {
        let passing = self.names.values().filter(|name| self.passes(name).is_some());
        let denied = self.names.values().filter_map(|name| Some((name, name.denied_for_seconds?)));
        let hash = |name: &NameFacts| exact(&KEY, name.name.as_str().as_bytes());
        let until = |seconds: u64| now_ns.saturating_add(seconds.saturating_mul(NANOSECONDS));
        Model {
            settings: self.rules.settings(),
            now_ns,
            enforce_until_ns: if self.rules.enforces { u64::MAX } else { 0 },
            ports: self.rules.ports.entries(self.rules.denies_networks).fold(
                HashMap::new(),
                |mut ports, (port, entry)| {
                    let there: &mut PortEntry = ports.entry(port).or_default();
                    *there = there.and(entry);
                    ports
                },
            ),
            addresses: self.rules.ports.addresses(),
            source_networks: networks(self.sources.values()),
            syns: RefCell::default(),
            names: passing.map(hash).collect(),
            denials: denied.map(|(name, seconds)| (hash(name), until(seconds))).collect(),
            unknown_of: RefCell::default(),
            unknown: Cell::new(self.rules.unknown_names.arrival_ns(now_ns)),
            // Who asks means a connection, not a segment that somebody forged.
            has_socket: |_| true,
            hints: RefCell::default(),
            flows: RefCell::default(),
            cut_names: RefCell::default(),
        }
    }
}

/// What the lists of `guard` say of each source.
pub(in crate::guard) fn sources_by(guard: &GuardConfig, sources: &[IpAddr]) -> Vec<SourceFacts> {
    let listed = |networks: &[Network], listed_in, source| {
        let within = networks.iter().filter(|network| network.contains(&source));
        let smallest = within.max_by_key(|network| network.prefix_len());
        smallest.map(|network| NetworkRule { network: *network, listed_in })
    };
    let facts = sources.iter().map(|source| {
        let deny = listed(&guard.deny, RuleList::Deny, *source);
        let exempt = listed(&guard.exempt, RuleList::Exempt, *source);
        let smallest = deny.into_iter().chain(exempt).max_by_key(|rule| rule.network.prefix_len());
        SourceFacts { source: *source, network: smallest }
    });
    facts.collect()
}

/// The networks with rules that sources are in, each once. Of each source they hold the smallest, and so the one that decides.
fn networks<'a>(sources: impl Iterator<Item = &'a SourceFacts>) -> Vec<(SourceAddress, u32, SourceRule)> {
    let rules = sources.filter_map(|facts| facts.network.as_ref());
    let distinct: HashMap<_, _> = rules.map(|rule| (prefix(&rule.network), rule.listed_in)).collect();
    let networks = distinct.into_iter().map(|((source, bits), list)| {
        let rule = match list {
            RuleList::Deny => SourceRule::Deny,
            RuleList::Exempt => SourceRule::Exempt,
        };
        (source, bits, rule)
    });
    networks.collect()
}

const NANOSECONDS: u64 = 1_000_000_000;
