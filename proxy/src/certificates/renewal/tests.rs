mod year;

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use prometheus::Registry;
use tokio::task::JoinSet;

use super::*;
use crate::{
    config,
    name::Pattern,
    store::{Engine, Store, state_table::OrderRecord, tables},
};

const DAY: Duration = Duration::from_hours(24);

/// An instance whose issuer takes no time: renewing a name is writing its next date.
struct Instance {
    store: Store,
    registry: Registry,
    /// How often each name was renewed in the fleet.
    renewed: Arc<Mutex<HashMap<Pattern, u32>>>,
    /// Whether a name that has failed before fails by a panic.
    panics: bool,
    /// Calls that renewals made beside those that find and claim names.
    written: AtomicU32,
}

impl DueWork for Instance {
    type Claim = Claim;

    async fn due(&self, shard: u8, now: SystemTime, start: Option<&DueStart>) -> Result<DuePage, StoreError> {
        state_table::due(&self.store, shard, now, start, PAGE).await
    }

    async fn claim(&self, due: &Due, until: SystemTime) -> Result<Option<(Claim, u32)>, StoreError> {
        let claim = state_table::claim(&self.store, due, until).await?;
        Ok(claim.map(|claim| (claim.clone(), claim.record.failures)))
    }

    fn claim_life(&self) -> Duration {
        Duration::from_mins(3)
    }

    async fn allow(&self, count: u64, _: SystemTime) -> Result<Allowance, StoreError> {
        Ok(Allowance::Unpaid { count })
    }

    async fn give_back(&self, _: usize, _: u64) {}

    fn count(&self, _: Claimed) {}

    async fn carry_out(self: Arc<Self>, claim: Claim, _: Option<usize>) {
        *self.renewed.lock().unwrap().entry(claim.record.name.clone()).or_default() += 1;
        assert!(!self.panics || claim.record.failures == 0, "as the test asks");
        let record = OrderRecord { renew_at: Some(clock::wall() + DAY * 60), ..claim.record };
        let before = record.serial.clone();
        state_table::put_record(&self.store, &record, before.as_deref()).await.unwrap();
        self.written.fetch_add(1, Ordering::Relaxed);
    }
}

impl Instance {
    /// Calls to the store, retries included.
    fn calls(&self) -> f64 {
        let of_calls =
            |family: &prometheus::proto::MetricFamily| family.name() == "gatehouse_store_calls_total";
        let families = self.registry.gather();
        let calls = families
            .iter()
            .filter(|family| of_calls(family))
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        calls.map(|metric| metric.get_counter().get_value()).sum()
    }
}

/// A table in which `names` names are due.
async fn backlog(names: u32) -> Engine {
    let engine = Engine::in_memory().unwrap();
    let store = Store::on(engine.clone(), &config::StoreConfig::default());
    tables::create(&store).await.unwrap();
    for n in 0..names {
        put_due(&store, n, Duration::from_secs(u64::from(names - n)), 0).await;
    }
    engine
}

/// Writes that name `n` is due since `since`, and that its last orders failed so often.
async fn put_due(store: &Store, n: u32, since: Duration, failures: u32) {
    let name = Pattern::parse(&format!("n{n}.example.com")).unwrap();
    let now = clock::wall();
    let record = OrderRecord {
        failures,
        serial: Some("01".to_owned()),
        not_after: Some(now + DAY * 30),
        renew_at: Some(now - since),
        ..OrderRecord::new(&name)
    };
    state_table::put_record(store, &record, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_costs_little_more_than_a_claim_a_name() {
    const NAMES: u32 = 10_000;
    let engine = backlog(NAMES).await;
    let renewed = Arc::new(Mutex::new(HashMap::new()));
    let instances: Vec<_> = (0..10)
        .map(|_| {
            let (store, registry) =
                (Store::on(engine.clone(), &config::StoreConfig::default()), Registry::new());
            store.register_metrics(&registry).unwrap();
            let (renewed, written) = (Arc::clone(&renewed), AtomicU32::new(0));
            Arc::new(Instance { store, registry, renewed, panics: false, written })
        })
        .collect();
    let mut fleet = JoinSet::new();
    for instance in &instances {
        let mut round = Round::new(Arc::clone(instance));
        fleet.spawn(async move {
            round.work_off().await.unwrap();
            round.settle().await;
        });
    }
    fleet.join_all().await;
    let renewed = renewed.lock().unwrap();
    assert_eq!(renewed.len(), usize::try_from(NAMES).unwrap(), "all are renewed in one round");
    assert!(renewed.values().all(|times| *times == 1), "each of them once");
    let shares: Vec<_> = instances.iter().map(|one| one.written.load(Ordering::Relaxed)).collect();
    let calls = instances.iter().map(|one| one.calls()).sum::<f64>() - f64::from(shares.iter().sum::<u32>());
    assert!(calls < 2.0 * f64::from(NAMES), "{calls} calls to find and claim {NAMES} names");
    assert!(calls < 13_000.0, "{calls} calls: three runs took 10,751 to 11,070; shares {shares:?}");
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

/// Names that have failed have room of their own, for few at once.
#[tokio::test]
async fn a_renewal_that_panics_gives_its_room_back() {
    const NAMES: u32 = 6;
    let store = Store::on(backlog(0).await, &config::StoreConfig::default());
    let renewed = Arc::new(Mutex::new(HashMap::new()));
    let (registry, written) = (Registry::new(), AtomicU32::new(0));
    let instance =
        Instance { store: store.clone(), registry, renewed: Arc::clone(&renewed), panics: true, written };
    let mut round = Round::new(Arc::new(instance));
    for n in 0..NAMES {
        put_due(&store, n, DAY, 1).await;
        round.pass().await.unwrap();
        round.settle().await;
    }
    assert_eq!(renewed.lock().unwrap().len(), usize::try_from(NAMES).unwrap());
}
