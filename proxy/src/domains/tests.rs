use std::{collections::HashMap, convert::Infallible, net::Ipv4Addr, sync::PoisonError};

use anyhow::ensure;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use testbed::wait;

use super::{
    change::tests::{add, addition, lenient, remove},
    *,
};
use crate::{
    config::{DomainSettings, Span, StaticDomain, WwwPair},
    name::Pattern,
    store::{Engine, FaultPlan, Faults, StoreError, domain_table, instant::Micros, tables},
    target::Target,
};

const LIMIT: Duration = Duration::from_secs(20);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A fleet on one engine.
struct Fleet {
    engine: Engine,
    sound: Store,
}

/// One of its instances.
struct Instance {
    domains: Domains,
    registry: Registry,
    faults: Arc<Faults>,
}

impl Fleet {
    async fn new() -> Self {
        let engine = Engine::in_memory().unwrap();
        let sound = Store::on(engine.clone(), &config::StoreConfig::default());
        tables::create(&sound).await.unwrap();
        Self { engine, sound }
    }

    fn start(&self, config: &config::DomainsConfig, plan: &str) -> Instance {
        let faults = Faults::new(FaultPlan::parse(plan).unwrap());
        let store =
            Store::on_faulty(self.engine.clone(), &config::StoreConfig::default(), Arc::clone(&faults));
        let registry = Registry::new();
        store.register_metrics(&registry).unwrap();
        let domains = Domains::start(config, &store, &Handle::current(), &registry).unwrap();
        Instance { domains, registry, faults }
    }

    async fn loaded(&self, config: &config::DomainsConfig) -> Instance {
        let instance = self.start(config, "");
        assert_eq!(instance.domains.settled(LIMIT).await, ListingProgress::Loaded);
        instance
    }

    async fn put_by_hand(&self, name: &str) {
        let put = self.sound.client().put_item().table_name(&self.sound.tables().domains);
        put.item("domain", AttributeValue::S(name.to_owned())).send().await.unwrap();
    }
}

impl Instance {
    async fn add(&self, pattern: Pattern, target: Option<Target>) -> Result<Revision, ChangeError> {
        self.domains.administer(addition(&pattern, target), lenient()).await.map(|(_, revision)| revision)
    }

    async fn remove(&self, pattern: &Pattern) -> Result<Revision, ChangeError> {
        let request = change::tests::by_operator(pattern, admin::Wanted::Absent);
        self.domains.administer(request, lenient()).await.map(|(_, revision)| revision)
    }

    async fn says(&self, text: &str) -> String {
        match self.domains.permission(&name(text), Caller::Client(CLIENT)).await {
            Permission::Allow(domain_entry) => {
                format!("{} of {:?}", domain_entry.pattern, domain_entry.source)
            }
            Permission::Deny(denial) => format!("{denial:?}"),
            Permission::Unknown(unknown_reason) => format!("{unknown_reason:?}"),
        }
    }

    async fn await_names(&self, what: &str, holds: impl Fn(&NameSet) -> bool) {
        let mut names = self.domains.names();
        let waited = tokio::time::timeout(LIMIT, names.wait_for(|names| holds(names))).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.domains.names().borrow().clone());
    }

    fn metric(&self, line: &str) -> u64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let found = text
            .lines()
            .find_map(|found| found.strip_prefix(line))
            .unwrap_or_else(|| panic!("{line} in {text}"));
        found.trim().parse().unwrap()
    }

    fn table_reads(&self) -> u64 {
        self.metric("gatehouse_store_calls_total{operation=\"BatchGetItem\"}")
    }
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

/// Settings under which nothing runs out unless a test means it to.
fn ample() -> config::DomainsConfig {
    config::DomainsConfig {
        poll: Span::millis(50),
        lookups_per_second: 100_000,
        lookups_per_source_per_second: 100_000,
        ..config::DomainsConfig::default()
    }
}

/// The feed stays as it was at the start.
fn without_feed() -> config::DomainsConfig {
    config::DomainsConfig { poll: Span::secs(3600), ..ample() }
}

#[tokio::test]
async fn a_name_the_feed_has_not_shown_is_found_on_its_first_hello() {
    let fleet = Fleet::new().await;
    let instance = fleet.loaded(&without_feed()).await;
    add(&fleet.sound, &pattern("a.example"), None).await;
    add(&fleet.sound, &pattern("*.b.example"), None).await;
    assert!(instance.domains.known(&name("a.example")).is_none());
    for (text, answer) in [
        ("a.example", "a.example of Table"),
        ("x.b.example", "*.b.example of Table"),
        ("y.b.example", "*.b.example of Table"),
        ("foreign.example", "NoEntry"),
    ] {
        assert_eq!(instance.says(text).await, answer, "{text}");
    }
    assert_eq!(instance.table_reads(), 3, "the wildcard was known after its first name");
    instance.await_names("found names", |names| names.patterns.contains(&pattern("*.b.example"))).await;
}

