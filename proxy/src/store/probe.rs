//! Whether the tables that a start needs are there and open to this process.
//!
//! A table that is absent or forbidden stays so until somebody acts; without it an instance would serve only in part. One that does not
//! answer now may answer soon: that is no reason not to start.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};

use super::{Store, StoreError, tables::TablesError};

/// What was seen of the tables by which names are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TablesSeen {
    /// One of them does not answer.
    Silent,
    /// They answer.
    Answering,
}

/// Reads from each table in the way that serving does, and says what was seen of those by which names are served; `domains` says whether that table
/// is one of them.
pub async fn reach(store: &Store, domains: DomainsTableUse) -> Result<TablesSeen, TablesError> {
    let state = probe(store, &store.tables().state, &["pk", "sk"]);
    // All are asked at once, and reported in this order.
    let ([certificates, domains], state, keys) =
        tokio::join!(probe_serving(store, domains), state, Box::pin(seal(store)));
    let seen = [certificates?, domains?];
    state?;
    match keys {
        Ok(()) | Err(StoreError::Unavailable(_)) => Ok(TablesSeen::of(seen)),
        Err(error) => Err(TablesError::Keys(error)),
    }
}

/// Whether the tables by which names are served answer, whatever they say; `domains` says whether that table is one of them.
pub async fn look(store: &Store, domains: DomainsTableUse) -> TablesSeen {
    TablesSeen::of(probe_serving(store, domains).await.map(|seen| seen.unwrap_or(TablesSeen::Answering)))
}

impl TablesSeen {
    fn of(each: [Self; 2]) -> Self {
        if each.contains(&Self::Silent) { Self::Silent } else { Self::Answering }
    }
}

/// The tables by which names are served: that of certificates, and that of domains.
async fn probe_serving(store: &Store, domains: DomainsTableUse) -> [Result<TablesSeen, TablesError>; 2] {
    let names = store.tables();
    let domains = async {
        match domains {
            DomainsTableUse::Needed => probe(store, &names.domains, &["domain"]).await,
            DomainsTableUse::Unused => Ok(TablesSeen::Answering),
        }
    };
    tokio::join!(probe(store, &names.certificates, &["PrimaryKey"]), domains).into()
}

/// Encrypts a secret as the settings say, and decrypts it.
pub async fn seal(store: &Store) -> Result<(), StoreError> {
    let encrypted = store.sealer.seal(PROBE, NOBODY).await?;
    store.sealer.open(encrypted, NOBODY).await.map(drop)?;
    Ok(())
}

/// Whether names in the domains table are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainsTableUse {
    /// They are.
    Needed,
    /// They are not.
    Unused,
}

/// Asks for an item that nobody has.
async fn probe(store: &Store, table: &str, key: &[&str]) -> Result<TablesSeen, TablesError> {
    let table = table.to_owned();
    match ask(store, &table, key).await {
        Ok(()) => Ok(TablesSeen::Answering),
        // Credentials may come late, as does the network.
        Err(StoreError::Unavailable(_) | StoreError::NoCredentials) => Ok(TablesSeen::Silent),
        Err(StoreError::NoTable(_)) => Err(TablesError::Absent { table }),
        Err(source) => Err(TablesError::Store { table, source }),
    }
}

async fn ask(store: &Store, table: &str, key: &[&str]) -> Result<(), StoreError> {
    let nobody = || AttributeValue::S(NOBODY.to_owned());
    let key = key.iter().map(|part| ((*part).to_owned(), nobody())).collect();
    let keys = KeysAndAttributes::builder().keys(key).build();
    let keys = keys.map_err(|error| StoreError::Refused(error.into()))?;
    let wanted = HashMap::from([(table.to_owned(), keys)]);
    store.client().batch_get_item().set_request_items(Some(wanted)).send().await?;
    Ok(())
}

const NOBODY: &str = "gatehouse-reach";
const PROBE: &[u8] = b"probe";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Engine, FaultPlan, Faults, tables};

    #[tokio::test]
    async fn what_is_absent_or_of_another_key_is_named_and_silence_is_no_fault() {
        let mut config = crate::config::StoreConfig::default();
        let engine = Engine::in_memory().unwrap();
        let said = |error: TablesError| crate::telemetry::error_chain(&error);
        let store = Store::on(engine.clone(), &config);
        let absent = said(reach(&store, DomainsTableUse::Needed).await.unwrap_err());
        assert!(absent.contains("`: not there; make it: `gatehouse tables create`"), "{absent}");
        tables::create(&store).await.unwrap();
        assert_eq!(reach(&store, DomainsTableUse::Needed).await.unwrap(), TablesSeen::Answering);

        config.domains_table = "elsewhere".into();
        let store = Store::on(engine.clone(), &config);
        reach(&store, DomainsTableUse::Unused).await.unwrap();
        let absent = said(reach(&store, DomainsTableUse::Needed).await.unwrap_err());
        assert!(absent.contains("table `elsewhere`: not there"), "{absent}");

        config.domains_table.clone_from(&config.state_table);
        let other =
            said(reach(&Store::on(engine.clone(), &config), DomainsTableUse::Needed).await.unwrap_err());
        assert!(other.contains("table `gatehouse-state`: the store refuses the request"), "{other}");

        let down = Faults::new(FaultPlan::default());
        down.set_outage(true);
        let silent = Store::on_faulty(engine, &config, down);
        assert_eq!(reach(&silent, DomainsTableUse::Needed).await.unwrap(), TablesSeen::Silent);
        for domains in [DomainsTableUse::Needed, DomainsTableUse::Unused] {
            let seen = [look(&store, domains).await, look(&silent, domains).await];
            assert_eq!(seen, [TablesSeen::Answering, TablesSeen::Silent], "{domains:?}");
        }
    }
}
