//! Who asks: the token of a request looked up, counted, and held against what it asks for.
//! Not here: how a request names its token (`bearer` here, a session in `console`).
//! Invariant: a handler that has a [`Holder`] was asked by a token that holds and has its scope; there is no other way to one.

use std::{
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use axum::extract::FromRequestParts;
use http::{Extensions, request::Parts};
use hyper::header::AUTHORIZATION;

use super::{
    ApiState,
    problem::{Problem, ProblemKind, store_failed},
    rate::RequestRates,
    token_cache::{FRESH_FOR, Known, Looked, TokenCache},
};
use crate::{
    api_token::{ApiToken, Scope, TokenHash, TokenId},
    clock,
    domains::{
        Caller,
        admin::{Authority, AuthorityRefusal, Requester},
    },
    single_flight::{JoinError, SingleFlight},
    store::{
        Store,
        domain_table::Tenant,
        instant::Micros,
        state_table::{TokenReach, TokenRecord, find_token},
    },
};

/// A token that holds, whatever it may do.
#[derive(Clone)]
pub(crate) struct Admitted {
    record: Arc<TokenRecord>,
    hash: TokenHash,
}

/// A token that holds and has the scope `S`.
pub(crate) struct Holder<S> {
    pub(crate) requester: Requester,
    pub(super) hash: TokenHash,
    scope: PhantomData<S>,
}

/// What a request needs.
pub(crate) trait Needs {
    const SCOPE: Scope;
}

/// Needs [`Scope::DomainsRead`].
pub(crate) struct Reads;
/// Needs [`Scope::DomainsWrite`].
pub(crate) struct Writes;
/// Needs [`Scope::AuditRead`].
pub(crate) struct Audits;

impl Needs for Reads {
    const SCOPE: Scope = Scope::DomainsRead;
}

impl Needs for Writes {
    const SCOPE: Scope = Scope::DomainsWrite;
}

impl Needs for Audits {
    const SCOPE: Scope = Scope::AuditRead;
}

impl ApiState {
    /// The token of `hash`, which `caller` has sent, if it holds; counts the request against its rate.
    pub(crate) async fn admit(&self, hash: TokenHash, caller: Caller) -> Result<Admitted, Problem> {
        let record = self.tokens.find(&hash, caller).await?;
        let record = record.filter(|record| record.is_valid(Micros::of(clock::wall())));
        let Some(record) = record else {
            let remedy = "make one by `gatehouse token create`, or ask the operator";
            return Err(unauthenticated("the token was revoked, has ended or was never made").mend(remedy));
        };
        if self.tokens.count(&record).is_err() {
            let fault = format!("token `{}` makes too many requests", record.id);
            let remedy = "wait for the seconds of `Retry-After`, and spread requests";
            return Err(Problem::new(ProblemKind::TooMany, fault).mend(remedy));
        }
        Ok(Admitted { record, hash })
    }
}

impl Admitted {
    /// What the table has of it.
    pub(crate) fn record(&self) -> &TokenRecord {
        &self.record
    }

    /// Its holder, if it has the scope of `S`.
    pub(crate) fn holder<S: Needs>(&self) -> Result<Holder<S>, Problem> {
        let record = &self.record;
        if !record.has(S::SCOPE) {
            let fault = format!("token `{}` has not the scope `{}`", record.id, S::SCOPE);
            return Err(Problem::new(ProblemKind::Forbidden, fault).mend("use a token that has it"));
        }
        Ok(Holder { requester: requester(record), hash: self.hash, scope: PhantomData })
    }
}

impl<S> Holder<S> {
    /// Whose entries are meant where a request names `wanted`; absent, everybody's. A tenant's token means its own.
    pub(crate) fn tenant(&self, wanted: Option<Tenant>) -> Result<Option<Tenant>, Problem> {
        match (self.requester.tenant(), wanted) {
            (Some(own), Some(wanted)) if *own != wanted => {
                Err(Problem::refused(&AuthorityRefusal::OtherTenant(wanted).into()))
            }
            (Some(own), _) => Ok(Some(own.clone())),
            (None, wanted) => Ok(wanted),
        }
    }
}

impl<S: Needs> FromRequestParts<Arc<ApiState>> for Holder<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, Problem> {
        Admitted::from_request_parts(parts, api).await?.holder()
    }
}

