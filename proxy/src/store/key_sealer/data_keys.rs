//! Data keys: one that this process encrypts with for a day, and those that it has decrypted, so that a master key is asked seldom.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use moka::future::Cache;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{
    envelope::{KEY_BYTES, Key, Wrapped},
    error::SealError,
    key_file::KeyFile,
    kms::Kms,
};
use crate::clock;

/// What encrypts data keys.
pub(super) enum MasterKey {
    File(KeyFile),
    Kms(Kms),
}

/// Data keys under one master key.
pub(in crate::store) struct DataKeys {
    master: MasterKey,
    sealing: Mutex<SealingState>,
    /// By a hash of what they were decrypted from.
    opened: Cache<[u8; digest::SHA256_OUTPUT_LEN], Opened>,
    /// One task at a time has one decrypted: after a start many names are of the same. Those that wait are told with it when KMS is silent.
    opening: Mutex<Option<Silence>>,
}

/// A data key in clear, and since when.
#[derive(Clone)]
struct Opened {
    key: Arc<Key>,
    since: Instant,
}

impl Opened {
    fn is_within(&self, life: Duration) -> bool {
        clock::now().saturating_duration_since(self.since) < life
    }
}

#[derive(Default)]
struct SealingState {
    last: Option<Sealing>,
    silence: Option<Silence>,
}

struct Sealing {
    wrapped: Arc<Wrapped>,
    key: Arc<Key>,
    since: Instant,
    renew_at: Instant,
}

/// KMS did not answer, and is not asked before `until`.
struct Silence {
    endpoint: String,
    until: Instant,
}

impl Sealing {
    fn parts(&self) -> (Arc<Wrapped>, Arc<Key>) {
        (Arc::clone(&self.wrapped), Arc::clone(&self.key))
    }
}

impl Silence {
    /// From now on, if `error` is one.
    fn of(error: &SealError) -> Option<Self> {
        let SealError::Silent { endpoint, .. } = error else { return None };
        Some(Self { endpoint: endpoint.clone(), until: clock::now() + ASK_AGAIN })
    }

    fn error(&self) -> SealError {
        SealError::Silent { endpoint: self.endpoint.clone(), source: "it did not a moment ago".into() }
    }
}

impl DataKeys {
    pub(super) fn new(master: MasterKey) -> Self {
        let opened = Cache::builder().max_capacity(MOST_OPENED).time_to_live(MOST_LIFE).build();
        Self { master, sealing: Mutex::default(), opened, opening: Mutex::default() }
    }

    /// The data key to encrypt with.
    pub(super) async fn sealing(&self) -> Result<(Arc<Wrapped>, Arc<Key>), SealError> {
        let mut state = self.sealing.lock().await;
        let (SealingState { last, silence }, now) = (&mut *state, clock::now());
        if let Some(last) = last.as_ref().filter(|last| now < last.renew_at) {
            return Ok(last.parts());
        }
        if let Some(silence) = silence.as_ref().filter(|silence| now < silence.until) {
            return Err(silence.error());
        }
        let made = match &self.master {
            MasterKey::File(file) => file.generate(),
            MasterKey::Kms(kms) => Box::pin(kms.generate()).await,
        };
        let (plain, wrapped) = match (made, last.as_mut()) {
            // The one there is goes on for a while.
            (Err(SealError::Silent { .. }), Some(last)) if now < last.since + MOST_LIFE => {
                last.renew_at = now + ASK_AGAIN;
                return Ok(last.parts());
            }
            (made, _) => {
                // Whoever waits for the same is told at once: an order waits so long only.
                *silence = made.as_ref().err().and_then(Silence::of);
                made?
            }
        };
        let key = Arc::new(Key::of(&plain).map_err(|_| SealError::Library)?);
        let wrapped = Arc::new(wrapped);
        self.opened.insert(hash(&wrapped), Opened { key: Arc::clone(&key), since: now }).await;
        let made = last.insert(Sealing { wrapped, key, since: now, renew_at: now + LIFE });
        Ok(made.parts())
    }

    /// The data key that `wrapped` holds; `None` when it was changed.
    pub(super) async fn opening(&self, wrapped: &Wrapped) -> Result<Option<Arc<Key>>, SealError> {
        let hash = hash(wrapped);
        if let Some(opened) = self.opened.get(&hash).await.filter(|opened| opened.is_within(LIFE)) {
            return Ok(Some(opened.key));
        }
        let mut silence = self.opening.lock().await;
        let opened = self.opened.get(&hash).await.filter(|opened| opened.is_within(MOST_LIFE));
        if let Some(opened) = opened.as_ref().filter(|opened| opened.is_within(LIFE)) {
            return Ok(Some(Arc::clone(&opened.key)));
        }
        // Whoever waits for another data key is told at once.
        let told = silence.as_ref().filter(|silence| clock::now() < silence.until).map(Silence::error);
        let asked = if let Some(error) = told {
            Err(error)
        } else {
            let asked = self.decrypt(wrapped).await;
            *silence = asked.as_ref().err().and_then(Silence::of);
            asked
        };
        let plain = match (asked, opened) {
            // What was decrypted before goes on for a while, as the one that encrypts does.
            (Err(SealError::Silent { .. }), Some(opened)) => return Ok(Some(opened.key)),
            (asked, _) => asked?,
        };
        let Some(plain) = plain else { return Ok(None) };
        let Ok(plain) = <&[u8; KEY_BYTES]>::try_from(plain.as_slice()) else { return Ok(None) };
        let key = Arc::new(Key::of(plain).map_err(|_| SealError::Library)?);
        self.opened.insert(hash, Opened { key: Arc::clone(&key), since: clock::now() }).await;
        Ok(Some(key))
    }

