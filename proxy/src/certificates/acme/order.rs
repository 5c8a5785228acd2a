//! One order (RFC 8555 §7.4): authorization, challenge, finalization, chain.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem,
};
use rcgen::{CertificateParams, CertificateSigningRequest, DistinguishedName};
use tracing::{info, warn};

use super::{
    Acme, Awaited, BAD_NONCE, Issued, OrderError, OrderRequest, Prefer, RATE_LIMITED, SERVER_INTERNAL,
    account::AccountStanding,
    brief,
    http::{retry_after, set_awaited, status},
};
use crate::{
    backoff::Backoff,
    certificates::{
        challenges::{Challenges, DNS, HTTP, TLS_ALPN},
        key::{self, KeyError},
    },
    clock,
    name::Pattern,
    store::{
        PrivateKeyPem, certificate_table, probe,
        state_table::{self, OpenOrder},
    },
    telemetry::admit_line,
};

/// RFC 8555 §6.5: a request refused for its nonce is sent again. The library does so twice in a call, which is no more than a
/// chance where several servers of a CA hand out nonces that the others do not know.
///
/// A macro, since the future of an async closure over these borrows is not known to be `Send`.
macro_rules! despite_nonces {
    ($call:expr) => {{
        let mut left = CALLS;
        loop {
            match $call {
                Err(OrderError::BadNonce) if left > 0 => left -= 1,
                outcome => break outcome,
            }
        }
    }};
}

/// An order that the CA has.
struct Placed {
    account: Account,
    order: Order,
    /// Of its certificate.
    key: PrivateKeyPem,
}

impl Acme {
    pub(super) async fn place(
        &self,
        name: &Pattern,
        order_request: &OrderRequest,
        challenges: &Challenges,
    ) -> Result<Issued, OrderError> {
        // One that was placed before may have been finalized: however slow the CA is, its certificate is not given up.
        let awaited = if order_request.open.is_some() { Awaited::Issuance } else { Awaited::Ca };
        set_awaited(awaited);
        let account = despite_nonces!(self.account().await).map_err(OrderError::about_account)?;
        // A CA shows an order to the account that placed it alone, and a profile is chosen with the order.
        let is_ours = |open: &&OpenOrder| {
            open.issuer == self.issuer.as_str()
                && open.account == account.id()
                && open.profile == self.profile
        };
        let open = order_request.open.as_ref().filter(is_ours);
        let resumed = match open {
            Some(open) => {
                order_request.placed.set(&open.url);
                resume(&account, open).await?
            }
            None => None,
        };
        let Placed { account, mut order, key } = match resumed {
            Some(resumed) => resumed,
            None => self.begin(account, name, order_request).await?,
        };
        order_request.placed.set(order.url());
        // RFC 8555 §7.1.6: pending, ready, processing, valid.
        if order.state().status == OrderStatus::Pending {
            set_awaited(Awaited::Ca);
            despite_nonces!(self.authorize(&mut order, name, order_request.prefer, challenges).await)?;
            set_awaited(Awaited::Validation);
            await_status(&mut order, &[OrderStatus::Ready, OrderStatus::Processing, OrderStatus::Valid])
                .await?;
        }
        set_awaited(Awaited::Issuance);
        if order.state().status == OrderStatus::Ready {
            let request = certificate_request(name, &key)?;
            let finalized =
                despite_nonces!(order.finalize_csr(request.der()).await.map_err(OrderError::from));
            finalized_by_anyone(&mut order, finalized).await?;
        }
        await_status(&mut order, &[OrderStatus::Valid]).await?;
        // RFC 8555 §7.4.2: the chain in PEM, the certificate first.
        let url = order.state().certificate.clone();
        let chain = despite_nonces!(order.certificate().await.map_err(OrderError::from))?;
        let chain = chain.ok_or(OrderError::Slow { awaiting: Awaited::Issuance })?;
        let chain = self.preferred(&account, name, chain).await;
        Ok(Issued { chain, key, url, account: Some(account.id().to_owned()) })
    }

