//! Pending challenges, as Caddy stores them: any instance, and Caddy too, can answer the CA.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{
    contents::{ItemContents, Version},
    item::{self, CONTENTS, UPDATED},
    keys::IssuerKey,
};
use crate::{
    name::ServerName,
    store::{Store, StoreError, if_held},
};

/// A challenge of an authorization (RFC 8555 §7.1.5) with its answer, members in Caddy's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// `http-01`, `tls-alpn-01` or `dns-01`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its URL.
    #[serde(default)]
    pub url: String,
    /// As the CA last said.
    #[serde(default)]
    pub status: String,
    /// RFC 8555 §8.3.
    #[serde(default)]
    pub token: String,
    /// RFC 8555 §8.1.
    #[serde(rename = "keyAuthorization", default)]
    pub key_authorization: String,
    /// What is to be validated; of `dns-01` the name of the record that the CA asks for.
    pub identifier: Identifier,
}

/// An ACME identifier (RFC 8555 §9.7.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identifier {
    /// `dns`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name.
    pub value: String,
}

impl Challenge {
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Identifier {
    /// Of a name.
    #[must_use]
    pub fn dns(name: &ServerName) -> Self {
        Self { kind: "dns".to_owned(), value: name.to_string() }
    }
}

/// Publishes `challenge` to the fleet.
pub async fn put_challenge(
    store: &Store,
    issuer: &IssuerKey,
    name: &ServerName,
    challenge: &Challenge,
    now: SystemTime,
) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().certificates);
    put.set_item(Some(item::item(&issuer.challenge(name), &challenge.write(), now))).send().await?;
    Ok(())
}

/// Removes the challenge of `name` that was published at `at`, and no other.
pub async fn remove_challenge(
    store: &Store,
    issuer: &IssuerKey,
    name: &ServerName,
    challenge: &Challenge,
    at: SystemTime,
) -> Result<(), StoreError> {
    let published = item::item(&issuer.challenge(name), &challenge.write(), at);
    let delete = store.client().delete_item().table_name(&store.tables().certificates);
    let delete = delete.set_key(Some(item::deleted(&issuer.challenge(name))));
    let delete = delete.condition_expression(format!("{CONTENTS} = :contents AND {UPDATED} = :updated"));
    let delete = [(":contents", CONTENTS), (":updated", UPDATED)]
        .into_iter()
        .filter_map(|(value, attribute)| Some((value, published.get(attribute)?.clone())))
        .fold(delete, |delete, (value, text)| delete.expression_attribute_values(value, text));
    if_held(delete.send().await).map(drop)
}

/// A challenge as it lies in the table, whoever has published it.
#[derive(Debug)]
pub struct StoredChallenge {
    /// It.
    pub challenge: Challenge,
    seen: Version,
}

/// The challenge of `name` with `issuer`.
pub async fn find_challenge(
    store: &Store,
    issuer: &IssuerKey,
    name: &ServerName,
) -> Result<Option<StoredChallenge>, StoreError> {
    let key = issuer.challenge(name);
    let found = item::find(store, [key.clone()], None).await?;
    let Some(item) = found.items.get(&key) else { return Ok(None) };
    let challenge = ItemContents::of(item).ok().and_then(|text| Challenge::read(&text));
    Ok(challenge.map(|challenge| StoredChallenge { challenge, seen: Version::of(item) }))
}

/// Removes the challenge of `name` that was found as `stored`; one of another order stays.
pub async fn remove_stored_challenge(
    store: &Store,
    issuer: &IssuerKey,
    name: &ServerName,
    stored: &StoredChallenge,
) -> Result<(), StoreError> {
    let (unchanged, values) = Version::unchanged(Some(&stored.seen));
    let delete = store.client().delete_item().table_name(&store.tables().certificates);
    let delete = delete.set_key(Some(item::deleted(&issuer.challenge(name)))).condition_expression(unchanged);
    if_held(delete.set_expression_attribute_values(values).send().await).map(drop)
}

/// The challenges of `name` with `issuers`, in one read.
pub async fn find_challenges(
    store: &Store,
    issuers: &[IssuerKey],
    name: &ServerName,
) -> Result<Vec<Challenge>, StoreError> {
    let found = item::find(store, issuers.iter().map(|issuer| issuer.challenge(name)), None).await?;
    let contents = found.items.values().filter_map(|item| ItemContents::of(item).ok());
    let challenges = contents.filter_map(|text| Challenge::read(&text));
    Ok(challenges
        .filter(|challenge| challenge.identifier.value.eq_ignore_ascii_case(name.as_str()))
        .collect())
}

#[cfg(test)]
pub(crate) fn challenge_for_tests(name: &ServerName, kind: &str) -> Challenge {
    Challenge {
        kind: kind.to_owned(),
        url: "https://ca.example/challenge/1".to_owned(),
        status: "pending".to_owned(),
        token: "token".to_owned(),
        key_authorization: "token.thumbprint".to_owned(),
        identifier: Identifier::dns(name),
    }
}
