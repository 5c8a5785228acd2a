//! How long a worker needs to find a name's certificate in the process's memory: one name again and again, and names in random order among ten
//! thousand, which the processor's caches do not hold. `cargo xtask bench certificates` runs it; published in `target/bench`.
//! Not here: a worker's own memory, which is looked at before, and the handshake (`testbed::bench`).

use std::{
    collections::BTreeMap,
    hint::black_box,
    path::Path,
    time::{Instant, SystemTime},
};

use anyhow::{Context, ensure};
use gatehouse::{
    certificates::Certificates,
    config::{Config, DomainSettings, StaticDomain},
    domains::{Caller, Domains},
    name::{Pattern, ServerName},
    store::{Engine, Store, tables},
};
use prometheus::Registry;
use proxy_common::fixture::fuzz::Dice;
use testbed::bench::report::{Report, Row};
use tokio::runtime::Runtime;

fn main() -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let directory = tempfile::tempdir()?;
    let names = (0..NAMES).map(|number| ServerName::parse(&format!("n{number:06}.customer.test")));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let certificates = runtime.block_on(obtain(&names, directory.path()))?;
    let mut dice = Dice::new(1);
    let mut report = Report::new("cached_certificate", BTreeMap::new());
    for among in [1, NAMES] {
        let order: Vec<_> = (0..LOOK_UPS).filter_map(|_| names.get(dice.below(among))).collect();
        let samples =
            (0..ROUNDS).map(|_| nanoseconds(&certificates, &order)).collect::<anyhow::Result<_>>()?;
        let work = format!("certificate of one of {among} names");
        report.push(Row::of(&work, "process cache", "ns", samples).context("no rounds")?);
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    report.publish(own.parent().context("the package lies in no workspace")?)
}

/// Has the internal issuer make one for each of `names`.
async fn obtain(names: &[ServerName], directory: &Path) -> anyhow::Result<Certificates> {
    let listed = |name: &ServerName| StaticDomain {
        name: Pattern::Exact(name.clone()),
        target: None,
        settings: DomainSettings::default(),
    };
    let mut config = Config { state_directory: directory.to_owned(), ..Config::default() };
    config.domains.r#static = names.iter().map(listed).collect();
    config.domains.table = false;
    config.certificates.orders_per_three_hours = 1_000_000;
    config.certificates.orders_per_registered_domain = 1_000_000;
    let (registry, control) = (Registry::new(), tokio::runtime::Handle::current());
    let store = Store::on(Engine::in_memory()?, &config.store);
    tables::create(&store).await?;
    let domains = Domains::start(&config.domains, &store, &control, &registry)?;
    let certificates = Certificates::start(&config, &store, &domains, &control, &registry)?;
    for name in names {
        let permission = domains.permission(name, Caller::Internal).await;
        let loopback = std::net::Ipv4Addr::LOCALHOST.into();
        certificates.obtain(name, &permission, loopback).await.with_context(|| name.to_string())?;
    }
    Ok(certificates)
}

/// Of one look-up; the clock is read for each, as for a handshake.
fn nanoseconds(certificates: &Certificates, order: &[&ServerName]) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut found = 0_u32;
    for name in order {
        let slot = certificates.cached(black_box(name));
        found += u32::from(black_box(slot.and_then(|slot| slot.current(SystemTime::now()))).is_some());
    }
    let took = begun.elapsed();
    // What the table has not confirmed for a minute is not found.
    ensure!(
        usize::try_from(found)? == order.len(),
        "{found} of {} were found: obtaining them has taken more than a minute",
        order.len()
    );
    Ok(took.as_secs_f64() * 1e9 / f64::from(found))
}

const NAMES: usize = 10_000;
const LOOK_UPS: usize = 200_000;
const ROUNDS: usize = 11;