    /// Places an order, and remembers it for whoever goes on with it.
    async fn begin(
        &self,
        account: Account,
        name: &Pattern,
        order_request: &OrderRequest,
    ) -> Result<Placed, OrderError> {
        set_awaited(Awaited::Ca);
        // A key that cannot be kept is no reason to order.
        probe::seal(&self.store).await?;
        let key = key::generate()?;
        let key = key::sec1_pem(key.serialized_der())?;
        let (account, order) = self.new_order(account, name, order_request).await?;
        let open = OpenOrder {
            issuer: self.issuer.as_str().to_owned(),
            account: account.id().to_owned(),
            url: order.url().to_owned(),
            profile: self.profile.clone(),
            key: key.clone(),
            placed_at: clock::wall(),
        };
        let recorded = order_request.recorded.as_deref();
        match state_table::put_open_order(&self.store, name, &open, recorded).await {
            Ok(true) => {}
            Ok(false) => {
                info!(server_name = %name, order = %open.url, "another instance has placed an order of the name meanwhile, which stays recorded");
            }
            Err(error) => {
                if let Some(left_out) = admit_line("open_order_unrecorded", "") {
                    warn!(server_name = %name, %error, left_out, "the order was not recorded; if this instance ends before it has the certificate, another is ordered");
                }
            }
        }
        Ok(Placed { account, order, key })
    }

    async fn new_order(
        &self,
        account: Account,
        name: &Pattern,
        order_request: &OrderRequest,
    ) -> Result<(Account, Order), OrderError> {
        let identifiers = [Identifier::Dns(name.to_string())];
        let replaced = order_request.replaces.as_ref();
        let replaced =
            replaced.filter(|replaced| self.exempts_replacements() && replaced.is_of(account.id()));
        if let Some(replaced) = replaced {
            let wanted = self.wanted(&account, &identifiers).await?.replaces(replaced.certificate.clone());
            order_request.is_sent.store(true, Ordering::Relaxed);
            if let Some(order) = replace(&account, &wanted, &self.lacks_replacement).await? {
                return Ok((account, order));
            }
        }
        let wanted = self.wanted(&account, &identifiers).await?;
        order_request.is_sent.store(true, Ordering::Relaxed);
        let mut loss = None;
        let placed = despite_nonces!(match account.new_order(&wanted).await {
            Err(error) => {
                let refused = OrderError::from(error);
                let standing = self.standing(&account, &refused).await;
                loss = standing.loss();
                Err(if standing == AccountStanding::Good { refused.about_name() } else { refused })
            }
            Ok(order) => Ok(order),
        });
        let Some(loss) = loss else { return Ok((account, placed?)) };
        let account = despite_nonces!(self.account_instead_of(&account, loss).await);
        let account = account.map_err(OrderError::about_account)?;
        let order = despite_nonces!(account.new_order(&wanted).await.map_err(OrderError::from))?;
        Ok((account, order))
    }