/// An addition for `tenant` that sets what becomes of the other name.
fn pair_of(pattern: &Pattern, tenant: &str, www: WwwPair) -> admin::Request {
    let mut request = addition(pattern, None);
    if let admin::Wanted::Present { tenant: of, settings, .. } = &mut request.wanted {
        *of = tenant.parse().ok();
        settings.www = Some(www);
    }
    request
}

#[tokio::test]
async fn the_other_name_of_a_pair_is_found_with_one_read_and_follows_its_entry() {
    let fleet = Fleet::new().await;
    let (here, there) = (fleet.loaded(&without_feed()).await, fleet.loaded(&ample()).await);
    let (own, other) = (pattern("shop.example"), pattern("www.shop.example"));
    assert_eq!(there.says("www.shop.example").await, "NoEntry", "and that is remembered");
    let reads = here.table_reads();
    let pair = |www| there.domains.administer(pair_of(&own, "default", www), lenient());
    pair(WwwPair::Redirect).await.unwrap();
    for (text, answer, reads_more) in [
        ("www.shop.example", "shop.example of Table", 1),
        ("shop.example", "shop.example of Table", 0),
        ("nobody.example", "NoEntry", 1),
        ("www.nobody.example", "NoEntry", 1),
    ] {
        let reads = here.table_reads();
        assert_eq!(here.says(text).await, answer, "{text}");
        assert_eq!(here.table_reads() - reads, reads_more, "{text}");
    }
    assert_eq!(here.table_reads() - reads, 3);
    assert_eq!(there.says("www.shop.example").await, "shop.example of Table", "whatever was remembered");

    let follower = fleet.loaded(&ample()).await;
    let has = |both: [bool; 2]| {
        let (own, other) = (own.clone(), other.clone());
        move |names: &NameSet| [&own, &other].map(|name| names.patterns.contains(name)) == both
    };
    follower.await_names("a pair", has([true, true])).await;
    pair(WwwPair::Off).await.unwrap();
    follower.await_names("no pair", has([true, false])).await;
    assert_eq!(follower.says("www.shop.example").await, "NoEntry");
    pair(WwwPair::Serve).await.unwrap();
    follower.await_names("a pair again", has([true, true])).await;
    assert_eq!(follower.says("www.shop.example").await, "shop.example of Table");
    for (wanted, both) in [
        (admin::Wanted::Suspended, [false, false]),
        (admin::Wanted::Resumed, [true, true]),
        (admin::Wanted::Absent, [false, false]),
    ] {
        let request = change::tests::by_operator(&own, wanted.clone());
        there.domains.administer(request, lenient()).await.unwrap();
        follower.await_names(&format!("{wanted:?}"), has(both)).await;
        let answer = if both[1] { "shop.example of Table" } else { "Withdrawn" };
        assert_eq!(follower.says("www.shop.example").await, answer, "{wanted:?}");
    }
}

#[tokio::test]
async fn an_entry_of_its_own_comes_before_a_pair_and_a_pair_before_a_wildcard() {
    let fleet = Fleet::new().await;
    let instance = fleet.loaded(&ample()).await;
    instance.add(pattern("*.shop.example"), None).await.unwrap();
    assert_eq!(instance.says("www.shop.example").await, "*.shop.example of Table");
    let pair = pair_of(&pattern("shop.example"), "default", WwwPair::Serve);
    instance.domains.administer(pair, lenient()).await.unwrap();
    assert_eq!(instance.says("www.shop.example").await, "shop.example of Table");
    instance.add(pattern("www.shop.example"), None).await.unwrap();
    assert_eq!(instance.says("www.shop.example").await, "www.shop.example of Table");
    let suspended = change::tests::by_operator(&pattern("www.shop.example"), admin::Wanted::Suspended);
    instance.domains.administer(suspended, lenient()).await.unwrap();
    assert_eq!(instance.says("www.shop.example").await, "Withdrawn");
    instance.remove(&pattern("www.shop.example")).await.unwrap();
    assert_eq!(instance.says("www.shop.example").await, "shop.example of Table");
    instance.remove(&pattern("shop.example")).await.unwrap();
    assert_eq!(instance.says("www.shop.example").await, "*.shop.example of Table");
}

