//! Answers to a CA's validations, on any instance at which they arrive.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::future::Cache;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use tracing::warn;

use super::metrics::Sought;
use crate::{
    clock,
    name::ServerName,
    store::{
        Store, StoreError,
        certificate_table::{Challenge, IssuerKey, find_challenges, put_challenge, remove_challenge},
    },
    telemetry::{admit_line, metrics::Counters},
};

/// Pending challenges: those of this process in memory, the fleet's in the table.
pub(super) struct Challenges {
    store: Store,
    issuers: Vec<IssuerKey>,
    ours: Mutex<HashMap<ServerName, Challenge>>,
    /// One read per name at a time, its answer cached for [`SEEN_FOR`]: too short to hide a challenge from the CA, long enough
    /// that one name's flood costs a few reads per second.
    seen: Cache<ServerName, Arc<[Challenge]>>,
    reads: Counters<Sought>,
}

impl Challenges {
    pub(super) fn new(
        store: &Store,
        issuers: impl Iterator<Item = IssuerKey>,
        reads: Counters<Sought>,
    ) -> Self {
        Self {
            store: store.clone(),
            issuers: issuers.collect(),
            ours: Mutex::default(),
            seen: Cache::builder().max_capacity(MOST_SEEN).time_to_live(SEEN_FOR).build(),
            reads,
        }
    }

    /// Publishes `challenge` to the fleet; it is in the table when this returns.
    pub(super) async fn open(
        &self,
        issuer: &IssuerKey,
        name: &ServerName,
        challenge: Challenge,
    ) -> Result<(), StoreError> {
        put_challenge(&self.store, issuer, name, &challenge, clock::wall()).await?;
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), challenge);
        self.seen.invalidate(name).await;
        Ok(())
    }

    /// Removes our challenge of `name`, if there is one.
    pub(super) async fn close(&self, issuer: &IssuerKey, name: &ServerName) {
        if self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(name).is_none() {
            return;
        }
        self.seen.invalidate(name).await;
        if let Err(error) = remove_challenge(&self.store, issuer, name).await {
            // The next order of the name replaces it; what it answers is of no use to anybody else.
            if let Some(left_out) = admit_line("challenge_left", "") {
                warn!(server_name = %name, %error, left_out, "challenge was left in the table");
            }
        }
    }

    /// RFC 8555 §8.3: the key authorization of exactly this token; a table is read only if `admit` lets.
    pub(super) async fn http_answer(
        &self,
        name: &ServerName,
        token: &str,
        admit: impl FnOnce() -> bool,
    ) -> Option<String> {
        let asked = |challenge: &&Challenge| challenge.kind == HTTP && challenge.token == token;
        let challenges = self.find(name, &asked, admit).await;
        challenges.iter().find(asked).map(|challenge| challenge.key_authorization.clone())
    }

    /// RFC 8737 §3: a self-signed certificate of the name with the digest of the key authorization; a table is read only if
    /// `admit` lets.
    pub(super) async fn tls_alpn_answer(
        &self,
        name: &ServerName,
        admit: impl FnOnce() -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let asked = |challenge: &&Challenge| challenge.kind == TLS_ALPN;
        let challenges = self.find(name, &asked, admit).await;
        let challenge = challenges.iter().find(asked)?;
        match answer(name, &challenge.key_authorization) {
            Ok(answer) => Some(answer),
            Err(error) => {
                if let Some(left_out) = admit_line("challenge_certificate_failed", "") {
                    warn!(server_name = %name, %error, left_out, "challenge certificate could not be created");
                }
                None
            }
        }
    }

    async fn find(
        &self,
        name: &ServerName,
        asked: &impl Fn(&&Challenge) -> bool,
        admit: impl FnOnce() -> bool,
    ) -> Arc<[Challenge]> {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(ours) = ours.filter(|challenge| asked(&challenge)) {
            return [ours].into();
        }
        if let Some(seen) = self.seen.get(name).await {
            return seen;
        }
        // Not within the cache's own read: a look-up refused to one client must not be cached as an answer to the CA.
        if !admit() {
            return Arc::default();
        }
        self.seen.get_with_by_ref(name, self.read(name)).await
    }

    async fn read(&self, name: &ServerName) -> Arc<[Challenge]> {
        self.reads.bump(Sought::Challenge);
        match find_challenges(&self.store, &self.issuers, name).await {
            Ok(challenges) => challenges.into(),
            Err(error) => {
                if let Some(left_out) = admit_line("challenges_unread", "") {
                    warn!(server_name = %name, %error, left_out, "challenges could not be read");
                }
                Arc::default()
            }
        }
    }
}

