//! Answers to a CA's validations, on any instance at which they arrive; those of dns-01, for which the CA comes to no instance (`dns`).
//!
//! What the fleet shows is read from one place for all names, one read at a time and 300 ms apart, whoever asks for what: so it costs the same
//! under a flood, and needs no budget that a flood could use up (`strangers_hide_no_challenge_from_the_ca_and_cost_no_read_more`). What only
//! Caddy, or an instance of an older release, has put into the certificate table is read name by name, within the budgets of who asks.

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
    name::{Pattern, ServerName},
    store::{
        Store, StoreError,
        certificate_table::{
            Challenge, IssuerKey, find_challenge, find_challenges, put_challenge, remove_challenge,
            remove_stored_challenge,
        },
        instant::Micros,
        state_table::{OpenChallenge, find_open_challenges, put_open_challenge, remove_open_challenge},
    },
    telemetry::{admit_line, metrics::Counters},
};

/// Pending challenges: those of this process in memory, the fleet's in the table.
pub(super) struct Challenges {
    store: Store,
    issuers: Vec<IssuerKey>,
    ours: Mutex<HashMap<ServerName, Opened>>,
    /// One read per name at a time, and the next one [`READ_PAUSE`] later, so that one name's flood costs a few reads per second.
    latest: Cache<ServerName, Arc<SpacedReads<[Challenge]>>>,
    /// The same for all that the fleet shows.
    shown: SpacedReads<ShownChallenges>,
    reads: Counters<Sought>,
    dns: DnsChallenges,
}

/// A challenge of this process.
struct Opened {
    challenge: Challenge,
    /// The date of its item, by which it differs from one that another instance has put there since.
    at: SystemTime,
}

impl Opened {
    /// As the fleet shows it; a CA comes to no instance for a DNS record.
    fn shown(&self, name: &ServerName) -> Option<OpenChallenge> {
        let Challenge { kind, token, key_authorization, .. } = &self.challenge;
        (kind != DNS).then(|| OpenChallenge {
            name: name.clone(),
            kind: kind.clone(),
            token: token.clone(),
            key_authorization: key_authorization.clone(),
            at: Micros::of(self.at),
        })
    }
}

/// Reads of one thing, one at a time and [`READ_PAUSE`] apart. Each answers who came before it began: the CA may come for a challenge that was
/// not there when somebody else asked.
struct SpacedReads<T: ?Sized>(tokio::sync::Mutex<Option<LatestRead<T>>>);

struct LatestRead<T: ?Sized> {
    began: Instant,
    found: Arc<T>,
}

impl<T: ?Sized> Default for SpacedReads<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::default())
    }
}

impl<T: ?Sized> SpacedReads<T> {
    /// What a read has found that began after this was called; none if `admit` does not let `read` be the next.
    async fn get<F: Future<Output = Arc<T>>>(
        &self,
        admit: impl FnOnce() -> bool,
        read: impl FnOnce() -> F,
    ) -> Option<Arc<T>> {
        let came = clock::now();
        let mut latest = self.0.lock().await;
        let next = match &*latest {
            Some(read) if read.began >= came => return Some(Arc::clone(&read.found)),
            Some(read) => Some(read.began + READ_PAUSE),
            None => None,
        };
        if !admit() {
            return None;
        }
        if let Some(next) = next {
            tokio::time::sleep_until(next.into()).await;
        }
        let began = clock::now();
        let found = read().await;
        *latest = Some(LatestRead { began, found: Arc::clone(&found) });
        Some(found)
    }
}

type ShownChallenges = HashMap<ServerName, Vec<OpenChallenge>>;

/// Which challenges answer what was asked.
#[derive(Debug, Clone, Copy)]
enum Asked<'a> {
    /// RFC 8555 §8.3: of exactly this token.
    Http { token: &'a str },
    /// RFC 8737 §3: the CA names the name alone.
    TlsAlpn,
}

