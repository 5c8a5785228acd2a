//! Calls to the metadata service, by `IMDSv2` only: the SDK's client fetches a token first and knows no other way.

use std::time::Duration;

use aws_config::{
    imds::client::{Builder, Client, error::ImdsError},
    provider_config::ProviderConfig,
};
use http::Uri;

use super::InstanceIdentity;
use crate::aws::{bounded, in_cleartext};

/// A client of the metadata service; cheap to clone. It uses its token until just before the token expires.
#[derive(Debug, Clone)]
pub struct InstanceMetadata(Client);

/// Why there was no answer, or no usable one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataSilence {
    /// No token, or no answer in time.
    #[error(
        "the instance's metadata service does not answer; check that the instance's metadata options allow IMDSv2, or set instance.metadata to `off`"
    )]
    Silent,
    /// It refuses.
    #[error(
        "the instance's metadata service answers {status} for `{path}`; check the instance's metadata options"
    )]
    Refused {
        /// What was asked for.
        path: &'static str,
        /// Its status.
        status: u16,
    },
    /// Its value is invalid.
    #[error(
        "the instance's metadata service gives an invalid value for `{path}`; check what answers at its address"
    )]
    Misshapen {
        /// What was asked for.
        path: &'static str,
    },
}

impl InstanceMetadata {
    /// Where the SDK finds it: `AWS_EC2_METADATA_SERVICE_ENDPOINT`, the profile, or EC2's own address.
    pub(super) fn usual() -> Self {
        Self::of(Client::builder())
    }

    /// At `endpoint`.
    #[expect(
        clippy::expect_used,
        reason = "a `Uri` is read back as it is written, which is all that is tried"
    )]
    pub(super) fn at(endpoint: &Uri) -> Self {
        Self::of(Client::builder().endpoint(endpoint.to_string()).expect("a URI"))
    }

    fn of(builder: Builder) -> Self {
        let http = bounded(in_cleartext(), LONGEST_ANSWER);
        let config = ProviderConfig::without_region().with_http_client(http);
        let builder =
            builder.configure(&config).max_attempts(2).connect_timeout(PATIENCE).read_timeout(PATIENCE);
        Self(builder.operation_attempt_timeout(PATIENCE * 2).operation_timeout(PATIENCE * 4).build())
    }

    /// The identity of the instance.
    pub async fn identity(&self) -> Result<InstanceIdentity, MetadataSilence> {
        Ok(InstanceIdentity {
            id: self.must("instance-id").await?,
            availability_zone: self.must("placement/availability-zone").await?,
            region: self.must("placement/region").await?,
            address: self.may("local-ipv4").await?.and_then(|address| address.parse().ok()),
        })
    }

    /// `autoscaling/target-lifecycle-state`; none where no group keeps the instance.
    pub async fn target_lifecycle_state(&self) -> Result<Option<String>, MetadataSilence> {
        self.may("autoscaling/target-lifecycle-state").await
    }

    /// The SDK's own client, for what the SDK does with it.
    pub(super) fn client(&self) -> Client {
        self.0.clone()
    }

    async fn must(&self, path: &'static str) -> Result<String, MetadataSilence> {
        self.may(path).await?.ok_or(MetadataSilence::Refused { path, status: 404 })
    }

    /// `None` where the instance has no such value.
    async fn may(&self, path: &'static str) -> Result<Option<String>, MetadataSilence> {
        match self.0.get(format!("/latest/meta-data/{path}")).await {
            Ok(value) if is_word(value.as_ref()) => Ok(Some(value.into())),
            Ok(_) => Err(MetadataSilence::Misshapen { path }),
            Err(ImdsError::ErrorResponse(answer)) => match answer.response().status().as_u16() {
                404 => Ok(None),
                status => Err(MetadataSilence::Refused { path, status }),
            },
            // No token, no connection, no end in time; `ImdsError` is non-exhaustive.
            Err(_) => Err(MetadataSilence::Silent),
        }
    }
}

/// Whether it is what identifiers, zones, addresses and states are made of: it goes into logs and onto consoles.
fn is_word(text: &str) -> bool {
    let permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:_".contains(&byte);
    (1..=LONGEST_WORD).contains(&text.len()) && text.bytes().all(permitted)
}

/// It is one hop away.
const PATIENCE: Duration = Duration::from_secs(1);
/// Tokens have 56 bytes, data less.
const LONGEST_ANSWER: usize = 4096;
const LONGEST_WORD: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_are_taken() {
        for (text, taken) in [
            ("i-0123456789abcdef0", true),
            ("10.0.0.7", true),
            ("Warmed:Hibernated", true),
            ("", false),
            ("eu-central-1a\n", false),
            ("<html>", false),
            (&"a".repeat(129), false),
        ] {
            assert_eq!(is_word(text), taken, "{text:?}");
        }
    }

    #[test]
    fn a_mutated_corpus_of_answers_leaves_words_that_a_log_and_a_console_can_hold() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/metadata_answer");
        proxy_common::fixture::fuzz::Corpus::read(corpus).run(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            let is_safe = text.chars().all(|char| char.is_ascii_graphic() && !"<>&\"'`$\\".contains(char));
            assert!(!is_word(text) || (is_safe && (1..=LONGEST_WORD).contains(&text.len())), "{text:?}");
        });
    }

    #[tokio::test]
    async fn an_endpoint_nobody_listens_at_is_silent() {
        let nowhere = InstanceMetadata::at(&Uri::from_static("http://127.0.0.1:9"));
        assert_eq!(nowhere.identity().await, Err(MetadataSilence::Silent));
        assert_eq!(nowhere.target_lifecycle_state().await, Err(MetadataSilence::Silent));
    }
}
