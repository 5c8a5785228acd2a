//! The fleet's account with a CA. The first key written to the table is the account's; every instance registers with that key. Where
//! the CA binds accounts to external ones (RFC 8555 §7.3.4), the first registration written is the fleet's.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::{Account, AccountCredentials, Error, Key, NewAccount};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{Acme, FORGOTTEN, MALFORMED, OrderError, UNAUTHORIZED, external_account::ExternalAccount, http};
use crate::{
    backoff::Backoff,
    certificates::key::{self, KeyError},
    clock,
    store::{
        PrivateKeyPem, Store, StoreError,
        certificate_table::{self, AccountKeyCommit, IssuerKey, StoredAccount, Version},
    },
};

/// What a CA's answer means for the account that asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountStanding {
    /// Nothing is known.
    Unknown,
    /// The CA accepts it.
    Good,
    Lost(AccountLoss),
}

impl AccountStanding {
    pub(super) fn loss(self) -> Option<AccountLoss> {
        match self {
            Self::Lost(loss) => Some(loss),
            Self::Unknown | Self::Good => None,
        }
    }
}

/// How an account was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountLoss {
    /// The CA does not know it: it may have lost its state.
    Forgotten,
    /// The key in the table is another account's: Caddy, which registers for several names at once, may leave one's key beside the other's URL.
    OtherKey,
    /// It was deactivated (RFC 8555 §7.3.6), which nothing reverts: its key is of no more use.
    Deactivated,
}

impl Acme {
    /// The account, from memory, the table, or newly registered.
    pub(super) async fn account(&self) -> Result<Account, OrderError> {
        let mut held = self.account.lock().await;
        if let Some(account) = &*held {
            return Ok(account.clone());
        }
        let stored = self.find_account().await?;
        let account = match (location(&stored), &stored.key) {
            (Some(location), Some(pem)) => self.open(location, pem).await?,
            _ => self.register(stored).await?,
        };
        *held = Some(account.clone());
        Ok(account)
    }

    /// The URL of the account as memory or the table has it; none before one was registered. The CA is not asked.
    pub(in crate::certificates) async fn account_url(&self) -> Result<Option<String>, StoreError> {
        // Who loads it may wait for the CA.
        if let Ok(held) = self.account.try_lock()
            && let Some(account) = &*held
        {
            return Ok(Some(account.id().to_owned()));
        }
        Ok(location(&self.find_account().await?))
    }

    /// Has account and directory read again.
    pub(super) async fn forget_account(&self) {
        *self.account.lock().await = None;
    }

    /// Registers another account than `former`, unless another instance has done so.
    pub(super) async fn account_instead_of(
        &self,
        former: &Account,
        loss: AccountLoss,
    ) -> Result<Account, OrderError> {
        let mut held = self.account.lock().await;
        if let Some(account) = held.as_ref().filter(|account| account.id() != former.id()) {
            return Ok(account.clone());
        }
        let stored = self.find_account().await?;
        let elsewhere = location(&stored).filter(|location| location != former.id());
        let account = if let (Some(location), Some(pem)) = (elsewhere, &stored.key) {
            self.open(location, pem).await?
        } else {
            warn!(directory = %self.directory, account = %former.id(), ?loss, "CA does not accept the account with its key any more; the key's own is taken, or another registered");
            match loss {
                AccountLoss::Forgotten | AccountLoss::OtherKey => self.register(stored).await?,
                // Another instance has put its key there a moment ago, and registers with it, or has ended: the account is that key's.
                AccountLoss::Deactivated if stored.account.is_none() && stored.key.is_some() => {
                    self.register(stored).await?
                }
                AccountLoss::Deactivated => self.register_anew(&stored).await?,
            }
        };
        *held = Some(account.clone());
        Ok(account)
    }

