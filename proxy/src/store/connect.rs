//! Pointing the SDK: at AWS, at another endpoint, or at the engine in this process.

use std::{path::Path, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::{
    Client,
    config::{Builder, Credentials, SharedCredentialsProvider, SharedHttpClient},
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{
    Engine, EngineError, KeyFileError, Store, Tables,
    genuine::genuine,
    key_sealer::{KeySealer, SealerError},
    metrics::Meter,
    retry::RetryConflicts,
};
use crate::{aws::over_the_network, clock, config::Endpoint, ec2::IdentitySource};

/// What exists as long as the last clone of a [`Store`].
pub(super) struct Keep {
    sweeper: Option<JoinHandle<()>>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The embedded engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The region of the tables is unknown.
    #[error(
        "store.region: not set, and neither AWS_REGION, the AWS profile nor the instance gives it; write it like `eu-central-1`"
    )]
    Region,
    /// The file of keys.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The environment names unknown faults.
    #[cfg(feature = "fault-injection")]
    #[error(transparent)]
    Faults(#[from] super::PlanError),
}

impl ConnectError {
    /// Whether nothing but other settings helps.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        match self {
            Self::Engine(_) => false,
            Self::Region | Self::KeyFile(_) => true,
            #[cfg(feature = "fault-injection")]
            Self::Faults(_) => true,
        }
    }
}

impl Store {
    /// Points the SDK where `config` says, in the region of `instance` when nothing else says one; the embedded engine keeps its
    /// file in `state_directory`. Call it on the control runtime.
    pub async fn connect(
        config: &crate::config::StoreConfig,
        instance: &IdentitySource,
        state_directory: &Path,
    ) -> Result<Self, ConnectError> {
        let sealer = KeySealer::connect(&config.key_encryption, config.region.as_deref(), instance);
        let sealer = sealer.await.map_err(|error| match error {
            SealerError::File(error) => ConnectError::KeyFile(error),
            SealerError::Region => ConnectError::Region,
        })?;
        let store = Self::at(config, instance, state_directory).await?;
        Ok(Self { sealer, ..store })
    }

    async fn at(
        config: &crate::config::StoreConfig,
        instance: &IdentitySource,
        state_directory: &Path,
    ) -> Result<Self, ConnectError> {
        if config.endpoint != Endpoint::Embedded {
            return Self::of_service(config, instance).await;
        }
        let engine = Engine::open(state_directory)?;
        info!(
            directory = %state_directory.display(),
            "embedded store: a development engine for a single instance, not a replacement for DynamoDB"
        );
        Ok(Self::in_process(engine.clone(), interposed(SharedHttpClient::new(engine))?, config))
    }

    /// Points the SDK at the service that `config` names, for what reads no private keys: a program that calls nothing else has the embedded
    /// engine not in it. `None` where the settings name that engine.
    pub async fn connect_to_service(
        config: &crate::config::StoreConfig,
        instance: &IdentitySource,
    ) -> Result<Option<Self>, ConnectError> {
        if config.endpoint == Endpoint::Embedded {
            return Ok(None);
        }
        Self::of_service(config, instance).await.map(Some)
    }

    async fn of_service(
        config: &crate::config::StoreConfig,
        instance: &IdentitySource,
    ) -> Result<Self, ConnectError> {
        let sdk = if let Endpoint::Url(url) = &config.endpoint {
            elsewhere(url, config, instance).await?
        } else {
            let region = instance.region(config.region.as_deref()).await.ok_or(ConnectError::Region)?;
            loader(config).region(region).load().await
        };
        Ok(Self::over(Builder::from(&sdk), interposed(genuine(over_the_network()))?, config, None))
    }

    /// A store on `engine`; several on clones of one engine are instances of one fleet. Call it on the control runtime.
    #[must_use]
    pub fn on(engine: Engine, config: &crate::config::StoreConfig) -> Self {
        Self::in_process(engine.clone(), SharedHttpClient::new(engine), config)
    }

