//! What the CA has said of when a certificate is to be renewed (RFC 9773): `name#<d>`/`renewal_info`, beside the name's record. It is due,
//! in partitions of its own of the index `due`, when the CA is to be asked again.
//! Not here: who asks, and what date follows (`certificates`).
//! Invariants: of all that find it due one claims it (`of_many_that_find_it_due_one_claims_it`), and of all that find the same certificate in the
//! table one has it asked about (`who_finds_a_certificate_later_has_nobody_asked_again`); what is said of a certificate moves no
//! date of another (`a_date_is_moved_only_for_the_certificate_it_was_said_of`).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    item::{find, number, text},
    order_record::{partition_of, shard},
    renewals::{Due, DuePage, DueStart, claim_item, ending, page},
};
use crate::{
    name::Pattern,
    store::{
        Item, Store, StoreError, if_held,
        instant::{Micros, epoch_millis},
    },
};

/// A window within which the CA would have a certificate renewed (RFC 9773 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalWindow {
    /// Its beginning.
    pub start: Micros,
    /// Its end, which is later.
    pub end: Micros,
}

impl RenewalWindow {
    /// RFC 9773 §4.2: a window that does not end after its beginning counts as none.
    #[must_use]
    pub fn new(start: SystemTime, end: SystemTime) -> Option<Self> {
        let (start, end) = (Micros::of(start), Micros::of(end));
        (start < end).then_some(Self { start, end })
    }
}

/// What is known of the CA's wishes for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    /// The name.
    pub name: Pattern,
    /// Of the CA, which alone is asked.
    pub directory: String,
    /// The certificate as the CA is asked for it (RFC 9773 §4.1).
    pub certificate: String,
    /// Its serial number in hexadecimal, as records have it.
    pub serial: String,
    /// End of its life, after which nobody is asked.
    pub not_after: SystemTime,
    /// Before this, and after [`renew_until`](Self::renew_until), no window makes a date.
    pub renew_from: SystemTime,
    /// See [`renew_from`](Self::renew_from).
    pub renew_until: SystemTime,
    /// The window that was read last.
    pub window: Option<RenewalWindow>,
}

/// A [`RenewalInfo`] that was due, and that no other instance claims before `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfoClaim {
    /// What is known.
    pub info: RenewalInfo,
    /// When it is due again unless it is written before.
    pub until: Micros,
}

impl RenewalInfo {
    /// Reads an item; `None` when it lacks something or is malformed.
    pub(in crate::store) fn read(name: &Pattern, item: &Item) -> Option<Self> {
        let text = |attribute: &str| item.get(attribute)?.as_s().ok().filter(|text| !text.is_empty());
        let instant = |attribute: &str| text(attribute).and_then(|text| Micros::parse(text)).map(Micros::at);
        let window = instant("window_start").zip(instant("window_end"));
        Some(Self {
            name: name.clone(),
            directory: text("directory")?.clone(),
            certificate: text("certificate")?.clone(),
            serial: text("serial")?.clone(),
            not_after: instant("not_after")?,
            renew_from: instant("renew_from")?,
            renew_until: instant("renew_until")?,
            window: window.and_then(|(start, end)| RenewalWindow::new(start, end)),
        })
    }

    /// The item, due at `ask_at`.
    pub(in crate::store) fn write(&self, ask_at: SystemTime) -> Item {
        let mut item = key(&self.name);
        let texts = [
            ("directory", self.directory.clone()),
            ("certificate", self.certificate.clone()),
            ("serial", self.serial.clone()),
            ("due", shard_text(shard(&self.name))),
        ];
        let dates = [
            ("not_after", self.not_after),
            ("renew_from", self.renew_from),
            ("renew_until", self.renew_until),
            ("due_at", ask_at),
        ];
        let dates = dates.map(|(attribute, at)| (attribute, Micros::of(at).to_string()));
        let window =
            self.window.map(|window| window_texts(window).map(|(name, text)| (name, text.to_string())));
        for (attribute, text) in texts.into_iter().chain(dates).chain(window.into_iter().flatten()) {
            item.insert(attribute.to_owned(), AttributeValue::S(text));
        }
        item.insert("expires_at".to_owned(), number(epoch_millis(self.not_after + KEPT) / 1000));
        item
    }
}

