//! Whether the role may make the calls that serving makes, found out by making them, so that nothing is asked for that is not used.
//! Not here: whether the tables are there and of the right form (`tables`).
//! Invariants: nothing is changed: reads are of an item that nobody has, and writes are on condition that it exists
//! (`probes_change_nothing`); a missing permission is named with its table, and no other is (`each_missing_permission_is_named`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Put, TransactWriteItem};

use super::{Store, StoreError, certificate_table::DELETED};

/// A call that serving makes to one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiCall {
    /// One item.
    GetItem,
    /// Several.
    BatchGetItem,
    /// Of the table itself.
    Query,
    /// Of the index of this name.
    QueryIndex(&'static str),
    /// A whole item.
    PutItem,
    /// Some attributes.
    UpdateItem,
    /// One item of each kind that is ever deleted ([`DELETED`]): a policy may permit some and not others.
    DeleteItem,
    /// A certificate with its record, in both tables at once.
    TransactWriteItems,
}

impl ApiCall {
    /// As the API names it.
    #[must_use]
    pub fn operation(self) -> &'static str {
        match self {
            Self::GetItem => "GetItem",
            Self::BatchGetItem => "BatchGetItem",
            Self::Query | Self::QueryIndex(_) => "Query",
            Self::PutItem => "PutItem",
            Self::UpdateItem => "UpdateItem",
            Self::DeleteItem => "DeleteItem",
            Self::TransactWriteItems => "TransactWriteItems",
        }
    }

    /// What a policy must allow. "Using IAM with DynamoDB transactions": a transaction has no action of its own, ours puts.
    fn action(self) -> &'static str {
        match self {
            Self::GetItem => "dynamodb:GetItem",
            Self::BatchGetItem => "dynamodb:BatchGetItem",
            Self::Query | Self::QueryIndex(_) => "dynamodb:Query",
            Self::PutItem | Self::TransactWriteItems => "dynamodb:PutItem",
            Self::UpdateItem => "dynamodb:UpdateItem",
            Self::DeleteItem => "dynamodb:DeleteItem",
        }
    }
}

impl std::fmt::Display for ApiCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::QueryIndex(index) => write!(f, "Query of index `{index}`"),
            call => f.write_str(call.operation()),
        }
    }
}

/// The outcome of a probe.
#[derive(Debug)]
pub enum ProbeOutcome {
    /// It may be made.
    Permitted,
    /// The role lacks it; with the service's message.
    Missing(String),
    /// It failed otherwise.
    Failed(StoreError),
}

/// A table and the calls made to it.
#[derive(Debug, Clone, Copy)]
struct TableUse<'a> {
    table: &'a str,
    key: &'static [&'static str],
    calls: &'static [ApiCall],
    /// The key attribute of each index that is queried.
    indexes: &'static [(&'static str, &'static str)],
}

/// Makes each call that serving makes to `table`, one of the store's, all at once.
pub async fn probe(store: &Store, table: &str) -> Vec<(ApiCall, ProbeOutcome)> {
    let Some(used) = uses(store).into_iter().find(|used| used.table == table) else { return Vec::new() };
    let mut probes = tokio::task::JoinSet::new();
    for (place, call) in used.calls.iter().copied().enumerate() {
        let (store, table, key, indexes) = (store.clone(), used.table.to_owned(), used.key, used.indexes);
        probes.spawn(async move {
            let used = TableUse { table: &table, key, calls: &[], indexes };
            (place, call, outcome(attempt(&store, used, call).await))
        });
    }
    let mut made = probes.join_all().await;
    made.sort_by_key(|(place, ..)| *place);
    made.into_iter().map(|(_, call, outcome)| (call, outcome)).collect()
}

/// A policy that allows `missing` calls to tables, as IAM's console takes it.
#[must_use]
pub fn policy(store: &Store, missing: &[(String, ApiCall)]) -> serde_json::Value {
    let mut actions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (table, call) in missing {
        actions.entry(table).or_default().insert(call.action());
    }
    let region = store.region().unwrap_or("*");
    let statements = actions.iter().map(|(table, actions)| {
        let arn = format!("arn:aws:dynamodb:{region}:*:table/{table}");
        let indexes = format!("{arn}/index/*");
        serde_json::json!({ "Effect": "Allow", "Action": actions, "Resource": [arn, indexes] })
    });
    serde_json::json!({ "Version": "2012-10-17", "Statement": statements.collect::<Vec<_>>() })
}

/// What serving does with each table.
fn uses(store: &Store) -> [TableUse<'_>; 3] {
    use ApiCall::{
        BatchGetItem, DeleteItem, GetItem, PutItem, Query, QueryIndex, TransactWriteItems, UpdateItem,
    };
    let names = store.tables();
    [
        TableUse {
            table: &names.certificates,
            key: &["PrimaryKey"],
            calls: &[GetItem, BatchGetItem, PutItem, DeleteItem, TransactWriteItems],
            indexes: &[],
        },
        TableUse {
            table: &names.domains,
            key: &["domain"],
            calls: &[GetItem, BatchGetItem, QueryIndex("feed"), QueryIndex("tenant"), UpdateItem],
            indexes: &[("feed", "feed"), ("tenant", "tenant")],
        },
        TableUse {
            table: &names.state,
            key: &["pk", "sk"],
            calls: &[BatchGetItem, Query, QueryIndex("due"), PutItem, UpdateItem, TransactWriteItems],
            indexes: &[("due", "due")],
        },
    ]
}