impl Asked<'_> {
    fn is_for(self, kind: &str, token: &str) -> bool {
        match self {
            Self::Http { token: asked } => kind == HTTP && token == asked,
            Self::TlsAlpn => kind == TLS_ALPN,
        }
    }

    /// The key authorization of what answers it, the latest one's.
    fn among_shown(self, shown: &[OpenChallenge]) -> Option<String> {
        let asked = shown.iter().filter(|shown| self.is_for(&shown.kind, &shown.token));
        asked.max_by_key(|shown| shown.at).map(|shown| shown.key_authorization.clone())
    }

    fn among(self, challenges: &[Challenge]) -> Option<String> {
        let mut challenges = challenges.iter();
        let asked = challenges.find(|challenge| self.is_for(&challenge.kind, &challenge.token));
        asked.map(|challenge| challenge.key_authorization.clone())
    }
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
            shown: SpacedReads::default(),
            reads,
            dns,
        }
    }

    /// Publishes `challenge` to the fleet; it is in the tables when this returns.
    pub(super) async fn open(
        &self,
        issuer: &IssuerKey,
        name: &ServerName,
        challenge: Challenge,
    ) -> Result<(), StoreError> {
        let opened = Opened { challenge, at: clock::wall() };
        put_challenge(&self.store, issuer, name, &opened.challenge, opened.at).await?;
        if let Some(shown) = opened.shown(name)
            && let Err(error) = put_open_challenge(&self.store, &shown).await
            && let Some(left_out) = admit_line("challenge_not_shown", "")
        {
            warn!(server_name = %name, %error, left_out, "a challenge is found by its name alone; the CA's requests may be refused while others ask for many challenges");
        }
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), opened);
        Ok(())
    }

    /// Removes our challenge of `name`, if there is one and no other instance has put its own in its place.
    pub(super) async fn close(&self, issuer: &IssuerKey, name: &ServerName) {
        let opened = self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(opened) = opened else { return };
        let shown = async {
            match opened.shown(name) {
                Some(shown) => remove_open_challenge(&self.store, &shown).await,
                None => Ok(()),
            }
        };
        let stored = remove_challenge(&self.store, issuer, name, &opened.challenge, opened.at);
        let (shown, stored) = tokio::join!(shown, stored);
        if let Err(error) = shown.and(stored) {
            // The next order of the name replaces it; what it answers is of no use to anybody else.
            if let Some(left_out) = admit_line("challenge_left", "") {
                warn!(server_name = %name, %error, left_out, "challenge was left in the table");
            }
        }
    }

    /// Removes what lies in the certificate table of an order with `issuer` that is over, whichever instance has shown it: under the lease of
    /// `name`, so that it is of no other order.
    pub(super) async fn clear(&self, issuer: &IssuerKey, name: &Pattern) {
        let cleared = match name {
            Pattern::Exact(name) => self.clear_stored(issuer, name).await,
            Pattern::Wildcard(_) => self.clear_dns(issuer, name).await,
        };
        if let Err(error) = cleared
            && let Some(left_out) = admit_line("challenge_left", "")
        {
            warn!(server_name = %name, %error, left_out, "a challenge that another instance has shown was left in the table");
        }
    }

    async fn clear_stored(&self, issuer: &IssuerKey, name: &ServerName) -> Result<(), StoreError> {
        match find_challenge(&self.store, issuer, name).await? {
            Some(stored) => remove_stored_challenge(&self.store, issuer, name, &stored).await,
            None => Ok(()),
        }
    }

    /// Leaves our challenge of `name` to the fleet: the next order replaces or removes it.
    pub(super) fn leave(&self, name: &ServerName) {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// RFC 8555 §8.3: the key authorization of exactly this token; what the fleet does not show is read only if `admit` lets.
    pub(super) async fn http_answer(
        &self,
        name: &ServerName,
        token: &str,
        admit: impl FnOnce() -> bool,
    ) -> Option<String> {
        self.find(name, Asked::Http { token }, admit).await
    }

    /// RFC 8737 §3: a self-signed certificate of the name with the digest of the key authorization; what the fleet does not show is read
    /// only if `admit` lets.
    pub(super) async fn tls_alpn_answer(
        &self,
        name: &ServerName,
        admit: impl FnOnce() -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let key_authorization = self.find(name, Asked::TlsAlpn, admit).await?;
        match answer(name, &key_authorization) {
            Ok(answer) => Some(answer),
            Err(error) => {
                if let Some(left_out) = admit_line("challenge_certificate_failed", "") {
                    warn!(server_name = %name, %error, left_out, "challenge certificate could not be created");
                }
                None
            }
        }
    }

    /// The key authorization of what answers `asked`.
    async fn find(
        &self,
        name: &ServerName,
        asked: Asked<'_>,
        admit: impl FnOnce() -> bool,
    ) -> Option<String> {
        if let Some(ours) = self.find_ours(name).and_then(|ours| asked.among(&[ours])) {
            return Some(ours);
        }
        let shown = self.shown().await;
        if let Some(shown) = shown.get(name).and_then(|shown| asked.among_shown(shown)) {
            return Some(shown);
        }
        asked.among(&self.find_stored(name, admit).await)
    }

    /// What the fleet shows.
    async fn shown(&self) -> Arc<ShownChallenges> {
        let shown = self.shown.get(
            || true,
            async || {
                self.reads.bump(Sought::OpenChallenges);
                let read = find_open_challenges(&self.store, clock::wall());
                let read = tokio::time::timeout(SHOWN_WITHIN, read).await;
                found(read.unwrap_or_else(|late| Err(StoreError::Unavailable(late.into()))))
            },
        );
        shown.await.unwrap_or_default()
    }

    /// What the certificate table holds of `name`.
    async fn find_stored(&self, name: &ServerName, admit: impl FnOnce() -> bool) -> Arc<[Challenge]> {
        let latest = self.latest.get_with_by_ref(name, Arc::default);
        // What is refused to one client is no answer to the CA.
        let stored = latest.get(admit, async || found(self.stored(name).await));
        stored.await.unwrap_or_default()
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
}

/// What was read; nothing where it could not be.
fn found<T: ?Sized, R: Into<Arc<T>>>(read: Result<R, StoreError>) -> Arc<T>
where
    Arc<T>: Default,
{
    match read {
        Ok(found) => found.into(),
        Err(error) => {
            if let Some(left_out) = admit_line("challenges_unread", "") {
                warn!(%error, left_out, "challenges could not be read");
            }
            Arc::default()
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
/// CAs wait ten seconds, within which the other table is read, too.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);
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

    /// Instances of a fleet.
    async fn instances<const N: usize>() -> (IssuerKey, [Challenges; N]) {
        let store = Store::on(Engine::in_memory().unwrap(), &crate::config::StoreConfig::default());
        tables::create(&store).await.unwrap();
        let issuer = IssuerKey::of_directory("https://ca.example/dir");
        let instances = [(); N].map(|()| {
            let reads = counted(&prometheus::Registry::new());
            Challenges::new(&store, std::iter::once(issuer.clone()), reads, DnsChallenges::default())
        });
        (issuer, instances)
    }

    #[tokio::test]
    async fn who_polls_hides_no_challenge_from_the_ca_and_costs_few_reads() {
        let (issuer, [orders, answers]) = instances().await;
        let answers = Arc::new(answers);
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
        for read in [Sought::Challenge, Sought::OpenChallenges] {
            let reads = answers.reads.count(read);
            assert!(reads <= 3, "{reads} reads: one before, and one or two for all who came later");
        }
    }

    /// Labels below a wildcard are allowed names, and cost nobody anything to make up.
    #[tokio::test]
    async fn strangers_hide_no_challenge_from_the_ca_and_cost_no_read_more() {
        let (issuer, [orders, answers]) = instances().await;
        let answers = Arc::new(answers);
        let began = clock::now();
        for n in 0..5 {
            let strangers: Vec<_> = (0..150)
                .map(|label| {
                    let (answers, name) =
                        (Arc::clone(&answers), ServerName::parse(&format!("s{label}.example")).unwrap());
                    tokio::spawn(async move { answers.http_answer(&name, "made-up", || false).await })
                })
                .collect();
            let name = ServerName::parse(&format!("n{n}.example")).unwrap();
            let kind = if n % 2 == 0 { HTTP } else { TLS_ALPN };
            orders.open(&issuer, &name, challenge_for_tests(&name, kind)).await.unwrap();
            // Nothing is left of any budget.
            let is_answered = match kind {
                HTTP => answers.http_answer(&name, "token", || false).await.is_some(),
                _ => answers.tls_alpn_answer(&name, || false).await.is_some(),
            };
            assert!(is_answered, "{n}");
            for stranger in strangers {
                assert_eq!(stranger.await.unwrap(), None);
            }
            orders.close(&issuer, &name).await;
        }
        let most = began.elapsed().as_millis() / READ_PAUSE.as_millis() + 1;
        let reads = answers.reads.count(Sought::OpenChallenges);
        assert!(u128::from(reads) <= most, "{reads} reads, of which {most} have room");
        assert_eq!(answers.reads.count(Sought::Challenge), 0);
        assert!(find_open_challenges(&orders.store, clock::wall()).await.unwrap().is_empty());
    }

    /// Its order was gone on with here, where it had been validated already.
    #[tokio::test]
    async fn what_another_instance_has_left_is_removed_with_its_order() {
        let (issuer, [gone, present]) = instances().await;
        let name = ServerName::parse("a.example").unwrap();
        present.clear(&issuer, &Pattern::Exact(name.clone())).await;
        gone.open(&issuer, &name, challenge_for_tests(&name, HTTP)).await.unwrap();
        gone.leave(&name);
        present.clear(&issuer, &Pattern::Exact(name.clone())).await;
        assert_eq!(present.stored(&name).await.unwrap(), []);
    }

    /// A late holder of the lease shows its own order's, while the present one's is validated.
    #[tokio::test]
    async fn a_late_holders_challenge_takes_the_place_of_no_other() {
        let (issuer, [late, present, answers]) = instances().await;
        let name = ServerName::parse("a.example").unwrap();
        let challenge = |token: &str| Challenge {
            token: token.to_owned(),
            key_authorization: format!("{token}.thumbprint"),
            ..challenge_for_tests(&name, HTTP)
        };
        present.open(&issuer, &name, challenge("present")).await.unwrap();
        late.open(&issuer, &name, challenge("late")).await.unwrap();
        let answer = answers.http_answer(&name, "present", || false).await;
        assert_eq!(answer.as_deref(), Some("present.thumbprint"));
        late.close(&issuer, &name).await;
        let answer = answers.http_answer(&name, "present", || false).await;
        assert_eq!(answer.as_deref(), Some("present.thumbprint"));
    }

    #[tokio::test]
    async fn a_late_holder_leaves_the_present_ones_challenge() {
        let (issuer, [late, present]) = instances().await;
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
