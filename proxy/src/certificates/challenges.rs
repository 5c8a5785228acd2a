//! Answers to a CA's validations, on any instance at which they arrive; those of dns-01, for which the CA comes to no instance (`dns`).

mod dns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use moka::sync::Cache;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use tracing::warn;

pub(crate) use self::dns::probe as probe_challenge_record;
pub(super) use self::dns::{DnsChallengeError, DnsChallenges};
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
    ours: Mutex<HashMap<ServerName, Opened>>,
    /// One read per name at a time, and the next one [`READ_PAUSE`] later, so that one name's flood costs a few reads per second.
    latest: Cache<ServerName, Arc<tokio::sync::Mutex<Option<LatestRead>>>>,
    reads: Counters<Sought>,
    dns: DnsChallenges,
}

/// A challenge of this process.
struct Opened {
    challenge: Challenge,
    /// The date of its item, by which it differs from one that another instance has put there since.
    at: SystemTime,
}

/// The latest read of a name's challenges. It answers who came before it began: the CA may come for a challenge that was not there
/// when somebody else asked.
struct LatestRead {
    began: Instant,
    found: Arc<[Challenge]>,
}

impl Challenges {
    pub(super) fn new(
        store: &Store,
        issuers: impl Iterator<Item = IssuerKey>,
        reads: Counters<Sought>,
        dns: DnsChallenges,
    ) -> Self {
        Self {
            store: store.clone(),
            issuers: issuers.collect(),
            ours: Mutex::default(),
            latest: Cache::builder().max_capacity(MOST_NAMES).time_to_idle(10 * READ_PAUSE).build(),
            reads,
            dns,
        }
    }

    /// Publishes `challenge` to the fleet; it is in the table when this returns.
    pub(super) async fn open(
        &self,
        issuer: &IssuerKey,
        name: &ServerName,
        challenge: Challenge,
    ) -> Result<(), StoreError> {
        let at = clock::wall();
        put_challenge(&self.store, issuer, name, &challenge, at).await?;
        let opened = Opened { challenge, at };
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), opened);
        Ok(())
    }

    /// Removes our challenge of `name`, if there is one and no other instance has put its own in its place.
    pub(super) async fn close(&self, issuer: &IssuerKey, name: &ServerName) {
        let opened = self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(Opened { challenge, at }) = opened else { return };
        if let Err(error) = remove_challenge(&self.store, issuer, name, &challenge, at).await {
            // The next order of the name replaces it; what it answers is of no use to anybody else.
            if let Some(left_out) = admit_line("challenge_left", "") {
                warn!(server_name = %name, %error, left_out, "challenge was left in the table");
            }
        }
    }

    /// Leaves our challenge of `name` to the fleet: the next order replaces or removes it.
    pub(super) fn leave(&self, name: &ServerName) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
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
        if let Some(ours) = self.find_ours(name).filter(|challenge| asked(&challenge)) {
            return [ours].into();
        }
        let came = clock::now();
        let latest = self.latest.get_with_by_ref(name, Arc::default);
        let mut latest = latest.lock().await;
        let next = match &*latest {
            Some(read) if read.began >= came => return Arc::clone(&read.found),
            Some(read) => Some(read.began + READ_PAUSE),
            None => None,
        };
        // What is refused to one client is no answer to the CA.
        if !admit() {
            return Arc::default();
        }
        if let Some(next) = next {
            tokio::time::sleep_until(next.into()).await;
        }
        let began = clock::now();
        let found = self.read(name).await;
        *latest = Some(LatestRead { began, found: Arc::clone(&found) });
        found
    }

    fn find_ours(&self, name: &ServerName) -> Option<Challenge> {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        ours.get(name).map(|opened| opened.challenge.clone())
    }

    /// What the table holds of `name`.
    async fn stored(&self, name: &ServerName) -> Result<Vec<Challenge>, StoreError> {
        self.reads.bump(Sought::Challenge);
        find_challenges(&self.store, &self.issuers, name).await
    }

    async fn read(&self, name: &ServerName) -> Arc<[Challenge]> {
        match self.stored(name).await {
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
/// RFC 8555 §9.7.8.
pub(super) const DNS: &str = "dns-01";
const READ_PAUSE: Duration = Duration::from_millis(300);
/// Each has a read of its own at least; the rest are bounded by who asks.
const MOST_NAMES: u64 = 1_000;

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
                DnsChallenges::default(),
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

    fn instance(engine: &Engine, issuer: &IssuerKey, registry: &prometheus::Registry) -> Challenges {
        let store = Store::on(engine.clone(), &crate::config::StoreConfig::default());
        Challenges::new(&store, std::iter::once(issuer.clone()), counted(registry), DnsChallenges::default())
    }

    #[tokio::test]
    async fn who_polls_hides_no_challenge_from_the_ca_and_costs_few_reads() {
        let engine = Engine::in_memory().unwrap();
        let (issuer, registry) =
            (IssuerKey::of_directory("https://ca.example/dir"), prometheus::Registry::new());
        let orders = instance(&engine, &issuer, &prometheus::Registry::new());
        tables::create(&orders.store).await.unwrap();
        let answers = Arc::new(instance(&engine, &issuer, &registry));
        let name = ServerName::parse("a.example").unwrap();
        assert_eq!(answers.http_answer(&name, "made-up", || true).await, None);
        orders.open(&issuer, &name, challenge_for_tests(&name, HTTP)).await.unwrap();
        let polls: Vec<_> = (0..50)
            .map(|_| {
                let (answers, name) = (Arc::clone(&answers), name.clone());
                tokio::spawn(async move { answers.http_answer(&name, "made-up", || true).await })
            })
            .collect();
        let answer = answers.http_answer(&name, "token", || true).await;
        assert_eq!(answer.as_deref(), Some("token.thumbprint"));
        for poll in polls {
            assert_eq!(poll.await.unwrap(), None);
        }
        let reads = answers.reads.count(Sought::Challenge);
        assert!(reads <= 3, "{reads} reads: one before, and one or two for all who came later");
    }

    #[tokio::test]
    async fn a_late_holder_leaves_the_present_ones_challenge() {
        let engine = Engine::in_memory().unwrap();
        let issuer = IssuerKey::of_directory("https://ca.example/dir");
        let [late, present] = [(); 2].map(|()| instance(&engine, &issuer, &prometheus::Registry::new()));
        tables::create(&late.store).await.unwrap();
        let name = ServerName::parse("a.example").unwrap();
        let challenge = challenge_for_tests(&name, HTTP);
        late.open(&issuer, &name, challenge.clone()).await.unwrap();
        // Of the same order, which it goes on with; a lease lasts longer than a second.
        let later = clock::wall() + Duration::from_secs(2);
        put_challenge(&present.store, &issuer, &name, &challenge, later).await.unwrap();
        late.close(&issuer, &name).await;
        let answer = present.http_answer(&name, "token", || true).await;
        assert_eq!(answer.as_deref(), Some("token.thumbprint"));
        let opened = Opened { challenge, at: later };
        present.ours.lock().unwrap().insert(name.clone(), opened);
        present.close(&issuer, &name).await;
        assert_eq!(late.http_answer(&name, "token", || true).await, None);
    }

    #[tokio::test]
    async fn who_may_not_ask_costs_no_read_and_hides_no_challenge_from_the_ca() {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let (issuer, registry) =
            (IssuerKey::of_directory("https://ca.example/dir"), prometheus::Registry::new());
        let reads = counted(&registry);
        let challenges =
            Challenges::new(&store, std::iter::once(issuer.clone()), reads.clone(), DnsChallenges::default());
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
