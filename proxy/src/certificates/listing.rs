//! Certificates as operators see them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{
    choice::{Candidate, CertificateChoice, candidate, choose, unusable},
    failure,
};
use crate::{
    clock,
    name::Pattern,
    store::{
        Store, StoreError,
        certificate_table::{self, IssuerKey},
        instant::Micros,
        state_table::{self, Due, DueStart, OrderRecord, SHARDS},
    },
};

/// A name with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The name.
    pub server_name: Pattern,
    /// When it is to be renewed.
    pub due_at: Micros,
}

/// A name with a certificate, and what operators ask of that first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The name, and when it is to be renewed.
    #[serde(flatten)]
    pub listed: Listed,
    /// Who issued the certificate, as its items' keys name the CA; absent, none was obtained yet.
    #[serde(default)]
    pub issuer: Option<String>,
    /// End of its life.
    #[serde(default)]
    pub not_after: Option<Micros>,
}

/// What the table holds for a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The name.
    pub server_name: Pattern,
    /// The wildcard of the settings whose orders are this name's, and whose failures are told below; absent, it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_for: Option<Pattern>,
    /// The one of the table that is presented where the table was read just now; absent when none can be.
    pub certificate: Option<CertificateSummary>,
    /// Serial number of what the instance that was asked presents, which follows the table within a minute; absent where it has none in
    /// memory, and where no instance was asked.
    #[serde(default)]
    pub presented: Option<String>,
    /// Serial numbers of what the table holds for the name beside it and can be presented.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// Orders failed in a row.
    pub failures: u32,
    /// No order before this.
    pub retry_at: Option<Micros>,
    /// Why the last failed order failed.
    pub problem: String,
    /// Since when the CA has found nothing but fault with the name.
    #[serde(default)]
    pub failing_since: Option<Micros>,
    /// When orders of the name stopped for that.
    #[serde(default)]
    pub stopped_at: Option<Micros>,
    /// Orders that the CA has found fault with within the last hour, whatever was forgotten since.
    #[serde(default)]
    pub failed_within_hour: usize,
    /// Since when the name has not been allowed when it was due, so that it is not renewed.
    #[serde(default)]
    pub denied_since: Option<Micros>,
    /// Items of the table that cannot be used, each with what is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusable: Vec<String>,
}

/// A certificate as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// What it is stored under: the name, or the wildcard that covers it.
    pub pattern: Pattern,
    /// Whose it is.
    #[serde(default)]
    pub kind: CertificateKind,
    /// Who issued it.
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// Beginning of its life.
    pub not_before: Micros,
    /// End of its life.
    pub not_after: Micros,
    /// When it is to be renewed; absent for one that nobody renews: the operator's own, what has stopped, and what was taken out of the
    /// renewals.
    #[serde(default)]
    pub renew_at: Option<Micros>,
}

/// Whose a certificate is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateKind {
    /// Ordered, by an instance or by Caddy.
    #[default]
    Ordered,
    /// The operator's own.
    Own,
}

impl From<Due> for Listed {
    fn from(due: Due) -> Self {
        Self { server_name: due.name, due_at: due.at }
    }
}

impl CertificateKind {
    fn of(issuer: &IssuerKey) -> Self {
        if *issuer == IssuerKey::own() { Self::Own } else { Self::Ordered }
    }
}

/// Up to `limit` names with certificates, by when they are to be renewed within eight partitions; those behind `after`.
/// Reads an index, so a change may show a moment later.
pub async fn list(store: &Store, after: Option<&Listed>, limit: u16) -> Result<Vec<Row>, StoreError> {
    let found = names(store, after, limit).await?;
    rows(store, found).await
}

