//! A webhook of the settings, with its secret.

use std::{env, fmt, path::Path};

use http::Uri;
use zeroize::Zeroizing;

use super::{
    attempt::Poster,
    course::Attempted,
    signature::{NoSecret, Secret},
};
use crate::{
    config::{EventsConfig, WebhookConfig, WebhookName},
    store::{instant::Micros, state_table::Event},
    whole_file::{self, SecretFileError},
};

/// Where events are sent.
#[derive(Clone)]
pub(super) struct Webhook {
    pub(super) config: WebhookConfig,
    url: Uri,
    secret: Secret,
    poster: Poster,
}

/// Whether the settings say the same, and the secret is the same.
impl PartialEq for Webhook {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.secret == other.secret
    }
}

/// Why a webhook of the settings cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The file of its secret.
    #[error(
        "events.webhooks `{webhook}`: secret_file `{path}` cannot be read; give the path of a file that its owner alone may read"
    )]
    File {
        /// Which.
        webhook: WebhookName,
        /// The file.
        path: String,
        /// Why.
        source: SecretFileProblem,
    },
    /// The variable of its secret.
    #[error(
        "events.webhooks `{webhook}`: secret_variable `{variable}` is not set; set it, or give `secret_file`"
    )]
    Variable {
        /// Which.
        webhook: WebhookName,
        /// The variable.
        variable: String,
    },
    /// What is there is no secret.
    #[error(
        "events.webhooks `{webhook}`: its secret cannot be used; make one with `printf whsec_; openssl rand -base64 32`"
    )]
    Secret {
        /// Which.
        webhook: WebhookName,
        /// What is wrong with it.
        source: NoSecret,
    },
    /// No TLS for it.
    #[error("events.webhooks: no TLS client could be created; install the package `ca-certificates`")]
    Tls(#[from] rustls::Error),
    /// Refused by the validation of settings.
    #[error("events.webhooks `{webhook}`: there is no URL or no secret")]
    Incomplete {
        /// Which.
        webhook: WebhookName,
    },
}

/// Why the file of a secret cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SecretFileProblem(#[from] SecretFileError);

impl Webhook {
    /// All of `config`, with their secrets.
    pub(super) fn read_all(config: &EventsConfig) -> Result<Vec<Self>, WebhookError> {
        config.webhooks.iter().map(Self::read).collect()
    }

    /// The one of `config`, with its secret.
    pub(super) fn read(config: &WebhookConfig) -> Result<Self, WebhookError> {
        let webhook = || config.name.clone();
        let text = match (&config.secret_file, &config.secret_variable) {
            (Some(path), _) => of_file(path).map_err(|source| {
                let path = path.display().to_string();
                WebhookError::File { webhook: webhook(), path, source: source.into() }
            })?,
            (None, Some(variable)) => of_variable(variable)
                .ok_or_else(|| WebhookError::Variable { webhook: webhook(), variable: variable.clone() })?,
            (None, None) => return Err(WebhookError::Incomplete { webhook: webhook() }),
        };
        let secret = Secret::read(&text);
        let secret = secret.map_err(|source| WebhookError::Secret { webhook: webhook(), source })?;
        let url = config.url.parse().map_err(|_| WebhookError::Incomplete { webhook: webhook() })?;
        Ok(Self { config: config.clone(), url, secret, poster: Poster::new()? })
    }

    /// Sends it `event` at `now`.
    pub(super) async fn post(&self, event: &Event, now: Micros) -> Attempted {
        self.poster.post(&self.url, &self.secret, event, now).await
    }

    pub(super) fn name(&self) -> &str {
        self.config.name.as_str()
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.config.name).finish_non_exhaustive()
    }
}

fn of_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    whole_file::read_secret(path, LONGEST)
}

fn of_variable(name: &str) -> Option<Zeroizing<Vec<u8>>> {
    env::var(name).ok().map(|value| Zeroizing::new(value.into_bytes()))
}

/// Of a file; secrets have some ninety characters.
const LONGEST: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        telemetry::error_chain,
        webhooks::fixture::{SECRET, webhook},
    };

    fn of(secret: &str, mode: u32) -> Result<Webhook, WebhookError> {
        webhook("https://crm.example.com/hook".to_owned(), secret, mode)
    }

    #[test]
    fn no_part_of_a_secret_is_told() {
        let secret: &str = &format!("{SECRET}\n");
        let read = of(secret, 0o600).unwrap();
        assert!(!format!("{read:?}").contains("MfKQ"), "{read:?}");
        for (secret, mode, told) in [
            (secret, 0o644, "can be read by others (mode 644)"),
            ("whsec_MfKQ", 0o600, "24 to 64 bytes"),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0o600, "begin with `whsec_`"),
            ("", 0o600, "begin with `whsec_`"),
        ] {
            let error = error_chain(&of(secret, mode).unwrap_err());
            assert!(error.contains(told) && error.contains("`crm`") && !error.contains("MfKQ"), "{error}");
        }
    }
}
