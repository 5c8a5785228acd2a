//! Whether the tables that a start needs are there and open to this process.
//!
//! A table that is absent or forbidden stays so until somebody acts; without it an instance would serve only in part. One that does not
//! answer now may answer soon: that is no reason not to start.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};

use super::{Store, StoreError, tables::TablesError};

/// Reads from each table in the way that serving does; `domains` says whether that table is one of them.
pub async fn reach(store: &Store, domains: DomainsTableUse) -> Result<(), TablesError> {
    let names = store.tables();
    let certificates = probe(store, &names.certificates, &["PrimaryKey"]);
    let state = probe(store, &names.state, &["pk", "sk"]);
    let domains = async {
        match domains {
            DomainsTableUse::Needed => probe(store, &names.domains, &["domain"]).await,
            DomainsTableUse::Unused => Ok(()),
        }
    };
    // All are asked at once, and reported in this order.
    let (certificates, domains, state, keys) =
        tokio::join!(certificates, domains, state, Box::pin(seal(store)));
    let keys = match keys {
        Ok(()) | Err(StoreError::Unavailable(_)) => Ok(()),
        Err(error) => Err(TablesError::Keys(error)),
    };
    certificates.and(domains).and(state).and(keys)
}

/// Whether the tables by which names are served answer, whatever they say; `domains` says whether that table is one of them.
pub async fn answers(store: &Store, domains: DomainsTableUse) -> bool {
    let names = store.tables();
    let certificates = ask(store, &names.certificates, &["PrimaryKey"]);
    let domains = async {
        match domains {
            DomainsTableUse::Needed => ask(store, &names.domains, &["domain"]).await,
            DomainsTableUse::Unused => Ok(()),
        }
    };
    let (certificates, domains) = tokio::join!(certificates, domains);
    let is_silent = |asked| matches!(asked, Err(StoreError::Unavailable(_) | StoreError::NoCredentials));
    ![certificates, domains].into_iter().any(is_silent)
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
async fn probe(store: &Store, table: &str, key: &[&str]) -> Result<(), TablesError> {
    let table = table.to_owned();
    match ask(store, &table, key).await {
        // Credentials may come late, as does the network.
        Ok(()) | Err(StoreError::Unavailable(_) | StoreError::NoCredentials) => Ok(()),
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
        reach(&store, DomainsTableUse::Needed).await.unwrap();

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
        reach(&silent, DomainsTableUse::Needed).await.unwrap();
        for domains in [DomainsTableUse::Needed, DomainsTableUse::Unused] {
            assert!(answers(&store, domains).await && !answers(&silent, domains).await, "{domains:?}");
        }
    }
}
