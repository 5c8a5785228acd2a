//! What an operator asks of certificates by command: one now, another instead of one, none any more.
//! Not here: how an order goes (`issue`), which is the same as for a handshake: under the lease, with permission, within the budgets.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    CallOutcome, CertificateRefusal, Certificates, CertificatesInner,
    acme::RevocationError,
    choice::{Candidate, CertificateChoice, choose},
    issue::warn_of,
    issuer::Issuer,
    keyed_chain::serial,
    revocation_reason::RevocationReason,
    step::Purpose,
};
use crate::{
    clock,
    name::Pattern,
    store::{
        StoreError,
        certificate_table::{self, IssuerKey, Lock, LockOutcome},
        instant::Micros,
        state_table,
    },
};

/// Which certificate is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRequest {
    /// One, if there is none.
    Obtain,
    /// Another than there is, whatever its date.
    Renew,
}

/// What was done for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// The name.
    pub server_name: Pattern,
    /// Whether a certificate was ordered, by this instance or another.
    pub is_new: bool,
    /// Serial number of the certificate that is presented now.
    pub serial: String,
    /// End of its life.
    pub not_after: Micros,
    /// Serial number of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// Whether the table has not taken it, so that this instance alone presents it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unwritten: bool,
}

/// A certificate that its CA has revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The name.
    pub server_name: Pattern,
    /// Serial number.
    pub serial: String,
    /// Who issued it.
    pub issuer: String,
    /// Whether it had been revoked before.
    pub was_revoked: bool,
    /// What is presented from now on, where the table holds another: not revoked, and perhaps of the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<Remaining>,
}

/// A certificate that is presented in the place of a revoked one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    /// Serial number.
    pub serial: String,
    /// Who issued it.
    pub issuer: String,
}

/// Why a command about a certificate was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OnRequestError {
    /// No certificate came of it.
    #[error("{server_name}: {refusal}{}", remedy(*refusal, server_name))]
    Refused {
        /// Of what name.
        server_name: Pattern,
        /// Why.
        refusal: CertificateRefusal,
    },
    /// There is nothing to revoke.
    #[error("{0}: there is no certificate of its own in the table")]
    Nothing(Pattern),
    /// Its issuer is not among those of the settings, or is the internal one.
    #[error(
        "{server_name}: its certificate was issued by `{issuer}`, which no issuer of the settings can revoke"
    )]
    Issuer {
        /// Of what name.
        server_name: Pattern,
        /// As keys of the table name it.
        issuer: String,
    },
    /// It is the operator's own.
    #[error(
        "{server_name}: its certificate is your own (stored under `{pattern}`); replace it by `gatehouse certificate import`, or remove it by `gatehouse certificate remove '{pattern}'`"
    )]
    Own {
        /// Of what name.
        server_name: Pattern,
        /// What it is stored under.
        pattern: Pattern,
    },
    /// An order under way would end with a certificate that nobody has looked at, perhaps of the same key.
    #[error(
        "{0}: a certificate is being ordered for the name; try again when that has ended, within minutes"
    )]
    Ordering(Pattern),
    /// The CA did not revoke it.
    #[error(
        "{server_name}: the certificate was not revoked, and is presented as before{}",
        revocation_remedy(source)
    )]
    Revocation {
        /// Of what name.
        server_name: Pattern,
        /// Why not.
        source: RevocationError,
    },
    /// A table.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Certificates {
    /// Orders a certificate for `name` as `wanted` says, or for the wildcard above it that the settings list. Waits for the order as long as
    /// `certificates.wait` says, and for the table.
    ///
    /// # Cancel safety
    /// The order continues.
    pub async fn order_now(&self, name: &Pattern, wanted: OnRequest) -> Result<Ordered, OnRequestError> {
        let name = &self.inner.subject_of(name);
        let before = self.inner.held(name).await?;
        if let (Some(held), OnRequest::Renew) = (&before, wanted) {
            refuse_own(name, held)?;
        }
        let before = before.map(|held| held.pair.serial);
        let purpose = match wanted {
            OnRequest::Obtain => Purpose::Obtain,
            OnRequest::Renew => Purpose::Replace,
        };
        // What a client was told a moment ago is no answer to an operator who may have changed something since.
        self.inner.refusals.invalidate(&(name.clone(), purpose));
        let outcome = self.inner.order_on_request(name, purpose).await;
        let refused = |refusal| OnRequestError::Refused { server_name: name.clone(), refusal };
        let slot = outcome.map_err(refused)?;
        // What was obtained, and not what the table holds: that may not have taken it.
        let held = slot.valid(clock::wall()).ok_or_else(|| refused(CertificateRefusal::Failed))?;
        let serial = held.key.cert.first().and_then(serial);
        let serial = serial.ok_or_else(|| refused(CertificateRefusal::Failed))?;
        let is_new = before.as_ref() != Some(&serial);
        Ok(Ordered {
            server_name: name.clone(),
            is_new,
            not_after: Micros::of(held.not_after),
            replaced: before.filter(|_| is_new),
            serial,
            is_unwritten: slot.is_unwritten.load(Ordering::Relaxed),
        })
    }

    /// Has the CA revoke the certificate of `name` (RFC 8555 §7.6), and takes it out of the table. This instance stops presenting it
    /// at once, others within a minute. Under the name's lease: nobody orders for it meanwhile.
    ///
    /// # Cancel safety
    /// The certificate may have been revoked and still be in the table; the lease ends by itself.
    pub async fn revoke(&self, name: &Pattern, reason: RevocationReason) -> Result<Revoked, OnRequestError> {
        let (store, life) = (&self.inner.store, REVOKED_WITHIN.max(*self.inner.config.lease));
        let LockOutcome::Hold(lock) = Lock::take(store, name, life, clock::wall()).await? else {
            return Err(OnRequestError::Ordering(name.clone()));
        };
        let revoked = self.inner.revoke_under_lease(name, reason).await;
        if let Err(error) = lock.release(store).await {
            warn_of(name, &error, "the lease of a revocation was not released; it expires");
        }
        revoked
    }
}