/// Writes `info`, due at `ask_at`, where its certificate is found and there is nothing yet, or what is there is of the certificate with the serial
/// number `before`. What another instance has written of the same certificate stays, unless nobody is to be asked about it any more.
pub async fn put_renewal_info(
    store: &Store,
    info: &RenewalInfo,
    ask_at: SystemTime,
    before: Option<&str>,
) -> Result<(), StoreError> {
    let put = store.client().put_item().table_name(&store.tables().state).set_item(Some(info.write(ask_at)));
    let put = put
        .condition_expression(
            "attribute_not_exists(pk) OR (serial = :serial AND attribute_not_exists(due_at)) \
             OR (serial = :before AND serial <> :serial)",
        )
        .expression_attribute_values(":serial", text(&info.serial))
        .expression_attribute_values(":before", text(before.unwrap_or(&info.serial)));
    if_held(put.send().await).map(drop)
}

/// What is known of the certificate of `name`. Consistent.
pub async fn find_renewal_info(store: &Store, name: &Pattern) -> Result<Option<RenewalInfo>, StoreError> {
    let item = find(store, &partition_of(name), SORT).await?;
    Ok(item.and_then(|item| RenewalInfo::read(name, &item)))
}

/// Up to `limit` names of `shard` for whose certificates the CA is to be asked until `until`, the earliest first, from `start` on.
pub async fn due_renewal_info(
    store: &Store,
    shard: u8,
    until: SystemTime,
    start: Option<&DueStart>,
    limit: u16,
) -> Result<DuePage, StoreError> {
    page(store, shard_text(shard), until, start, limit).await
}

/// Claims `due` until `until`; nothing, when another instance has, or when it is due no more.
pub async fn claim_renewal_info(
    store: &Store,
    due: &Due,
    until: SystemTime,
) -> Result<Option<RenewalInfoClaim>, StoreError> {
    let until = Micros::of(until);
    let item = claim_item(store, key(&due.name), due, until).await?;
    Ok(item.and_then(|item| RenewalInfo::read(&due.name, &item)).map(|info| RenewalInfoClaim { info, until }))
}

/// Ends `claim`: the CA is asked again at `ask_at`, and its window is `window`, if there is one.
pub async fn settle_renewal_info(
    store: &Store,
    claim: &RenewalInfoClaim,
    ask_at: SystemTime,
    window: Option<RenewalWindow>,
) -> Result<(), StoreError> {
    let update = ending(store, key(&claim.info.name), claim.until)
        .expression_attribute_values(":at", text(&Micros::of(ask_at).to_string()));
    let update = match window {
        None => update.update_expression("SET due_at = :at"),
        Some(window) => window_texts(window).into_iter().fold(
            update.update_expression(
                "SET due_at = :at, window_start = :window_start, window_end = :window_end",
            ),
            |update, (name, at)| {
                update.expression_attribute_values(format!(":{name}"), text(&at.to_string()))
            },
        ),
    };
    if_held(update.send().await).map(drop)
}

/// Ends `claim`, and the CA is not asked for this certificate again.
pub async fn end_renewal_info(store: &Store, claim: &RenewalInfoClaim) -> Result<(), StoreError> {
    let update = ending(store, key(&claim.info.name), claim.until).update_expression("REMOVE due, due_at");
    if_held(update.send().await).map(drop)
}

/// Nobody is asked about the certificate of `name`, whoever has claimed that, until it is found in use again.
pub async fn stop_renewal_info(store: &Store, name: &Pattern) -> Result<(), StoreError> {
    let update = store.client().update_item().table_name(&store.tables().state).set_key(Some(key(name)));
    let update =
        update.update_expression("REMOVE due, due_at").condition_expression("attribute_exists(due_at)");
    if_held(update.send().await).map(drop)
}

