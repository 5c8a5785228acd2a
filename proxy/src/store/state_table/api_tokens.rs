//! Tokens of the API: items `token`/`<SHA-256 of the token>`, in one partition, so that a list is a query and no scan.
//! Not here: a token's text (`api_token`), what its holder may do with it (`api`).
//! Invariants: no item holds a secret (`an_item_holds_no_secret`); what cannot be read permits nothing (`what_is_no_token_permits_nothing`);
//! a token that ended stays listed for a while (`a_token_ends_when_it_is_revoked_or_expires`).

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};

use super::item::{find, seconds, text};
use crate::{
    api_token::{Scope, TokenHash, TokenId, TokenName},
    store::{Item, Store, StoreError, instant::Micros, tenant::Tenant},
};

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Which.
    pub id: TokenId,
    /// What its operator calls it.
    pub name: TokenName,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// With whose entries.
    pub reach: TokenReach,
    /// When it was made.
    pub created_at: Micros,
    /// When it ends by itself; absent, never.
    pub expires_at: Option<Micros>,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
}

/// With whose entries a token works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenReach {
    /// One tenant's.
    Tenant(Tenant),
    /// Everybody's.
    AllTenants,
}

/// There are as many tokens as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are {MOST_TOKENS} valid tokens already, or {MOST_KEPT_TOKENS} with those that ended within 30 days; revoke those that nobody uses, or make fewer"
)]
pub struct TooManyTokens;

impl TokenRecord {
    /// Whether it permits anything at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Micros) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }

    /// Whether it may do what `scope` says, its end apart.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    fn read(item: &Item) -> Option<Self> {
        let text = |attribute: &str| item.get(attribute)?.as_s().ok();
        let instant = |attribute: &str| match item.get(attribute) {
            None => Some(None),
            Some(at) => Micros::parse(at.as_s().ok()?).map(Some),
        };
        let scopes = item.get("scopes")?.as_ss().ok()?.iter().take(Scope::ALL.len());
        let is_of_all = item.get("all_tenants").is_some_and(|all| all.as_bool() == Ok(&true));
        let reach = match (text("tenant"), is_of_all) {
            (Some(tenant), false) => TokenReach::Tenant(tenant.parse().ok()?),
            (None, true) => TokenReach::AllTenants,
            // Whose entries it may change has to be said, once.
            (Some(_), true) | (None, false) => return None,
        };
        Some(Self {
            id: text("id")?.parse().ok()?,
            name: text("name")?.parse().ok()?,
            scopes: scopes.map(|scope| scope.parse().ok()).collect::<Option<_>>()?,
            reach,
            created_at: instant("created_at")??,
            expires_at: instant("ends_at")?,
            revoked_at: instant("revoked_at")?,
        })
    }

    fn attributes(&self) -> Vec<(&'static str, AttributeValue)> {
        let text = |text: String| AttributeValue::S(text);
        let scopes = self.scopes.iter().map(ToString::to_string).collect();
        let mut attributes = vec![
            ("id", text(self.id.to_string())),
            ("name", text(self.name.to_string())),
            ("scopes", AttributeValue::Ss(scopes)),
            ("created_at", text(self.created_at.to_string())),
            match &self.reach {
                TokenReach::Tenant(tenant) => ("tenant", text(tenant.to_string())),
                TokenReach::AllTenants => ("all_tenants", AttributeValue::Bool(true)),
            },
        ];
        if let Some(at) = self.expires_at {
            attributes.push(("ends_at", text(at.to_string())));
            attributes.push((EXPIRES, forgotten(at)));
        }
        attributes
    }
}

/// Keeps a new token.
pub async fn put_token(store: &Store, hash: &TokenHash, record: &TokenRecord) -> Result<(), StoreError> {
    let attributes = record.attributes();
    let set: Vec<_> = attributes.iter().map(|(name, _)| format!("#{name} = :{name}")).collect();
    let mut update = store.client().update_item().table_name(&store.tables().state);
    for (name, value) in attributes {
        update = update.expression_attribute_names(format!("#{name}"), name);
        update = update.expression_attribute_values(format!(":{name}"), value);
    }
    let update = update.key("pk", text(PARTITION)).key("sk", AttributeValue::S(hash.to_string()));
    let update = update.update_expression(format!("SET {}", set.join(", ")));
    // The SDK may have written it, lost the answer, and met its own write when it tried again: the hash is this token's alone.
    update.condition_expression("attribute_not_exists(pk) OR #id = :id").send().await?;
    Ok(())
}

/// The token of this hash, whether it still permits anything or not.
pub async fn find_token(store: &Store, hash: &TokenHash) -> Result<Option<TokenRecord>, StoreError> {
    Ok(find(store, PARTITION, &hash.to_string()).await?.as_ref().and_then(TokenRecord::read))
}

/// All tokens, those that ended not long ago among them.
pub async fn list_tokens(store: &Store) -> Result<Vec<TokenRecord>, StoreError> {
    let mut records: Vec<_> = keyed(store).await?.into_iter().map(|(_, record)| record).collect();
    records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(records)
}