/// A valid own certificate is what is presented, whatever is ordered.
fn refuse_own(name: &Pattern, held: &Candidate) -> Result<(), OnRequestError> {
    if held.issuer != IssuerKey::own() || !held.pair.is_valid(clock::wall()) {
        return Ok(());
    }
    Err(OnRequestError::Own { server_name: name.clone(), pattern: held.pattern.clone() })
}

impl CertificatesInner {
    async fn revoke_under_lease(
        &self,
        name: &Pattern,
        reason: RevocationReason,
    ) -> Result<Revoked, OnRequestError> {
        let (inner, server_name) = (self, name.clone());
        let stored = certificate_table::read(&inner.store, &inner.issuer_keys, name).await?;
        let held = match choose(&stored, clock::wall()) {
            CertificateChoice::Take(best) if best.issuer == IssuerKey::own() => {
                return Err(OnRequestError::Own { server_name, pattern: best.pattern });
            }
            CertificateChoice::Take(best) if best.pattern == *name => best,
            _ => return Err(OnRequestError::Nothing(server_name)),
        };
        let of_it = |issuer: &&Issuer| *issuer.key() == held.issuer;
        let Some(acme) = inner.issuers.iter().find(of_it).and_then(Issuer::acme) else {
            return Err(OnRequestError::Issuer { server_name, issuer: held.issuer.as_str().to_owned() });
        };
        let leaf = held.pair.certificate.key.cert.first().ok_or(OnRequestError::Nothing(name.clone()))?;
        let was_revoked = match acme.revoke(leaf, reason).await {
            Ok(was_revoked) => was_revoked,
            Err(source) => return Err(OnRequestError::Revocation { server_name, source }),
        };
        // First of all it is presented no more, and an order that was begun meanwhile may be of the same key.
        inner.cache.withdraw(name);
        state_table::remove_open_orders(&inner.store, name, stored.open_orders.issuers()).await?;
        let seen =
            stored.stored.iter().find(|stored| stored.issuer == held.issuer && stored.pattern == *name);
        if let Some(seen) = seen.and_then(|stored| stored.seen.as_ref()) {
            certificate_table::remove(&inner.store, &held.issuer, name, Some(seen)).await?;
        }
        state_table::forget(&inner.store, name).await?;
        inner.cache.withdraw(name);
        let remaining = self.held(name).await?.filter(|held| held.pair.is_valid(clock::wall()));
        Ok(Revoked {
            server_name,
            serial: held.pair.serial,
            issuer: held.issuer.as_str().to_owned(),
            was_revoked,
            remaining: remaining
                .map(|held| Remaining { serial: held.pair.serial, issuer: held.issuer.as_str().to_owned() }),
        })
    }

    async fn order_on_request(self: &Arc<Self>, name: &Pattern, purpose: Purpose) -> CallOutcome {
        let waiter = self.join_or_start(name, purpose, None)?;
        let bound = LONGEST_WAIT.min(*self.config.wait);
        let outcome = tokio::time::timeout(bound, waiter.outcome()).await;
        // A call is lost when its task panics or the runtime ends.
        outcome.map_or(Err(CertificateRefusal::Slow), |outcome| {
            outcome.unwrap_or(Err(CertificateRefusal::Failed))
        })
    }

    /// The certificate in the table that is presented for `name`.
    pub(super) async fn held(&self, name: &Pattern) -> Result<Option<Candidate>, StoreError> {
        let stored = certificate_table::read(&self.store, &self.issuer_keys, name).await?;
        Ok(match choose(&stored, clock::wall()) {
            CertificateChoice::Take(best) => Some(best),
            CertificateChoice::Nothing | CertificateChoice::Torn => None,
        })
    }
}

fn remedy(refusal: CertificateRefusal, name: &Pattern) -> String {
    match refusal {
        CertificateRefusal::Denied => match name {
            Pattern::Exact(_) => format!("; `gatehouse domain add {name}` allows it"),
            Pattern::Wildcard(_) => "; list it in `certificates.wildcards`".to_owned(),
        },
        CertificateRefusal::Unknown => "; `gatehouse status` tells which source does not answer".to_owned(),
        CertificateRefusal::Busy => "; try again".to_owned(),
        CertificateRefusal::Slow => {
            format!("; the order goes on, and `gatehouse certificate show {name}` tells how it ends")
        }
        CertificateRefusal::BackingOff => {
            format!(
                "; `gatehouse certificate show {name}` tells until when, `gatehouse certificate retry {name}` ends the wait"
            )
        }
        CertificateRefusal::Failed => format!("; `gatehouse certificate show {name}` and the log tell why"),
    }
}

/// RFC 8555 §7.6: the certificate's own key may sign, too, which the protocol library does not.
fn revocation_remedy(source: &RevocationError) -> &'static str {
    if source.is_of_another_account() {
        "; another account has ordered it: `gatehouse export caddy` writes it with its key, and `certbot revoke --cert-path FILE --key-path FILE --server DIRECTORY` signs by that"
    } else {
        ""
    }
}

/// Longer than the CA and the tables may take for it.
const REVOKED_WITHIN: Duration = Duration::from_mins(1);
/// Less than a command waits for its answer.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
