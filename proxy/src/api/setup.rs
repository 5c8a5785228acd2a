//! Setup links: made for who has a token, and what one shows to whoever has it.
//! Not here: the text of a link (`setup_link`), for which entries and times they are made (`control::setup_links`), pages (`console`).
//! Invariants: nothing is read from the tables for a link that nobody has made (`made_up_links_cost_no_look_up_of_an_entry`); a link shows
//! one name, and nothing of its target, tenant or others (`a_link_tells_nothing_of_the_operator`); it shows nothing once its entry was
//! removed or is another tenant's (`a_link_shows_one_entry_until_it_ends`).

mod view;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use hyper::StatusCode;
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use self::view::SetupFacts;
pub(crate) use self::view::{SetupResource, SetupState};
use super::{
    ApiState,
    domains::entry,
    extract::{JsonBody, NamedDomain, NoParameters, Parameters},
    holder::{Holder, Writes},
    idempotency::IdempotencyKey,
    openapi::Changes,
    problem::{Problem, ProblemKind},
    rate::RequestRates,
};
use crate::{
    clock,
    control::setup_links::{self, IssuedLink, LinkError, NewLink},
    keyed_counts::{HeldCount, KeyedCounts},
    name::Pattern,
    setup_link::{self, EntryMark, LinkKey, SetupLink},
    store::{Store, domain_table::checks::get_checked, instant::Micros, state_table::find_link_key},
    verification::Looker,
};

/// A setup link to be made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSetupLink {
    /// After how long it ends, from an hour to a year; absent, after 30 days.
    #[schema(minimum = 3600, maximum = 31_536_000)]
    pub(crate) lifetime_seconds: Option<u64>,
}

/// A setup link that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SetupLink)]
pub(crate) struct SetupLinkResource {
    /// The name of its entry.
    pub(crate) domain: String,
    /// The link. Who has it may read what it shows.
    #[schema(example = "https://api.example.net:9443/setup/AbC...")]
    pub(crate) url: String,
    /// When it ends. It ends sooner when the entry is removed or becomes another tenant's.
    pub(crate) ends_at: String,
}

/// Make a setup link
///
/// A page that shows the owner of the name, without a token, which DNS records to set and what was found of them. With
/// `Accept: application/json`, or `.json` behind it, the link answers with the same as JSON.
#[utoipa::path(
    post, path = "/api/v1/domains/{domain}/link", tag = "domains", operation_id = "linkDomain",
    params(NamedDomain, IdempotencyKey), request_body = NewSetupLink,
    responses((status = 201, description = "The link.", body = SetupLinkResource), Changes)
)]
pub(super) async fn link(
    State(api): State<Arc<ApiState>>,
    holder: Holder<Writes>,
    NamedDomain(pattern): NamedDomain,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    JsonBody(new): JsonBody<NewSetupLink>,
) -> Result<Response, Problem> {
    let made = link_entry(&api, &holder, &pattern, new).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Makes a link for the entry of `pattern`, if its holder may work with it.
pub(crate) async fn link_entry(
    api: &ApiState,
    holder: &Holder<Writes>,
    pattern: &Pattern,
    new: NewSetupLink,
) -> Result<SetupLinkResource, Problem> {
    let (record, _) = entry(api, holder, pattern).await?;
    let new = NewLink { lifetime_seconds: new.lifetime_seconds };
    let IssuedLink { domain, url, ends_at } =
        api.instance.link_to(&record, new, &holder.requester.name).await?;
    Ok(SetupLinkResource { domain: domain.to_string(), url, ends_at: ends_at.to_string() })
}

/// What the link of `text` shows.
pub(crate) async fn linked(api: &ApiState, text: &str) -> Result<LinkedSetup, Problem> {
    let Some(looker) = &api.looker else { return Err(absent()) };
    api.links.show(text, looker).await
}

/// What links are shown from, and how often.
pub(super) struct SetupLinks {
    store: Store,
    /// The fleet's key as the table had it not long ago, if there was one. One request asks the table, and others wait for it.
    key: Cache<(), Option<LinkKey>>,
    /// When it was asked for anew, for a link that was none by the key in memory.
    key_asked_at: Mutex<Option<Instant>>,
    rates: Mutex<RequestRates<EntryMark>>,
    /// What is shown of an entry, whatever its links: a page that is asked for often is made once in a while.
    shown: Cache<EntryMark, Arc<SetupResource>>,
    looks: Semaphore,
    /// Requests by the entry for which they wait: none is to hold the connections of all others.
    waiting: KeyedCounts,
}

/// What a link shows, and when it ends.
pub(crate) struct LinkedSetup {
    pub(crate) shown: Arc<SetupResource>,
    pub(crate) ends_at: String,
}

impl LinkedSetup {
    /// As programs read it.
    pub(crate) fn json(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Linked<'a> {
            #[serde(flatten)]
            shown: &'a SetupResource,
            /// When the link ends.
            ends_at: &'a str,
        }
        Linked { shown: &self.shown, ends_at: &self.ends_at }
    }
}

