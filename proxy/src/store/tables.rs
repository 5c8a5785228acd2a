//! The three tables: their form, creating them, and checking existing ones.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType,
        Projection, ProjectionType, ScalarAttributeType, TableDescription, TableStatus,
        TimeToLiveSpecification, TimeToLiveStatus,
    },
};

use super::{NotDynamoDb, Store, StoreError};
use crate::clock;

/// Why the tables are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// A call failed.
    #[error("table `{table}`")]
    Store {
        /// Which.
        table: String,
        /// How.
        #[source]
        source: StoreError,
    },
    /// A table of this name is there, and is another one.
    #[error(
        "table `{table}`: its {what} is {found}, and must be {wanted}; name another table in `store`, or remove this one"
    )]
    Differs {
        /// Which.
        table: String,
        /// What of it.
        what: String,
        /// As it is.
        found: String,
        /// As it must be.
        wanted: String,
    },
    /// There is none of this name.
    #[error(
        "table `{table}`: not there; make it: `gatehouse tables create`, or correct its name or `store.region`"
    )]
    Absent {
        /// Which.
        table: String,
    },
    /// Their secrets cannot be sealed and opened as the settings say.
    #[error(transparent)]
    Keys(StoreError),
    /// It did not become active.
    #[error("table `{table}`: still {status} after {} s; run the command again", CREATION_DEADLINE.as_secs())]
    Slow {
        /// Which.
        table: String,
        /// What it is instead.
        status: String,
    },
}

/// Creates what is missing, waits until all are active, and checks existing ones. Idempotent.
pub async fn create(store: &Store) -> Result<(), TablesError> {
    create_telling(store, &|_: &Wait<'_>| ()).await
}

/// What [`create_telling`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait<'a> {
    /// Which table.
    pub table: &'a str,
    /// Its status as the API names it; `absent` while it is not there yet.
    pub status: &'a str,
    /// Since when.
    pub waited: Duration,
    /// How long in all.
    pub limit: Duration,
}

