//! Requests that are made once however often they are sent: items `idempotency#<token's SHA-256>`/`<key>`, with what a request was, who carries it
//! out, and what it was answered.
//! Not here: which requests these are, and what two that differ are answered (`api`).
//! Invariants: of many that send the same at once one carries it out (`of_many_that_send_the_same_one_carries_it_out`); an answer that was
//! kept is never replaced, and forgotten after a day (`an_answer_is_kept_for_a_day`); what cannot be read is no answer
//! (`no_item_panics`).

use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::{
    operation::update_item::builders::UpdateItemFluentBuilder, primitives::Blob, types::AttributeValue,
};

use super::{
    item::{find, number, text},
    lease::Holder,
};
use crate::{
    api_token::TokenHash,
    store::{Item, Store, StoreError, if_held, instant::epoch_millis},
};

/// The key of a request, which is its token's alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose.
    pub token: TokenHash,
    /// As its sender chose it.
    pub key: String,
}

/// What a request was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Fields of its header section.
    pub fields: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What becomes of a request with a key.
#[derive(Debug)]
pub enum Claimed {
    /// It is carried out by who claimed it.
    New(RequestClaim),
    /// Somebody else carries it out.
    Running,
    /// The key was of another request.
    Other,
    /// It was answered.
    Answered(KeptAnswer),
}

/// The right to carry a request out, until it is answered.
#[derive(Debug)]
pub struct RequestClaim {
    of: RequestKey,
    holder: Holder,
}

/// Claims the request `of` for `life` from `now`; `fingerprint` is the same for requests that are the same.
pub async fn claim_request(
    store: &Store,
    of: &RequestKey,
    fingerprint: &str,
    life: Duration,
    now: SystemTime,
) -> Result<Claimed, StoreError> {
    let holder = Holder::of_one_write()?;
    let claim = update(store, of)
        .update_expression(
            "SET fingerprint = :fingerprint, holder = :holder, held_until = :until, expires_at = :expires \
             REMOVE answer_status, answer_fields, answer_body",
        )
        .condition_expression(
            "attribute_not_exists(pk) OR expires_at <= :now OR holder = :holder \
             OR (fingerprint = :fingerprint AND attribute_not_exists(answer_status) AND held_until <= :now_millis)",
        )
        .expression_attribute_values(":fingerprint", text(fingerprint))
        .expression_attribute_values(":holder", text(holder.as_str()))
        .expression_attribute_values(":until", number(epoch_millis(now + life)))
        .expression_attribute_values(":expires", number(epoch_millis(now + KEPT) / 1000))
        .expression_attribute_values(":now", number(epoch_millis(now) / 1000))
        .expression_attribute_values(":now_millis", number(epoch_millis(now)));
    Ok(match if_held(claim.send().await)? {
        Some(_) => Claimed::New(RequestClaim { of: of.clone(), holder }),
        None => found(find(store, &partition(of), &of.key).await?.as_ref(), fingerprint),
    })
}

impl RequestClaim {
    /// Keeps what the request was answered.
    pub async fn keep(self, store: &Store, answer: KeptAnswer) -> Result<(), StoreError> {
        let fields =
            serde_json::to_string(&answer.fields).map_err(|error| StoreError::Refused(error.into()))?;
        let keep = update(store, &self.of)
            .update_expression("SET answer_status = :status, answer_fields = :fields, answer_body = :body")
            .condition_expression("holder = :holder")
            .expression_attribute_values(":status", number(answer.status.into()))
            .expression_attribute_values(":fields", text(&fields))
            .expression_attribute_values(":body", AttributeValue::B(Blob::new(answer.body)))
            .expression_attribute_values(":holder", text(self.holder.as_str()));
        done(keep).await
    }

    /// Leaves the request to who sends it next.
    pub async fn release(self, store: &Store) -> Result<(), StoreError> {
        let release = update(store, &self.of)
            .update_expression("SET held_until = :ended")
            .condition_expression("holder = :holder")
            .expression_attribute_values(":ended", number(0))
            .expression_attribute_values(":holder", text(self.holder.as_str()));
        done(release).await
    }
}

/// A claim that was lost to somebody else is theirs.
async fn done(update: UpdateItemFluentBuilder) -> Result<(), StoreError> {
    if_held(update.send().await).map(drop)
}

