//! Setup links made: the same whether an instance does it, for the API or a command, or the command line itself.
//! Not here: what a link shows (`api`), its text (`setup_link`).
//! Invariant: a link is made for an entry that is there, and for a bounded time (`a_link_is_of_an_entry_and_ends`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    name::Pattern,
    setup_link::{LinkKey, SetupLink},
    store::{
        Store, StoreError,
        domain_table::{self, DomainRecord, DomainStatus},
        instant::Micros,
        state_table::ensure_link_key,
    },
};

/// A link to be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLink {
    /// After how long it ends; absent, after [`LINK_LIFE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_seconds: Option<u64>,
}

/// A link that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedLink {
    /// The name of its entry.
    pub domain: Pattern,
    /// The link itself.
    pub url: String,
    /// When it ends.
    pub ends_at: Micros,
}

/// What of the settings says where links lead, and whether there is anything to show.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Before `/setup/`; absent, there is no API.
    base: Option<String>,
    /// Whether there is a name that records can lead to.
    has_edge_name: bool,
}

/// Why no link was made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nothing would answer it.
    #[error(
        "api.listen: absent, so that nothing would answer the link; give the API an address like `127.0.0.1:9466`"
    )]
    NoApi,
    /// There are no records to show.
    #[error(
        "verification.edge_names: `[]`, so there is no name that records could lead to; give it like `[\"edge.example.net\"]`"
    )]
    NoEdgeName,
    /// No such entry.
    #[error("domain `{0}` is no entry of the table; `gatehouse domain list` shows those that are")]
    Absent(Pattern),
    /// It would end too soon, or too late.
    #[error("{}", lifetime_fault(*.0))]
    Lifetime(u64),
    /// No random numbers.
    #[error("no random numbers could be had for the key of links")]
    Random,
    /// The tables.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LinkSettings {
    /// By `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let has_edge_name = !config.verification.edge_names.is_empty();
        Self { base: config.api.setup_base(), has_edge_name }
    }
}

/// Makes a link for the entry of `pattern` at `now`.
pub async fn make_link(
    store: &Store,
    settings: &LinkSettings,
    pattern: &Pattern,
    new: NewLink,
    now: Micros,
) -> Result<IssuedLink, LinkError> {
    let found = domain_table::get(store, pattern).await?;
    let found = found.filter(|record| record.status != DomainStatus::Removed);
    let record = found.ok_or_else(|| LinkError::Absent(pattern.clone()))?;
    link_to(store, settings, &record, new, now).await
}

/// Makes a link for the entry `record`, which is there, at `now`.
pub(crate) async fn link_to(
    store: &Store,
    settings: &LinkSettings,
    record: &DomainRecord,
    new: NewLink,
    now: Micros,
) -> Result<IssuedLink, LinkError> {
    let base = settings.base.as_deref().ok_or(LinkError::NoApi)?;
    if !settings.has_edge_name {
        return Err(LinkError::NoEdgeName);
    }
    let life = new.lifetime_seconds.map_or(LINK_LIFE, Duration::from_secs);
    if !(SHORTEST_LIFE..=LONGEST_LIFE).contains(&life) {
        return Err(LinkError::Lifetime(life.as_secs()));
    }
    let new = LinkKey::generate().map_err(|_| LinkError::Random)?;
    let key = ensure_link_key(store, &new, now).await?;
    let ends_at_seconds = now.more(life).seconds();
    let pattern = record.pattern.clone();
    let link = SetupLink { entry: mark(&key, record), pattern: pattern.clone(), ends_at_seconds };
    let url = format!("{base}{SETUP_PATH}/{}", key.sign(&link));
    Ok(IssuedLink { domain: pattern, url, ends_at: Micros::of_seconds(ends_at_seconds) })
}

/// Whether `link` was made for the entry `record` as it is.
pub(crate) fn is_of(link: &SetupLink, key: &LinkKey, record: &DomainRecord) -> bool {
    record.status != DomainStatus::Removed && link.entry == mark(key, record)
}

