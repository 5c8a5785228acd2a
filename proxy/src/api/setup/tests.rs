use aws_sdk_dynamodb::types::AttributeValue;

use super::*;
use crate::{
    config::{ApiConfig, Config, StoreConfig},
    domains::admin::added_for_tests,
    name::ServerName,
    store::{
        Engine,
        domain_table::{self, DomainRecord, DomainStatus},
        tables,
    },
    target::Target,
    verification::fixture::{cname, dns_server, ns},
};

/// A table with an entry, and a link to it.
struct Fixture {
    engine: Engine,
    store: Store,
    record: DomainRecord,
    link: String,
    looker: Looker,
}

impl Fixture {
    async fn new() -> Self {
        let engine = Engine::in_memory().unwrap();
        let store = Store::on(engine.clone(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        let pattern = Pattern::parse("shop.customer.example").unwrap();
        let record = DomainRecord {
            tenant: "acme-4711".to_owned(),
            target: Some(Target::parse("http://10.9.8.7:8080").unwrap()),
            status: DomainStatus::Pending,
            ..added_for_tests(&pattern)
        };
        domain_table::put(&store, &record, 0).await.unwrap();
        let settings = setup_links::LinkSettings::of(&config());
        let now = Micros::of(clock::wall());
        let made = setup_links::link_to(&store, &settings, &record, NewLink::default(), now).await.unwrap();
        let link = made.url.rsplit('/').next().unwrap().to_owned();
        let servers = vec![
            ns("customer.example.", "ada.ns.cloudflare.com."),
            cname("shop.customer.example.", "elsewhere.example."),
            ns("elsewhere.example.", "ns1.digitalocean.com."),
        ];
        let mut config = config();
        config.verification.resolvers = vec![dns_server(servers).await];
        let looker = Looker::new(&config, 443, Arc::new(|_| true)).unwrap().unwrap();
        Self { engine, store, record, link, looker }
    }

    /// Another instance, which has shown nothing yet.
    fn instance(&self) -> SetupLinks {
        self.instance_with(&StoreConfig::default().domains_table)
    }

    fn instance_with(&self, domains_table: &str) -> SetupLinks {
        let rates = ApiConfig { requests_per_second: 1, requests_burst: 5, ..ApiConfig::default() };
        let store = Store::on(
            self.engine.clone(),
            &StoreConfig { domains_table: domains_table.to_owned(), ..StoreConfig::default() },
        );
        SetupLinks::new(store, RequestRates::new(&rates, clock::now()))
    }

    async fn show(&self) -> Result<Arc<SetupResource>, ProblemKind> {
        let shown = self.instance().show(&self.link, &self.looker).await;
        shown.map(|linked| linked.shown).map_err(|problem| problem.kind())
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.api.listen = Some("127.0.0.1:9466".parse().unwrap());
    config.verification.edge_names = vec![ServerName::parse("edge.example.net").unwrap()];
    config.verification.edge_addresses = vec!["192.0.2.10".parse().unwrap()];
    config
}

#[tokio::test]
async fn a_link_shows_one_entry_until_it_ends() {
    let fixture = Fixture::new().await;
    for _ in 0..2 {
        let shown = fixture.show().await.unwrap();
        assert_eq!((shown.domain.as_str(), shown.state), ("shop.customer.example", SetupState::Waiting));
        let provider = shown.provider.as_ref().map(|provider| provider.name);
        assert_eq!((shown.zone.as_str(), provider), ("customer.example", Some("Cloudflare")));
        assert_eq!((shown.records[0].kind, shown.records[0].value.as_str()), ("CNAME", "edge.example.net"));
    }
    let base = &fixture.record;
    let steps = [
        (DomainRecord { status: DomainStatus::Suspended, ..base.clone() }, true),
        (DomainRecord { tenant: "zeta".to_owned(), ..base.clone() }, false),
        (base.clone(), true),
        (DomainRecord { created_at: Some(Micros::from_epoch(77)), ..base.clone() }, false),
        (DomainRecord { status: DomainStatus::Removed, ..base.clone() }, false),
    ];
    for (version, (changed, is_shown)) in (base.version..).zip(steps) {
        let changed = DomainRecord { version: version + 1, ..changed };
        domain_table::put(&fixture.store, &changed, version).await.unwrap();
        let shown = fixture.show().await;
        assert_eq!(shown.as_ref().err(), (!is_shown).then_some(&ProblemKind::Absent), "{changed:?}");
    }
}

#[tokio::test]
async fn a_link_tells_nothing_of_the_operator() {
    let fixture = Fixture::new().await;
    let text = serde_json::to_string(&*fixture.show().await.unwrap()).unwrap();
    for secret in ["acme", "10.9.8.7", "target", "version", "created"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn made_up_links_cost_no_look_up_of_an_entry() {
    let fixture = Fixture::new().await;
    // An instance whose table of entries is not there.
    let instance = fixture.instance_with("none");
    let mut made_up = fixture.link.clone();
    made_up.replace_range(0..1, if made_up.starts_with('A') { "B" } else { "A" });
    for text in [made_up.as_str(), "", "robots.txt", &"A".repeat(200)] {
        let shown = instance.show(text, &fixture.looker).await;
        assert_eq!(shown.err().map(|problem| problem.kind()), Some(ProblemKind::Absent), "{text}");
    }
    // One that was made is looked up.
    let shown = instance.show(&fixture.link, &fixture.looker).await;
    assert_eq!(shown.err().map(|problem| problem.kind()), Some(ProblemKind::Failed));
}

#[tokio::test]
async fn a_link_is_asked_for_at_its_own_rate() {
    let fixture = Fixture::new().await;
    let instance = fixture.instance();
    let mut kinds = Vec::new();
    for _ in 0..6 {
        kinds.push(
            instance.show(&fixture.link, &fixture.looker).await.map(|_| ()).map_err(|problem| problem.kind()),
        );
    }
    assert_eq!(kinds.iter().filter(|kind| kind.is_ok()).count(), 5, "{kinds:?}");
    assert_eq!(kinds.last(), Some(&Err(ProblemKind::TooMany)));
}

#[tokio::test]
async fn links_of_one_entry_share_what_is_shown_and_each_says_when_it_ends() {
    let fixture = Fixture::new().await;
    let new = NewLink { lifetime_seconds: Some(7_200) };
    let settings = setup_links::LinkSettings::of(&config());
    let now = Micros::of(clock::wall());
    let made = setup_links::link_to(&fixture.store, &settings, &fixture.record, new, now).await.unwrap();
    let other = made.url.rsplit('/').next().unwrap();
    let instance = fixture.instance();
    let [first, second] = [fixture.link.as_str(), other].map(|link| instance.show(link, &fixture.looker));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert!(Arc::ptr_eq(&first.shown, &second.shown), "one look is enough");
    assert_ne!(first.ends_at, second.ends_at);
    let json = serde_json::to_value(second.json()).unwrap();
    assert_eq!(
        (json["ends_at"].as_str(), json["domain"].as_str()),
        (Some(&*second.ends_at), Some("shop.customer.example"))
    );
}

#[tokio::test]
async fn without_the_fleets_key_no_link_is_one() {
    let fixture = Fixture::new().await;
    let instance = fixture.instance();
    instance.show(&fixture.link, &fixture.looker).await.ok().unwrap();
    delete_key(&fixture.store).await;
    assert_eq!(fixture.show().await.unwrap_err(), ProblemKind::Absent, "another instance");
    instance.key.invalidate(&()).await;
    let shown = instance.show(&fixture.link, &fixture.looker).await;
    assert_eq!(
        shown.err().map(|problem| problem.kind()),
        Some(ProblemKind::Absent),
        "once its key was asked for again"
    );
}

async fn delete_key(store: &Store) {
    let delete = store.client().delete_item().table_name(&store.tables().state);
    delete
        .key("pk", AttributeValue::S("links".into()))
        .key("sk", AttributeValue::S("key".into()))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_link_by_a_key_that_was_made_a_moment_ago_is_one() {
    let fixture = Fixture::new().await;
    let [old, none] = [fixture.instance(), fixture.instance()];
    old.show(&fixture.link, &fixture.looker).await.ok().unwrap();
    delete_key(&fixture.store).await;
    assert!(none.key().await.ok().unwrap().is_none());
    let settings = setup_links::LinkSettings::of(&config());
    let now = Micros::of(clock::wall());
    let made = setup_links::link_to(&fixture.store, &settings, &fixture.record, NewLink::default(), now);
    let made = made.await.unwrap().url;
    for instance in [&old, &none] {
        let shown = instance.show(made.rsplit('/').next().unwrap(), &fixture.looker).await;
        assert!(shown.is_ok(), "{:?}", shown.err().map(|problem| problem.kind()));
    }
    // Who makes links up has the table asked once a second.
    let now = clock::now();
    let instance = fixture.instance();
    let later = [0, 1, 999, 1_000].map(|millis| instance.may_ask_anew(now + Duration::from_millis(millis)));
    assert_eq!(later, [true, false, false, true]);
}

#[tokio::test]
async fn few_requests_wait_for_what_is_shown_of_one_entry() {
    let fixture = Fixture::new().await;
    let rates = ApiConfig { requests_per_second: 100, requests_burst: 1_000, ..ApiConfig::default() };
    let instance = SetupLinks::new(fixture.store.clone(), RequestRates::new(&rates, clock::now()));
    // So that all of them wait for the look.
    instance.key().await.ok().unwrap();
    let show = || async { instance.show(&fixture.link, &fixture.looker).await.map(|_| ()) };
    let shown: [_; 6] = tokio::join!(show(), show(), show(), show(), show(), show()).into();
    let kinds = shown.map(|shown| shown.map_err(|problem| problem.kind()));
    let refused = Err(ProblemKind::TooMany);
    assert_eq!(kinds, [Ok(()), Ok(()), Ok(()), Ok(()), refused, refused]);
    for _ in 0..6 {
        assert_eq!(show().await.map_err(|problem| problem.kind()), Ok(()), "what is there nobody waits for");
    }
    instance.shown.invalidate_all();
    assert!(show().await.is_ok(), "none of them waits any more");
}