/// [`create`], with `tell` called when a wait begins and every ten seconds.
pub async fn create_telling(store: &Store, tell: &(dyn Fn(&Wait<'_>) + Sync)) -> Result<(), TablesError> {
    let names = store.tables();
    for (name, shape) in
        [(&names.certificates, &CERTIFICATES), (&names.domains, &DOMAINS), (&names.state, &STATE)]
    {
        let in_table = |source| TablesError::Store { table: name.clone(), source };
        if describe(store, name).await.map_err(in_table)?.is_none() {
            make(store, name, shape).await.map_err(in_table)?;
        }
        let description = await_active(store, name, tell).await?;
        shape.verify(name, &description)?;
        expire_by(store, name, shape).await?;
    }
    Ok(())
}

/// Each table by name, and whether it is there as it must be; nothing is made.
pub async fn check(store: &Store) -> Vec<(String, Result<(), TablesError>)> {
    let names = store.tables();
    let mut checked = Vec::new();
    for (name, shape) in
        [(&names.certificates, &CERTIFICATES), (&names.domains, &DOMAINS), (&names.state, &STATE)]
    {
        checked.push((name.clone(), check_one(store, name, shape).await));
    }
    checked
}

async fn check_one(store: &Store, name: &str, shape: &TableShape) -> Result<(), TablesError> {
    let table = name.to_owned();
    match describe(store, name).await {
        Ok(Some(description)) => shape.verify(name, &description),
        Ok(None) => Err(TablesError::Absent { table }),
        Err(source) => Err(TablesError::Store { table, source }),
    }
}

async fn describe(store: &Store, name: &str) -> Result<Option<TableDescription>, StoreError> {
    match store.client().describe_table().table_name(name).send().await {
        Ok(answer) => match answer.table {
            Some(table) => Ok(Some(table)),
            // The API describes a table or says that there is none.
            None => Err(StoreError::NotDynamoDb(NotDynamoDb {
                endpoint: store.endpoint().to_owned(),
                status: 200,
                fault: super::genuine::Evidence::Description,
            })),
        },
        Err(error) => match StoreError::from(error) {
            StoreError::NoTable(_) => Ok(None),
            other => Err(other),
        },
    }
}

async fn make(store: &Store, name: &str, shape: &TableShape) -> Result<(), StoreError> {
    let made = store
        .client()
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(shape.attributes()?))
        .set_key_schema(Some(shape.key.schema()?))
        .set_global_secondary_indexes(shape.secondary_indexes()?)
        .send()
        .await;
    match made {
        // Another instance created it first: it is checked like any other.
        Err(error) if error.code() == Some("ResourceInUseException") => Ok(()),
        made => made.map(drop).map_err(StoreError::from),
    }
}

async fn await_active(
    store: &Store,
    name: &str,
    tell: &(dyn Fn(&Wait<'_>) + Sync),
) -> Result<TableDescription, TablesError> {
    let begun = clock::now();
    let mut told: Option<std::time::Instant> = None;
    loop {
        let description = describe(store, name)
            .await
            .map_err(|source| TablesError::Store { table: name.to_owned(), source })?;
        let other = match description {
            Some(table) if is_active(&table) => return Ok(table),
            other => other,
        };
        let status = other.and_then(|table| table.table_status).map(|status| status.to_string());
        let status = status.unwrap_or_else(|| "absent".to_owned());
        let waited = clock::now().saturating_duration_since(begun);
        if waited >= CREATION_DEADLINE {
            return Err(TablesError::Slow { table: name.to_owned(), status });
        }
        if told.is_none_or(|at| clock::now().saturating_duration_since(at) >= TELL_PERIOD) {
            told = Some(clock::now());
            tell(&Wait { table: name, status: &status, waited, limit: CREATION_DEADLINE });
        }
        tokio::time::sleep(CREATION_POLL).await;
    }
}

/// The table and all of its indexes.
fn is_active(table: &TableDescription) -> bool {
    let mut indexes = table.global_secondary_indexes().iter();
    table.table_status() == Some(&TableStatus::Active)
        && indexes.all(|index| index.index_status().is_none_or(|status| *status == IndexStatus::Active))
}

async fn expire_by(store: &Store, name: &str, shape: &TableShape) -> Result<(), TablesError> {
    let Some(attribute) = shape.expires_by else { return Ok(()) };
    let in_table = |source| TablesError::Store { table: name.to_owned(), source };
    match expiring_by(store, name).await.map_err(in_table)? {
        None => set_expiry(store, name, attribute).await.map_err(in_table),
        Some(found) if found == attribute => Ok(()),
        Some(found) => Err(TablesError::Differs {
            table: name.to_owned(),
            what: "time to live".to_owned(),
            found: format!("by `{found}`"),
            wanted: format!("by `{attribute}`"),
        }),
    }
}

/// The attribute whose instant ends an item, where there is one.
async fn expiring_by(store: &Store, name: &str) -> Result<Option<String>, StoreError> {
    let now = store.client().describe_time_to_live().table_name(name).send().await?;
    let on = now.time_to_live_description.filter(|now| {
        matches!(now.time_to_live_status(), Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling))
    });
    Ok(on.and_then(|on| on.attribute_name))
}

async fn set_expiry(store: &Store, name: &str, attribute: &str) -> Result<(), StoreError> {
    let specification = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true);
    let specification = specification.build().map_err(|error| StoreError::Refused(error.into()))?;
    let set = store.client().update_time_to_live().table_name(name);
    set.time_to_live_specification(specification).send().await?;
    Ok(())
}

/// What a table looks like.
struct TableShape {
    key: Key,
    indexes: &'static [Index],
    expires_by: Option<&'static str>,
}

struct Key {
    hash: &'static str,
    range: Option<&'static str>,
}

struct Index {
    name: &'static str,
    key: Key,
    /// Attributes beside the keys.
    included: &'static [&'static str],
}

