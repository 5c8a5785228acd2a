//! Tokens of the API made, listed and revoked: the same whether an instance does it or the command line itself.
//! Not here: what a token's holder may do (`api`).
//! Invariant: a token is shown once, to who had it made (`no_token_is_shown_but_to_its_maker`).

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::{
    api_token::{ApiToken, Scope, TokenId, TokenName},
    store::{
        Store, StoreError,
        instant::Micros,
        state_table::{self, MOST_KEPT_TOKENS, MOST_TOKENS, TokenReach, TokenRecord, TooManyTokens},
    },
};

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What its operator calls it.
    pub name: TokenName,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// With whose entries.
    pub reach: TokenReach,
    /// After how long it ends; absent, never.
    pub lifetime_seconds: Option<u64>,
}

/// A token that was made.
#[derive(Serialize, Deserialize)]
pub struct IssuedToken {
    /// The token itself. It is kept nowhere, and cannot be shown again.
    pub token: String,
    /// What is kept of it.
    #[serde(flatten)]
    pub record: TokenRecord,
}

/// All tokens there are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenList {
    /// The oldest first; those that ended in the last 30 days among them.
    pub tokens: Vec<TokenRecord>,
}

/// Why no token was made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No such token.
    #[error("there is no token `{0}`; `gatehouse token list` shows those there are")]
    Absent(TokenId),
    /// It could do nothing.
    #[error("scopes: a token without any could do nothing; give one like `domains:read`")]
    NoScope,
    /// There are enough.
    #[error(transparent)]
    TooMany(#[from] TooManyTokens),
    /// No random numbers.
    #[error("no random numbers could be had for a token")]
    Random,
    /// The table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuedToken({})", self.record.id)
    }
}

impl Drop for IssuedToken {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

/// Makes a token at `now` and keeps its hash.
pub async fn create_token(store: &Store, new: NewToken, now: Micros) -> Result<IssuedToken, TokenError> {
    if new.scopes.is_empty() {
        return Err(TokenError::NoScope);
    }
    let kept = state_table::list_tokens(store).await?;
    let valid = kept.iter().filter(|token| token.is_valid(now)).count();
    if valid >= MOST_TOKENS || kept.len() >= MOST_KEPT_TOKENS {
        return Err(TooManyTokens.into());
    }
    let token = ApiToken::generate().map_err(|_| TokenError::Random)?;
    let NewToken { name, scopes, reach, lifetime_seconds } = new;
    let expires_at = lifetime_seconds.map(|seconds| now.more(Duration::from_secs(seconds)));
    // So that what is kept is what is shown.
    let expires_at = expires_at.map(|at| Micros::from_epoch(at.since_epoch()));
    let record =
        TokenRecord { id: token.id(), name, scopes, reach, created_at: now, expires_at, revoked_at: None };
    state_table::put_token(store, &token.hash(), &record).await?;
    Ok(IssuedToken { token: token.reveal().to_owned(), record })
}

/// All there are.
pub async fn tokens(store: &Store) -> Result<TokenList, StoreError> {
    Ok(TokenList { tokens: state_table::list_tokens(store).await? })
}

/// Ends one.
pub async fn revoke_token(store: &Store, id: &TokenId, now: Micros) -> Result<TokenRecord, TokenError> {
    let revoked = state_table::revoke_token(store, id, now).await?;
    revoked.ok_or_else(|| TokenError::Absent(id.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        store::{Engine, tables},
    };

    #[tokio::test]
    async fn no_token_is_shown_but_to_its_maker() {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        let now = Micros::from_epoch(1_000_000);
        let new = NewToken {
            name: "ci".parse().unwrap(),
            scopes: BTreeSet::from([Scope::DomainsRead]),
            reach: TokenReach::AllTenants,
            lifetime_seconds: Some(3),
        };
        let issued = create_token(&store, new.clone(), now).await.unwrap();
        assert_eq!(issued.record.expires_at, Some(Micros::from_epoch(4_000_000)));
        assert!(!format!("{issued:?}").contains(&issued.token));
        let listed = serde_json::to_string(&tokens(&store).await.unwrap()).unwrap();
        assert!(
            listed.contains(&issued.record.id.to_string()) && !listed.contains(&issued.token),
            "{listed}"
        );
        let forever = create_token(&store, NewToken { lifetime_seconds: Some(u64::MAX), ..new.clone() }, now);
        assert_eq!(forever.await.unwrap().record.expires_at, Some(Micros::from_epoch(u64::MAX)));
        let useless = create_token(&store, NewToken { scopes: BTreeSet::new(), ..new }, now).await;
        assert!(matches!(useless, Err(TokenError::NoScope)), "{useless:?}");
        let absent = revoke_token(&store, &"0123456789ab".parse().unwrap(), now).await.unwrap_err();
        let told = "there is no token `0123456789ab`; `gatehouse token list` shows those there are";
        assert_eq!(absent.to_string(), told);
    }
    /// Keeps `count` tokens that end at `expires_at`; the last of them in the order of the table.
    async fn keep(store: &Store, count: usize, expires_at: Option<Micros>) -> TokenId {
        let mut kept = Vec::new();
        for _ in 0..count {
            let token = ApiToken::generate().unwrap();
            let record = TokenRecord {
                id: token.id(),
                name: "ci".parse().unwrap(),
                scopes: BTreeSet::from([Scope::DomainsRead]),
                reach: TokenReach::AllTenants,
                created_at: Micros::from_epoch(1),
                expires_at,
                revoked_at: None,
            };
            state_table::put_token(store, &token.hash(), &record).await.unwrap();
            kept.push((token.hash().to_string(), token.id()));
        }
        kept.into_iter().max_by(|a, b| a.0.cmp(&b.0)).unwrap().1
    }

    #[tokio::test]
    async fn tokens_that_ended_leave_room_for_new_ones_and_each_one_can_be_revoked() {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        let now = Micros::of(crate::clock::wall());
        let new = NewToken {
            name: "ci".parse().unwrap(),
            scopes: BTreeSet::from([Scope::DomainsRead]),
            reach: TokenReach::AllTenants,
            lifetime_seconds: None,
        };
        keep(&store, MOST_TOKENS, Some(now)).await;
        let made = create_token(&store, new.clone(), now).await.unwrap();
        // As two that are made at once do.
        let last = keep(&store, MOST_TOKENS, None).await;
        let refused = create_token(&store, new.clone(), now).await;
        assert!(matches!(refused, Err(TokenError::TooMany(_))), "{refused:?}");
        for id in [&made.record.id, &last] {
            assert_eq!(revoke_token(&store, id, now).await.unwrap().revoked_at, Some(now));
        }
        create_token(&store, new, now).await.unwrap();
    }
}