#[tokio::test]
async fn a_pair_that_a_hand_wrote_is_served_and_the_guard_told_of_the_name_that_was_asked_for() {
    let fleet = Fleet::new().await;
    let instance = fleet.loaded(&without_feed()).await;
    let settings = HashMap::from([("www".to_owned(), AttributeValue::S("serve".to_owned()))]);
    let put = fleet.sound.client().put_item().table_name(&fleet.sound.tables().domains);
    let put = put.item("domain", AttributeValue::S("hand.example".to_owned()));
    put.item("settings", AttributeValue::M(settings)).send().await.unwrap();
    assert_eq!(instance.says("www.hand.example").await, "hand.example of Table");
    instance.domains.inner.registry.publish_remembered(clock::now());
    let told = instance.domains.names().borrow().patterns.clone();
    assert!(told.contains(&pattern("www.hand.example")) && !told.contains(&pattern("hand.example")));
    instance.faults.set_outage(true);
    let last = instance.domains.last_known(&name("www.hand.example"), UnknownReason::SourceDown);
    assert_eq!(last.unwrap().pattern, pattern("hand.example"));
    instance.faults.set_outage(false);
    // What was remembered of it ends with the first change that is no hand's.
    let off = pair_of(&pattern("hand.example"), "default", WwwPair::Off);
    instance.domains.administer(off, lenient()).await.unwrap();
    assert!(instance.domains.last_known(&name("www.hand.example"), UnknownReason::SourceDown).is_none());
    assert_eq!(instance.says("www.hand.example").await, "NoEntry");
    assert_eq!(instance.says("hand.example").await, "hand.example of Table");
}

#[tokio::test]
async fn no_two_tenants_share_a_pair() {
    let fleet = Fleet::new().await;
    let instance = fleet.loaded(&ample()).await;
    let ask = async |name: &str, tenant: &str, www: WwwPair| {
        let request = pair_of(&pattern(name), tenant, www);
        let done = instance.domains.administer(request, lenient()).await;
        done.map_or_else(|error| error.to_string(), |_| "done".to_owned())
    };
    let in_pair = "domain `www.a.example` is not available: it is the other name of another tenant's pair";
    let taken = "www: domain `b.example` is not available: another tenant has an entry of it";
    for (name, tenant, www, told) in [
        ("a.example", "acme", WwwPair::Redirect, "done"),
        ("www.a.example", "zeta", WwwPair::Off, in_pair),
        ("www.a.example", "acme", WwwPair::Off, "done"),
        ("b.example", "acme", WwwPair::Off, "done"),
        ("www.b.example", "zeta", WwwPair::Serve, taken),
        ("www.b.example", "zeta", WwwPair::Off, "done"),
        // Also where the entry is there already.
        ("www.b.example", "zeta", WwwPair::Serve, taken),
        ("b.example", "acme", WwwPair::Redirect, "www: domain `www.b.example` is not available"),
        ("www.c.example", "acme", WwwPair::Serve, "done"),
        ("www.c.example", "acme", WwwPair::Off, "done"),
        ("c.example", "zeta", WwwPair::Off, "done"),
    ] {
        let said = ask(name, tenant, www).await;
        assert!(said.starts_with(told), "{name} {tenant} {www}: {said}");
    }
    let patch = admin::Patch { www: admin::PatchField::Set(WwwPair::Serve), ..admin::Patch::default() };
    let request = change::tests::by_operator(&pattern("www.b.example"), admin::Wanted::Patched(patch));
    let refused = instance.domains.administer(request, lenient()).await.unwrap_err();
    assert!(refused.to_string().starts_with(taken), "{refused}");
    instance.remove(&pattern("b.example")).await.unwrap();
    assert_eq!(ask("www.b.example", "zeta", WwwPair::Serve).await, "done");
}

#[tokio::test]
async fn instances_on_one_table_see_each_others_changes() {
    let fleet = Fleet::new().await;
    let plan = "seed=4,stale=2s,throttle=5,conflict=5,unprocessed=200";
    let (here, there) = (fleet.start(&ample(), plan), fleet.start(&ample(), plan));
    for instance in [&here, &there] {
        instance.await_names("loaded", |names| names.revision.is_some()).await;
    }
    assert_eq!(there.says("a.example").await, "NoEntry");
    let target = Target::parse("http://10.0.0.1:8080").unwrap();
    let revision = here.add(pattern("a.example"), Some(target.clone())).await.unwrap();
    let names = here.domains.names().borrow().clone();
    assert!(names.revision >= Some(revision) && names.patterns.contains(&pattern("a.example")));
    assert_eq!(here.says("a.example").await, "a.example of Table");

    there.await_names("added", |names| names.patterns.contains(&pattern("a.example"))).await;
    let Some(Permission::Allow(domain_entry)) = there.domains.known(&name("a.example")) else {
        panic!("denied a moment ago")
    };
    assert_eq!((domain_entry.target.as_ref(), domain_entry.version), (Some(&target), 1));

    let revision = here.remove(&pattern("a.example")).await.unwrap();
    assert!(here.domains.names().borrow().revision >= Some(revision));
    assert_eq!(here.says("a.example").await, "Withdrawn");
    there.await_names("removed", |names| !names.patterns.contains(&pattern("a.example"))).await;
    assert_eq!(there.says("a.example").await, "Withdrawn");
    let again = here.remove(&pattern("a.example")).await;
    assert!(matches!(again, Err(ChangeError::Refused(admin::Refusal::Absent(_)))), "{again:?}");
}