    async fn decrypt(&self, wrapped: &Wrapped) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        match &self.master {
            MasterKey::File(file) => file.decrypt(wrapped),
            // Seldom called, and else a part of each future that reads a key.
            MasterKey::Kms(kms) => Box::pin(kms.decrypt(wrapped)).await,
        }
    }
}

fn hash(wrapped: &Wrapped) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    // No name of a master key has a zero byte.
    for part in [wrapped.master.as_bytes(), &[0], &wrapped.bytes] {
        context.update(part);
    }
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    hash
}

/// How long a data key encrypts, and a decrypted one is used: whoever is denied the master key is denied within it.
const LIFE: Duration = Duration::from_hours(24);
/// The same while KMS is silent.
const MOST_LIFE: Duration = Duration::from_hours(72);
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// An instance makes one a day, so this is a fleet of fifty over eighty days.
const MOST_OPENED: u64 = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    /// A KMS at a port that nobody listens on, and what it has left of an earlier day.
    fn silent(last: Option<Sealing>) -> DataKeys {
        let keys = DataKeys::new(MasterKey::Kms(Kms::silent_for_tests()));
        DataKeys { sealing: Mutex::new(SealingState { last, silence: None }), ..keys }
    }

    fn made(hours_ago: u64) -> Sealing {
        let since = clock::now().checked_sub(Duration::from_hours(hours_ago)).unwrap();
        let wrapped = Arc::new(Wrapped { master: "kms:key".to_owned(), bytes: vec![1] });
        let key = Arc::new(Key::of(&[7; KEY_BYTES]).unwrap());
        Sealing { wrapped, key, since, renew_at: since + LIFE }
    }

    #[tokio::test(start_paused = true)]
    async fn while_kms_is_silent_a_data_key_goes_on_for_three_days() {
        // The test's clock begins when the machine's did, which may be less than three days ago.
        tokio::time::advance(Duration::from_hours(1_000)).await;
        let keys = silent(Some(made(71)));
        let (first, _) = keys.sealing().await.unwrap();
        assert_eq!(first.master, "kms:key");
        let state = keys.sealing.lock().await;
        let last = state.last.as_ref().unwrap();
        assert!(last.renew_at > clock::now(), "KMS is not asked each time");
        drop(state);
        assert!(matches!(silent(Some(made(73))).sealing().await, Err(SealError::Silent { .. })));
    }

    /// What this process has sealed it must be able to open, or no order is placed.
    #[tokio::test(start_paused = true)]
    async fn while_kms_is_silent_what_was_opened_before_is_opened_for_three_days() {
        tokio::time::advance(Duration::from_hours(1_000)).await;
        for (hours, is_opened) in [(1, true), (30, true), (71, true), (73, false)] {
            let last = made(hours);
            let (wrapped, opened) =
                (Arc::clone(&last.wrapped), Opened { key: Arc::clone(&last.key), since: last.since });
            let keys = silent(Some(last));
            keys.opened.insert(hash(&wrapped), opened).await;
            let sealer = super::super::KeySealer::Encrypted(Arc::new(keys));
            let secret = sealer.seal(b"key", "here").await;
            assert_eq!(secret.is_ok(), is_opened, "{hours} h");
            if let Ok(secret) = secret {
                let opened = sealer.open(secret, "here").await.unwrap().unwrap();
                assert_eq!(opened.as_slice(), b"key", "{hours} h");
            }
        }
    }

    /// A name each, after a start.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_key_of_a_silent_kms_is_told_at_once() {
        let keys = Arc::new(silent(None));
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..10 {
            let (keys, wrapped) =
                (Arc::clone(&keys), Wrapped { master: "kms:key".to_owned(), bytes: vec![n] });
            waiting.spawn(async move {
                match keys.opening(&wrapped).await {
                    Err(SealError::Silent { source, .. }) => source.to_string(),
                    other => panic!("{:?}", other.err()),
                }
            });
        }
        let told = waiting.join_all().await;
        let asked = told.iter().filter(|said| !said.contains("a moment ago")).count();
        assert_eq!((asked, told.len()), (1, 10), "{told:?}");
        tokio::time::advance(ASK_AGAIN * 2).await;
        let wrapped = Wrapped { master: "kms:key".to_owned(), bytes: vec![0] };
        let Err(SealError::Silent { source, .. }) = keys.opening(&wrapped).await else {
            panic!("it answers")
        };
        assert!(!source.to_string().contains("a moment ago"), "it is asked again: {source}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_silent_kms_is_told_at_once() {
        let keys = silent(None);
        let told = |error: SealError| match error {
            SealError::Silent { source, .. } => source.to_string(),
            error => panic!("{error:?}"),
        };
        let first = told(keys.sealing().await.err().unwrap());
        let second = told(keys.sealing().await.err().unwrap());
        assert!(!first.contains("a moment ago") && second.contains("a moment ago"), "{first}; {second}");
        tokio::time::advance(ASK_AGAIN * 2).await;
        let third = told(keys.sealing().await.err().unwrap());
        assert!(!third.contains("a moment ago"), "it is asked again: {third}");
    }
}