    /// What `error`, the CA's answer to a request by `account`, means for the account.
    pub(super) async fn standing(&self, account: &Account, error: &OrderError) -> AccountStanding {
        let OrderError::Refused(problem) = error else { return AccountStanding::Unknown };
        match problem.kind.as_deref() {
            Some(FORGOTTEN) => AccountStanding::Lost(AccountLoss::Forgotten),
            Some(MALFORMED) if problem.problem.contains(WRONG_SIGNATURE) => {
                AccountStanding::Lost(AccountLoss::OtherKey)
            }
            // It may also be the order that is refused: a change of the account that changes nothing tells.
            Some(UNAUTHORIZED) => {
                let contact = self.contact();
                match account.update_contacts(&texts(&contact)).await {
                    Ok(()) => AccountStanding::Good,
                    Err(Error::Str(_)) => AccountStanding::Lost(AccountLoss::Deactivated),
                    Err(error) if kind(&error) == Some(UNAUTHORIZED) => {
                        AccountStanding::Lost(AccountLoss::Deactivated)
                    }
                    Err(_) => AccountStanding::Unknown,
                }
            }
            _ => AccountStanding::Unknown,
        }
    }

    /// Logs at the start what would make every order fail.
    pub(in crate::certificates) async fn check_account_key(&self) {
        let found = certificate_table::find_account(&self.store, &self.issuer, &self.email).await;
        if let Ok(StoredAccount { key: Some(pem), .. }) = found
            && let Err(error) = self.account_key(&pem)
        {
            warn!(directory = %self.directory, %error, "no certificate can be ordered from this CA");
        }
    }

    /// RFC 8555 §7.3; as many as there are addresses.
    fn contact(&self) -> Vec<String> {
        let address = Some(&self.email).filter(|email| !email.is_empty());
        address.map(|email| format!("mailto:{email}")).into_iter().collect()
    }

    async fn find_account(&self) -> Result<StoredAccount, StoreError> {
        certificate_table::find_account(&self.store, &self.issuer, &self.email).await
    }

    async fn open(&self, location: String, pem: &PrivateKeyPem) -> Result<Account, OrderError> {
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        Ok(builder.from_parts(location, self.account_key(pem)?, self.directory.clone()).await?)
    }