/// The `limit` names whose certificates are renewed next in the fleet, the earliest first. Reads the eight partitions of the index at once.
pub async fn next(store: &Store, limit: u16) -> Result<Vec<Row>, StoreError> {
    let until = SystemTime::UNIX_EPOCH + END_OF_TIME;
    let mut partitions = JoinSet::new();
    for shard in 0..SHARDS {
        let store = store.clone();
        partitions.spawn(async move { state_table::due(&store, shard, until, None, limit).await });
    }
    let mut found = Vec::new();
    for page in partitions.join_all().await {
        found.extend(page?.names.into_iter().map(Listed::from));
    }
    found.sort_by_key(|listed| listed.due_at);
    found.truncate(limit.into());
    rows(store, found).await
}

async fn rows(store: &Store, found: Vec<Listed>) -> Result<Vec<Row>, StoreError> {
    let names: Vec<_> = found.iter().map(|listed| listed.server_name.clone()).collect();
    let mut records = state_table::read_records(store, &names).await?;
    let rows = found.into_iter().map(|listed| {
        let record = records.remove(&listed.server_name).filter(|record| record.not_after.is_some());
        let (issuer, not_after) = record.map_or((None, None), |record| (record.issuer, record.not_after));
        Row { listed, issuer, not_after: not_after.map(Micros::of) }
    });
    Ok(rows.collect())
}

pub(super) async fn names(
    store: &Store,
    after: Option<&Listed>,
    limit: u16,
) -> Result<Vec<Listed>, StoreError> {
    let after = after.map(|after| Due { name: after.server_name.clone(), at: after.due_at });
    let first = after.as_ref().map_or(0, |after| state_table::shard(&after.name));
    let mut start = after.as_ref().map(DueStart::behind);
    let mut found = Vec::new();
    for shard in first..SHARDS {
        loop {
            let rest = limit.saturating_sub(u16::try_from(found.len()).unwrap_or(u16::MAX));
            if rest == 0 {
                return Ok(found);
            }
            let until = SystemTime::UNIX_EPOCH + END_OF_TIME;
            let page = state_table::due(store, shard, until, start.take().as_ref(), rest).await?;
            found.extend(page.names.into_iter().map(Listed::from));
            let Some(next) = page.next else { break };
            start = Some(next);
        }
    }
    Ok(found)
}

/// What the table holds for `name` of `issuers`; `subject` is what its certificate is ordered for.
pub async fn show(
    store: &Store,
    issuers: &[IssuerKey],
    name: &Pattern,
    subject: &Pattern,
) -> Result<Option<Summary>, StoreError> {
    let mut stored_certificates = certificate_table::read(store, issuers, name).await?;
    let ordered_for = Some(subject).filter(|subject| *subject != name);
    let of_subject = match ordered_for {
        // No issuer has certificates here: the record alone is read.
        Some(subject) => certificate_table::read(store, &[], subject).await?.record,
        None => None,
    };
    let now = clock::wall();
    let certificate = match choose(&stored_certificates, now) {
        CertificateChoice::Take(best) => {
            let is_subjects = ordered_for.is_some() && best.pattern == *subject;
            let record = if is_subjects { of_subject.as_ref() } else { stored_certificates.record.as_ref() };
            Some(summary(best, record))
        }
        CertificateChoice::Torn | CertificateChoice::Nothing => None,
    };
    let valid = stored_certificates.stored.iter().filter_map(|stored| candidate(stored).ok().flatten());
    let valid = valid.filter(|other| other.pair.is_valid(now)).map(|other| other.pair.serial);
    let best = certificate.as_ref().map(|best| &best.serial);
    let others: Vec<_> = valid.filter(|serial| Some(serial) != best).collect();
    if ordered_for.is_some() {
        stored_certificates.record = of_subject;
    }
    let unusable: Vec<_> = unusable(&stored_certificates)
        .iter()
        .map(|unusable| format!("`{}` {}", unusable.item, unusable.problem))
        .collect();
    if certificate.is_none() && stored_certificates.record.is_none() && unusable.is_empty() {
        return Ok(None);
    }
    let record = stored_certificates.record.unwrap_or_else(|| OrderRecord::new(name));
    Ok(Some(Summary {
        server_name: name.clone(),
        ordered_for: ordered_for.cloned(),
        certificate,
        presented: None,
        others,
        failures: record.failures,
        retry_at: record.retry_at.map(Micros::of),
        problem: record.problem.unwrap_or_default(),
        failing_since: record.failing_since.map(Micros::of),
        stopped_at: record.stopped_at.map(Micros::of),
        failed_within_hour: failure::within_hour(&record.failed_at, clock::wall()).count(),
        denied_since: record.denied_since.map(Micros::of),
        unusable,
    }))
}