    /// An order of the profile in the settings, which the CA's directory must offer.
    async fn wanted<'a>(
        &'a self,
        account: &Account,
        identifiers: &'a [Identifier],
    ) -> Result<NewOrder<'a>, OrderError> {
        let wanted = NewOrder::new(identifiers);
        let Some(profile) = &self.profile else { return Ok(wanted) };
        if account.profiles().any(|offered| offered.name == profile) {
            return Ok(wanted.profile(profile));
        }
        let mut offered: Vec<_> =
            account.profiles().map(|offered| brief(offered.name)).take(MOST_PROFILES).collect();
        offered.sort_unstable();
        // The next order reads the directory again, which may have it by then.
        self.forget_account().await;
        Err(OrderError::UnknownProfile { profile: profile.clone(), offered })
    }

    async fn authorize(
        &self,
        order: &mut Order,
        name: &Pattern,
        prefer: Prefer,
        challenges: &Challenges,
    ) -> Result<(), OrderError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            // RFC 8555 §7.5: one that was given before may still hold.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let offered: Vec<_> =
                authorization.challenges.iter().map(|challenge| challenge.r#type.clone()).collect();
            // One that is being validated already stays: all instances answer by the same item.
            let begun = authorization.challenges.iter().find(|challenge| {
                challenge.status != ChallengeStatus::Pending
                    && select(std::slice::from_ref(&challenge.r#type), prefer).is_some()
            });
            let choice = begun.map_or(offered.as_slice(), |begun| std::slice::from_ref(&begun.r#type));
            let (kind, text) = select(choice, prefer).ok_or(OrderError::NoChallenge)?;
            let mut challenge = authorization.challenge(kind).ok_or(OrderError::NoChallenge)?;
            let is_begun = challenge.status != ChallengeStatus::Pending;
            let shown = certificate_table::Challenge {
                kind: text.to_owned(),
                url: challenge.url.clone(),
                status: "pending".to_owned(),
                token: challenge.token.clone(),
                key_authorization: challenge.key_authorization().as_str().to_owned(),
                identifier: certificate_table::Identifier::dns(name.name()),
            };
            self.show(name, shown, challenges).await?;
            // RFC 8555 §7.5.1: the CA may validate from now on, whether or not its answer arrives, so every instance can answer already.
            set_awaited(Awaited::Validation);
            if !is_begun {
                // Not from the beginning: the record of a dns-01 challenge takes a minute each time.
                despite_nonces!(challenge.set_ready().await.map_err(OrderError::from))?;
            }
        }
        Ok(())
    }

    /// Shows the CA `challenge`: when this returns, it can be found from anywhere.
    pub(super) async fn show(
        &self,
        name: &Pattern,
        challenge: certificate_table::Challenge,
        challenges: &Challenges,
    ) -> Result<(), OrderError> {
        set_awaited(Awaited::Challenge);
        match name {
            Pattern::Exact(name) => challenges.open(&self.issuer, name, challenge).await?,
            Pattern::Wildcard(_) => challenges.open_dns(&self.issuer, name, challenge).await?,
        }
        set_awaited(Awaited::Ca);
        Ok(())
    }
}

/// The order that was placed before; `None` when the CA knows it no more.
async fn resume(account: &Account, open: &OpenOrder) -> Result<Option<Placed>, OrderError> {
    let found = despite_nonces!(account.order(open.url.clone()).await.map_err(OrderError::from));
    let mut order = match found {
        Ok(order) => order,
        Err(error) if error.denies_the_resource() => return Ok(None),
        Err(error) => return Err(error),
    };
    if order.state().status == OrderStatus::Invalid {
        return Err(invalid(&mut order).await);
    }
    info!(order = %open.url, status = ?order.state().status, "an order that was placed before is gone on with");
    Ok(Some(Placed { account: account.clone(), order, key: open.key.clone() }))
}

/// RFC 8555 §7.4: an order is finalized once, and another instance may have gone on with it meanwhile: by the same key.
async fn finalized_by_anyone(order: &mut Order, finalized: Result<(), OrderError>) -> Result<(), OrderError> {
    let refused = match finalized {
        Err(OrderError::Refused(problem)) if problem.is_of_the_request() => OrderError::Refused(problem),
        finalized => return finalized,
    };
    despite_nonces!(order.refresh().await.map(drop).map_err(OrderError::from))?;
    match order.state().status {
        OrderStatus::Processing | OrderStatus::Valid => Ok(()),
        OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Invalid => Err(refused),
    }
}

fn certificate_request(name: &Pattern, key: &PrivateKeyPem) -> Result<CertificateSigningRequest, OrderError> {
    let mut params = CertificateParams::new(vec![name.to_string()]).map_err(KeyError::from)?;
    // RFC 8555 §7.4 wants the identifiers in either place; CAs stop reading the common name.
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key::pair(key.as_bytes())?).map_err(KeyError::from)?;
    Ok(request)
}

/// What a CA makes of an order that names the certificate it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplacementAnswer {
    /// It does not know such orders, and none is asked for again.
    Unknown,
    /// It refuses this one; another may be accepted.
    Refused,
    /// It would say the same to an order that replaces nothing.
    Failed,
}

