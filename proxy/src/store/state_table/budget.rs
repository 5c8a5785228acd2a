//! What the fleet may do within a time: `budget#<kind>#<scope>`/`bucket` in the state table, a token bucket that instances draw on without
//! reading it first.
//! Not here: which limits there are (`certificates` knows the CA's).
//! Invariants: instances together never pass a budget (`instances_together_never_pass_a_budget`); what is spent comes back evenly, and
//! a refusal tells when (`what_is_spent_comes_back_evenly`); what is taken and given back counts once
//! (`what_is_taken_and_given_back_counts_once_also_where_the_answer_is_lost`), and has nobody refused meanwhile
//! (`nobody_is_refused_because_another_gives_back_meanwhile`).

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, TransactWriteItem, Update},
};

use super::{
    item::{find, number, text},
    lease::Holder,
};
use crate::store::{Item, Store, StoreError, if_held, instant::epoch_millis};

/// Something the fleet does a limited number of times: `most` at once, and as many again evenly within `per`, as Let's Encrypt counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget<'a> {
    /// Of what: `orders`, `certificates`.
    pub kind: &'a str,
    /// For whom: an account, a registered domain.
    pub scope: &'a str,
    /// How many there are at most.
    pub most: u64,
    /// Within what time a budget that is spent is full again.
    pub per: Duration,
    /// How many of them are left to others.
    pub reserve: u64,
}

/// The outcome of taking from a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// It was taken.
    Grant,
    /// There is not enough before this.
    Until(SystemTime),
}