fn outcome(made: Result<(), StoreError>) -> ProbeOutcome {
    match made {
        // A write whose condition failed was permitted.
        Ok(()) | Err(StoreError::Conflict) => ProbeOutcome::Permitted,
        Err(StoreError::Denied(said)) if is_missing_permission(&said.to_string()) => {
            ProbeOutcome::Missing(said.to_string())
        }
        Err(error) => ProbeOutcome::Failed(error),
    }
}

/// Of what the service says when it refuses credentials: the others are not valid at all.
#[must_use]
pub fn is_missing_permission(said: &str) -> bool {
    said.starts_with("AccessDenied")
}

async fn attempt(store: &Store, used: TableUse<'_>, call: ApiCall) -> Result<(), StoreError> {
    let (client, table) = (store.client(), used.table);
    // `domain` is a reserved word.
    let (exists, first) = ("attribute_exists(#key)", used.first());
    match call {
        ApiCall::GetItem => {
            client.get_item().table_name(table).set_key(Some(used.nobody())).send().await.map(drop)?;
        }
        ApiCall::BatchGetItem => {
            let keys = KeysAndAttributes::builder().keys(used.nobody()).build().map_err(refused)?;
            client.batch_get_item().request_items(table, keys).send().await.map(drop)?;
        }
        ApiCall::Query | ApiCall::QueryIndex(_) => query(store, used, call).await?,
        ApiCall::PutItem => {
            let put = client.put_item().table_name(table).set_item(Some(used.nobody()));
            put.condition_expression(exists)
                .expression_attribute_names("#key", first)
                .send()
                .await
                .map(drop)?;
        }
        ApiCall::UpdateItem => {
            let update = client.update_item().table_name(table).set_key(Some(used.nobody()));
            let update = update.update_expression("SET probe = :probe");
            let update = update.expression_attribute_values(":probe", AttributeValue::Bool(true));
            update
                .condition_expression(exists)
                .expression_attribute_names("#key", first)
                .send()
                .await
                .map(drop)?;
        }
        ApiCall::DeleteItem => {
            for kind in DELETED {
                let key = AttributeValue::S(kind.replace('*', NOBODY));
                let delete = client.delete_item().table_name(table).key(first, key);
                let delete = delete.condition_expression(exists).expression_attribute_names("#key", first);
                match delete.send().await.map_err(StoreError::from) {
                    Ok(_) | Err(StoreError::Conflict) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        ApiCall::TransactWriteItems => {
            let put = Put::builder().table_name(table).set_item(Some(used.nobody()));
            let put = put
                .condition_expression(exists)
                .expression_attribute_names("#key", first)
                .build()
                .map_err(refused)?;
            let item = TransactWriteItem::builder().put(put).build();
            client.transact_write_items().transact_items(item).send().await.map(drop)?;
        }
    }
    Ok(())
}

async fn query(store: &Store, used: TableUse<'_>, call: ApiCall) -> Result<(), StoreError> {
    let index = if let ApiCall::QueryIndex(index) = call { Some(index) } else { None };
    let of_index = used.indexes.iter().find(|(name, _)| Some(*name) == index);
    let query = store.client().query().table_name(used.table).limit(1);
    query
        .set_index_name(index.map(str::to_owned))
        .key_condition_expression("#key = :nobody")
        .expression_attribute_names("#key", of_index.map_or_else(|| used.first(), |(_, key)| key))
        .expression_attribute_values(":nobody", AttributeValue::S(NOBODY.to_owned()))
        .send()
        .await?;
    Ok(())
}

impl TableUse<'_> {
    fn first(&self) -> &'static str {
        self.key.first().copied().unwrap_or_default()
    }

    /// The key of an item that nobody has.
    fn nobody(&self) -> HashMap<String, AttributeValue> {
        self.key.iter().map(|part| ((*part).to_owned(), AttributeValue::S(NOBODY.to_owned()))).collect()
    }
}

fn refused(error: aws_sdk_dynamodb::error::BuildError) -> StoreError {
    StoreError::Refused(error.into())
}

const NOBODY: &str = "gatehouse-doctor";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{Engine, FaultPlan, Faults, tables};

    async fn store() -> (Store, Arc<Faults>) {
        let faults = Faults::new(FaultPlan::default());
        let config = crate::config::StoreConfig::default();
        let store = Store::on_faulty(Engine::in_memory().unwrap(), &config, Arc::clone(&faults));
        tables::create(&store).await.unwrap();
        (store, faults)
    }

    async fn missing(store: &Store) -> Vec<(String, ApiCall)> {
        let mut missing = Vec::new();
        for used in uses(store) {
            for (call, outcome) in probe(store, used.table).await {
                match outcome {
                    ProbeOutcome::Permitted => {}
                    ProbeOutcome::Missing(_) => missing.push((used.table.to_owned(), call)),
                    ProbeOutcome::Failed(error) => panic!("{call}: {error:?}"),
                }
            }
        }
        missing
    }

    #[tokio::test]
    async fn each_missing_permission_is_named() {
        let (store, faults) = store().await;
        assert_eq!(missing(&store).await, []);
        for (forbidden, tables) in [
            ("GetItem", &["gatehouse-certificates", "gatehouse-domains"][..]),
            ("BatchGetItem", &["gatehouse-certificates", "gatehouse-domains", "gatehouse-state"]),
            ("Query", &["gatehouse-domains", "gatehouse-domains", "gatehouse-state", "gatehouse-state"]),
            ("PutItem", &["gatehouse-certificates", "gatehouse-state"]),
            ("UpdateItem", &["gatehouse-domains", "gatehouse-state"]),
            ("DeleteItem", &["gatehouse-certificates"]),
            ("TransactWriteItems", &["gatehouse-certificates", "gatehouse-state"]),
            ("DescribeTable", &[]),
        ] {
            faults.forbid(&[forbidden]);
            let missing = missing(&store).await;
            let named: Vec<_> = missing.iter().map(|(table, _)| table.as_str()).collect();
            let wanted: Vec<_> = tables
                .iter()
                .map(|table| table.replace("gatehouse-certificates", &store.tables().certificates))
                .collect();
            assert_eq!(named, wanted, "{forbidden}");
            assert!(missing.iter().all(|(_, call)| call.operation() == forbidden), "{missing:?}");
        }
    }

    #[tokio::test]
    async fn probes_change_nothing() {
        let (store, _) = store().await;
        missing(&store).await;
        for used in uses(&store) {
            let scan = store.client().scan().table_name(used.table).send().await.unwrap();
            assert_eq!(scan.count, 0, "{}", used.table);
        }
    }

    #[tokio::test]
    async fn a_policy_names_actions_tables_and_indexes() {
        let (store, _) = store().await;
        let missing = [
            ("t".to_owned(), ApiCall::TransactWriteItems),
            ("t".to_owned(), ApiCall::PutItem),
            ("u".to_owned(), ApiCall::QueryIndex("feed")),
        ];
        let wanted = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [
                { "Effect": "Allow", "Action": ["dynamodb:PutItem"],
                  "Resource": ["arn:aws:dynamodb:local:*:table/t", "arn:aws:dynamodb:local:*:table/t/index/*"] },
                { "Effect": "Allow", "Action": ["dynamodb:Query"],
                  "Resource": ["arn:aws:dynamodb:local:*:table/u", "arn:aws:dynamodb:local:*:table/u/index/*"] },
            ]
        });
        assert_eq!(policy(&store, &missing), wanted);
    }

    #[test]
    fn a_fleets_instances_may_delete_what_is_deleted_and_no_more() {
        let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/fleet.yaml");
        let template = std::fs::read_to_string(template).unwrap();
        let (_, keys) = template.split_once("dynamodb:LeadingKeys:\n").unwrap();
        let keys: BTreeSet<_> = keys
            .lines()
            .map_while(|line| line.trim().strip_prefix("- "))
            .map(|key| key.trim_matches('"'))
            .collect();
        assert_eq!(keys, BTreeSet::from(DELETED));
    }

    #[tokio::test]
    async fn the_policy_in_the_documentation_allows_what_serving_calls_and_no_more() {
        let (store, _) = store().await;
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");
        let page = std::fs::read_to_string(page).unwrap();
        let (_, policy) = page.split_once("```json\n").unwrap();
        let (policy, _) = policy.split_once("\n```").unwrap();
        let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
        let statements = policy["Statement"].as_array().unwrap().iter();
        let written: BTreeSet<_> = statements
            .map(|statement| (texts(&statement["Action"]), texts(&statement["Resource"])))
            .collect();
        let called: BTreeSet<_> = uses(&store).iter().map(actions_and_resources).collect();
        assert_eq!(written, called);
    }

    /// A list of strings, or one.
    fn texts(value: &serde_json::Value) -> BTreeSet<String> {
        let one = std::slice::from_ref(value);
        let list = value.as_array().map_or(one, Vec::as_slice);
        list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    fn actions_and_resources(used: &TableUse<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
        let table = format!("arn:aws:dynamodb:eu-central-1:111122223333:table/{}", used.table);
        let indexes = used.calls.iter().filter_map(|call| {
            if let ApiCall::QueryIndex(index) = call { Some(format!("{table}/index/{index}")) } else { None }
        });
        let resources = indexes.chain([table.clone()]).collect();
        (used.calls.iter().map(|call| call.action().to_owned()).collect(), resources)
    }
}