impl FromRequestParts<Arc<ApiState>> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self, Problem> {
        // Who looked at the request before the handler has admitted it already.
        if let Some(admitted) = parts.extensions.get::<Self>() {
            return Ok(admitted.clone());
        }
        api.admit(bearer(parts)?.hash(), caller(&parts.extensions)).await
    }
}

/// Who has sent a request, as its connection has it.
pub(crate) fn caller(extensions: &Extensions) -> Caller {
    extensions.get().copied().unwrap_or(Caller::Internal)
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(parts: &Parts) -> Result<ApiToken, Problem> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(unauthenticated("there is no token, or more than one").mend(FORM));
    };
    let text = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer")) else {
        return Err(unauthenticated("`Authorization` has no bearer token").mend(FORM));
    };
    ApiToken::parse(token.trim()).map_err(|fault| unauthenticated(fault.to_string()).mend(FORM))
}

fn unauthenticated(fault: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Unauthenticated, fault)
}

fn requester(record: &TokenRecord) -> Requester {
    let authority = match &record.reach {
        TokenReach::Tenant(tenant) => Authority::Tenant(tenant.clone()),
        TokenReach::AllTenants => Authority::Operator,
    };
    Requester { authority, name: format!("token {}", record.id) }
}

/// The tokens of the table, and what each may still ask.
pub(super) struct Tokens {
    store: Store,
    cache: Arc<Mutex<TokenCache>>,
    rates: Mutex<RequestRates<TokenId>>,
    in_flight: Arc<SingleFlight<TokenHash, Result<Looked, LookUpFailed>>>,
}

/// The table did not say.
#[derive(Debug, Clone, Copy)]
struct LookUpFailed;

impl Tokens {
    pub(super) fn new(store: Store, rates: RequestRates<TokenId>) -> Self {
        let cache = Arc::new(Mutex::new(TokenCache::new(clock::now())));
        let in_flight = Arc::new(SingleFlight::new(WAITERS, WAITERS));
        Self { store, cache, rates: Mutex::new(rates), in_flight }
    }

    fn count(&self, record: &TokenRecord) -> Result<(), super::rate::TooManyRequests> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(&record.id, clock::now())
    }

    /// The token of `hash` as it was not long ago. When the table does not answer nobody is let in.
    async fn find(&self, hash: &TokenHash, caller: Caller) -> Result<Option<Arc<TokenRecord>>, Problem> {
        let came = clock::now();
        if let Known::Fresh(looked) = lock(&self.cache).find(hash, came) {
            return Ok(looked.record);
        }
        let admit = || lock(&self.cache).admit(hash, caller, came);
        let joined = self.in_flight.join(hash, admit, |completion| {
            let (store, cache, hash) = (self.store.clone(), Arc::clone(&self.cache), *hash);
            tokio::spawn(async move {
                let looked = match find_token(&store, &hash).await {
                    Ok(found) => Ok(Looked { record: found.map(Arc::new), asked_at: came }),
                    Err(error) => {
                        store_failed(&error);
                        Err(LookUpFailed)
                    }
                };
                if let Ok(looked) = &looked {
                    lock(&cache).learn(hash, looked.clone(), clock::now());
                }
                completion.complete(looked);
            });
        });
        let waiter = joined.map_err(|error| match error {
            JoinError::Full | JoinError::Refused(_) => {
                Problem::new(ProblemKind::TooMany, "too many tokens are looked up at once")
                    .mend("wait for the seconds of `Retry-After`")
            }
        })?;
        match waiter.outcome().await {
            // Who joined a call that is slow may have come long after it was made.
            Some(Ok(looked)) if came.saturating_duration_since(looked.asked_at) < FRESH_FOR => {
                Ok(looked.record)
            }
            Some(_) | None => Err(Problem::new(ProblemKind::Unavailable, "tokens cannot be looked up now")),
        }
    }
}

fn lock(cache: &Mutex<TokenCache>) -> std::sync::MutexGuard<'_, TokenCache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

const FORM: &str = "send one as `Authorization: Bearer gatehouse_...`";
const WAITERS: usize = 256;