#[tokio::test]
async fn an_instance_that_starts_later_reads_the_whole_feed() {
    let fleet = Fleet::new().await;
    for n in 0..50 {
        add(&fleet.sound, &pattern(&format!("n{n}.example")), None).await;
    }
    remove(&fleet.sound, &pattern("n7.example")).await;
    let instance = fleet.loaded(&without_feed()).await;
    assert_eq!(instance.domains.names().borrow().patterns.len(), 49);
    assert!(instance.domains.known(&name("n8.example")).is_some());
    assert_eq!(instance.says("n7.example").await, "Withdrawn");
    assert_eq!(instance.table_reads(), 0);
    assert_eq!(instance.metric("gatehouse_domains_known"), 49);
}

#[tokio::test]
async fn what_a_hand_deleted_goes_with_a_wildcard_that_was_found_once() {
    let fleet = Fleet::new().await;
    let config = config::DomainsConfig { allow_ttl: Span::millis(1), deny_ttl: Span::millis(1), ..ample() };
    let instance = fleet.loaded(&config).await;
    fleet.put_by_hand("*.hand.example").await;
    assert_eq!(instance.says("a.hand.example").await, "*.hand.example of Table");
    instance.await_names("told", |names| names.patterns.contains(&pattern("*.hand.example"))).await;
    let delete = fleet.sound.client().delete_item().table_name(&fleet.sound.tables().domains);
    delete.key("domain", AttributeValue::S("*.hand.example".into())).send().await.unwrap();
    until_says(&instance, "a.hand.example", "NoEntry").await;
    instance.await_names("gone", |names| names.patterns.is_empty()).await;
}

#[tokio::test]
async fn a_flood_of_names_costs_the_budget_and_no_more() {
    let fleet = Fleet::new().await;
    let config = config::DomainsConfig { poll: Span::secs(3600), ..config::DomainsConfig::default() };
    let instance = fleet.loaded(&config).await;
    let began = clock::now();
    let mut answers = HashMap::<String, usize>::new();
    for n in 0..10_000_u32 {
        let from = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n / 3));
        let answer =
            instance.domains.permission(&name(&format!("n{n}.random.example")), Caller::Client(from)).await;
        *answers.entry(format!("{answer:?}")).or_default() += 1;
    }
    let budget = 101 + 50 * (began.elapsed().as_secs() + 1);
    assert!(
        instance.table_reads() <= budget,
        "{} reads, budget {budget}: {answers:?}",
        instance.table_reads()
    );
    let denied = answers["Deny(NoEntry)"];
    assert_eq!(answers["Unknown(BudgetSpent)"] + denied, 10_000, "{answers:?}");
    assert!(instance.domains.names().borrow().patterns.is_empty());
}

#[tokio::test]
async fn an_item_that_cannot_be_understood_is_reported_once_and_denies_nothing() {
    let fleet = Fleet::new().await;
    add(&fleet.sound, &pattern("odd.example"), None).await;
    let edit = fleet.sound.client().update_item().table_name(&fleet.sound.tables().domains);
    let edit =
        edit.key("domain", AttributeValue::S("odd.example".into())).update_expression("SET target = :target");
    let edit = edit.expression_attribute_values(":target", AttributeValue::S("nowhere".into()));
    edit.send().await.unwrap();
    let instance = fleet.loaded(&ample()).await;
    assert_eq!(instance.says("odd.example").await, "SourceDown");
    wait::until_async("the feed to be read on", LIMIT, async || {
        let reads = instance.metric("gatehouse_domains_feed_reads_total{outcome=\"changes\"}");
        ensure!(reads >= 3, "{reads} reads");
        Ok(())
    })
    .await
    .unwrap();
    // By the feed and by the look-up.
    assert_eq!(instance.metric("gatehouse_domains_misshapen_total"), 2);
}