/// An order that names the certificate it replaces; `None` when the CA refuses that, and then it is not named again.
async fn replace(
    account: &Account,
    wanted: &NewOrder<'_>,
    is_unknown: &AtomicBool,
) -> Result<Option<Order>, OrderError> {
    despite_nonces!(match account.new_order(wanted).await {
        Ok(order) => Ok(Some(order)),
        Err(error) => match ReplacementAnswer::of(&error, status()) {
            ReplacementAnswer::Unknown => {
                is_unknown.store(true, Ordering::Relaxed);
                Ok(None)
            }
            ReplacementAnswer::Refused => Ok(None),
            ReplacementAnswer::Failed => Err(OrderError::from(error)),
        },
    })
}

impl ReplacementAnswer {
    /// RFC 9773 §5 names the reasons of a refusal (a certificate that was replaced before, or that the CA does not find ours), and CAs
    /// have others: whatever is wrong with an order, one that replaces nothing is tried before the name fails. `status` is the answer's.
    fn of(error: &Error, status: Option<u16>) -> Self {
        let kind = match error {
            // It has said nothing yet.
            Error::Unsupported(_) => return Self::Unknown,
            Error::Api(problem) => problem.r#type.as_deref().unwrap_or_default(),
            _ => "",
        };
        match status {
            _ if [BAD_NONCE, RATE_LIMITED, SERVER_INTERNAL].contains(&kind) => Self::Failed,
            Some(400..=428 | 430..=499) => Self::Refused,
            // It has made an order that replaces nothing: what it accepts it MUST repeat. Nobody knows the order's URL.
            Some(200..=299) => Self::Unknown,
            _ => Self::Failed,
        }
    }
}

fn select(offered: &[ChallengeType], prefer: Prefer) -> Option<(ChallengeType, &'static str)> {
    let (http, alpn) = ((ChallengeType::Http01, HTTP), (ChallengeType::TlsAlpn01, TLS_ALPN));
    let preferred = match prefer {
        Prefer::Http => vec![http, alpn],
        Prefer::TlsAlpn => vec![alpn, http],
        Prefer::Dns => vec![(ChallengeType::Dns01, DNS)],
    };
    preferred.into_iter().find(|(kind, _)| offered.contains(kind))
}

/// Polls until the order has one of the states `wanted`; the caller's deadline ends it.
async fn await_status(order: &mut Order, wanted: &[OrderStatus]) -> Result<(), OrderError> {
    let mut polls = 0_u32;
    loop {
        if wanted.contains(&order.state().status) {
            return Ok(());
        }
        if order.state().status == OrderStatus::Invalid {
            return Err(invalid(order).await);
        }
        polls = polls.saturating_add(1);
        tokio::time::sleep(pause_until(retry_after(), POLLS.after(polls), clock::wall())).await;
        despite_nonces!(order.refresh().await.map(drop).map_err(OrderError::from))?;
    }
}

/// RFC 8555 §7.5.1: the server's Retry-After, within limits, else ours.
fn pause_until(retry_after: Option<SystemTime>, ours: Duration, now: SystemTime) -> Duration {
    match retry_after.and_then(|at| at.duration_since(now).ok()) {
        Some(theirs) => theirs.clamp(LEAST_ASKED, MOST_PAUSE),
        None => ours,
    }
}

