//! A part of a list of entries: by an index of the table, or where none has the order by memory.

use serde::{Deserialize, Serialize};

use super::{
    ApiState,
    problem::{Problem, ProblemKind},
};
use crate::{
    domains::{Sought, search_in_turn},
    name::Pattern,
    store::{
        StoreError,
        domain_table::{self, DomainRecord, ListPage, ListPlace, ListQuery},
    },
};

/// Behind which entry a part begins. Untagged: cursors of releases that knew indexes alone are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Place {
    /// In the order of an index.
    Index(ListPlace),
    /// In that of names.
    Name {
        /// The last one.
        behind: Pattern,
    },
}

/// A part of a list.
#[derive(Default)]
pub(super) struct Part {
    pub(super) records: Vec<DomainRecord>,
    /// What is wrong with items that are none.
    pub(super) malformed: Vec<StoreError>,
    pub(super) next: Option<Place>,
}

/// The entries of `query` behind `place`.
pub(super) async fn part(
    api: &ApiState,
    query: ListQuery<'_>,
    place: Option<Place>,
) -> Result<Part, Problem> {
    let index = match place {
        None if is_search(&query) => match found(api, query, None).await? {
            Some(part) => return Ok(part),
            None => None,
        },
        Some(Place::Name { behind }) => {
            let fault = "this instance has not read the table yet";
            let unread = || Problem::new(ProblemKind::Unavailable, fault).mend("try again");
            return found(api, query, Some(behind)).await?.ok_or_else(unread);
        }
        Some(Place::Index(index)) => Some(index),
        None => None,
    };
    let ListPage { records, malformed, next } = domain_table::page(&api.instance.store, query, index).await?;
    Ok(Part { records, malformed, next: next.map(Place::Index) })
}

/// Whether it is for a few entries that no index has beside each other: one has a tenant's in the order of their names.
fn is_search(query: &ListQuery<'_>) -> bool {
    query.status.is_some() || (query.tenant.is_none() && query.prefix.is_some())
}

/// What memory knows to be sought, as it is in the table; `None` where it does not hold the table.
async fn found(
    api: &ApiState,
    query: ListQuery<'_>,
    mut behind: Option<Pattern>,
) -> Result<Option<Part>, Problem> {
    let mut part = Part::default();
    for _ in 0..MOST_LOOKS {
        let Some(names) = names(api, &query, behind).await? else { return Ok(None) };
        let is_last = names.len() < usize::from(query.limit);
        behind = names.last().filter(|_| !is_last).cloned();
        let ListPage { records, malformed, .. } =
            domain_table::named(&api.instance.store, query, &names).await?;
        part.records.extend(records);
        part.malformed.extend(malformed);
        // What the settings list, and what has changed, may leave nothing of a part.
        if is_last || !part.records.is_empty() {
            break;
        }
    }
    part.next = behind.map(|behind| Place::Name { behind });
    Ok(Some(part))
}

async fn names(
    api: &ApiState,
    query: &ListQuery<'_>,
    behind: Option<Pattern>,
) -> Result<Option<Vec<Pattern>>, Problem> {
    let sought = Sought {
        prefix: query.prefix.unwrap_or_default().to_owned(),
        status: query.status,
        tenant: query.tenant.map(str::to_owned),
    };
    let (domains, most) = (api.instance.domains.clone(), usize::from(query.limit));
    let search = search_in_turn(move || domains.search(&sought, behind.as_ref(), most));
    search.await.map_err(|_| Problem::new(ProblemKind::Failed, "the search has ended"))
}

/// Looks for one part: it may be empty although another follows, as one by an index may.
const MOST_LOOKS: usize = 10;