#[tokio::test]
async fn an_item_that_cannot_be_understood_stands_in_no_other_names_way() {
    let fleet = Fleet::new().await;
    for name in ["*.wild.example", "pair.example", "whole.example"] {
        fleet.put_by_hand(name).await;
    }
    for name in ["*.wild.example", "pair.example"] {
        let edit = fleet.sound.client().update_item().table_name(&fleet.sound.tables().domains);
        let edit =
            edit.key("domain", AttributeValue::S(name.into())).update_expression("SET target = :target");
        let edit = edit.expression_attribute_values(":target", AttributeValue::S("10.0.0.5:8080".into()));
        edit.send().await.unwrap();
    }
    let instance = fleet.loaded(&ample()).await;
    fleet.put_by_hand("own.wild.example").await;
    for (name, said) in [
        ("a.wild.example", "NoEntry"),
        ("own.wild.example", "own.wild.example of Table"),
        ("www.pair.example", "NoEntry"),
        ("pair.example", "SourceDown"),
    ] {
        assert_eq!(instance.says(name).await, said, "{name}");
    }
    assert_eq!(instance.metric("gatehouse_domains_misshapen_total"), 2, "a line and a count for each item");
    let own = permission_by_table(&fleet.sound, &name("own.wild.example")).await.unwrap();
    assert!(matches!(own, Permission::Allow(_)), "{own:?}");
    permission_by_table(&fleet.sound, &name("pair.example")).await.unwrap_err();
}

#[tokio::test]
async fn the_last_entry_of_a_name_is_kept_while_its_source_cannot_be_asked() {
    let fleet = Fleet::new().await;
    let ttl = Span::millis(1);
    let config =
        config::DomainsConfig { allow_ttl: ttl, stale_ttl: Span::millis(0), deny_ttl: ttl, ..without_feed() };
    let instance = fleet.loaded(&config).await;
    fleet.put_by_hand("*.hand.example").await;
    fleet.put_by_hand("gone.example").await;
    for text in ["a.hand.example", "gone.example"] {
        instance.says(text).await;
    }
    let delete = fleet.sound.client().delete_item().table_name(&fleet.sound.tables().domains);
    delete.key("domain", AttributeValue::S("gone.example".into())).send().await.unwrap();
    until_says(&instance, "gone.example", "NoEntry").await;
    instance.faults.set_outage(true);
    let known = |text: &str, unknown_reason| {
        let domain_entry = instance.domains.last_known(&name(text), unknown_reason);
        domain_entry.map(|domain_entry| format!("{} of {:?}", domain_entry.pattern, domain_entry.source))
    };
    until_says(&instance, "a.hand.example", "SourceDown").await;
    for (text, unknown_reason, entry) in [
        ("a.hand.example", UnknownReason::SourceDown, Some("*.hand.example of Table")),
        ("b.hand.example", UnknownReason::BudgetSpent, Some("*.hand.example of Table")),
        ("gone.example", UnknownReason::SourceDown, None),
        ("never.example", UnknownReason::BudgetSpent, None),
        ("never.example", UnknownReason::AskDown, Some("never.example of Ask")),
    ] {
        assert_eq!(known(text, unknown_reason).as_deref(), entry, "{text} {unknown_reason:?}");
    }
}

