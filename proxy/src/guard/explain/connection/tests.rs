use std::collections::BTreeSet;

use proxy_common::maps::{GuardSettings, Mode};

use super::*;
use crate::{
    config::{Config, GuardMode},
    domains::NameSet,
    guard::{
        Enforcement, Ports,
        explain::{GuardFacts, GuardQuestion, GuardRules, KnowledgeOrigin, sources_by},
    },
    name::Pattern,
};

const SETTINGS: GuardSettings = GuardSettings {
    mode: Mode::Strict as u32,
    unknown_per_second: 50,
    unknown_burst: 200,
    resets_per_second: 0,
    sampled_rejections_per_second: 0,
    unknown_per_source_per_second: 50,
    unknown_per_source_burst: 200,
    syns_per_source_per_second: 0,
    syns_per_source_burst: 0,
};

/// An instance in whose kernel are `*.example.net` and `denied.but.served`; it knows `late.example`, too, and has denied two names.
struct Asked {
    settings: GuardSettings,
    enforcement: Enforcement,
    unknown_left: u32,
    config: Config,
}

impl Default for Asked {
    fn default() -> Self {
        let mut config = Config::default();
        config.listen.https =
            ["0.0.0.0:443", "[2001:db8::2]:443"].map(|address| address.parse().unwrap()).into();
        let network = |text: &str| text.to_owned().try_into().unwrap();
        config.guard.deny = vec![network("198.51.100.0/24"), network("2001:db8:bad::/48")];
        config.guard.exempt = vec![network("198.51.100.64/26")];
        Self { settings: SETTINGS, enforcement: Enforcement::On, unknown_left: 200, config }
    }
}

impl Asked {
    fn mode(mode: Mode) -> Self {
        Self { settings: GuardSettings { mode: mode as u32, ..SETTINGS }, ..Self::default() }
    }

    fn knowledge(&self, names: &[&str], sources: &[IpAddr]) -> Knowledge {
        let ports = Ports::of(&self.config.guard, &self.config.listen);
        let rules = GuardRules::new(self.settings, self.enforcement, ports, true, Some(self.unknown_left));
        let mut knowledge = Knowledge::new(KnowledgeOrigin::Kernel, rules.clone());
        let names: BTreeSet<_> = names.iter().map(|name| ServerName::parse(name).unwrap()).collect();
        for question in knowledge.unasked(&names, &sources.iter().copied().collect()) {
            let mut facts = GuardFacts::of_names(&question, &NameSet::default());
            for name in &mut facts.names {
                let has = |text: &str| {
                    Some(Pattern::parse(text).unwrap()).filter(|pattern| pattern.covers(&name.name))
                };
                let in_kernel = has("*.example.net").or_else(|| has("denied.but.served"));
                let listed = in_kernel.clone().or_else(|| has("late.example"));
                let denied = ["denied.but.served", "denied.example"].contains(&name.name.as_str());
                (name.in_kernel, name.listed) = (in_kernel, listed);
                name.denied_for_seconds = denied.then_some(7);
            }
            let facts = GuardFacts {
                rules: Some(rules.clone()),
                sources: sources_by(&self.config.guard, &question.sources),
                ..facts
            };
            knowledge.learn(facts, &self.config, &question);
        }
        knowledge
    }

    fn of(&self, name: &str, source: Option<&str>, port: Option<u16>) -> ConnectionReport {
        let source = source.map(|source| source.parse().unwrap());
        let knowledge = self.knowledge(&[name], source.as_slice());
        explain(&knowledge, &Connection { name: ServerName::parse(name).unwrap(), source, port })
    }

    /// The last packet of a connection for `name`.
    fn hello(&self, name: &str) -> Judgement {
        self.of(name, None, None).hello.unwrap()
    }
}

#[test]
fn each_step_is_named_with_what_decided_there() {
    let unenforced = Asked { enforcement: Enforcement::WorkersSilent, ..Asked::default() };
    let spent = Asked { unknown_left: 0, ..Asked::mode(Mode::Adaptive) };
    let strict = Asked::default();
    for (asked, name, verdict, number, reason) in [
        (&strict, "a.example.net", "pass_allowed", 8, "the kernel has it by `*.example.net`"),
        (&strict, "denied.but.served", "pass_allowed", 8, "which counts more than that user space denied it"),
        (
            &strict,
            "a.b.example.net",
            "reject_foreign_server",
            12,
            "nor among the instance's names, and mode `strict`",
        ),
        (
            &strict,
            "late.example",
            "reject_foreign_server",
            12,
            "not in the kernel yet, though the instance has `late.example`",
        ),
        (&strict, "denied.example", "reject_denied_server", 11, "user space has denied it, for 7 s more"),
        (&unenforced, "x.example", "pass_unenforced", 9, "does not enforce (`workers_silent`)"),
        (&Asked::mode(Mode::Observe), "denied.example", "pass_observed", 10, "the mode is `observe`"),
        (
            &Asked::mode(Mode::Adaptive),
            "x.example",
            "pass_unknown",
            12,
            "within the budget of 50 unknown names a second, 200 at once, 200 left",
        ),
        (
            &spent,
            "x.example",
            "reject_foreign_server",
            12,
            "nothing is left of the budget of 50 unknown names",
        ),
    ] {
        let told = asked.hello(name);
        assert_eq!((told.verdict, told.step_number), (verdict, number), "{name}: {told:?}");
        assert!(told.reason.contains(reason), "{name}: {}", told.reason);
    }
}

