use proxy_common::fixture::{Frame, Hello, segments::pieces};

use super::*;
use crate::{
    config::{Config, GuardMode, StaticDomain},
    guard::explain::{GuardRules, KnowledgeOrigin, capture::tests::classic},
    name::Pattern,
};

/// Strict on port 443, for `shop.example.com` alone.
fn settings() -> Config {
    let mut config = Config::default();
    config.listen.https = vec!["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()];
    config.guard.mode = GuardMode::Strict;
    let listed: StaticDomain = toml::from_str("name = \"shop.example.com\"").unwrap();
    assert_eq!(listed.name, Pattern::parse("shop.example.com").unwrap());
    config.domains.r#static = vec![listed];
    config
}

/// What becomes of `frames`, a millisecond apart, when all that is asked for has been answered.
fn judged(config: &Config, frames: &[Frame]) -> CaptureReport {
    let packets: Vec<_> = (0..).step_by(1000).zip(frames.iter().map(Frame::bytes)).collect();
    let file = classic(1, &packets);
    let capture = Capture::read(&file).unwrap();
    let mut knowledge = Knowledge::new(KnowledgeOrigin::Settings, GuardRules::of_settings(config));
    let first = judge(&capture, &knowledge).unwrap();
    for question in knowledge.unasked(&first.names, &first.sources) {
        knowledge.learn_from(config, &question);
    }
    judge(&capture, &knowledge).unwrap()
}

fn lines(report: &CaptureReport) -> Vec<(u16, Option<String>, &str, u64)> {
    let line = |flow: &FlowReport| {
        let name = flow.name.as_ref().map(|name| name.escape_ascii().to_string());
        (flow.source.port(), name, flow.judgement.verdict, flow.packets)
    };
    report.flows.iter().map(line).collect()
}

fn hello(source_port: u16, name: &str) -> Frame {
    Frame { source_port, ..Frame::with(Hello::with(name).bytes()) }
}

fn syn(source_port: u16, sequence: u32) -> Frame {
    Frame { source_port, sequence, flags: Segment::SYN, ..Frame::with([]) }
}

#[test]
fn each_connection_has_a_line_with_the_packet_that_decided() {
    let long =
        Hello { key_share_bytes: 1216, key_share_first: true, ..Hello::with("foreign.example") }.bytes();
    let parts = pieces(&long, &[900]).into_iter().map(|frame| Frame { source_port: 4, ..frame });
    let nameless = Frame { source_port: 5, ..Frame::with(Hello::nameless().bytes()) };
    let answer = Frame { source_port: 443, port: 1, ..Frame::with(b"answer".to_vec()) };
    let named = |name: &str| Some(name.to_owned());
    let mut frames = vec![syn(1, 9), hello(1, "shop.example.com"), answer, hello(2, "foreign.example")];
    frames.extend([Frame { source_port: 1, ..Frame::with([]) }, hello(3, "a\x1b[2Jb.example")]);
    frames.extend(parts);
    frames.extend([nameless, syn(6, 9), Frame { ipv6: true, ..hello(7, "SHOP.example.com.") }]);
    let report = judged(&settings(), &frames);
    assert_eq!((report.packets, report.unguarded_packets), (11, 1));
    assert_eq!(
        lines(&report),
        [
            (1, named("shop.example.com"), "pass_allowed", 3),
            (2, named("foreign.example"), "reject_foreign_server", 1),
            (3, named("a\\x1b[2Jb.example"), "reject_foreign_server", 1),
            (4, named("foreign.example"), "reject_foreign_server", 2),
            (5, None, "pass_no_name", 1),
            (6, None, "pass_syn", 1),
            (7, named("SHOP.example.com."), "pass_allowed", 1),
        ]
    );
    let rejected = &report.flows[3].judgement;
    assert!(rejected.reason.contains("`foreign.example` is not in `domains.static`"), "{rejected:?}");
}

#[test]
fn ports_that_are_used_again_are_another_connection() {
    let frames =
        [syn(1, 9), syn(1, 9), hello(1, "foreign.example"), syn(1, 5_000), hello(1, "shop.example.com")];
    let verdicts: Vec<_> =
        judged(&settings(), &frames).flows.iter().map(|flow| flow.judgement.verdict).collect();
    assert_eq!(verdicts, ["reject_foreign_server", "pass_allowed"]);
}

#[test]
fn budgets_refill_by_the_times_of_the_capture() {
    let mut config = settings();
    config.guard.mode = GuardMode::Adaptive;
    (config.guard.unknown_per_second, config.guard.unknown_burst) = (100, 1);
    let frames: Vec<_> = (1..=12).map(|port| hello(port, "foreign.example")).collect();
    let report = judged(&config, &frames);
    let passed: Vec<_> =
        lines(&report).into_iter().filter(|line| line.2 == "pass_unknown").map(|line| line.0).collect();
    assert_eq!(passed, [1, 11], "one at first, another ten milliseconds later");
}

#[test]
fn a_flood_takes_no_more_memory_than_is_told() {
    let frames: Vec<_> = (0..10_050)
        .map(|i| Frame {
            client: u8::try_from(i % 200).unwrap(),
            ..syn(1 + u16::try_from(i / 200).unwrap(), 9)
        })
        .collect();
    let report = judged(&settings(), &frames);
    assert_eq!((report.flows.len(), report.flows_left_out), (MOST_FLOWS, 50));
}
