//! What the fleet does not ask for a while: `issuer#<issuer>`/`pause` in the state table.
//! Not here: how long a pause is and what causes one (`certificates`).
//! Invariants: of all that find a pause ended, one tries (`one_of_many_tries_after_a_pause`); failures at one moment count once
//! (`failures_at_once_count_once`).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::{operation::update_item::builders::UpdateItemFluentBuilder, types::AttributeValue};

use super::{item::find, lease::Holder};
use crate::store::{
    Store, StoreError, if_held,
    instant::{Micros, epoch_millis},
};

/// A pause as it was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Failures in a row.
    pub failures: u32,
    /// Until when nobody tries.
    pub until: SystemTime,
    /// Why the last one failed.
    pub problem: String,
}

impl Pause {
    /// The pause of `subject`; one whose date cannot be read has ended.
    pub async fn find(store: &Store, subject: &str) -> Result<Option<Self>, StoreError> {
        let item = find(store, &partition(subject), SORT).await?;
        Ok(item.filter(|item| item.get("until") != Some(&ended())).as_ref().map(Self::read))
    }

    fn read(item: &HashMap<String, AttributeValue>) -> Self {
        let text = |attribute: &str| item.get(attribute).and_then(|value| value.as_s().ok());
        let until = text("until").and_then(|text| Micros::parse(text));
        let failures = item.get("failures").and_then(|value| value.as_n().ok()?.parse().ok());
        Self {
            failures: failures.unwrap_or_default(),
            until: until.map_or(SystemTime::UNIX_EPOCH, Micros::at),
            problem: text("problem").cloned().unwrap_or_default(),
        }
    }

    /// Writes this pause of `subject` in the place of `before`, as it was found or written; whether it was still that.
    pub async fn begin(
        &self,
        store: &Store,
        subject: &str,
        before: Option<&Self>,
    ) -> Result<bool, StoreError> {
        let holder = Holder::of_one_write()?;
        let update = self.update(store, subject, &holder);
        let update = match before {
            None => update
                .condition_expression("attribute_not_exists(pk) OR #until = :before OR written_by = :holder")
                .expression_attribute_values(":before", ended()),
            // A date that cannot be read pauses nothing.
            Some(before) if before.until == SystemTime::UNIX_EPOCH => update,
            Some(before) => update
                .condition_expression("#until = :before OR written_by = :holder")
                .expression_attribute_values(":before", instant(before.until)),
        };
        if_held(update.send().await).map(|held| held.is_some())
    }

    /// Ends whatever pause `subject` has.
    pub async fn end(store: &Store, subject: &str) -> Result<(), StoreError> {
        let none = Self { failures: 0, until: SystemTime::UNIX_EPOCH, problem: String::new() };
        none.update(store, subject, &Holder::of_one_write()?).send().await?;
        Ok(())
    }

    fn update(&self, store: &Store, subject: &str, holder: &Holder) -> UpdateItemFluentBuilder {
        let expires = epoch_millis(self.until + KEPT) / 1000;
        store
            .client()
            .update_item()
            .table_name(&store.tables().state)
            .key("pk", AttributeValue::S(partition(subject)))
            .key("sk", AttributeValue::S(SORT.to_owned()))
            .update_expression(
                "SET failures = :failures, #until = :until, problem = :problem, expires_at = :expires, written_by = :holder",
            )
            .expression_attribute_values(":holder", AttributeValue::S(holder.as_str().to_owned()))
            .expression_attribute_names("#until", "until")
            .expression_attribute_values(":failures", AttributeValue::N(self.failures.to_string()))
            .expression_attribute_values(":until", instant(self.until))
            .expression_attribute_values(":problem", AttributeValue::S(self.problem.clone()))
            .expression_attribute_values(":expires", AttributeValue::N(expires.to_string()))
    }
}

/// The date of a pause that was ended.
fn ended() -> AttributeValue {
    instant(SystemTime::UNIX_EPOCH)
}

fn instant(at: SystemTime) -> AttributeValue {
    AttributeValue::S(Micros::of(at).to_string())
}

fn partition(subject: &str) -> String {
    format!("issuer#{subject}")
}

const SORT: &str = "pause";
/// How long the number of failures outlives the pause.
const KEPT: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{faulty_with_tables, lossy_with_tables};

    async fn store() -> Store {
        faulty_with_tables("seed=11,stale=2s,throttle=10,conflict=10").await
    }

    fn pause(failures: u32, seconds: u64) -> Pause {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000 + seconds);
        Pause { failures, until, problem: "why".to_owned() }
    }

    #[tokio::test]
    async fn failures_at_once_count_once() {
        let store = store().await;
        assert_eq!(Pause::find(&store, "ca").await.unwrap(), None);
        let first = pause(1, 5);
        assert!(first.begin(&store, "ca", None).await.unwrap());
        assert!(!pause(1, 6).begin(&store, "ca", None).await.unwrap());
        assert_eq!(Pause::find(&store, "ca").await.unwrap(), Some(first));
        Pause::end(&store, "ca").await.unwrap();
        assert_eq!(Pause::find(&store, "ca").await.unwrap(), None);
        assert!(pause(1, 7).begin(&store, "ca", None).await.unwrap(), "an ended one is none");
    }

    #[tokio::test]
    async fn one_of_many_tries_after_a_pause() {
        let store = store().await;
        let ended = pause(3, 0);
        ended.begin(&store, "ca", None).await.unwrap();
        let mut tries = 0;
        for n in 1..=8 {
            tries += u32::from(pause(3, n).begin(&store, "ca", Some(&ended)).await.unwrap());
        }
        assert_eq!(tries, 1);
    }

    #[tokio::test]
    async fn who_tries_knows_it_also_where_the_answer_is_lost() {
        let (_, lossy) = lossy_with_tables("seed=4,lost=300").await;
        let mut before = None;
        for n in 1..=20 {
            let pause = pause(3, n);
            assert!(pause.begin(&lossy, "ca", before.as_ref()).await.unwrap(), "{n}");
            before = Some(pause);
        }
    }

    #[tokio::test]
    async fn a_pause_whose_date_cannot_be_read_has_ended_and_can_be_replaced() {
        let store = store().await;
        let put = store.client().put_item().table_name(&store.tables().state);
        let put =
            put.item("pk", AttributeValue::S(partition("ca"))).item("sk", AttributeValue::S(SORT.to_owned()));
        put.item("until", AttributeValue::Bool(true)).send().await.unwrap();
        let broken = Pause::find(&store, "ca").await.unwrap().unwrap();
        assert_eq!(broken.until, SystemTime::UNIX_EPOCH);
        assert!(pause(1, 1).begin(&store, "ca", Some(&broken)).await.unwrap());
    }
}
