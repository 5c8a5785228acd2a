use super::*;
use crate::store::{
    domain_table::{put, tests::record},
    fixture::faulty_with_tables,
};

/// All parts of a list, and how many there were.
async fn all(store: &Store, query: ListQuery<'_>) -> (Vec<String>, usize) {
    let (mut names, mut place) = (Vec::new(), None);
    for part in 1..100 {
        let page = page(store, query, place).await.unwrap();
        assert!(page.records.len() <= usize::from(query.limit), "{} entries", page.records.len());
        names.extend(page.records.iter().map(|record| record.pattern.to_string()));
        place = page.next;
        if place.is_none() {
            return (names, part);
        }
    }
    panic!("the list has no end: {names:?}");
}

async fn filled() -> Store {
    // Without stale reads: what an index shows late is another matter.
    let store = faulty_with_tables("seed=3,throttle=10,unprocessed=10").await;
    for n in 0..23_u64 {
        let (tenant, status) = match n % 4 {
            0 => ("acme", DomainStatus::Suspended),
            1 | 2 => ("acme", DomainStatus::Active),
            _ => ("zeta", DomainStatus::Active),
        };
        let tenant = tenant.to_owned();
        let record = DomainRecord { status, tenant, ..record(&format!("n{n:02}.example"), 1, n) };
        put(&store, &record, 0).await.unwrap();
    }
    let gone = DomainRecord { status: DomainStatus::Removed, ..record("n99.example", 1, 1) };
    put(&store, &DomainRecord { tenant: "acme".to_owned(), ..gone }, 0).await.unwrap();
    store
}

const ALL: ListQuery<'static> = ListQuery { tenant: None, prefix: None, status: None, limit: 5 };

#[tokio::test]
async fn parts_hold_each_entry_once() {
    let store = filled().await;
    let acme = ListQuery { tenant: Some("acme"), ..ALL };
    let numbers = |wanted: fn(u64) -> bool| -> Vec<String> {
        (0..23).filter(|n| wanted(*n)).map(|n| format!("n{n:02}.example")).collect()
    };
    for limit in [1, 5, 6, 100] {
        let query = ListQuery { limit, ..acme };
        assert_eq!(all(&store, query).await.0, numbers(|n| n % 4 != 3), "by {limit}");
        let suspended = ListQuery { status: Some(DomainStatus::Suspended), ..query };
        assert_eq!(all(&store, suspended).await.0, numbers(|n| n % 4 == 0), "by {limit}");
        let mut of_all = all(&store, ListQuery { limit, ..ALL }).await.0;
        of_all.sort();
        assert_eq!(of_all, numbers(|_| true), "by {limit}");
    }
    let prefixed = ListQuery { prefix: Some("n1"), ..acme };
    assert_eq!(all(&store, prefixed).await.0, numbers(|n| n / 10 == 1 && n % 4 != 3));
    let mut prefixed = all(&store, ListQuery { prefix: Some("n1"), ..ALL }).await.0;
    prefixed.sort();
    assert_eq!(prefixed, numbers(|n| n / 10 == 1));
    assert_eq!(all(&store, ListQuery { tenant: Some("nobody"), ..ALL }).await, (Vec::new(), 1));
}

#[tokio::test]
async fn entries_are_shown_as_they_are_whatever_the_index_says() {
    let store = filled().await;
    let moved = DomainRecord { tenant: "zeta".to_owned(), ..record("n01.example", 2, 90) };
    put(&store, &moved, 1).await.unwrap();
    let page = page(&store, ListQuery { tenant: Some("zeta"), limit: 100, ..ALL }, None).await.unwrap();
    assert!(page.records.contains(&moved), "{page:?}");
    // As an index that is a moment old names it.
    let names = [moved.pattern.clone(), "n03.example".parse().unwrap()];
    let found = entries(&store, &names).await.unwrap().records;
    assert_eq!(
        found.iter().map(|record| &record.pattern).collect::<Vec<_>>(),
        names.iter().collect::<Vec<_>>()
    );
    assert!(!ListQuery { tenant: Some("acme"), ..ALL }.means(&moved));
}

#[tokio::test]
async fn a_part_that_finds_nothing_ends() {
    let store = faulty_with_tables("seed=3").await;
    // More than the calls for one part look at, of which the filter leaves none.
    let most = u64::try_from(MOST_CALLS).unwrap() * u64::try_from(EVALUATED).unwrap();
    for n in 0..most + 10 {
        put(&store, &record(&format!("n{n}.example"), 1, n), 0).await.unwrap();
    }
    let query = ListQuery { status: Some(DomainStatus::Pending), limit: 100, ..ALL };
    let first = page(&store, query, None).await.unwrap();
    assert!(first.records.is_empty() && first.next.is_some(), "{first:?}");
    assert_eq!(all(&store, query).await, (Vec::new(), 2));
}