    /// `http` leads to `engine`, which is swept of what has expired.
    pub(super) fn in_process(
        engine: Engine,
        http: SharedHttpClient,
        config: &crate::config::StoreConfig,
    ) -> Self {
        let builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(placeholder())
            .endpoint_url("http://embedded.invalid")
            .retry_config(retries())
            .timeout_config(timeouts(config));
        let sweeper = tokio::spawn(sweep(engine));
        Self::over(builder, http, config, Some(sweeper))
    }

    fn over(
        builder: Builder,
        http: SharedHttpClient,
        config: &crate::config::StoreConfig,
        sweeper: Option<JoinHandle<()>>,
    ) -> Self {
        let meter = Meter::default();
        let builder = builder.http_client(http).retry_classifier(RetryConflicts).interceptor(meter.clone());
        Self {
            client: Client::from_conf(builder.build()),
            tables: Arc::new(Tables::from(config)),
            endpoint: config.endpoint.to_string().into(),
            meter,
            sealer: KeySealer::Clear,
            _keep: Arc::new(Keep { sweeper }),
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if let Some(sweeper) = &self.sweeper {
            sweeper.abort();
        }
    }
}

/// `http`, behind the faults that the environment asks for.
#[cfg(feature = "fault-injection")]
fn interposed(http: SharedHttpClient) -> Result<SharedHttpClient, ConnectError> {
    Ok(super::fault_injection::from_environment(http)?)
}

#[cfg(not(feature = "fault-injection"))]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
fn interposed(http: SharedHttpClient) -> Result<SharedHttpClient, ConnectError> {
    Ok(http)
}

fn loader(config: &crate::config::StoreConfig) -> aws_config::ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest()).retry_config(retries()).timeout_config(timeouts(config))
}

/// An emulator speaks cleartext and knows no credentials; asking the instance's metadata for some would cost seconds in vain.
/// What speaks TLS (a VPC endpoint) wants the real ones.
async fn elsewhere(
    url: &str,
    config: &crate::config::StoreConfig,
    instance: &IdentitySource,
) -> Result<SdkConfig, ConnectError> {
    let loader = loader(config).endpoint_url(url);
    if url.starts_with("https://") || std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        let region = instance.region(config.region.as_deref()).await.ok_or(ConnectError::Region)?;
        return Ok(loader.region(region).load().await);
    }
    let region = config.region.clone().unwrap_or_else(|| "local".to_owned());
    let credentials = SharedCredentialsProvider::new(placeholder());
    Ok(loader.region(Region::new(region)).credentials_provider(credentials).load().await)
}

fn placeholder() -> Credentials {
    Credentials::new("gatehouse", "gatehouse", None, None, "placeholder")
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(50))
}

/// One attempt may take half of the time-out, so that a lost packet leaves time for another.
fn timeouts(config: &crate::config::StoreConfig) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(*config.timeout / 2)
        .operation_attempt_timeout(*config.timeout / 2)
        .operation_timeout(*config.timeout)
        .build()
}

async fn sweep(engine: Engine) {
    // Not at once: a machine whose clock is wrong as it boots has it set by then, and what was removed is lost.
    let mut ticks = tokio::time::interval_at((clock::now() + FIRST_SWEEP).into(), SWEEP_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let engine = engine.clone();
        match tokio::task::spawn_blocking(move || engine.sweep()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "expired items of the embedded store could not be removed"),
            Err(_) => return,
        }
    }
}

