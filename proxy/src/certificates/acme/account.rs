//! The fleet's account with a CA. The first key written to the table is the account's; every instance registers with that key.

use instant_acme::{Account, Error, Key};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tracing::{info, warn};

use super::{Acme, OrderError};
use crate::{
    certificates::key,
    clock,
    store::{
        StoreError,
        certificate_table::{self, PrivateKeyPem},
    },
};

impl Acme {
    /// The account, from memory, the table, or newly registered.
    pub(super) async fn account(&self) -> Result<Account, OrderError> {
        let mut held = self.account.lock().await;
        if let Some(account) = &*held {
            return Ok(account.clone());
        }
        let (known, pem) = certificate_table::find_account(&self.store, &self.issuer, &self.email).await?;
        let account = match (known.and_then(|known| known.location()), pem) {
            (Some(location), Some(pem)) => {
                let builder = Account::builder_with_http(Box::new(self.http.clone()));
                builder.from_parts(location, self.account_key(&pem)?, self.directory.clone()).await?
            }
            (_, Some(pem)) => self.register(self.account_key(&pem)?).await?,
            (_, None) => {
                let key = self.share_key().await?;
                self.register(key).await?
            }
        };
        *held = Some(account.clone());
        Ok(account)
    }

    /// Registers the account again, after the CA said that it does not know `forgotten`.
    pub(super) async fn account_instead_of(&self, forgotten: &Account) -> Result<Account, OrderError> {
        let mut held = self.account.lock().await;
        if let Some(account) = held.as_ref().filter(|account| account.id() != forgotten.id()) {
            return Ok(account.clone());
        }
        warn!(directory = %self.directory, account = %forgotten.id(), "CA does not know the account; it is registered again");
        let (_, pem) = certificate_table::find_account(&self.store, &self.issuer, &self.email).await?;
        let key = match pem {
            Some(pem) => self.account_key(&pem)?,
            None => self.share_key().await?,
        };
        let account = self.register(key).await?;
        *held = Some(account.clone());
        Ok(account)
    }

    /// Logs at the start what would make every order fail.
    pub(in crate::certificates) async fn check_account_key(&self) {
        let found = certificate_table::find_account(&self.store, &self.issuer, &self.email).await;
        if let Ok((_, Some(pem))) = found
            && let Err(error) = self.account_key(&pem)
        {
            warn!(directory = %self.directory, %error, "no certificate can be ordered from this CA");
        }
    }

    /// The protocol library signs with P-256 alone, which every CA takes (RFC 8555 §6.2).
    fn account_key(&self, pem: &PrivateKeyPem) -> Result<PrivatePkcs8KeyDer<'static>, OrderError> {
        key::pkcs8(pem.as_bytes()).map_err(|error| self.unusable_key(error.to_string()))
    }

    fn unusable_key(&self, problem: String) -> OrderError {
        OrderError::AccountKey { item: self.issuer.account_key(&self.email), problem }
    }

    /// Puts a key into the table, or takes the one that another instance put there at the same time.
    async fn share_key(&self) -> Result<PrivatePkcs8KeyDer<'static>, OrderError> {
        let fresh = key::generate()?;
        let pem = key::sec1_pem(fresh.serialized_der())?;
        let now = clock::wall();
        let shared =
            certificate_table::share_account_key(&self.store, &self.issuer, &self.email, &pem, now).await;
        match shared {
            Ok(()) => Ok(key::pkcs8(pem.as_bytes())?),
            Err(StoreError::Conflict) => {
                let (_, pem) =
                    certificate_table::find_account(&self.store, &self.issuer, &self.email).await?;
                // It is there, and yet it could not be read.
                let unreadable = || self.unusable_key("it has no base64 text in `Contents`".to_owned());
                self.account_key(&pem.ok_or_else(unreadable)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// RFC 8555 §7.3.1: for a key it knows, the CA answers with the account there is, so that registering twice makes one.
    async fn register(&self, key: PrivatePkcs8KeyDer<'static>) -> Result<Account, OrderError> {
        let pair = (Key::from_pkcs8_der(key.clone_key())?, PrivateKeyDer::Pkcs8(key));
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let (account, _) = builder.create_from_key(pair, self.directory.clone()).await?;
        // RFC 8555 §7.3.2: contacts of an account that was there may be others.
        if !self.email.is_empty() {
            account.update_contacts(&[&format!("mailto:{}", self.email)]).await?;
        }
        let kept = certificate_table::Account::new(&self.email, account.id());
        certificate_table::put_account(&self.store, &self.issuer, &self.email, &kept, clock::wall()).await?;
        info!(directory = %self.directory, account = %account.id(), "account registered");
        Ok(account)
    }
}

/// RFC 8555 §6.7.
pub(super) fn is_forgotten(error: &Error) -> bool {
    matches!(error, Error::Api(problem)
        if problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist"))
}