#[test]
fn a_source_is_judged_by_the_smallest_network_that_it_is_in() {
    let limited = GuardSettings { syns_per_source_per_second: 5, syns_per_source_burst: 9, ..SETTINGS };
    let observed = Asked::mode(Mode::Observe);
    let none_left = GuardSettings { syns_per_source_burst: 0, ..limited };
    let with = |settings| Asked { settings, ..Asked::default() };
    for (asked, source, verdict, reason) in [
        (
            &Asked::default(),
            Some("198.51.100.7"),
            "drop_denied_source",
            "in `198.51.100.0/24` of `guard.deny`",
        ),
        (
            &Asked::default(),
            Some("2001:db8:bad::7"),
            "drop_denied_source",
            "in `2001:db8:bad::/48` of `guard.deny`",
        ),
        (&observed, Some("198.51.100.7"), "pass_denied_source", "nothing is dropped: the mode is `observe`"),
        (&Asked::default(), Some("198.51.100.65"), "pass_syn", "sets no limit"),
        (
            &with(limited),
            Some("198.51.100.65"),
            "pass_syn",
            "without a limit: 198.51.100.65 is in `198.51.100.64/26`",
        ),
        (
            &with(limited),
            Some("192.0.2.7"),
            "pass_syn",
            "within its source's budget of 5 SYNs a second, 9 at once",
        ),
        (&with(none_left), Some("192.0.2.7"), "drop_syn_excess", "beyond its source's budget of 5 SYNs"),
        (&with(none_left), None, "pass_syn", "no source is given"),
    ] {
        let told = asked.of("a.example.net", source, None);
        assert_eq!(told.syn.verdict, verdict, "{source:?}: {told:?}");
        assert!(told.syn.reason.contains(reason), "{source:?}: {}", told.syn.reason);
        assert_eq!(told.hello.is_some(), told.syn.outcome == PacketOutcome::Passes, "{source:?}");
    }
}

#[test]
fn a_port_is_judged_at_the_addresses_where_something_listens() {
    for (source, port, step, reason) in [
        (None, None, Step::Name, "the kernel has it"),
        (Some("192.0.2.7"), Some(443), Step::Name, "the kernel has it"),
        (Some("2001:db8::7"), Some(443), Step::Name, "the kernel has it"),
        (None, Some(8080), Step::Payload, "neither starts a ClientHello"),
        (
            None,
            Some(22),
            Step::Port,
            "port 22 is not guarded; hellos are judged at 0.0.0.0:443 [2001:db8::2]:443",
        ),
    ] {
        let told = Asked::default().of("a.example.net", source, port).hello.unwrap();
        assert!(told.step == step && told.reason.contains(reason), "{source:?} {port:?}: {told:?}");
    }
    let mut elsewhere = Asked::default();
    elsewhere.config.listen.https = vec!["[2001:db8::2]:443".parse().unwrap()];
    let told = elsewhere.of("a.example.net", Some("192.0.2.7"), None).hello.unwrap();
    assert_eq!(told.step, Step::Address, "there is no IPv4 address: {told:?}");
}

#[test]
fn the_settings_alone_are_said_to_be_that() {
    let mut config = Config::default();
    config.guard.mode = GuardMode::Strict;
    let mut knowledge = Knowledge::new(KnowledgeOrigin::Settings, GuardRules::of_settings(&config));
    let name = ServerName::parse("a.example").unwrap();
    let question = GuardQuestion { names: vec![name.clone()], sources: Vec::new() };
    knowledge.learn_from(&config, &question);
    let told = explain(&knowledge, &Connection { name, source: None, port: None }).hello.unwrap();
    assert!(
        told.reason.contains("not in `domains.static` (table and ask endpoint were not asked)"),
        "{told:?}"
    );
}

#[test]
fn questions_are_bounded_and_nothing_is_asked_twice() {
    let config = Config::default();
    let mut knowledge = Knowledge::new(KnowledgeOrigin::Settings, GuardRules::of_settings(&config));
    let names: BTreeSet<_> = (0..600).map(|i| ServerName::parse(&format!("n{i}.example")).unwrap()).collect();
    let sources: BTreeSet<IpAddr> = (0..3).map(|i| IpAddr::from([192, 0, 2, i])).collect();
    let questions = knowledge.unasked(&names, &sources);
    let sizes: Vec<_> =
        questions.iter().map(|question| (question.names.len(), question.sources.len())).collect();
    assert_eq!(sizes, [(256, 3), (256, 0), (88, 0)]);
    for question in &questions {
        knowledge.learn_from(&config, question);
    }
    assert!(knowledge.unasked(&names, &sources).is_empty());
}