    /// The protocol library signs with P-256 alone, which every CA takes (RFC 8555 §6.2).
    fn account_key(&self, pem: &PrivateKeyPem) -> Result<PrivatePkcs8KeyDer<'static>, OrderError> {
        key::pkcs8(pem.as_bytes()).map_err(|error| self.unusable_key(error.to_string()))
    }

    fn unusable_key(&self, problem: String) -> OrderError {
        OrderError::AccountKey { item: self.issuer.account_key(&self.email), problem }
    }

    /// Registers with the key in the table, if there is one that the CA takes.
    async fn register(&self, stored: StoredAccount) -> Result<Account, OrderError> {
        let Some(pem) = &stored.key else {
            // An item that holds nothing readable is not ours to replace.
            return match &stored.seen {
                None => self.register_anew(&stored).await,
                Some(_) => Err(self.unusable_key("it has no base64 text in `Contents`".to_owned())),
            };
        };
        let key = self.account_key(pem)?;
        let registered = match &self.external {
            None => self.register_key(key, &stored).await,
            // Only a new account can be bound.
            Some(_) => self.find_by_key(key, &stored).await,
        };
        match registered {
            Err(OrderError::Refused(problem))
                if problem.is_of_kind(UNAUTHORIZED) || problem.is_of_kind(FORGOTTEN) =>
            {
                self.register_anew(&stored).await
            }
            registered => registered,
        }
    }

    /// Registers with a new key, which takes the place of what was read, or joins who was faster.
    async fn register_anew(&self, stored: &StoredAccount) -> Result<Account, OrderError> {
        match &self.external {
            None => {
                let stored = self.share_key(stored.seen.as_ref()).await?;
                // It is there, and yet it could not be read.
                let unreadable = || self.unusable_key("it has no base64 text in `Contents`".to_owned());
                let key = self.account_key(stored.key.as_ref().ok_or_else(unreadable)?)?;
                self.register_key(key, &stored).await
            }
            Some(external) => self.create_bound(external, stored.seen.as_ref()).await,
        }
    }

    /// Puts a key into the table, unless another instance put one there at the same time; what is there then.
    async fn share_key(&self, replaced: Option<&Version>) -> Result<StoredAccount, OrderError> {
        let fresh = key::generate()?;
        let pem = key::sec1_pem(fresh.serialized_der())?;
        match self.commit_key(&pem, replaced, None).await {
            Ok(()) | Err(StoreError::Conflict) => Ok(self.find_account().await?),
            Err(error) => Err(error.into()),
        }
    }

    async fn commit_key(
        &self,
        key: &PrivateKeyPem,
        replaced: Option<&Version>,
        account: Option<&certificate_table::Account>,
    ) -> Result<(), StoreError> {
        let commit = AccountKeyCommit { issuer: &self.issuer, email: &self.email, replaced, key, account };
        certificate_table::commit_account_key(&self.store, &commit, clock::wall()).await
    }

    /// RFC 8555 §7.3.1: for a key it knows, the CA answers with the account there is, so that registering twice makes one. `stored` is what
    /// the key was read with.
    async fn register_key(
        &self,
        key: PrivatePkcs8KeyDer<'static>,
        stored: &StoredAccount,
    ) -> Result<Account, OrderError> {
        let pair = (Key::from_pkcs8_der(key.clone_key())?, PrivateKeyDer::Pkcs8(key));
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let (account, _) = builder.create_from_key(pair, self.directory.clone()).await?;
        // RFC 8555 §7.3.2: contacts of an account that was there may be others.
        if !self.email.is_empty() {
            account.update_contacts(&texts(&self.contact())).await?;
        }
        self.keep(account, stored).await
    }

    /// The account that the CA has for `key`, if any.
    async fn find_by_key(
        &self,
        key: PrivatePkcs8KeyDer<'static>,
        stored: &StoredAccount,
    ) -> Result<Account, OrderError> {
        let pair = (Key::from_pkcs8_der(key.clone_key())?, PrivateKeyDer::Pkcs8(key));
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let (account, _) = builder.from_key(pair, self.directory.clone()).await?;
        self.keep(account, stored).await
    }

    /// Writes the account beside the key that it is of, which is written again: another instance may have put its own in its place
    /// meanwhile, and then the account is that one's.
    async fn keep(&self, account: Account, stored: &StoredAccount) -> Result<Account, OrderError> {
        let kept = certificate_table::Account::new(&self.email, account.id());
        let Some(pem) = &stored.key else { return Ok(account) };
        match self.commit_key(pem, stored.seen.as_ref(), Some(&kept)).await {
            Ok(()) => {
                info!(directory = %self.directory, account = %account.id(), "account registered");
                Ok(account)
            }
            Err(StoreError::Conflict) => {
                let present = self.find_account().await?;
                match (location(&present), &present.key) {
                    (Some(location), Some(pem)) => self.open(location, pem).await,
                    // Whoever has put that key there registers with it.
                    _ => Err(StoreError::Conflict.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Registers an account that is bound to the external one, or joins who was faster.
    async fn create_bound(
        &self,
        external: &ExternalAccount,
        replaced: Option<&Version>,
    ) -> Result<Account, OrderError> {
        let binding = Binding {
            http: self.http.clone(),
            store: self.store.clone(),
            issuer: self.issuer.clone(),
            directory: self.directory.clone(),
            email: self.email.clone(),
            contact: self.contact(),
            external: external.clone(),
            replaced: replaced.cloned(),
        };
        // A task of its own: some CAs take an external account's key once, so that what they have made is stored whatever becomes of the
        // order that needs it.
        let bound = tokio::spawn(http::within_order(async move { Box::pin(binding.create()).await }));
        let bound = bound.await.unwrap_or_else(|ended| Err(StoreError::Refused(ended.into()).into()));
        let failed = match bound {
            Err(OrderError::Store(StoreError::Conflict)) => StoreError::Conflict.into(),
            // Another instance may have used the key a moment ago.
            Err(error @ OrderError::ExternalAccountRefused { .. }) => error,
            bound => return bound,
        };
        let stored = self.find_account().await?;
        match (location(&stored), &stored.key) {
            (Some(location), Some(pem)) if stored.seen.as_ref() != replaced => self.open(location, pem).await,
            _ => Err(failed),
        }
    }
}

/// A registration with an external account.
struct Binding {
    http: http::Http,
    store: Store,
    issuer: IssuerKey,
    directory: String,
    email: String,
    contact: Vec<String>,
    external: ExternalAccount,
    /// The item in whose place the key is put.
    replaced: Option<Version>,
}

impl Binding {
    /// The protocol library binds accounts only to keys that it has made itself, so account and key are stored together.
    async fn create(self) -> Result<Account, OrderError> {
        let contact = texts(&self.contact);
        let wanted =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let created = builder.create(&wanted, self.directory.clone(), Some(&self.external.binding())).await;
        let (account, credentials) = created.map_err(|error| self.external.explain(error.into()))?;
        let pem = key_of(&credentials)?;
        let kept = certificate_table::Account::new(&self.email, account.id());
        self.keep(&pem, &kept).await?;
        info!(directory = %self.directory, account = %account.id(), key_id = %self.external.key_id, "account registered and bound");
        Ok(account)
    }

    async fn keep(
        &self,
        key: &PrivateKeyPem,
        account: &certificate_table::Account,
    ) -> Result<(), StoreError> {
        let commit = AccountKeyCommit {
            issuer: &self.issuer,
            email: &self.email,
            replaced: self.replaced.as_ref(),
            key,
            account: Some(account),
        };
        let mut failures = 0;
        loop {
            match certificate_table::commit_account_key(&self.store, &commit, clock::wall()).await {
                Err(StoreError::Unavailable(_)) if failures < MOST_FAILURES => failures += 1,
                ended => return ended,
            }
            tokio::time::sleep(PAUSES.after(failures)).await;
        }
    }
}

fn texts(contact: &[String]) -> Vec<&str> {
    contact.iter().map(String::as_str).collect()
}

fn location(stored: &StoredAccount) -> Option<String> {
    stored.account.as_ref()?.location()
}

/// The key that the protocol library has made for an account: it shows it in this form alone.
fn key_of(credentials: &AccountCredentials) -> Result<PrivateKeyPem, KeyError> {
    let Ok(serde_json::Value::Object(mut parts)) = serde_json::to_value(credentials) else {
        return Err(KeyError::Kind);
    };
    let Some(serde_json::Value::String(text)) = parts.remove("key_pkcs8") else { return Err(KeyError::Kind) };
    let text = Zeroizing::new(text);
    let der = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(|_| KeyError::Kind)?);
    key::sec1_pem(&der)
}

fn kind(error: &Error) -> Option<&str> {
    match error {
        Error::Api(problem) => problem.r#type.as_deref(),
        _ => None,
    }
}

/// What Boulder and Pebble say of a signature that is not of the account's key; RFC 8555 §6.7 has no type of its own for it.
const WRONG_SIGNATURE: &str = "JWS verification error";
/// An external account's key outlasts an outage of the table of half an hour.
const MOST_FAILURES: u32 = 60;
const PAUSES: Backoff = Backoff::doubling(Duration::from_millis(500), Duration::from_secs(30));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        store::{Engine, FaultPlan, Faults, tables},
    };

    /// A CA takes the external account's key once.
    #[tokio::test(start_paused = true)]
    async fn a_bound_account_is_stored_however_late_the_table_takes_it() {
        let (engine, config) = (Engine::in_memory().unwrap(), StoreConfig::default());
        let sound = Store::on(engine.clone(), &config);
        tables::create(&sound).await.unwrap();
        let faults = Faults::new(FaultPlan::default());
        let binding = Binding {
            http: http::Http::new(None).unwrap(),
            store: Store::on_faulty(engine, &config, std::sync::Arc::clone(&faults)),
            issuer: IssuerKey::of_directory("https://ca.example/dir"),
            directory: "https://ca.example/dir".to_owned(),
            email: String::new(),
            contact: Vec::new(),
            external: ExternalAccount::for_tests(),
            replaced: None,
        };
        let pem = key::sec1_pem(key::generate().unwrap().serialized_der()).unwrap();
        let account = certificate_table::Account::new("", "https://ca.example/account/1");
        faults.set_outage(true);
        let ends = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(5)).await;
            faults.set_outage(false);
        });
        binding.keep(&pem, &account).await.unwrap();
        assert!(ends.is_finished(), "it was stored during the outage");
        let stored = certificate_table::find_account(&sound, &binding.issuer, "").await.unwrap();
        assert_eq!(location(&stored).as_deref(), Some("https://ca.example/account/1"));
        assert_eq!(stored.key, Some(pem));
    }

    #[test]
    fn a_key_that_the_library_made_is_kept_as_others_are() {
        let pair = key::generate().unwrap();
        let text = URL_SAFE_NO_PAD.encode(pair.serialized_der());
        let credentials =
            serde_json::json!({ "id": "https://ca.example/1", "key_pkcs8": text, "directory": null });
        let credentials: AccountCredentials = serde_json::from_value(credentials).unwrap();
        assert_eq!(key_of(&credentials).unwrap(), key::sec1_pem(pair.serialized_der()).unwrap());
    }
}