fn answer(name: &ServerName, key_authorization: &str) -> Result<Arc<CertifiedKey>, super::key::KeyError> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key_authorization.as_bytes());
    let mut params = CertificateParams::new(vec![name.to_string()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key: KeyPair = super::key::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = any_supported_type(&key).map_err(|_| super::key::KeyError::Kind)?;
    // Not `CertifiedKey::from_der`: it parses the leaf by webpki, which refuses the critical acmeIdentifier.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// The token of an http-01 challenge (RFC 8555 §8.3): base64url characters, no more than any CA's has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeToken(Box<str>);

impl ChallengeToken {
    /// Reads what a path ends with; nothing else is worth a read of the table.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_token = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(is_base64url);
        is_token.then(|| Self(text.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 8555 §8.3 asks for 128 bits at least; CAs send 43 characters.
const MAX_TOKEN: usize = 128;
/// RFC 8555 §9.7.8.
pub(super) const HTTP: &str = "http-01";
/// RFC 8737 §6.3.
pub(super) const TLS_ALPN: &str = "tls-alpn-01";
const SEEN_FOR: Duration = Duration::from_millis(300);
const MOST_SEEN: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Engine, certificate_table::challenge_for_tests, tables};

    fn counted(registry: &prometheus::Registry) -> Counters<Sought> {
        Counters::register(registry, "reads_total", "Reads.").unwrap()
    }

    #[test]
    fn a_token_is_base64url_and_no_longer_than_any() {
        let longest = "a".repeat(MAX_TOKEN);
        for token in ["evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA", &longest] {
            assert_eq!(ChallengeToken::parse(token).unwrap().as_str(), token);
        }
        for token in ["", "../x", "a b", "token.thumbprint", &format!("{longest}a")] {
            assert_eq!(ChallengeToken::parse(token), None, "{token:?}");
        }
    }

    #[tokio::test]
    async fn any_instance_answers_from_the_table_and_only_what_was_asked() {
        let (engine, config) = (Engine::in_memory().unwrap(), crate::config::StoreConfig::default());
        let issuer = IssuerKey::of_directory("https://ca.example/dir");
        let instance = || {
            Challenges::new(
                &Store::on(engine.clone(), &config),
                std::iter::once(issuer.clone()),
                counted(&prometheus::Registry::new()),
            )
        };
        let (orders, answers) = (instance(), instance());
        tables::create(&orders.store).await.unwrap();
        let name = ServerName::parse("a.example").unwrap();
        orders.open(&issuer, &name, challenge_for_tests(&name, HTTP)).await.unwrap();
        for instance in [&orders, &answers] {
            let answer = instance.http_answer(&name, "token", || true).await;
            assert_eq!(answer.as_deref(), Some("token.thumbprint"));
            assert_eq!(instance.http_answer(&name, "other", || true).await, None);
            assert!(instance.tls_alpn_answer(&name, || true).await.is_none());
        }
        let second = ServerName::parse("b.example").unwrap();
        orders.open(&issuer, &second, challenge_for_tests(&second, TLS_ALPN)).await.unwrap();
        let answer = answers.tls_alpn_answer(&second, || true).await.unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&answer.cert[0]).unwrap();
        // RFC 8737 §6.1: id-pe-acmeIdentifier, critical.
        let extension =
            leaf.extensions().iter().find(|e| e.oid.to_id_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        orders.close(&issuer, &name).await;
        assert_eq!(orders.http_answer(&name, "token", || true).await, None);
    }

    #[tokio::test]
    async fn who_may_not_ask_costs_no_read_and_hides_no_challenge_from_the_ca() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let (issuer, registry) =
            (IssuerKey::of_directory("https://ca.example/dir"), prometheus::Registry::new());
        let reads = counted(&registry);
        let challenges = Challenges::new(&store, std::iter::once(issuer.clone()), reads.clone());
        let name = ServerName::parse("a.example").unwrap();
        // Another instance's, so not in this one's memory.
        put_challenge(&store, &issuer, &name, &challenge_for_tests(&name, HTTP), clock::wall())
            .await
            .unwrap();
        assert_eq!(challenges.http_answer(&name, "token", || false).await, None);
        assert_eq!(reads.count(Sought::Challenge), 0);
        let answer = challenges.http_answer(&name, "token", || true).await;
        assert_eq!(answer.as_deref(), Some("token.thumbprint"));
    }
}
