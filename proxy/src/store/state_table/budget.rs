//! What the fleet may do per hour: `budget#<kind>#<scope>`/`<hour>` in the state table, each a counter that never passes its limit.
//! Not here: which limits there are (`certificates` knows the CA's).

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::store::{Store, StoreError, instant::epoch_millis};

/// Something the fleet does a limited number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget<'a> {
    /// Of what: `orders`, `certificates`.
    pub kind: &'a str,
    /// For whom: an account, a registered domain.
    pub scope: &'a str,
    /// How often within an hour of the clock.
    pub per_hour: u64,
}

/// The outcome of taking from a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// One was taken.
    Grant,
    /// The hour's budget is spent.
    Exhausted,
}

impl Budget<'_> {
    /// Takes one out of the budget of the hour of `now`.
    pub async fn spend(&self, store: &Store, now: SystemTime) -> Result<Spend, StoreError> {
        let hour = hour_of(now);
        let expires = hour.saturating_mul(HOUR.as_secs()) + KEPT.as_secs();
        let spent = store
            .client()
            .update_item()
            .table_name(&store.tables().state)
            .key("pk", AttributeValue::S(self.key()))
            .key("sk", AttributeValue::S(hour_text(hour)))
            .update_expression("ADD spent :one SET expires_at = :expires")
            .condition_expression(":limit > :none AND (attribute_not_exists(spent) OR spent < :limit)")
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":limit", number(self.per_hour))
            .expression_attribute_values(":expires", number(expires))
            .send()
            .await;
        match spent.map_err(StoreError::from) {
            Ok(_) => Ok(Spend::Grant),
            Err(StoreError::Conflict) => Ok(Spend::Exhausted),
            Err(error) => Err(error),
        }
    }

    /// What was spent in the `hours` up to and including that of `now`: for limits over days.
    pub async fn spent_within(&self, store: &Store, hours: u64, now: SystemTime) -> Result<u64, StoreError> {
        let last = hour_of(now);
        let first = last.saturating_sub(hours.saturating_sub(1));
        let mut pages = store
            .client()
            .query()
            .table_name(&store.tables().state)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", AttributeValue::S(self.key()))
            .expression_attribute_values(":first", AttributeValue::S(hour_text(first)))
            .expression_attribute_values(":last", AttributeValue::S(hour_text(last)))
            .into_paginator()
            .items()
            .send();
        let mut sum = 0_u64;
        while let Some(item) = pages.next().await {
            let spent = item?.get("spent").and_then(|n| n.as_n().ok()?.parse::<u64>().ok());
            sum = sum.saturating_add(spent.unwrap_or_default());
        }
        Ok(sum)
    }

    fn key(&self) -> String {
        format!("budget#{}#{}", self.kind, self.scope)
    }
}

fn hour_of(now: SystemTime) -> u64 {
    epoch_millis(now) / 1000 / HOUR.as_secs()
}

/// Ten digits, so that hours sort as text.
fn hour_text(hour: u64) -> String {
    format!("{hour:010}")
}

fn number(n: u64) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

const HOUR: Duration = Duration::from_hours(1);
/// The longest limit a CA counts is over seven days.
const KEPT: Duration = Duration::from_hours(8 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::faulty_with_tables;

    #[tokio::test]
    async fn instances_together_never_pass_an_hours_budget() {
        let store = faulty_with_tables("seed=9,stale=2s,conflict=10").await;
        let budget = Budget { kind: "orders", scope: "account", per_hour: 5 };
        let now = SystemTime::now();
        let spenders: Vec<_> = (0..12)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { budget.spend(&store, now).await.unwrap() })
            })
            .collect();
        let mut granted = 0;
        for spender in spenders {
            granted += u64::from(spender.await.unwrap() == Spend::Grant);
        }
        assert_eq!(granted, 5);
        assert_eq!(budget.spend(&store, now + HOUR).await.unwrap(), Spend::Grant);
        for (hours, spent) in [(1, 1), (2, 6), (168, 6)] {
            assert_eq!(budget.spent_within(&store, hours, now + HOUR).await.unwrap(), spent, "{hours} h");
        }
        let none = Budget { per_hour: 0, scope: "other", ..budget };
        assert_eq!(none.spend(&store, now).await.unwrap(), Spend::Exhausted);
    }
}
