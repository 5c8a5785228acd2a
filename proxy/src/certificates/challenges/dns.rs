//! dns-01 (RFC 8555 §8.4): the TXT records that show a CA that wildcards are ours.
//! Not here: how a record is written (`route53`). Invariants: what an instance that ended has left in a record is removed by the next
//! order of the wildcard, by the challenge that it left in the table (`what_a_killed_instance_has_left_is_removed_by_the_next_order`); the
//! record's other values stay.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tracing::warn;

use super::{Challenges, DNS};
use crate::{
    config,
    name::{NameError, Pattern, ServerName},
    route53::{RecordError, Route53, TxtPlace},
    store::{
        StoreError,
        certificate_table::{Challenge, Identifier, IssuerKey, find_challenge, remove_stored_challenge},
    },
    telemetry::admit_line,
};

/// Where the records of the settings' wildcards lie.
#[derive(Default)]
pub(in crate::certificates) struct DnsChallenges {
    places: HashMap<Pattern, DnsPlace>,
    route53: Route53,
}

/// Where one wildcard's lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DnsPlace {
    /// What the CA asks for, and what the challenge lies under in the table.
    validated: ServerName,
    place: TxtPlace,
}

/// Why a challenge was not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsChallengeError {
    /// The settings do not name it.
    #[error("`{0}` is not in `certificates.wildcards`, so that no record is written for it")]
    Unlisted(Pattern),
    /// The record.
    #[error("the challenge's record was not written: {0}")]
    Record(String),
    /// The table.
    #[error("the table failed")]
    Store(#[from] StoreError),
}

impl From<RecordError> for DnsChallengeError {
    fn from(error: RecordError) -> Self {
        Self::Record(error.to_string())
    }
}

impl DnsChallenges {
    pub(in crate::certificates) fn new(config: &config::CertificatesConfig) -> Self {
        // The settings were validated: their names are short enough.
        let places = config
            .wildcards
            .iter()
            .filter_map(|wildcard| Some((wildcard.name.clone(), DnsPlace::of(wildcard).ok()?)));
        Self { places: places.collect(), route53: Route53::default() }
    }

    /// The same with Route 53 at `endpoint`.
    #[cfg(test)]
    pub(in crate::certificates) fn at(config: &config::CertificatesConfig, endpoint: String) -> Self {
        Self { route53: Route53::at(endpoint), ..Self::new(config) }
    }

    fn find(&self, wildcard: &Pattern) -> Result<&DnsPlace, DnsChallengeError> {
        self.places.get(wildcard).ok_or_else(|| DnsChallengeError::Unlisted(wildcard.clone()))
    }
}

impl DnsPlace {
    /// The record of the settings, rather than one that the DNS would lead to: a CNAME that somebody has changed must not decide which
    /// record of the zone is written.
    fn of(wildcard: &config::WildcardCertificate) -> Result<Self, NameError> {
        let validated = wildcard.validated_name()?;
        let record = wildcard.record.clone().unwrap_or_else(|| validated.clone());
        Ok(Self { validated, place: TxtPlace { zone: wildcard.zone.clone(), record } })
    }
}

/// Whether the record of `wildcard` can be read.
pub(crate) async fn probe(wildcard: &config::WildcardCertificate) -> Result<(), DnsChallengeError> {
    let unlisted = |_| DnsChallengeError::Unlisted(wildcard.name.clone());
    let DnsPlace { place, .. } = DnsPlace::of(wildcard).map_err(unlisted)?;
    Ok(Route53::default().probe(&place).await?)
}

impl Challenges {
    /// Shows the CA `challenge` of `wildcard`; when this returns, all name servers of the zone have it.
    ///
    /// # Cancel safety
    /// The record stays, and the next order of the wildcard replaces it.
    pub(in crate::certificates) async fn open_dns(
        &self,
        issuer: &IssuerKey,
        wildcard: &Pattern,
        challenge: Challenge,
    ) -> Result<(), DnsChallengeError> {
        let DnsPlace { validated, place } = self.dns.find(wildcard)?;
        let left = self.stored(validated).await?;
        let left: Vec<_> = left.iter().filter(|left| left.kind == DNS).map(answer).collect();
        let value = answer(&challenge);
        // In the table first: what is in the record and not in the table nobody would remove.
        let challenge = Challenge { identifier: Identifier::dns(validated), ..challenge };
        self.open(issuer, validated, challenge).await?;
        Ok(self.dns.route53.publish(place, &value, &left).await?)
    }

