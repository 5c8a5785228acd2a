//! DynamoDB: the actions of a batch and of a transaction are those of its parts ("Using IAM with DynamoDB transactions").

use serde_json::Value;

use crate::{ACCOUNT, Call};

pub(super) fn calls(operation: &str, body: &Value, region: &str) -> Option<Vec<Call>> {
    let call = |action: &str, resource: &str| {
        Call::new(
            format!("dynamodb:{action}"),
            format!("arn:aws:dynamodb:{region}:{ACCOUNT}:table/{resource}"),
        )
    };
    let table = |part: &Value| part.get("TableName")?.as_str().map(str::to_owned);
    match operation {
        "BatchGetItem" => {
            let tables = body.get("RequestItems")?.as_object()?.keys();
            Some(tables.map(|table| call(operation, table)).collect())
        }
        "TransactWriteItems" => {
            let parts = body.get("TransactItems")?.as_array()?;
            let writes = parts.iter().map(|part| part.as_object()?.iter().next());
            writes
                .map(|write| {
                    let (kind, write) = write?;
                    let action = match kind.as_str() {
                        "ConditionCheck" => "ConditionCheckItem",
                        "Delete" => "DeleteItem",
                        "Put" => "PutItem",
                        "Update" => "UpdateItem",
                        _ => return None,
                    };
                    Some(with_key(call(action, &table(write)?), write))
                })
                .collect()
        }
        "DeleteItem" | "PutItem" | "UpdateItem" => Some(vec![with_key(call(operation, &table(body)?), body)]),
        // Of the keys that are read, none is told: no policy of ours binds reads, and one that did would find the key missing.
        "GetItem" | "Query" | "Scan" => {
            let resource = match body.get("IndexName") {
                Some(index) => format!("{}/index/{}", table(body)?, index.as_str()?),
                None => table(body)?,
            };
            Some(vec![call(operation, &resource)])
        }
        "CreateTable" | "DeleteTable" | "DescribeTable" | "DescribeTimeToLive" | "UpdateTable"
        | "UpdateTimeToLive" => Some(vec![call(operation, &table(body)?)]),
        _ => None,
    }
}

/// With the partition key of the item that is written, whose attribute has another name in each table.
fn with_key(call: Call, write: &Value) -> Call {
    let attributes = write.get("Key").or_else(|| write.get("Item"));
    let key =
        ["PrimaryKey", "pk", "domain"].iter().find_map(|name| attributes?.get(name)?.get("S")?.as_str());
    match key {
        Some(key) => call.with("dynamodb:LeadingKeys", [key]),
        None => call,
    }
}
