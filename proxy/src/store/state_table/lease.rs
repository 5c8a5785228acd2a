//! One holder at a time in the fleet for a job: `lease#<job>` in the state table.
//! Not here: what is done under a lease, and undoing what a late holder does (the job's own conditional writes must).
//! Invariants: a lease that has not ended has one holder (`of_many_takers_one_gets_the_lease`); nobody but its holder ends it early;
//! each taking raises its fence, so that a late holder can be distinguished from the present one.

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};

use super::item::number;
use crate::{
    clock,
    store::{Store, StoreError, if_held, instant::epoch_millis},
};

/// Who takes leases: one per process start, so that a restarted instance is somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder(String);

/// A lease that was held when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    job: String,
    holder: Holder,
    /// Grows with each taking of this job's lease.
    pub fence: u64,
    /// When it ends unless it is renewed.
    pub until: SystemTime,
}

impl Holder {
    /// A holder that no other process is, by 16 random bytes of the kernel.
    pub fn random() -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes)?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// Who makes one conditional write, and knows it again: the SDK may have written it, lost the answer, and met its own write when it tried again.
    pub(in crate::store) fn of_one_write() -> Result<Self, StoreError> {
        Self::random().map_err(|_| StoreError::Unavailable("no random numbers".into()))
    }

    /// Its name, as tables hold it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Lease {
    /// Takes `job`'s lease for `life` if nobody holds it at `now`; `None` when somebody else does.
    pub async fn take(
        store: &Store,
        job: &str,
        holder: &Holder,
        life: Duration,
        now: SystemTime,
    ) -> Result<Option<Self>, StoreError> {
        let until = now + life;
        let taken = Self::update(store, job, until)
            .update_expression(
                "SET holder = :holder, held_until = :until, expires_at = :expires ADD fence :one",
            )
            .condition_expression("attribute_not_exists(pk) OR held_until <= :now OR holder = :holder")
            .expression_attribute_values(":now", number(epoch_millis(now)))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":holder", AttributeValue::S(holder.0.clone()))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let Some(taken) = if_held(taken)? else { return Ok(None) };
        let fence = taken.attributes.as_ref().and_then(|item| item.get("fence")?.as_n().ok()?.parse().ok());
        let fence = fence.ok_or_else(|| StoreError::Misshapen {
            key: key(job),
            attribute: "fence",
            fault: "is no number".to_owned(),
        })?;
        Ok(Some(Self { job: job.to_owned(), holder: holder.clone(), fence, until }))
    }

    /// Holds it for `life` from `now`; `false` when it was lost.
    pub async fn renew(
        &mut self,
        store: &Store,
        life: Duration,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let until = now + life;
        let renewed = Self::update(store, &self.job, until)
            .update_expression("SET held_until = :until, expires_at = :expires")
            .condition_expression("holder = :holder AND fence = :fence")
            .expression_attribute_values(":holder", AttributeValue::S(self.holder.0.clone()))
            .expression_attribute_values(":fence", number(self.fence))
            .send()
            .await;
        let is_held = if_held(renewed)?.is_some();
        if is_held {
            self.until = until;
        }
        Ok(is_held)
    }

    /// Renews it from now on; whether it is held on. A table that does not answer takes it away only when it has ended.
    pub(crate) async fn hold_on(&mut self, store: &Store, life: Duration) -> bool {
        match self.renew(store, life, clock::wall()).await {
            Ok(is_held) => is_held,
            Err(_) => self.until > clock::wall(),
        }
    }

    /// Ends it now, unless it was lost already. The item stays, and with it the fence.
    pub async fn release(self, store: &Store) -> Result<(), StoreError> {
        let released = store
            .client()
            .update_item()
            .table_name(&store.tables().state)
            .key("pk", AttributeValue::S(key(&self.job)))
            .key("sk", AttributeValue::S("-".to_owned()))
            .update_expression("SET held_until = :ended REMOVE holder")
            .condition_expression("holder = :holder AND fence = :fence")
            .expression_attribute_values(":ended", number(0))
            .expression_attribute_values(":holder", AttributeValue::S(self.holder.0))
            .expression_attribute_values(":fence", number(self.fence))
            .send()
            .await;
        if_held(released).map(drop)
    }

    fn update(
        store: &Store,
        job: &str,
        until: SystemTime,
    ) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        store
            .client()
            .update_item()
            .table_name(&store.tables().state)
            .key("pk", AttributeValue::S(key(job)))
            .key("sk", AttributeValue::S("-".to_owned()))
            .expression_attribute_values(":until", number(epoch_millis(until)))
            .expression_attribute_values(":expires", number(epoch_millis(until + KEPT) / 1000))
    }
}

fn key(job: &str) -> String {
    format!("lease#{job}")
}

/// How long an ended lease, and with it the fence, outlives its end.
const KEPT: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::faulty_with_tables;

    const LIFE: Duration = Duration::from_mins(1);

    async fn store() -> Store {
        faulty_with_tables("seed=5,stale=2s,throttle=10,conflict=10").await
    }

    #[tokio::test]
    async fn of_many_takers_one_gets_the_lease() {
        let (store, now) = (store().await, SystemTime::now());
        let takers: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let holder = Holder::random().unwrap();
                    Lease::take(&store, "order#a.example", &holder, LIFE, now).await.unwrap()
                })
            })
            .collect();
        let mut held = 0;
        for taker in takers {
            held += usize::from(taker.await.unwrap().is_some());
        }
        assert_eq!(held, 1);
    }

    #[tokio::test]
    async fn a_lease_that_ended_goes_to_another_and_the_late_holder_cannot_renew() {
        let (store, now) = (store().await, SystemTime::now());
        let (first, second) = (Holder::random().unwrap(), Holder::random().unwrap());
        let mut late = Lease::take(&store, "job", &first, LIFE, now).await.unwrap().unwrap();
        assert!(late.renew(&store, LIFE, now + LIFE / 2).await.unwrap());
        assert_eq!(Lease::take(&store, "job", &second, LIFE, now + LIFE).await.unwrap(), None);
        let present = Lease::take(&store, "job", &second, LIFE, now + LIFE * 2).await.unwrap().unwrap();
        assert!(present.fence > late.fence);
        assert!(!late.renew(&store, LIFE, now + LIFE * 2).await.unwrap());
        late.release(&store).await.unwrap();
        assert_eq!(Lease::take(&store, "job", &first, LIFE, now + LIFE * 2).await.unwrap(), None);
        present.release(&store).await.unwrap();
        assert!(Lease::take(&store, "job", &first, LIFE, now + LIFE * 2).await.unwrap().is_some());
    }
}