fn window_texts(window: RenewalWindow) -> [(&'static str, Micros); 2] {
    [("window_start", window.start), ("window_end", window.end)]
}

fn key(name: &Pattern) -> Item {
    HashMap::from([("pk".to_owned(), AttributeValue::S(partition_of(name))), ("sk".to_owned(), text(SORT))])
}

fn shard_text(shard: u8) -> String {
    format!("renewal_info#{shard}")
}

const SORT: &str = "renewal_info";
/// How long an item outlives its certificate.
const KEPT: Duration = Duration::from_hours(7 * 24);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::{
        fixture::faulty_with_tables,
        state_table::{OrderRecord, Rescheduled, put_record, reschedule, shard},
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn info() -> RenewalInfo {
        RenewalInfo {
            name: Pattern::parse("a.example").unwrap(),
            directory: "https://ca.example/dir".to_owned(),
            certificate: "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".to_owned(),
            serial: "0087654321".to_owned(),
            not_after: at(4_000_000_000),
            renew_from: at(50),
            renew_until: at(3_900_000_000),
            window: None,
        }
    }

    async fn found(store: &Store, seconds: u64) -> Vec<Due> {
        due_renewal_info(store, shard(&info().name), at(seconds), None, 9).await.unwrap().names
    }

    #[tokio::test]
    async fn of_many_that_find_it_due_one_claims_it() {
        let store = faulty_with_tables("seed=5,stale=2s,throttle=10").await;
        put_renewal_info(&store, &info(), at(100), None).await.unwrap();
        let due = Due { name: info().name, at: Micros::of(at(100)) };
        let takers: Vec<_> = (0..8)
            .map(|_| {
                let (store, due) = (store.clone(), due.clone());
                tokio::spawn(async move { claim_renewal_info(&store, &due, at(200)).await.unwrap() })
            })
            .collect();
        let mut claims = Vec::new();
        for taker in takers {
            claims.extend(taker.await.unwrap());
        }
        assert_eq!(claims, [RenewalInfoClaim { info: info(), until: Micros::of(at(200)) }]);
    }

    #[tokio::test]
    async fn what_was_read_is_kept_until_the_next_certificate() {
        let store = faulty_with_tables("seed=5").await;
        put_renewal_info(&store, &info(), at(100), None).await.unwrap();
        let claim = claim_renewal_info(&store, &found(&store, 100).await[0], at(200)).await.unwrap().unwrap();
        assert_eq!(found(&store, 199).await, []);
        let window = RenewalWindow::new(at(1_000), at(2_000));
        settle_renewal_info(&store, &claim, at(300), window).await.unwrap();
        assert_eq!(found(&store, 299).await, []);
        let again = claim_renewal_info(&store, &found(&store, 300).await[0], at(400)).await.unwrap().unwrap();
        assert_eq!(again.info, RenewalInfo { window, ..info() });

        let next = RenewalInfo { serial: "02".to_owned(), ..info() };
        let other = RenewalInfo { serial: "03".to_owned(), ..info() };
        put_renewal_info(&store, &next, at(350), Some(&info().serial)).await.unwrap();
        put_renewal_info(&store, &other, at(360), Some(&info().serial)).await.unwrap();
        settle_renewal_info(&store, &again, at(900), window).await.unwrap();
        end_renewal_info(&store, &again).await.unwrap();
        assert_eq!(found(&store, 350).await.len(), 1, "it is of the next certificate");
        let claim = claim_renewal_info(&store, &found(&store, 350).await[0], at(400)).await.unwrap().unwrap();
        assert_eq!(claim.info, next);
        end_renewal_info(&store, &claim).await.unwrap();
        assert_eq!(found(&store, 9_000).await, []);
        assert_eq!(find_renewal_info(&store, &info().name).await.unwrap(), Some(next));
    }

    #[tokio::test]
    async fn who_finds_a_certificate_later_has_nobody_asked_again() {
        let store = faulty_with_tables("seed=5").await;
        put_renewal_info(&store, &info(), at(100), None).await.unwrap();
        let claim = claim_renewal_info(&store, &found(&store, 100).await[0], at(200)).await.unwrap().unwrap();
        let window = RenewalWindow::new(at(1_000), at(2_000));
        settle_renewal_info(&store, &claim, at(300), window).await.unwrap();
        // Neither where it had found no record, nor where it had found one of this certificate or of the one before.
        for before in [None, Some(info().serial), Some("01".to_owned())] {
            put_renewal_info(&store, &info(), at(150), before.as_deref()).await.unwrap();
        }
        assert_eq!(found(&store, 299).await, []);
        let claim = claim_renewal_info(&store, &found(&store, 300).await[0], at(400)).await.unwrap().unwrap();
        assert_eq!(claim.info.window, window);
        // Back in the renewals.
        end_renewal_info(&store, &claim).await.unwrap();
        put_renewal_info(&store, &info(), at(500), Some(&info().serial)).await.unwrap();
        assert_eq!(found(&store, 500).await.len(), 1);
    }

    #[tokio::test]
    async fn a_date_is_moved_only_for_the_certificate_it_was_said_of() {
        let store = faulty_with_tables("seed=5").await;
        let name = info().name;
        let record = OrderRecord {
            serial: Some("01".to_owned()),
            not_after: Some(at(4_000_000_000)),
            renew_at: Some(at(500)),
            ..OrderRecord::new(&name)
        };
        put_record(&store, &record, None).await.unwrap();
        let due = async |seconds| {
            super::super::due(&store, shard(&name), at(seconds), None, 9).await.unwrap().names
        };
        assert_eq!(reschedule(&store, &name, "02", at(100)).await.unwrap(), Rescheduled::Gone);
        assert_eq!(due(499).await, []);
        for (seconds, before) in [(100, 99), (900, 899)] {
            assert_eq!(reschedule(&store, &name, "01", at(seconds)).await.unwrap(), Rescheduled::Moved);
            assert_eq!(due(before).await, [], "{seconds}");
            assert_eq!(due(seconds).await.len(), 1, "{seconds}");
        }
        // Whoever has claimed it goes on, and nobody else begins.
        let claimed = super::super::claim(&store, &due(900).await[0], at(1_000)).await.unwrap().unwrap();
        assert_eq!(reschedule(&store, &name, "01", at(200)).await.unwrap(), Rescheduled::Moved);
        assert_eq!(due(999).await, []);
        let again = super::super::claim(&store, &due(1_000).await[0], at(1_100)).await.unwrap().unwrap();
        assert_eq!((claimed.record.renew_at, again.record.renew_at), (Some(at(900)), Some(at(200))));
        // An operator's date is put off by nobody, until another certificate is there.
        let found = &due(1_100).await[0];
        assert!(super::super::bring_forward(&store, found, Micros::of(at(150))).await.unwrap());
        assert_eq!(reschedule(&store, &name, "01", at(200)).await.unwrap(), Rescheduled::Kept);
        assert_eq!(reschedule(&store, &name, "01", at(120)).await.unwrap(), Rescheduled::Moved);
        assert_eq!(due(120).await.len(), 1);
        let renewed = OrderRecord { serial: Some("02".to_owned()), ..record.clone() };
        put_record(&store, &renewed, Some("01")).await.unwrap();
        assert_eq!(reschedule(&store, &name, "02", at(300)).await.unwrap(), Rescheduled::Moved);
        super::super::forget(&store, &name).await.unwrap();
        for serial in ["01", "02"] {
            assert_eq!(reschedule(&store, &name, serial, at(100)).await.unwrap(), Rescheduled::Gone);
        }
        assert_eq!(due(9_999).await, []);
    }

    #[tokio::test]
    async fn what_is_out_of_the_renewals_is_asked_about_no_more() {
        let store = faulty_with_tables("seed=5").await;
        put_renewal_info(&store, &info(), at(100), None).await.unwrap();
        let claim = claim_renewal_info(&store, &found(&store, 100).await[0], at(200)).await.unwrap().unwrap();
        super::super::forget(&store, &info().name).await.unwrap();
        settle_renewal_info(&store, &claim, at(300), None).await.unwrap();
        assert_eq!(found(&store, 9_000).await, []);
        // Of a name of which nothing is known, nothing is written.
        super::super::forget(&store, &Pattern::parse("b.example").unwrap()).await.unwrap();
        put_renewal_info(&store, &info(), at(400), Some(&info().serial)).await.unwrap();
        assert_eq!(found(&store, 400).await.len(), 1, "it is in use again");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in proptest::collection::vec(0_u64..4_000_000_000, 5), has_window: bool) {
            let window = has_window.then(|| RenewalWindow::new(at(seconds[0]), at(seconds[1]))).flatten();
            let info = RenewalInfo {
                not_after: at(seconds[2]), renew_from: at(seconds[3]), renew_until: at(seconds[4]), window, ..info()
            };
            prop_assert_eq!(RenewalInfo::read(&info.name, &info.write(at(7))), Some(info));
        }

        #[test]
        fn no_item_panics(attribute in "[a-z_]{1,12}", text in "\\PC{0,40}", number: bool) {
            let mut item = info().write(at(7));
            item.insert(attribute, if number { AttributeValue::N(text) } else { AttributeValue::S(text) });
            let _ = RenewalInfo::read(&info().name, &item);
        }
    }
}
