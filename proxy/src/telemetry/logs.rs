//! Tracing to stderr, as text for people or as JSON.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::{last_warning::RememberLast, lines::Lines};
use crate::config::{LogConfig, LogFormat};

/// Why tracing could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter.
    #[error("log.filter: `{value}` is not a filter; write it like `info,gatehouse::certificates=debug`")]
    Filter {
        /// As configured.
        value: String,
        /// Why not.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Tracing was set up before.
    #[error("tracing is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Changes which events are written.
pub(super) type Refilter = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// Sends events of the whole process to `lines`.
pub(super) fn install(log: &LogConfig, lines: &Lines) -> Result<Refilter, LogsError> {
    let events = fmt().with_env_filter(filter(log)?).with_writer(lines.clone());
    Ok(match log.format {
        LogFormat::Text => {
            let events = events.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = events.reload_handle();
            events.finish().with(without_bodies()).with(RememberLast).try_init()?;
            // It fails when the subscriber is gone, and nobody writes events.
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Json => {
            let events = events.json().flatten_event(true).with_current_span(false).with_filter_reloading();
            let handle = events.reload_handle();
            events.finish().with(without_bodies()).with(RememberLast).try_init()?;
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    })
}

/// The filter that `log` asks for.
pub(super) fn filter(log: &LogConfig) -> Result<EnvFilter, LogsError> {
    EnvFilter::try_new(&log.filter).map_err(|source| LogsError::Filter { value: log.filter.clone(), source })
}

/// What no filter can ask for. The AWS SDK traces complete requests and answers, with private keys and signatures; HTTP and TLS
/// libraries trace header fields and handshake messages. Nothing of theirs is written below `debug`, of the SDK below `info`
/// (`no_filter_prints_a_private_key`).
fn without_bodies() -> Targets {
    let sdk = [
        "aws_config",
        "aws_credential_types",
        "aws_runtime",
        "aws_sdk",
        "aws_sigv4",
        "aws_smithy",
        "aws_types",
    ];
    let capped = Targets::new().with_default(LevelFilter::DEBUG).with_target("gatehouse", LevelFilter::TRACE);
    capped.with_targets(sdk.map(|target| (target, LevelFilter::INFO)))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::SystemTime,
    };

    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;
    use crate::{
        certificates::{
            caddy::{self, Mode},
            own::{self, OwnCertificate},
        },
        config::StoreConfig as Settings,
        name::Pattern,
        store::{
            Engine, Store,
            certificate_table::{self, AccountKeyCommit, Commit, IssuerKey},
            state_table::OrderRecord,
            tables,
        },
    };

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nan unmistakable key\n-----END EC PRIVATE KEY-----\n";

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// All that may hold a key: written, read, and read at another instance.
    async fn keep_keys() {
        let store = Store::on(Engine::in_memory().unwrap(), &Settings::default());
        tables::create(&store).await.unwrap();
        let (issuer, site) = (IssuerKey::internal(), Pattern::parse("a.example").unwrap());
        let key = KEY.as_bytes().to_vec().into();
        let commit = Commit {
            issuer: &issuer,
            pattern: &site,
            chain: b"chain",
            key: &key,
            metadata: b"{}",
            replaced: None,
            record: Some(&OrderRecord::new(&site)),
            renewal_info: None,
            event: None,
        };
        let now = SystemTime::now();
        certificate_table::commit(&store, &commit, now).await.unwrap();
        let email = "a@example.com";
        let kept = AccountKeyCommit { issuer: &issuer, email, replaced: None, key: &key, account: None };
        certificate_table::commit_account_key(&store, &kept, now).await.unwrap();
        let stored_certificates =
            certificate_table::read(&store, std::slice::from_ref(&issuer), &site).await.unwrap();
        let account = certificate_table::find_account(&store, &issuer, email).await.unwrap();
        tracing::trace!(?stored_certificates, ?account, "what was read");
    }

    /// Keys that operators bring: in files of Caddy's, and with certificates of their own; what of them lines could show.
    async fn bring_keys() -> Vec<String> {
        let store = Store::on(Engine::in_memory().unwrap(), &Settings::default());
        tables::create(&store).await.unwrap();
        let (storage, config) = (tempfile::tempdir().unwrap(), crate::config::CertificatesConfig::default());
        let pair = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (chain, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let put = |name: &str, contents: [&str; 3]| {
            let folder = storage.path().join("certificates/ca.example-dir").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for (kind, contents) in ["crt", "key", "json"].into_iter().zip(contents) {
                std::fs::write(folder.join(format!("{name}.{kind}")), contents).unwrap();
            }
        };
        put("a.example", [&chain, &key, "{}"]);
        // Nobody can use it.
        put("b.example", [KEY, &key, KEY]);
        let imported = caddy::import(&store, &config, storage.path(), Mode::Write).await;
        let refused = OwnCertificate::read(chain.as_bytes(), KEY.as_bytes(), crate::clock::wall());
        let own = OwnCertificate::read(chain.as_bytes(), key.as_bytes(), crate::clock::wall()).unwrap();
        let stored = own::import(&store, &own).await;
        let exported = caddy::export(&store, &storage.path().join("exported"), Mode::Write).await;
        tracing::trace!(?imported, ?refused, ?own, ?stored, ?exported, "what was brought");
        assert_eq!(exported.unwrap().count(caddy::Outcome::Copied), 1);
        key.lines().filter(|line| !line.starts_with("-----")).map(ToOwned::to_owned).collect()
    }

    #[tokio::test]
    async fn no_filter_prints_a_private_key() {
        for filter in
            ["trace", "aws_smithy_runtime=trace", "debug", "aws=trace,hyper=trace,rustls=trace,h2=trace"]
        {
            let written = Written::default();
            let writer = written.clone();
            let log = LogConfig { filter: filter.to_owned(), ..LogConfig::default() };
            let events =
                fmt().with_env_filter(super::filter(&log).unwrap()).with_writer(move || writer.clone());
            let guard = tracing::subscriber::set_default(events.finish().with(without_bodies()));
            keep_keys().await;
            let brought = bring_keys().await;
            drop(guard);
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(
                filter != "trace" || text.contains("what was read"),
                "the test sees what is written: {text}"
            );
            let encoded = STANDARD.encode(KEY);
            let kept = ["unmistakable", &encoded, &encoded[40..60]].map(ToOwned::to_owned);
            for secret in kept.iter().chain(&brought) {
                let line = text.lines().find(|line| line.contains(secret.as_str()));
                assert!(line.is_none(), "{filter}: {}", line.unwrap_or_default());
            }
        }
    }
}