/// `created_at` begins anew with another tenant, and after a removal.
fn mark(key: &LinkKey, record: &DomainRecord) -> crate::setup_link::EntryMark {
    key.mark(&record.pattern, &record.tenant, record.created_at.map(Micros::since_epoch))
}

fn lifetime_fault(seconds: u64) -> String {
    let (least, most) = (SHORTEST_LIFE.as_secs(), LONGEST_LIFE.as_secs());
    format!("lifetime: `{seconds}s` is out of bounds; write `{least}s` to `{most}s`, like `30d`")
}

/// Where links are answered, below the API's address.
pub(crate) const SETUP_PATH: &str = "/setup";
/// How long a link lasts that says nothing of it: a month, in which DNS records are set.
pub const LINK_LIFE: Duration = Duration::from_hours(30 * 24);
/// How long a link lasts at least.
pub const SHORTEST_LIFE: Duration = Duration::from_hours(1);
/// How long at most.
pub const LONGEST_LIFE: Duration = Duration::from_hours(365 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        domains::admin::added_for_tests,
        store::{Engine, state_table::find_link_key, tables},
    };

    async fn store() -> Store {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        store
    }

    fn settings() -> LinkSettings {
        LinkSettings { base: Some("https://api.example.net:9443".to_owned()), has_edge_name: true }
    }

    fn pattern() -> Pattern {
        Pattern::parse("shop.customer.example").unwrap()
    }

    #[tokio::test]
    async fn a_link_is_of_an_entry_and_ends() {
        let store = store().await;
        let now = Micros::from_epoch(5_000_000);
        let ask = |new| {
            let store = &store;
            async move { make_link(store, &settings(), &pattern(), new, now).await }
        };
        assert!(matches!(ask(NewLink::default()).await, Err(LinkError::Absent(_))));
        let record = added_for_tests(&pattern());
        domain_table::put(&store, &record, 0).await.unwrap();
        let made = ask(NewLink::default()).await.unwrap();
        assert_eq!(made.ends_at, now.more(LINK_LIFE));
        let text = made.url.strip_prefix("https://api.example.net:9443/setup/").unwrap();
        let key = find_link_key(&store).await.unwrap().unwrap();
        let link = key.verify(text, 6).unwrap();
        assert!(is_of(&link, &key, &record));
        assert!(key.verify(text, made.ends_at.seconds()).is_err());

        for others in [
            DomainRecord { tenant: "zeta".to_owned(), ..record.clone() },
            DomainRecord { created_at: Some(now), ..record.clone() },
            DomainRecord { status: DomainStatus::Removed, ..record.clone() },
        ] {
            assert!(!is_of(&link, &key, &others), "{others:?}");
        }
        let suspended = DomainRecord { status: DomainStatus::Suspended, version: 7, ..record };
        assert!(is_of(&link, &key, &suspended), "a change of the same entry ends no link");
    }

    #[tokio::test]
    async fn how_long_a_link_lasts_is_bounded() {
        let store = store().await;
        domain_table::put(&store, &added_for_tests(&pattern()), 0).await.unwrap();
        for (seconds, is_made) in [
            (0, false),
            (3_599, false),
            (3_600, true),
            (365 * 86_400, true),
            (365 * 86_400 + 1, false),
            (u64::MAX, false),
        ] {
            let new = NewLink { lifetime_seconds: Some(seconds) };
            let made = make_link(&store, &settings(), &pattern(), new, Micros::from_epoch(0)).await;
            assert_eq!(made.is_ok(), is_made, "{seconds}: {made:?}");
        }
        for (settings, wanted) in [
            (LinkSettings { base: None, ..settings() }, "api.listen"),
            (LinkSettings { has_edge_name: false, ..settings() }, "verification.edge_names"),
        ] {
            let made =
                make_link(&store, &settings, &pattern(), NewLink::default(), Micros::from_epoch(0)).await;
            assert!(made.unwrap_err().to_string().starts_with(wanted));
        }
    }
}