/// Ends the token `id`, or says that there is none.
pub async fn revoke_token(
    store: &Store,
    id: &TokenId,
    now: Micros,
) -> Result<Option<TokenRecord>, StoreError> {
    let found = keyed(store).await?.into_iter().find(|(_, record)| record.id == *id);
    let Some((sort, record)) = found else { return Ok(None) };
    if record.revoked_at.is_some() {
        return Ok(Some(record));
    }
    let update = store.client().update_item().table_name(&store.tables().state);
    let update = update
        .key("pk", text(PARTITION))
        .key("sk", sort)
        .update_expression("SET revoked_at = :now, #expires = :expires")
        .condition_expression("attribute_exists(pk)")
        .expression_attribute_names("#expires", EXPIRES)
        .expression_attribute_values(":now", AttributeValue::S(now.to_string()))
        .expression_attribute_values(":expires", forgotten(now));
    match update.send().await.map_err(StoreError::from) {
        Ok(_) => Ok(Some(TokenRecord { revoked_at: Some(now), ..record })),
        // It was forgotten in between.
        Err(StoreError::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn keyed(store: &Store) -> Result<Vec<(AttributeValue, TokenRecord)>, StoreError> {
    let query = store.client().query().table_name(&store.tables().state).consistent_read(true);
    let query =
        query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", text(PARTITION));
    let (mut items, mut found) = (query.into_paginator().items().send(), Vec::new());
    // A few more than there may be: of those that are made at the same moment none sees the others.
    while found.len() < 2 * MOST_KEPT_TOKENS
        && let Some(item) = items.next().await
    {
        let item = item?;
        found.extend(item.get("sk").cloned().zip(TokenRecord::read(&item)));
    }
    Ok(found)
}

const PARTITION: &str = "token";

/// When the table may forget a token that ends then.
fn forgotten(ended: Micros) -> AttributeValue {
    seconds(ended.more(KEPT))
}

/// Valid tokens of a fleet.
pub const MOST_TOKENS: usize = 1000;
/// The same with those that ended not long ago, which a list shows: some megabytes.
pub const MOST_KEPT_TOKENS: usize = 5000;
const EXPIRES: &str = "expires_at";
const KEPT: Duration = Duration::from_hours(30 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api_token::ApiToken, store::fixture::faulty_with_tables};

    async fn store() -> Store {
        faulty_with_tables("seed=3,stale=2s,throttle=10,conflict=10").await
    }

    fn record(token: &ApiToken, reach: TokenReach) -> TokenRecord {
        TokenRecord {
            id: token.id(),
            name: "ci".parse().unwrap(),
            scopes: BTreeSet::from([Scope::DomainsRead, Scope::AuditRead]),
            reach,
            created_at: Micros::from_epoch(1_000_000),
            expires_at: Some(Micros::from_epoch(9_000_000)),
            revoked_at: None,
        }
    }

    #[tokio::test]
    async fn a_token_ends_when_it_is_revoked_or_expires() {
        let (store, token) = (store().await, ApiToken::generate().unwrap());
        let kept = record(&token, TokenReach::Tenant("acme".parse().unwrap()));
        put_token(&store, &token.hash(), &kept).await.unwrap();
        assert_eq!(find_token(&store, &token.hash()).await.unwrap(), Some(kept.clone()));
        assert!(
            kept.is_valid(Micros::from_epoch(8_999_999)) && !kept.is_valid(Micros::from_epoch(9_000_000))
        );
        let at = Micros::from_epoch(2_000_000);
        let ended = TokenRecord { revoked_at: Some(at), ..kept };
        assert_eq!(revoke_token(&store, &token.id(), at).await.unwrap(), Some(ended.clone()));
        assert!(!ended.is_valid(Micros::from_epoch(1_000_000)));
        // A second time it is as it was.
        let later = Micros::from_epoch(3_000_000);
        assert_eq!(revoke_token(&store, &token.id(), later).await.unwrap(), Some(ended.clone()));
        assert_eq!(list_tokens(&store).await.unwrap(), [ended]);
        let nobody = ApiToken::generate().unwrap();
        assert_eq!(revoke_token(&store, &nobody.id(), at).await.unwrap(), None);
        assert_eq!(find_token(&store, &nobody.hash()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_item_holds_no_secret() {
        let (store, token) = (store().await, ApiToken::generate().unwrap());
        let kept = record(&token, TokenReach::AllTenants);
        put_token(&store, &token.hash(), &kept).await.unwrap();
        let scan = store.client().scan().table_name(&store.tables().state).consistent_read(true);
        let items = scan.send().await.unwrap();
        let shown = format!("{:?}", items.items());
        let secret = token.reveal().rsplit('_').next().unwrap();
        assert!(shown.contains(&token.id().to_string()) && !shown.contains(&secret[..16]), "{shown}");
    }

    #[test]
    fn what_is_no_token_permits_nothing() {
        let token = ApiToken::generate().unwrap();
        let whole = |reach| -> Item {
            let attributes = record(&token, reach).attributes().into_iter();
            attributes.map(|(name, value)| (name.to_owned(), value)).collect()
        };
        let acme = || whole(TokenReach::Tenant("acme".parse().unwrap()));
        assert!(TokenRecord::read(&acme()).is_some());
        assert!(TokenRecord::read(&whole(TokenReach::AllTenants)).is_some());
        for lost in ["id", "name", "scopes", "created_at", "tenant"] {
            let mut item = acme();
            item.remove(lost);
            assert_eq!(TokenRecord::read(&item), None, "{lost}");
        }
        let text = |text: &str| AttributeValue::S(text.to_owned());
        for (name, value) in [
            ("all_tenants", AttributeValue::Bool(true)),
            ("tenant", text("a b")),
            ("ends_at", text("never")),
            ("revoked_at", AttributeValue::Bool(false)),
            ("scopes", AttributeValue::Ss(vec!["everything".to_owned()])),
        ] {
            let mut item = acme();
            item.insert(name.to_owned(), value);
            assert_eq!(TokenRecord::read(&item), None, "{name}");
        }
    }
}