/// Caddy's: no index, no time to live, no other key family.
const CERTIFICATES: TableShape =
    TableShape { key: Key { hash: "PrimaryKey", range: None }, indexes: &[], expires_by: None };

const DOMAINS: TableShape = TableShape {
    key: Key { hash: "domain", range: None },
    indexes: &[
        Index {
            name: "feed",
            key: Key { hash: "feed", range: Some("changed_at") },
            included: &["target", "status", "tenant", "labels", "settings", "version"],
        },
        Index {
            name: "tenant",
            key: Key { hash: "tenant", range: Some("domain") },
            included: &["status", "target", "created_at"],
        },
    ],
    expires_by: Some("expires_at"),
};

const STATE: TableShape = TableShape {
    key: Key { hash: "pk", range: Some("sk") },
    indexes: &[Index { name: "due", key: Key { hash: "due", range: Some("due_at") }, included: &[] }],
    expires_by: Some("expires_at"),
};

impl Key {
    fn schema(&self) -> Result<Vec<KeySchemaElement>, StoreError> {
        let element = |name: &str, kind| {
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
            element.map_err(|error| StoreError::Refused(error.into()))
        };
        let hash = element(self.hash, KeyType::Hash);
        std::iter::once(hash).chain(self.range.map(|range| element(range, KeyType::Range))).collect()
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.hash).chain(self.range)
    }

    fn text(&self) -> String {
        self.names().collect::<Vec<_>>().join(" + ")
    }
}

impl TableShape {
    fn attributes(&self) -> Result<Vec<AttributeDefinition>, StoreError> {
        let keys = std::iter::once(&self.key).chain(self.indexes.iter().map(|index| &index.key));
        let mut names: Vec<_> = keys.flat_map(Key::names).collect();
        names.sort_unstable();
        names.dedup();
        let define = |name: &str| {
            // Every key of ours is text: instants as fixed-width RFC 3339 sort as they should, and read well in a console.
            let definition = AttributeDefinition::builder().attribute_name(name);
            let definition = definition.attribute_type(ScalarAttributeType::S).build();
            definition.map_err(|error| StoreError::Refused(error.into()))
        };
        names.into_iter().map(define).collect()
    }

    fn secondary_indexes(&self) -> Result<Option<Vec<GlobalSecondaryIndex>>, StoreError> {
        let indexes: Result<Vec<_>, _> = self.indexes.iter().map(Index::definition).collect();
        Ok(Some(indexes?).filter(|indexes| !indexes.is_empty()))
    }

    fn verify(&self, table: &str, found: &TableDescription) -> Result<(), TablesError> {
        let differs = |what: String, found: String, wanted: String| {
            Err(TablesError::Differs { table: table.to_owned(), what, found, wanted })
        };
        let key = key_text(found.key_schema());
        if key != self.key.text() {
            return differs("key".into(), key, self.key.text());
        }
        for definition in found.attribute_definitions() {
            let kind = definition.attribute_type();
            if *kind != ScalarAttributeType::S && self.mentions(definition.attribute_name()) {
                let what = format!("key attribute `{}`", definition.attribute_name());
                return differs(what, format!("of type {kind}"), "of type S".into());
            }
        }
        for index in self.indexes {
            let there =
                found.global_secondary_indexes().iter().find(|there| there.index_name() == Some(index.name));
            let what = format!("index `{}`", index.name);
            let Some(there) = there else {
                return differs(what, "missing".into(), index.text());
            };
            let text =
                format!("{} with {}", key_text(there.key_schema()), projection_text(there.projection()));
            if !index.admits(&text, there.projection()) {
                return differs(what, text, index.text());
            }
        }
        Ok(())
    }

    fn mentions(&self, attribute: &str) -> bool {
        let mut keys = std::iter::once(&self.key).chain(self.indexes.iter().map(|index| &index.key));
        keys.any(|key| key.names().any(|name| name == attribute))
    }
}