const FIRST_SWEEP: Duration = Duration::from_mins(10);
const SWEEP_PERIOD: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::store::{FaultPlan, Faults, tables};

    /// The engine's own HTTP server.
    async fn serve() -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let database = dynoxide::Database::memory().unwrap();
        tokio::spawn(dynoxide::server::serve_with_shutdown(listener, database, std::future::pending()));
        url
    }

    #[tokio::test]
    async fn another_endpoint_is_spoken_to_over_the_network_also_with_faults_between() {
        let config =
            crate::config::StoreConfig { endpoint: Endpoint::Url(serve().await), ..Default::default() };
        let store = Store::connect(&config, &IdentitySource::Off, Path::new("unused")).await.unwrap();
        tables::create(&store).await.unwrap();
        let Endpoint::Url(url) = &config.endpoint else { panic!("a URL was given") };
        let sdk = elsewhere(url, &config, &IdentitySource::Off).await.unwrap();
        let faults = Faults::new(FaultPlan::parse("stale=1h,seed=2,unprocessed=500").unwrap());
        let http = faults.between(genuine(over_the_network()));
        let lagging = Store::over(Builder::from(&sdk), http, &config, None);
        let table = &config.state_table;
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = lagging.client().put_item().table_name(table).item("pk", text("a"));
        put.item("sk", text("-")).send().await.unwrap();
        let read = |consistent| {
            let get = lagging.client().get_item().table_name(table).consistent_read(consistent);
            get.key("pk", text("a")).key("sk", text("-")).send()
        };
        assert!(read(true).await.unwrap().item.is_some());
        assert!(read(false).await.unwrap().item.is_none());
    }

    /// Answers every request the same.
    async fn web_server(answer: &'static str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 16 << 10]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        url
    }

    #[tokio::test]
    async fn what_is_no_dynamodb_ends_a_start_and_takes_no_write() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ] {
            let url = web_server(answer).await;
            let config =
                crate::config::StoreConfig { endpoint: Endpoint::Url(url.clone()), ..Default::default() };
            let store = Store::connect(&config, &IdentitySource::Off, Path::new("unused")).await.unwrap();
            let reached =
                crate::store::probe::reach(&store, crate::store::probe::DomainsTableUse::Needed).await;
            let made = tokio::time::timeout(Duration::from_secs(30), tables::create(&store)).await.unwrap();
            let name = crate::name::Pattern::parse("a.example").unwrap();
            let written = crate::store::domain_table::get(&store, &name).await.map(drop);
            for said in [
                crate::telemetry::error_chain(&reached.unwrap_err()),
                crate::telemetry::error_chain(&made.unwrap_err()),
                crate::telemetry::error_chain(&written.unwrap_err()),
            ] {
                let named = format!("store.endpoint: `{url}` answers HTTP");
                assert!(said.contains(&named) && said.contains("correct the address"), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_of_the_right_type_that_describes_no_table_is_none_of_dynamodbs() {
        let url = web_server(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        )
        .await;
        let config = crate::config::StoreConfig { endpoint: Endpoint::Url(url), ..Default::default() };
        let store = Store::connect(&config, &IdentitySource::Off, Path::new("unused")).await.unwrap();
        let said = crate::telemetry::error_chain(&tables::create(&store).await.unwrap_err());
        assert!(said.contains("describes no table"), "{said}");
    }

    #[tokio::test]
    async fn missing_credentials_are_told_as_that_in_one_short_line() {
        let config = crate::config::StoreConfig::default();
        let nobody = aws_config::profile::ProfileFileCredentialsProvider::builder()
            .profile_name("a-profile-that-nobody-has")
            .build();
        let builder = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(nobody)
            .endpoint_url("http://127.0.0.1:9");
        let store = Store::over(builder, over_the_network(), &config, None);
        let error = store.client().describe_table().table_name("any").send().await.unwrap_err();
        let said = crate::telemetry::error_chain(&crate::store::StoreError::from(error));
        assert!(said.starts_with("no credentials for the store; give the instance a role"), "{said}");
        assert!(said.len() < 200 && !said.contains('\n'), "{said}");
    }

    #[tokio::test]
    async fn an_endpoint_nobody_listens_at_is_unavailable() {
        let config = crate::config::StoreConfig {
            endpoint: Endpoint::Url("http://127.0.0.1:9".to_owned()),
            ..Default::default()
        };
        let store = Store::connect(&config, &IdentitySource::Off, Path::new("unused")).await.unwrap();
        let error = store.client().describe_table().table_name("any").send().await.unwrap_err();
        assert!(crate::store::StoreError::from(error).is_unavailable());
    }
}