fn summary(best: Candidate, record: Option<&OrderRecord>) -> CertificateSummary {
    let renew_at = match record.filter(|record| record.serial.as_ref() == Some(&best.pair.serial)) {
        // The CA may want it later than its life says.
        Some(record) => record.renew_at.filter(|_| record.stopped_at.is_none()),
        // It is taken into the renewals when it is presented.
        None => Some(best.pair.life.renew_at(&best.pattern)),
    };
    let renew_at = renew_at.filter(|_| best.issuer != IssuerKey::own());
    CertificateSummary {
        pattern: best.pattern,
        kind: CertificateKind::of(&best.issuer),
        issuer: best.issuer.as_str().to_owned(),
        serial: best.pair.serial,
        not_before: Micros::of(best.pair.life.not_before),
        not_after: Micros::of(best.pair.life.not_after),
        renew_at: renew_at.map(Micros::of),
    }
}

/// Forgets that orders of `name` have failed: the next hello, or the next round of renewals, places one. Whether there was
/// anything to forget.
pub async fn retry(store: &Store, name: &Pattern) -> Result<bool, StoreError> {
    // No issuer has certificates here: the record alone is read.
    let Some(record) = certificate_table::read(store, &[], name).await?.record else { return Ok(false) };
    let is_backing_off = record.failures > 0 || record.retry_at.is_some() || record.stopped_at.is_some();
    if is_backing_off {
        state_table::put_failure(store, &record.without_failures()).await?;
    }
    Ok(is_backing_off)
}

/// The keys under which certificates are looked for: of the operator's own, of the issuers that `config` orders from, and of those
/// that are only read.
#[must_use]
pub fn issuer_keys(config: &crate::config::CertificatesConfig) -> Vec<IssuerKey> {
    let ours = std::iter::once(IssuerKey::own()).chain(config.issuers.is_empty().then(IssuerKey::internal));
    let directories = config.issuers.iter().map(|issuer| &issuer.directory).chain(&config.also_read);
    ours.chain(directories.map(|directory| IssuerKey::of_directory(directory))).collect()
}

/// Later than any certificate ends: the year 2500.
const END_OF_TIME: Duration = Duration::from_hours(530 * 8766);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        store::{Engine, tables},
    };

    #[tokio::test]
    async fn those_that_are_renewed_next_are_of_all_partitions() {
        let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
        tables::create(&store).await.unwrap();
        let now = clock::wall();
        let day = Duration::from_hours(24);
        let mut names: Vec<_> = (0..200).map(|n| Pattern::parse(&format!("n{n}.example")).unwrap()).collect();
        // The first partitions have more names than are asked for, all of them due later.
        names.sort_by_key(|name| std::cmp::Reverse(state_table::shard(name)));
        for (name, days) in names.iter().zip(1..) {
            let record = OrderRecord {
                not_after: Some(now + day * 300),
                renew_at: Some(now + day * days),
                ..OrderRecord::new(name)
            };
            state_table::put_record(&store, &record, None).await.unwrap();
        }
        assert!(names.iter().filter(|name| state_table::shard(name) == 0).count() > 5);
        let found = next(&store, 5).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|row| row.listed.server_name).collect();
        assert_eq!(found, names[..5]);
        assert_eq!(state_table::shard(&found[0]), SHARDS - 1);
    }
}