impl SetupLinks {
    pub(super) fn new(store: Store, rates: RequestRates<EntryMark>) -> Self {
        let key = Cache::builder().max_capacity(1).time_to_live(KEY_FRESH_FOR).build();
        let shown = Cache::builder().max_capacity(MOST_SHOWN).time_to_live(SHOWN_FOR).build();
        let (rates, looks) = (Mutex::new(rates), Semaphore::new(LOOKS_AT_ONCE));
        Self { store, key, key_asked_at: Mutex::new(None), rates, shown, looks, waiting: KeyedCounts::new() }
    }

    async fn show(&self, text: &str, looker: &Looker) -> Result<LinkedSetup, Problem> {
        if !setup_link::may_be_link(text) {
            return Err(absent());
        }
        let (link, key) = self.verified(text).await?;
        let counted =
            self.rates.lock().unwrap_or_else(PoisonError::into_inner).take(&link.entry, clock::now());
        counted.map_err(|_| busy())?;
        let ends_at = Micros::of_seconds(link.ends_at_seconds).to_string();
        if let Some(shown) = self.shown.get(&link.entry).await {
            return Ok(LinkedSetup { shown, ends_at });
        }
        let waiter = HeldCount::of(&self.waiting, &link.entry);
        if waiter.before() >= MOST_WAITING {
            return Err(busy());
        }
        let look = async { self.look(&link, &key, looker).await.map(Arc::new) };
        // Boxed: most requests find what is shown.
        let shown = Box::pin(self.shown.try_get_with(link.entry, look)).await;
        Ok(LinkedSetup { shown: shown.map_err(|problem| Problem::clone(&problem))?, ends_at })
    }

    /// What there is to show now.
    async fn look(&self, link: &SetupLink, key: &LinkKey, looker: &Looker) -> Result<SetupResource, Problem> {
        let place = tokio::time::timeout(LOOK_WAIT, self.looks.acquire()).await;
        let _place = place.ok().and_then(Result::ok).ok_or_else(busy)?;
        let found = get_checked(&self.store, &link.pattern).await?;
        let found = found.filter(|(record, _)| setup_links::is_of(link, key, record));
        let (record, checks) = found.ok_or_else(absent)?;
        let (records, zone) = tokio::join!(
            looker.records(&record.pattern, record.settings, &record.tenant),
            looker.zone(&record.pattern)
        );
        let facts = SetupFacts { pattern: &record.pattern, status: record.status, checks: checks.as_ref() };
        Ok(SetupResource::of(facts, records, &zone))
    }

    /// What `text` says, and the key by which it does.
    async fn verified(&self, text: &str) -> Result<(SetupLink, LinkKey), Problem> {
        let now_seconds = Micros::of(clock::wall()).seconds();
        let by = |key: Option<LinkKey>| key.and_then(|key| Some((key.verify(text, now_seconds).ok()?, key)));
        if let Some(verified) = by(self.key().await?) {
            return Ok(verified);
        }
        if !self.may_ask_anew(clock::now()) {
            return Err(absent());
        }
        // It may have been made a moment ago, by a key that is new.
        self.key.invalidate(&()).await;
        by(self.key().await?).ok_or_else(absent)
    }

    /// Whether the table may be asked for the key although memory has it: whoever makes links up has it asked no oftener.
    fn may_ask_anew(&self, now: Instant) -> bool {
        let mut asked_at = self.key_asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked_at.is_none_or(|at| now.saturating_duration_since(at) >= KEY_ASKED_ANEW);
        if may {
            *asked_at = Some(now);
        }
        may
    }

    async fn key(&self) -> Result<Option<LinkKey>, Problem> {
        let ask = async { find_link_key(&self.store).await.map_err(Problem::from) };
        // Boxed: most requests find it.
        Box::pin(self.key.try_get_with((), ask)).await.map_err(|problem| Problem::clone(&problem))
    }
}

/// The same for a link that has ended, one of which the entry is gone, and one that was made up.
fn absent() -> Problem {
    let fault = "there is nothing at this address: the link has ended, or its name is no longer with us";
    Problem::new(ProblemKind::Absent, fault).mend("ask who sent it for a new one")
}

fn busy() -> Problem {
    Problem::new(ProblemKind::TooMany, "this is asked for too often").mend("wait for a few seconds")
}

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        let fault = error.to_string();
        match error {
            LinkError::NoApi | LinkError::NoEdgeName => Self::new(ProblemKind::Conflict, fault),
            LinkError::Absent(_) => Self::new(ProblemKind::Absent, fault),
            LinkError::Lifetime(seconds) => {
                Self::new(ProblemKind::Invalid, fault).of("lifetime_seconds", &seconds.to_string())
            }
            LinkError::Random => Self::new(ProblemKind::Failed, fault),
            LinkError::Store(error) => error.into(),
        }
    }
}

/// How long an instance goes on with a key that was removed from the table.
const KEY_FRESH_FOR: Duration = Duration::from_secs(8);
/// How often the table is asked before that, since a link is none by the key.
const KEY_ASKED_ANEW: Duration = Duration::from_secs(1);
/// How old what is shown may be, beside the checks themselves.
const SHOWN_FOR: Duration = Duration::from_secs(2);
const MOST_SHOWN: u64 = 1_000;
/// Requests that wait for one entry's. Its name servers may take all the time they have, and a site in front has one address for all customers.
const MOST_WAITING: usize = 4;
/// Pages that are made at once; each waits for DNS servers for some seconds at most.
const LOOKS_AT_ONCE: usize = 32;
/// How long another waits for one of these to end.
const LOOK_WAIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