impl Index {
    fn definition(&self) -> Result<GlobalSecondaryIndex, StoreError> {
        let projection = match self.included {
            [] => Projection::builder().projection_type(ProjectionType::KeysOnly),
            included => Projection::builder()
                .projection_type(ProjectionType::Include)
                .set_non_key_attributes(Some(included.iter().map(ToString::to_string).collect())),
        };
        GlobalSecondaryIndex::builder()
            .index_name(self.name)
            .set_key_schema(Some(self.key.schema()?))
            .projection(projection.build())
            .build()
            .map_err(|error| StoreError::Refused(error.into()))
    }

    /// Projecting everything costs more, and works.
    fn admits(&self, text: &str, projection: Option<&Projection>) -> bool {
        let all = projection.and_then(Projection::projection_type) == Some(&ProjectionType::All);
        text == self.text() || (all && text.starts_with(&self.key.text()))
    }

    fn text(&self) -> String {
        let mut included = self.included.to_vec();
        included.sort_unstable();
        format!("{} with [{}]", self.key.text(), included.join(", "))
    }
}

fn key_text(schema: &[KeySchemaElement]) -> String {
    let mut parts: Vec<_> = schema.iter().collect();
    parts.sort_by_key(|part| *part.key_type() != KeyType::Hash);
    parts.iter().map(|part| part.attribute_name()).collect::<Vec<_>>().join(" + ")
}

fn projection_text(projection: Option<&Projection>) -> String {
    let mut included: Vec<_> = projection
        .map(Projection::non_key_attributes)
        .unwrap_or_default()
        .iter()
        .map(String::as_str)
        .collect();
    included.sort_unstable();
    format!("[{}]", included.join(", "))
}

const CREATION_DEADLINE: Duration = Duration::from_mins(5);
const CREATION_POLL: Duration = Duration::from_millis(250);
const TELL_PERIOD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Engine;

    #[tokio::test]
    async fn tables_are_made_once_and_found_as_made() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        create(&store).await.unwrap();
        create(&store).await.unwrap();
        for (name, indexes) in
            [(&store.tables().certificates, 0), (&store.tables().domains, 2), (&store.tables().state, 1)]
        {
            let table = describe(&store, name).await.unwrap().unwrap();
            assert_eq!(table.global_secondary_indexes().len(), indexes, "{name}");
        }
        let ttl =
            store.client().describe_time_to_live().table_name(&store.tables().domains).send().await.unwrap();
        let ttl = ttl.time_to_live_description.unwrap();
        assert_eq!(
            (ttl.attribute_name(), ttl.time_to_live_status()),
            (Some("expires_at"), Some(&TimeToLiveStatus::Enabled))
        );
    }

    #[tokio::test]
    async fn a_table_that_forgets_by_another_attribute_is_named() {
        let config = crate::config::StoreConfig::default();
        let store = Store::on(Engine::in_memory().unwrap(), &config);
        make(&store, &config.certificates_table, &CERTIFICATES).await.unwrap();
        make(&store, &config.domains_table, &DOMAINS).await.unwrap();
        set_expiry(&store, &config.domains_table, "ttl").await.unwrap();
        let error = create(&store).await.unwrap_err().to_string();
        let words = "table `gatehouse-domains`: its time to live is by `ttl`, and must be by `expires_at`";
        assert!(error.contains(words), "{error}");
    }

    #[tokio::test]
    async fn another_table_of_the_same_name_is_named_with_its_difference() {
        let mut config = crate::config::StoreConfig::default();
        let engine = Engine::in_memory().unwrap();
        create(&Store::on(engine.clone(), &config)).await.unwrap();
        for (domains, state, words) in [
            (
                "gatehouse-state",
                "gatehouse-state",
                "table `gatehouse-state`: its key is pk + sk, and must be domain",
            ),
            ("gatehouse-certificates", "gatehouse-state", "its key is PrimaryKey, and must be domain"),
            ("gatehouse-domains", "gatehouse-domains", "its key is domain, and must be pk + sk"),
        ] {
            config.domains_table = domains.into();
            config.state_table = state.into();
            let error = create(&Store::on(engine.clone(), &config)).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