/// Why an order failed: its own error (RFC 8555 §7.1.3), or that of the challenge (§8).
async fn invalid(order: &mut Order) -> OrderError {
    let of = |error: &Problem| OrderError::Invalid {
        problem: brief(&error.to_string()),
        kind: error.r#type.clone(),
    };
    if let Some(error) = &order.state().error {
        return of(error);
    }
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { break };
        let error = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(error) = error {
            return of(error);
        }
    }
    OrderError::Invalid { problem: "it gives no reason".to_owned(), kind: None }
}

/// Retries by the library, in addition to the first try.
const CALLS: u8 = 3;
/// A CA that validates at once is not kept waiting, twice for each order; one that takes seconds is asked three times more.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// Whatever a CA asks for.
const LEAST_ASKED: Duration = Duration::from_millis(100);
const POLLS: Backoff = Backoff::polling(FIRST_PAUSE, Duration::from_secs(2));
const MOST_PAUSE: Duration = Duration::from_secs(10);
/// That are told of; CAs have two or three.
const MOST_PROFILES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_comes_first_unless_it_failed_or_is_not_offered() {
        use ChallengeType::{Dns01, Http01, TlsAlpn01};
        for (offered, prefer, expected) in [
            (vec![Dns01, TlsAlpn01, Http01], Prefer::Http, Some(HTTP)),
            (vec![Dns01, TlsAlpn01, Http01], Prefer::TlsAlpn, Some(TLS_ALPN)),
            (vec![TlsAlpn01], Prefer::Http, Some(TLS_ALPN)),
            (vec![Http01], Prefer::TlsAlpn, Some(HTTP)),
            (vec![Dns01], Prefer::Http, None),
            (vec![Http01, Dns01], Prefer::Dns, Some(DNS)),
            (vec![Http01, TlsAlpn01], Prefer::Dns, None),
        ] {
            assert_eq!(select(&offered, prefer).map(|(_, text)| text), expected, "{offered:?} {prefer:?}");
        }
    }

    #[test]
    fn a_replacement_that_is_refused_is_ordered_as_a_new_certificate() {
        use ReplacementAnswer::{Failed, Refused, Unknown};
        let api = |kind: &str| {
            let kind = format!("urn:ietf:params:acme:error:{kind}");
            Error::Api(serde_json::from_value(serde_json::json!({ "type": kind })).unwrap())
        };
        let mismatch = || Error::Other("replaces field mismatch".into());
        for (error, status, expected) in [
            (Error::Unsupported("ARI"), None, Unknown),
            (Error::Unsupported("ARI"), Some(200), Unknown),
            (mismatch(), Some(201), Unknown),
            (Error::Str("no order URL found"), Some(201), Unknown),
            (mismatch(), None, Failed),
            (api("alreadyReplaced"), Some(409), Refused),
            (api("malformed"), Some(400), Refused),
            (api("conflict"), Some(409), Refused),
            (api("rejectedIdentifier"), Some(400), Refused),
            (Error::Str("no problem document"), Some(404), Refused),
            (api("rateLimited"), Some(429), Failed),
            (api("rateLimited"), Some(400), Failed),
            (api("unheardOf"), Some(429), Failed),
            (api("badNonce"), Some(400), Failed),
            (api("serverInternal"), Some(500), Failed),
            (api("malformed"), Some(502), Failed),
            (Error::Timeout(None), None, Failed),
        ] {
            assert_eq!(ReplacementAnswer::of(&error, status), expected, "{error} {status:?}");
        }
    }

    #[test]
    fn the_ca_says_when_to_ask_again_within_reason() {
        let (now, second) = (SystemTime::now(), Duration::from_secs(1));
        for (after, expected) in [
            (None, second),
            (Some(now + second * 3), second * 3),
            (Some(now), LEAST_ASKED),
            (Some(now - second), second),
            (Some(now + second * 3600), MOST_PAUSE),
        ] {
            assert_eq!(pause_until(after, second, now), expected, "{after:?}");
        }
    }
}