    /// Removes the record that lies in the table, whichever instance has written it.
    pub(super) async fn clear_dns(&self, issuer: &IssuerKey, wildcard: &Pattern) -> Result<(), StoreError> {
        let Ok(DnsPlace { validated, place }) = self.dns.find(wildcard) else { return Ok(()) };
        let Some(stored) = find_challenge(&self.store, issuer, validated).await? else { return Ok(()) };
        if stored.challenge.kind != DNS || !self.withdraw(wildcard, place, &answer(&stored.challenge)).await {
            return Ok(());
        }
        remove_stored_challenge(&self.store, issuer, validated, &stored).await
    }

    /// Removes our record of `wildcard`, if there is one, then its challenge from the table.
    pub(in crate::certificates) async fn close_dns(&self, issuer: &IssuerKey, wildcard: &Pattern) {
        let Ok(DnsPlace { validated, place }) = self.dns.find(wildcard) else { return };
        let Some(challenge) = self.find_ours(validated) else { return };
        if self.withdraw(wildcard, place, &answer(&challenge)).await {
            return self.close(issuer, validated).await;
        }
        self.leave(validated);
    }

    /// Whether the record at `place` has the value no more.
    async fn withdraw(&self, wildcard: &Pattern, place: &TxtPlace, value: &str) -> bool {
        let withdrawn = tokio::time::timeout(WITHDRAWN_WITHIN, self.dns.route53.withdraw(place, value));
        match withdrawn.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => warn_of_record(wildcard, &error.to_string()),
            Err(_) => warn_of_record(wildcard, "Route 53 did not answer in time"),
        }
        false
    }
}

fn warn_of_record(wildcard: &Pattern, problem: &str) {
    if let Some(left_out) = admit_line("challenge_record_left", "") {
        warn!(server_name = %wildcard, problem, left_out, "the record of a challenge was not removed; the wildcard's next order removes it");
    }
}

/// RFC 8555 §8.4: the digest of the key authorization, in base64url.
fn answer(challenge: &Challenge) -> String {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, challenge.key_authorization.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

/// A certificate waits for it, and is valid without.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn wildcard(record: Option<&str>) -> config::WildcardCertificate {
        let zone = "Z1".to_owned();
        config::WildcardCertificate {
            name: Pattern::parse("*.app.example").unwrap(),
            zone: config::HostedZoneId::try_from(zone).unwrap(),
            record: record.map(|record| ServerName::parse(record).unwrap()),
        }
    }

    #[test]
    fn the_record_is_the_one_of_the_settings_or_the_one_the_ca_asks_for() {
        for (record, expected) in [
            (None, "_acme-challenge.app.example"),
            (Some("_acme-challenge.app.acme.example"), "_acme-challenge.app.acme.example"),
        ] {
            let place = DnsPlace::of(&wildcard(record)).unwrap();
            assert_eq!(place.validated.as_str(), "_acme-challenge.app.example");
            assert_eq!((place.place.record.as_str(), place.place.zone.as_str()), (expected, "Z1"));
        }
    }

    #[test]
    fn the_answer_is_the_digest_of_the_key_authorization() {
        let name = ServerName::parse("_acme-challenge.app.example").unwrap();
        let challenge = crate::store::certificate_table::challenge_for_tests(&name, DNS);
        // `printf token.thumbprint | openssl dgst -sha256 -binary | basenc --base64url`
        assert_eq!(answer(&challenge), "61rBZ_4knHblO0MNoxFsXZ_eTFUHum0B6IVRbhvUn5I");
    }
}