impl Budget<'_> {
    /// Takes `count` out of the budget.
    pub async fn spend(&self, store: &Store, count: u64, now: SystemTime) -> Result<Spend, StoreError> {
        let now_millis = epoch_millis(now);
        let Some(latest) = self.latest(count, now_millis) else { return Ok(Spend::Until(now + self.per)) };
        let holder = Holder::of_one_write()?;
        for _ in 0..TRIES {
            if self.take(store, count, &holder, (now_millis, latest)).await? {
                return Ok(Spend::Grant);
            }
            let there = self.find(store).await?;
            if there
                .as_ref()
                .and_then(|item| item.get(SPENT_BY)?.as_s().ok())
                .is_some_and(|by| by == holder.as_str())
            {
                return Ok(Spend::Grant);
            }
            let full_at = self.full_at(there.as_ref(), now_millis);
            if full_at > latest {
                return Ok(Spend::Until(now + Duration::from_millis((full_at - latest).max(self.millis(1)))));
            }
            // Some of it was given back between the two writes, so that neither held.
        }
        Ok(Spend::Until(now + Duration::from_millis(self.millis(1))))
    }

    /// Whether it was taken: by one write where the budget is full, and by another where it is not.
    async fn take(
        &self,
        store: &Store,
        count: u64,
        holder: &Holder,
        (now_millis, latest): (u64, u64),
    ) -> Result<bool, StoreError> {
        let cost = self.millis(count);
        // Most budgets are full: nothing was taken for a while. A date that no draw can lead to was written with a wrong clock.
        let idle = self
            .update(store, holder, now_millis)
            .update_expression("SET full_at = :next, expires_at = :expires, spent_by = :holder");
        let idle = idle
            .condition_expression(
                "(attribute_not_exists(full_at) OR full_at <= :now OR full_at > :longest OR NOT attribute_type(full_at, :number)) \
                 AND (attribute_not_exists(spent_by) OR spent_by <> :holder)",
            )
            .expression_attribute_values(":now", number(now_millis))
            .expression_attribute_values(":longest", number(self.longest(now_millis)))
            .expression_attribute_values(":number", AttributeValue::S("N".to_owned()))
            .expression_attribute_values(":next", number(now_millis.saturating_add(cost)));
        if is_written(idle).await? {
            return Ok(true);
        }
        let busy = self.update(store, holder, now_millis);
        let busy = busy
            .update_expression("SET full_at = full_at + :cost, expires_at = :expires, spent_by = :holder")
            .condition_expression(
                "full_at > :now AND full_at <= :latest AND (attribute_not_exists(spent_by) OR spent_by <> :holder)",
            )
            .expression_attribute_values(":now", number(now_millis))
            .expression_attribute_values(":latest", number(latest))
            .expression_attribute_values(":cost", number(cost));
        is_written(busy).await
    }

    /// Returns `count` that were taken and not needed.
    pub async fn give_back(&self, store: &Store, count: u64, now: SystemTime) -> Result<(), StoreError> {
        let update = Update::builder()
            .table_name(&store.tables().state)
            .set_key(Some(self.item_key()))
            .update_expression("SET full_at = full_at - :cost, expires_at = :expires")
            .condition_expression("attribute_type(full_at, :number)")
            .expression_attribute_values(":number", AttributeValue::S("N".to_owned()))
            .expression_attribute_values(":cost", number(self.millis(count)))
            .expression_attribute_values(":expires", number(self.expires_at(epoch_millis(now))));
        let update = update.build().map_err(|error| StoreError::Refused(error.into()))?;
        // "TransactWriteItems", `ClientRequestToken`: the SDK sends one, so what it sends again because the answer was lost credits once.
        let transaction = store.client().transact_write_items();
        let transaction = transaction.transact_items(TransactWriteItem::builder().update(update).build());
        if_held(transaction.send().await).map(drop)
    }

    /// How many are left, those that are kept for others apart.
    pub async fn left(&self, store: &Store, now: SystemTime) -> Result<u64, StoreError> {
        let now = epoch_millis(now);
        let spent_millis = self.full_at(self.find(store).await?.as_ref(), now).saturating_sub(now);
        let spent = spent_millis.div_ceil(self.millis(1));
        Ok(self.most.saturating_sub(self.reserve).saturating_sub(spent))
    }

    async fn find(&self, store: &Store) -> Result<Option<Item>, StoreError> {
        find(store, &self.key(), SORT).await
    }

    /// The date at which it is full by itself, at least `now`.
    fn full_at(&self, item: Option<&Item>, now: u64) -> u64 {
        let full_at = item.and_then(|item| item.get("full_at")?.as_n().ok()?.parse::<u64>().ok());
        full_at.filter(|at| *at <= self.longest(now)).unwrap_or(now).max(now)
    }

    /// What [`Budget::spend`] does, on a number in memory in place of the table's.
    #[cfg(test)]
    pub(crate) fn spend_in_memory(&self, full_at: &mut u64, count: u64, now: SystemTime) -> Spend {
        let now_millis = epoch_millis(now);
        let Some(latest) = self.latest(count, now_millis) else { return Spend::Until(now + self.per) };
        let from = Some(*full_at)
            .filter(|at| *at <= self.longest(now_millis))
            .map_or(now_millis, |at| at.max(now_millis));
        if from > latest {
            return Spend::Until(now + Duration::from_millis((from - latest).max(self.millis(1))));
        }
        *full_at = from + self.millis(count);
        Spend::Grant
    }

    /// What it may be full at for `count` to be left beside the reserve; none if it never has as many.
    fn latest(&self, count: u64, now: u64) -> Option<u64> {
        let spare = self.most.checked_sub(self.reserve)?.checked_sub(count)?;
        Some(now.saturating_add(self.millis(spare)))
    }

    /// The latest date that draws can lead to, if clocks differ by less than the skew.
    fn longest(&self, now: u64) -> u64 {
        now.saturating_add(self.millis(self.most)).saturating_add(millis(SKEW))
    }

    /// How long `count` take to come back.
    fn millis(&self, count: u64) -> u64 {
        let one = millis(self.per).checked_div(self.most).unwrap_or(u64::MAX).max(1);
        one.saturating_mul(count)
    }

    /// By `holder`, which takes nothing twice.
    fn update(&self, store: &Store, holder: &Holder, now: u64) -> UpdateItemFluentBuilder {
        store
            .client()
            .update_item()
            .table_name(&store.tables().state)
            .set_key(Some(self.item_key()))
            .expression_attribute_values(":expires", number(self.expires_at(now)))
            .expression_attribute_values(":holder", text(holder.as_str()))
    }

    fn item_key(&self) -> Item {
        Item::from([("pk".to_owned(), text(&self.key())), ("sk".to_owned(), text(SORT))])
    }

    /// In seconds.
    fn expires_at(&self, now: u64) -> u64 {
        now.saturating_add(millis(self.per)).saturating_add(millis(KEPT)) / 1000
    }

    fn key(&self) -> String {
        format!("budget#{}#{}", self.kind, self.scope)
    }
}