/// What an item says that is not ours. One that has gone in between is somebody's who is not done yet, as far as anybody knows.
fn found(item: Option<&Item>, fingerprint: &str) -> Claimed {
    let Some(item) = item else { return Claimed::Running };
    let is_same =
        item.get("fingerprint").and_then(|found| found.as_s().ok()).is_some_and(|found| found == fingerprint);
    if !is_same {
        return Claimed::Other;
    }
    KeptAnswer::read(item).map_or(Claimed::Running, Claimed::Answered)
}

impl KeptAnswer {
    fn read(item: &Item) -> Option<Self> {
        Some(Self {
            status: item.get("answer_status")?.as_n().ok()?.parse().ok()?,
            fields: serde_json::from_str(item.get("answer_fields")?.as_s().ok()?).ok()?,
            body: item.get("answer_body")?.as_b().ok()?.clone().into_inner(),
        })
    }
}

fn update(store: &Store, of: &RequestKey) -> UpdateItemFluentBuilder {
    let update = store.client().update_item().table_name(&store.tables().state);
    update.key("pk", text(&partition(of))).key("sk", text(&of.key))
}

fn partition(of: &RequestKey) -> String {
    format!("idempotency#{}", of.token)
}

/// How long a key stands for its request.
const KEPT: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api_token::ApiToken,
        store::fixture::{faulty_with_tables, item},
    };

    const LIFE: Duration = Duration::from_secs(30);

    fn key() -> RequestKey {
        RequestKey { token: ApiToken::generate().unwrap().hash(), key: "one".into() }
    }

    fn answer() -> KeptAnswer {
        KeptAnswer { status: 201, fields: vec![("etag".into(), "\"1\"".into())], body: b"{}".to_vec() }
    }

    #[tokio::test]
    async fn of_many_that_send_the_same_one_carries_it_out() {
        let store = faulty_with_tables("seed=3,stale=2s,throttle=10,conflict=10").await;
        let (of, now) = (key(), SystemTime::now());
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, of) = (store.clone(), of.clone());
            senders.spawn(async move { claim_request(&store, &of, "same", LIFE, now).await.unwrap() });
        }
        let (mut new, mut running) = (Vec::new(), 0);
        for claimed in senders.join_all().await {
            match claimed {
                Claimed::New(claim) => new.push(claim),
                Claimed::Running => running += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((new.len(), running), (1, 7));
        new.pop().unwrap().keep(&store, answer()).await.unwrap();
        let claimed = claim_request(&store, &of, "same", LIFE, now).await.unwrap();
        assert!(matches!(&claimed, Claimed::Answered(kept) if *kept == answer()), "{claimed:?}");
        let claimed = claim_request(&store, &of, "other", LIFE, now).await.unwrap();
        assert!(matches!(claimed, Claimed::Other), "{claimed:?}");
        let elsewhere = RequestKey { token: key().token, ..of };
        let claimed = claim_request(&store, &elsewhere, "other", LIFE, now).await.unwrap();
        assert!(matches!(claimed, Claimed::New(_)), "{claimed:?}");
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_day() {
        let store = faulty_with_tables("seed=7,stale=2s,throttle=10,conflict=10").await;
        let (of, now) = (key(), SystemTime::now());
        let new =
            async |fingerprint: &str, now| match claim_request(&store, &of, fingerprint, LIFE, now).await {
                Ok(Claimed::New(claim)) => claim,
                other => panic!("{other:?}"),
            };
        new("same", now).await.release(&store).await.unwrap();
        let late = new("same", now).await;
        // Who carried it out is gone: the next one may, and the late one changes nothing.
        let second = new("same", now + LIFE).await;
        late.keep(&store, KeptAnswer { status: 500, ..answer() }).await.unwrap();
        second.keep(&store, answer()).await.unwrap();
        let claimed = claim_request(&store, &of, "same", LIFE, now + LIFE * 9).await.unwrap();
        assert!(matches!(&claimed, Claimed::Answered(kept) if *kept == answer()), "{claimed:?}");
        let _ = new("other", now + LIFE + KEPT + Duration::from_secs(1)).await;
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn no_item_panics(input in proptest::collection::vec(any::<u8>(), 0..200)) {
                let _ = found(Some(&item(&input)), "same");
            }
        }
    }
}