async fn until_says(instance: &Instance, text: &str, answer: &str) {
    wait::until_async(&format!("{answer} of {text}"), LIMIT, async || {
        let said = instance.says(text).await;
        ensure!(said == answer, "{said}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn one_name_asked_by_many_is_looked_up_once() {
    let fleet = Fleet::new().await;
    let instance = Arc::new(fleet.loaded(&without_feed()).await);
    fleet.put_by_hand("hand.example").await;
    let asking: Vec<_> = (0..500)
        .map(|_| {
            let instance = Arc::clone(&instance);
            tokio::spawn(async move { instance.says("hand.example").await })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "hand.example of Table");
    }
    assert_eq!(instance.table_reads(), 1);
}

#[tokio::test]
async fn an_item_made_by_hand_is_served_and_the_guard_told() {
    let fleet = Fleet::new().await;
    let instance = fleet.loaded(&ample()).await;
    fleet.put_by_hand("*.hand.example").await;
    assert_eq!(instance.says("a.hand.example").await, "*.hand.example of Table");
    instance.await_names("told", |names| names.patterns.contains(&pattern("*.hand.example"))).await;
}

#[tokio::test]
async fn a_table_that_is_down_denies_nothing() {
    let fleet = Fleet::new().await;
    add(&fleet.sound, &pattern("known.example"), None).await;
    let instance = fleet.loaded(&without_feed()).await;
    let mut denials = instance.domains.denials();
    instance.faults.set_outage(true);
    assert_eq!(instance.says("known.example").await, "known.example of Table");
    assert_eq!(instance.says("new.example").await, "SourceDown");
    assert!(instance.add(pattern("new.example"), None).await.is_err());
    assert!(denials.try_recv().is_err(), "a doubt is no denial");
    assert_eq!(instance.metric("gatehouse_store_up"), 0);

    instance.faults.set_outage(false);
    add(&fleet.sound, &pattern("new.example"), None).await;
    until_says(&instance, "new.example", "new.example of Table").await;
}

#[tokio::test]
async fn a_table_that_is_down_at_the_start_is_read_when_it_comes_back() {
    let fleet = Fleet::new().await;
    add(&fleet.sound, &pattern("late.example"), None).await;
    let list = vec![StaticDomain {
        name: pattern("fixed.example"),
        target: None,
        settings: DomainSettings::default(),
    }];
    let config = config::DomainsConfig { r#static: list, ..ample() };
    let directory = tempfile::tempdir().unwrap();
    let switch = directory.path().join("outage");
    std::fs::write(&switch, "").unwrap();
    let instance = fleet.start(&config, &format!("outage={}", switch.display()));
    assert_eq!(instance.domains.settled(LIMIT).await, ListingProgress::SourceDown);
    assert_eq!(instance.says("fixed.example").await, "fixed.example of Static");
    assert_eq!(instance.says("late.example").await, "SourceDown");
    let names = instance.domains.names().borrow().clone();
    assert_eq!((names.revision, names.patterns.len()), (None, 1), "nothing to enforce by yet");

    std::fs::remove_file(&switch).unwrap();
    instance.await_names("read", |names| names.revision.is_some() && names.patterns.len() == 2).await;
    assert_eq!(instance.says("late.example").await, "late.example of Table");
    let mut progress = instance.domains.progress();
    let loaded = progress.wait_for(|progress| *progress == ListingProgress::Loaded);
    assert!(tokio::time::timeout(LIMIT, loaded).await.is_ok());
}

#[tokio::test]
async fn an_outage_that_lasts_degrades_and_the_first_answer_mends() {
    let fleet = Fleet::new().await;
    add(&fleet.sound, &pattern("known.example"), None).await;
    // The feed goes on being read: only what memory does not hold fails.
    let instance = fleet.loaded(&ample()).await;
    let becomes = async |wanted: ListingProgress| {
        let mut progress = instance.domains.progress();
        let reached = progress.wait_for(|progress| *progress == wanted);
        assert!(tokio::time::timeout(3 * LIMIT, reached).await.is_ok(), "{wanted:?}");
    };
    for (cold, forbidden) in
        [("one.example", &["BatchGetItem"][..]), ("two.example", &["BatchGetItem", "Query"])]
    {
        instance.faults.forbid(forbidden);
        assert_eq!(instance.says(cold).await, "SourceDown");
        assert_eq!(
            *instance.domains.progress().borrow(),
            ListingProgress::Loaded,
            "not for a moment's failure"
        );
        becomes(ListingProgress::Degraded).await;
        assert_eq!(instance.metric("gatehouse_domains_readable"), 0);
        assert_eq!(instance.says("known.example").await, "known.example of Table");
        instance.faults.forbid(&[]);
        becomes(ListingProgress::Loaded).await;
    }
    assert_eq!(instance.metric("gatehouse_domains_readable"), 1);
}

#[tokio::test]
async fn each_denial_is_told_to_the_guard_and_an_entry_lifts_it_at_once() {
    let fleet = Fleet::new().await;
    let instance = fleet.loaded(&without_feed()).await;
    let mut denials = instance.domains.denials();
    assert_eq!(instance.says("new.example").await, "NoEntry");
    assert_eq!(denials.try_recv().unwrap().name, name("new.example"));
    instance.add(pattern("new.example"), None).await.unwrap();
    assert!(matches!(instance.domains.known(&name("new.example")), Some(Permission::Allow(_))));
    instance.remove(&pattern("new.example")).await.unwrap();
    assert!(
        instance.domains.known(&name("new.example")).is_none_or(|known| matches!(known, Permission::Deny(_)))
    );
}

#[tokio::test]
async fn the_configurations_entries_are_not_changed_in_the_table() {
    let fleet = Fleet::new().await;
    let list = vec![StaticDomain {
        name: pattern("fixed.example"),
        target: None,
        settings: DomainSettings::default(),
    }];
    let instance = fleet.loaded(&config::DomainsConfig { r#static: list, ..ample() }).await;
    let changed = instance.add(pattern("fixed.example"), None).await;
    assert!(matches!(changed, Err(ChangeError::Refused(admin::Refusal::Static(_)))), "{changed:?}");
    let without = fleet.loaded(&config::DomainsConfig { table: false, ..ample() }).await;
    assert_eq!(without.says("any.example").await, "NoEntry");
    let changed = without.add(pattern("a.example"), None).await;
    assert!(matches!(changed, Err(ChangeError::Refused(admin::Refusal::TableOff))), "{changed:?}");
}

#[tokio::test]
async fn the_guard_follows_the_list_of_the_settings_and_the_table_what_left_it() {
    let fleet = Fleet::new().await;
    add(&fleet.sound, &pattern("both.example"), None).await;
    let list = |names: &[&str]| {
        let list = names.iter().map(|name| StaticDomain {
            name: pattern(name),
            target: None,
            settings: DomainSettings::default(),
        });
        config::DomainsConfig { r#static: list.collect(), ..ample() }
    };
    let instance = fleet.loaded(&list(&["both.example", "old.example"])).await;
    instance.domains.reconfigure(&list(&["new.example"])).unwrap();
    let told = instance.domains.names().borrow().clone();
    let held =
        ["new.example", "old.example", "both.example"].map(|name| told.patterns.contains(&pattern(name)));
    assert_eq!(held, [true; 3], "what left the list is weighed when the table was read");
    instance.await_names("the table's", |names| !names.patterns.contains(&pattern("old.example"))).await;
    let told = instance.domains.names().borrow().clone();
    assert!(told.patterns.contains(&pattern("both.example")));
    assert_eq!(instance.says("both.example").await, "both.example of Table");
    assert_eq!(instance.says("old.example").await, "NoEntry");
}

/// An ask endpoint: names beginning with `allowed` get 200, `slow` no answer, `down` 503, `moved` a redirect, others 404.
struct Endpoint {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
    mood: Arc<Mutex<Mood>>,
}

/// What it does whatever it is asked for.
#[derive(Debug, Clone, Copy)]
enum Mood {
    AsNamed,
    Hang,
    Deny,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/check", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mood = Arc::new(Mutex::new(Mood::AsNamed));
        let (seen, moods) = (Arc::clone(&asked), Arc::clone(&mood));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, moods) = (Arc::clone(&seen), Arc::clone(&moods));
                let service = service_fn(move |request| {
                    let mood = *moods.lock().unwrap_or_else(PoisonError::into_inner);
                    answer(request, Arc::clone(&seen), mood)
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, asked, mood }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
    mood: Mood,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let asked = request.uri().query().unwrap().strip_prefix("domain=").unwrap().to_owned();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let status = match asked.as_str() {
        _ if matches!(mood, Mood::Hang) => std::future::pending().await,
        _ if matches!(mood, Mood::Deny) => StatusCode::NOT_FOUND,
        asked if asked.starts_with("allowed") => StatusCode::OK,
        asked if asked.starts_with("slow") => std::future::pending().await,
        asked if asked.starts_with("down") => StatusCode::SERVICE_UNAVAILABLE,
        asked if asked.starts_with("moved") => StatusCode::FOUND,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response.headers_mut().insert("location", "/check?domain=allowed.example".parse().unwrap());
    Ok(response)
}

#[tokio::test]
async fn the_ask_endpoint_is_asked_for_what_no_list_holds() {
    let (fleet, endpoint) = (Fleet::new().await, Endpoint::start().await);
    add(&fleet.sound, &pattern("removed.example"), None).await;
    remove(&fleet.sound, &pattern("removed.example")).await;
    add(&fleet.sound, &pattern("allowed.listed.example"), None).await;
    let config = config::DomainsConfig {
        ask: Some(endpoint.url.clone()),
        ask_timeout: Span::millis(200),
        r#static: vec![StaticDomain {
            name: pattern("fixed.example"),
            target: None,
            settings: DomainSettings::default(),
        }],
        ..ample()
    };
    let instance = fleet.loaded(&config).await;
    for (text, answer) in [
        ("fixed.example", "fixed.example of Static"),
        ("allowed.listed.example", "allowed.listed.example of Table"),
        ("removed.example", "Withdrawn"),
        ("allowed.example", "allowed.example of Ask"),
        ("other.example", "NoEntry"),
        ("slow.example", "AskDown"),
        ("down.example", "AskDown"),
        ("moved.example", "AskDown"),
        ("allowed.example", "allowed.example of Ask"),
    ] {
        assert_eq!(instance.says(text).await, answer, "{text}");
    }
    for (result, count) in [
        ("allowed", 1),
        ("denied", 1),
        ("timed_out", 1),
        ("unavailable", 1),
        ("redirected", 1),
        ("unreachable", 0),
    ] {
        let line = format!("gatehouse_domain_lookups_total{{result=\"ask_{result}\"}}");
        assert_eq!(instance.metric(&line), count, "{result}");
    }
    assert_eq!(instance.domains.ask_state(), AskState::Silent);
    assert_eq!(
        instance.metric("gatehouse_domains_ask_up"),
        0,
        "the last question was answered by a redirect"
    );
    let asked = ["allowed.example", "other.example", "slow.example", "down.example", "moved.example"];
    assert_eq!(
        endpoint.asked(),
        asked,
        "lists are not asked for, answers are remembered, redirects not followed"
    );
    instance.await_names("told", |names| names.patterns.contains(&pattern("allowed.example"))).await;
}

#[tokio::test]
async fn a_name_that_was_allowed_never_waits_for_the_ask_endpoint_again() {
    let (fleet, endpoint) = (Fleet::new().await, Endpoint::start().await);
    let config = config::DomainsConfig {
        ask: Some(endpoint.url.clone()),
        ask_timeout: Span::secs(3600),
        allow_ttl: Span::millis(1),
        ..without_feed()
    };
    let instance = fleet.loaded(&config).await;
    assert_eq!(instance.says("allowed.example").await, "allowed.example of Ask");
    *endpoint.mood.lock().unwrap_or_else(PoisonError::into_inner) = Mood::Hang;
    // From when its time to live is over, a question hangs at the endpoint for as long as one is in flight.
    wait::until_async("a second question", LIMIT, async || {
        let _ = instance.domains.known(&name("allowed.example"));
        ensure!(endpoint.asked().len() >= 2, "{:?}", endpoint.asked());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(instance.domains.ask_state(), AskState::Answers);
    for _ in 0..3 {
        let known = instance.domains.known(&name("allowed.example"));
        assert!(matches!(known, Some(Permission::Allow(_))), "{known:?}");
    }
    // Whatever was asked before this is at the endpoint by now.
    *endpoint.mood.lock().unwrap_or_else(PoisonError::into_inner) = Mood::AsNamed;
    assert_eq!(instance.says("other.example").await, "NoEntry");
    let asked = ["allowed.example", "allowed.example", "other.example"];
    assert_eq!(endpoint.asked(), asked, "one question at a time");
}

#[tokio::test]
async fn what_the_ask_endpoint_withdraws_is_denied_after_it_was_asked_again() {
    let (fleet, endpoint) = (Fleet::new().await, Endpoint::start().await);
    let config = config::DomainsConfig {
        ask: Some(endpoint.url.clone()),
        allow_ttl: Span::millis(1),
        ..without_feed()
    };
    let instance = fleet.loaded(&config).await;
    assert_eq!(instance.says("allowed.example").await, "allowed.example of Ask");
    *endpoint.mood.lock().unwrap_or_else(PoisonError::into_inner) = Mood::Deny;
    until_says(&instance, "allowed.example", "NoEntry").await;
}

#[tokio::test]
async fn a_table_that_is_down_leaves_the_endpoint_unasked() {
    let (fleet, endpoint) = (Fleet::new().await, Endpoint::start().await);
    let instance =
        fleet.loaded(&config::DomainsConfig { ask: Some(endpoint.url.clone()), ..without_feed() }).await;
    instance.faults.set_outage(true);
    assert_eq!(instance.says("allowed.example").await, "SourceDown", "the table may hold a tombstone");
    assert_eq!(endpoint.asked(), Vec::<String>::new());
}

/// Half of all calls is throttled, so one of eight fails after the SDK's tries: a hundred and twenty in a row would never succeed.
#[tokio::test]
async fn a_table_that_throttles_is_read_whole_all_the_same() {
    let fleet = Fleet::new().await;
    let names: Vec<_> = (0..240).map(|n| format!("n{n}.example")).collect();
    for name in &names {
        domain_table::put(&fleet.sound, &change::tests::record(name), 0).await.unwrap();
    }
    let instance = fleet.loaded(&ample()).await;
    let faults = Faults::new(FaultPlan::parse("seed=5,throttle=500").unwrap());
    let store = Store::on_faulty(fleet.engine.clone(), &config::StoreConfig::default(), faults);
    let mut outcome = Err(StoreError::Conflict);
    for _ in 0..20 {
        let (inner, store) = (Arc::clone(&instance.domains.inner), store.clone());
        outcome = full_reading::read_whole(inner, store, Micros::of(clock::wall()), 2).await;
        if outcome.is_ok() {
            break;
        }
    }
    let read = outcome.unwrap();
    assert!(read.faults.is_empty(), "{:?}", read.faults);
    assert_eq!(read.latest, [Micros::from_epoch(1); 4]);
    for name in &names {
        assert_eq!(instance.says(name).await, format!("{name} of Table"));
    }
}