/// Whether the condition held.
async fn is_written(update: UpdateItemFluentBuilder) -> Result<bool, StoreError> {
    if_held(update.send().await).map(|held| held.is_some())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const SORT: &str = "bucket";
/// Who took from it last.
const SPENT_BY: &str = "spent_by";
/// How often it is tried to take from a budget that others give back to meanwhile: one try in four may find it idle and busy the wrong way round
/// where all do nothing else.
const TRIES: usize = 64;
const SKEW: Duration = Duration::from_mins(10);
/// How long the item of a full budget is kept: clocks differ.
const KEPT: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{faulty_with_tables, lossy_with_tables};

    const HOUR: Duration = Duration::from_hours(1);

    fn budget(scope: &str, most: u64) -> Budget<'_> {
        Budget { kind: "orders", scope, most, per: HOUR, reserve: 0 }
    }

    #[tokio::test]
    async fn instances_together_never_pass_a_budget() {
        let store = faulty_with_tables("seed=9,stale=2s").await;
        let (budget, now) = (budget("account", 5), SystemTime::now());
        let spenders: Vec<_> = (0..12)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { budget.spend(&store, 1, now).await.unwrap() })
            })
            .collect();
        let mut granted = 0;
        for spender in spenders {
            granted += u64::from(spender.await.unwrap() == Spend::Grant);
        }
        assert_eq!(granted, 5);
        assert_eq!(budget.left(&store, now).await.unwrap(), 0);
    }

    /// What one returns another takes, whichever of its writes that comes between.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_refused_because_another_gives_back_meanwhile() {
        let store = faulty_with_tables("seed=9").await;
        let (budget, now) = (budget("account", 3), SystemTime::now());
        let spenders: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..100 {
                        assert_eq!(budget.spend(&store, 1, now).await.unwrap(), Spend::Grant);
                        budget.give_back(&store, 1, now).await.unwrap();
                    }
                })
            })
            .collect();
        for spender in spenders {
            spender.await.unwrap();
        }
        assert_eq!(budget.left(&store, now).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_is_spent_comes_back_evenly() {
        let store = faulty_with_tables("seed=9,stale=2s,throttle=10").await;
        let (budget, now) = (budget("account", 6), SystemTime::UNIX_EPOCH + HOUR * 500_000);
        let (ten, mut in_memory) = (HOUR / 6, 0);
        for (at, count, expected) in [
            (now, 6, Spend::Grant),
            (now, 1, Spend::Until(now + ten)),
            (now, 3, Spend::Until(now + ten * 3)),
            (now, 7, Spend::Until(now + HOUR)),
            (now + ten, 1, Spend::Grant),
            (now + ten, 1, Spend::Until(now + ten * 2)),
            (now + ten * 3, 2, Spend::Grant),
            (now + HOUR * 3, 6, Spend::Grant),
        ] {
            assert_eq!(budget.spend(&store, count, at).await.unwrap(), expected, "{count} at {at:?}");
            assert_eq!(budget.spend_in_memory(&mut in_memory, count, at), expected, "{count} at {at:?}");
        }
        budget.give_back(&store, 2, now + HOUR * 3).await.unwrap();
        assert_eq!(budget.left(&store, now + HOUR * 3).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn what_is_taken_and_given_back_counts_once_also_where_the_answer_is_lost() {
        let (store, lossy) = lossy_with_tables("seed=4,lost=300").await;
        let (budget, now) = (budget("account", 100), SystemTime::now());
        let (mut known, mut unknown) = (0, 0);
        for _ in 0..60 {
            match budget.spend(&lossy, 1, now).await {
                Ok(spend) => known += u64::from(spend == Spend::Grant),
                Err(_) => unknown += 1,
            }
        }
        let taken = 100 - budget.left(&store, now).await.unwrap();
        assert!((known..=known + unknown).contains(&taken) && known > 40, "{taken}: {known}, {unknown}");
        let (mut known, mut unknown) = (0, 0);
        for _ in 0..20 {
            match budget.give_back(&lossy, 1, now).await {
                Ok(()) => known += 1,
                Err(_) => unknown += 1,
            }
        }
        let given = taken - (100 - budget.left(&store, now).await.unwrap());
        assert!((known..=known + unknown).contains(&given) && known > 10, "{given}: {known}, {unknown}");
    }

    #[tokio::test]
    async fn a_reserve_is_left_to_others_and_a_wrong_date_holds_nobody_up() {
        let (store, now) = (faulty_with_tables("seed=9").await, SystemTime::now());
        let all = budget("account", 6);
        let some = Budget { reserve: 4, ..all };
        assert_eq!(some.spend(&store, 3, now).await.unwrap(), Spend::Until(now + HOUR));
        assert_eq!(some.spend(&store, 2, now).await.unwrap(), Spend::Grant);
        assert!(matches!(some.spend(&store, 1, now).await.unwrap(), Spend::Until(_)));
        assert_eq!(all.spend(&store, 4, now).await.unwrap(), Spend::Grant);
        assert!(matches!(budget("none", 0).spend(&store, 1, now).await.unwrap(), Spend::Until(_)));
        for full_at in [number(epoch_millis(now + HOUR * 9_000)), AttributeValue::S("soon".to_owned())] {
            let put = store.client().put_item().table_name(&store.tables().state);
            let put =
                put.item("pk", AttributeValue::S(all.key())).item("sk", AttributeValue::S(SORT.to_owned()));
            put.item("full_at", full_at).send().await.unwrap();
            assert_eq!(all.left(&store, now).await.unwrap(), 6);
            assert_eq!(all.spend(&store, 1, now).await.unwrap(), Spend::Grant);
        }
    }
}
