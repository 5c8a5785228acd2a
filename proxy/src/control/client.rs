//! The other end of the control socket: how a command asks the running instance.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{
    events::{EventList, EventQuestion, NewReplay, Replay},
    fleet::Fleet,
    route::PREFIX,
    setup_links::{IssuedLink, NewLink},
    tokens::{IssuedToken, NewToken, TokenList},
    wire::{
        Bookmark, CertificatePage, Changed, Domain, EntryPage, InstanceStatus, NameAnswer, NewDomain,
        NewOwnCertificate, ReindexReport, Reloaded, Retried, Tenant, UpgradeWanted, Upgraded, WireProblem,
    },
};
use crate::{
    api_token::TokenId,
    certificates::{
        OnRequest, Ordered, RevocationReason, Revoked,
        listing::Summary,
        own::{Imported, OwnCertificate, Removed},
        spread::{Spread, SpreadPart},
    },
    config::{Maintenance, WebhookName},
    domains::{
        admin::{self, Report, Wanted},
        entry_count::CountReport,
    },
    guard::explain::{GuardFacts, GuardQuestion},
    name::{Pattern, ServerName},
    store::state_table::TokenRecord,
    webhooks::standing::WebhookStanding,
};

/// A running instance of this machine.
#[derive(Debug, Clone)]
pub struct ControlClient {
    path: PathBuf,
}

/// Why the instance gave no answer, or not the one wanted.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket is another user's.
    #[error("`{path}` belongs to another user; run the command as the user of the instance")]
    Forbidden {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("the instance behind `{path}` cannot be reached")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the instance closed the connection; its log may say why")]
    Broken(#[source] hyper::Error),
    /// No answer in time.
    #[error("the instance did not answer within {} s; its log may say why", .0.as_secs())]
    Slow(Duration),
    /// The instance says no.
    #[error("{}", .0.detail)]
    Refused(WireProblem),
    /// The answer is not what this release expects.
    #[error(
        "this command does not understand the instance's answer; use the command of the instance's release"
    )]
    Strange(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ControlClient {
    /// The instance that answers on `path`, or none when none runs there.
    pub async fn find(path: &Path) -> Result<Option<Self>, ClientError> {
        match UnixStream::connect(path).await {
            Ok(_) => Ok(Some(Self { path: path.to_path_buf() })),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(unreachable(path, error)),
            },
        }
    }

    /// What it does.
    pub async fn status(&self) -> Result<InstanceStatus, ClientError> {
        self.get("status").await
    }

    /// Part of its names.
    pub async fn domains(
        &self,
        tenant: Option<&Tenant>,
        after: Option<&Pattern>,
        limit: u16,
    ) -> Result<EntryPage<Domain>, ClientError> {
        let whose = tenant.map_or_else(String::new, |tenant| format!("&tenant={tenant}"));
        self.get(&(part("domains", after, limit) + &whose)).await
    }

    /// One of its names.
    pub async fn domain(&self, name: &Pattern) -> Result<Domain, ClientError> {
        self.get(&format!("domains/{name}")).await
    }

    /// What it makes of a name.
    pub async fn name(&self, name: &ServerName) -> Result<NameAnswer, ClientError> {
        self.get(&format!("names/{name}")).await
    }

    /// Has it do what `request` asks for.
    pub async fn administer(&self, request: &admin::Request) -> Result<Changed, ClientError> {
        let path = format!("domains/{}", request.pattern);
        match &request.wanted {
            Wanted::Present { .. } => {
                self.call(Method::PUT, &path, json(&NewDomain::of(&request.wanted))?).await
            }
            Wanted::Absent => self.call(Method::DELETE, &path, Bytes::new()).await,
            Wanted::Suspended => self.call(Method::POST, &format!("{path}/suspend"), Bytes::new()).await,
            Wanted::Maintained(maintenance) => {
                let method = match maintenance {
                    Maintenance::On => Method::PUT,
                    Maintenance::Off => Method::DELETE,
                };
                self.call(method, &format!("{path}/maintenance"), Bytes::new()).await
            }
            // The API's alone.
            Wanted::Patched(_) => {
                Err(ClientError::Strange("parts of an entry are changed by the API".into()))
            }
            Wanted::Resumed => self.call(Method::POST, &format!("{path}/resume"), Bytes::new()).await,
        }
    }

    /// What [`ControlClient::administer`] would do for an addition.
    pub async fn preview(&self, request: &admin::Request) -> Result<Report, ClientError> {
        let path = format!("domains/{}/preview", request.pattern);
        self.call(Method::POST, &path, json(&NewDomain::of(&request.wanted))?).await
    }

    /// Repairs the table.
    pub async fn reindex(&self) -> Result<ReindexReport, ClientError> {
        ReindexReport::of_all_parts(async |part| self.call(Method::POST, "reindex", json(&part)?).await).await
    }

    /// Makes it reload its settings.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.call(Method::POST, "reload", Bytes::new()).await
    }

    /// Has a successor take over from it.
    pub async fn upgrade(&self, wanted: &UpgradeWanted) -> Result<Upgraded, ClientError> {
        let patience = Duration::from_secs(wanted.within_seconds).saturating_add(PATIENCE);
        self.call_within(patience, Method::POST, "upgrade", json(wanted)?).await
    }

    /// Part of its certificates.
    pub async fn certificates(
        &self,
        after: Option<&Bookmark>,
        limit: u16,
    ) -> Result<CertificatePage, ClientError> {
        self.get(&part("certificates", after, limit)).await
    }

    /// One of its certificates.
    pub async fn certificate(&self, name: &Pattern) -> Result<Summary, ClientError> {
        self.get(&format!("certificates/{name}")).await
    }

    /// Ends the back-off of a name whose orders have failed.
    pub async fn retry(&self, name: &Pattern) -> Result<Retried, ClientError> {
        self.call(Method::POST, &format!("certificates/{name}/retry"), Bytes::new()).await
    }

    /// Has it give part of the renewals earlier dates.
    pub async fn spread_renewals(&self, part: &SpreadPart) -> Result<Spread, ClientError> {
        self.call(Method::POST, "renewals", json(part)?).await
    }

    /// Has it order a certificate.
    pub async fn order(&self, name: &Pattern, wanted: OnRequest) -> Result<Ordered, ClientError> {
        let verb = match wanted {
            OnRequest::Obtain => "obtain",
            OnRequest::Renew => "renew",
        };
        self.call(Method::POST, &format!("certificates/{name}/{verb}"), Bytes::new()).await
    }

    /// Has it revoke a certificate.
    pub async fn revoke(&self, name: &Pattern, reason: RevocationReason) -> Result<Revoked, ClientError> {
        self.call(Method::POST, &format!("certificates/{name}/revoke?reason={reason}"), Bytes::new()).await
    }

    /// Has it store a certificate of the operator's own.
    pub async fn import_own(&self, own: &OwnCertificate) -> Result<Imported, ClientError> {
        let key = String::from_utf8_lossy(own.key().as_bytes()).into_owned();
        let new = NewOwnCertificate { chain: own.chain().to_owned(), key };
        self.call(Method::POST, "own-certificates", json(&new)?).await
    }

    /// Has it remove one.
    pub async fn remove_own(&self, name: &Pattern) -> Result<Removed, ClientError> {
        self.call(Method::DELETE, &format!("own-certificates/{name}"), Bytes::new()).await
    }

    /// Has it make a setup link for the entry of `name`.
    pub async fn make_link(&self, name: &Pattern, new: NewLink) -> Result<IssuedLink, ClientError> {
        self.call(Method::POST, &format!("domains/{name}/link"), json(&new)?).await
    }

    /// Has it make a token of the API.
    pub async fn create_token(&self, new: &NewToken) -> Result<IssuedToken, ClientError> {
        self.call(Method::POST, "tokens", json(new)?).await
    }

    /// All tokens.
    pub async fn tokens(&self) -> Result<TokenList, ClientError> {
        self.get("tokens").await
    }

    /// Has it end one.
    pub async fn revoke_token(&self, id: &TokenId) -> Result<TokenRecord, ClientError> {
        self.call(Method::DELETE, &format!("tokens/{id}"), Bytes::new()).await
    }

    /// Has it count the entries of a tenant.
    pub async fn count(&self, tenant: &Tenant) -> Result<CountReport, ClientError> {
        self.call(Method::POST, &format!("tenants/{tenant}/count"), Bytes::new()).await
    }

    /// The instances of its fleet.
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        self.get("instances").await
    }

    /// Part of the event log.
    pub async fn events(&self, question: &EventQuestion) -> Result<EventList, ClientError> {
        self.call(Method::POST, "events/questions", json(question)?).await
    }

    /// How webhooks fare.
    pub async fn webhooks(&self) -> Result<Vec<WebhookStanding>, ClientError> {
        self.get("webhooks").await
    }

    /// Has a webhook go on from elsewhere.
    pub async fn replay(&self, webhook: &WebhookName, new: &NewReplay) -> Result<Replay, ClientError> {
        self.call(Method::POST, &format!("webhooks/{webhook}/replay"), json(new)?).await
    }

    /// What its guard makes of names and sources.
    pub(crate) async fn guard_facts(&self, question: &GuardQuestion) -> Result<GuardFacts, ClientError> {
        self.call(Method::POST, "guard/questions", json(question)?).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        self.call_within(PATIENCE, method, path, body).await
    }

    async fn call_within<T: DeserializeOwned>(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let strange = |error: serde_json::Error| ClientError::Strange(error.into());
        let request =
            Request::builder().method(method).uri(format!("{PREFIX}{path}")).header("host", "gatehouse");
        let request = request.body(Full::new(body)).map_err(|error| ClientError::Strange(error.into()))?;
        let answer = tokio::time::timeout(patience, self.exchange(request));
        let (good, bytes) = answer.await.map_err(|_| ClientError::Slow(patience))??;
        if good {
            return serde_json::from_slice(&bytes).map_err(strange);
        }
        Err(ClientError::Refused(serde_json::from_slice(&bytes).map_err(strange)?))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(bool, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| unreachable(&self.path, error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Broken)?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(ClientError::Broken)?;
        let good = response.status().is_success();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        driver.abort();
        Ok((good, body.map_err(ClientError::Strange)?.to_bytes()))
    }
}

fn part(list: &str, after: Option<&impl std::fmt::Display>, limit: u16) -> String {
    match after {
        Some(name) => format!("{list}?limit={limit}&after={name}"),
        None => format!("{list}?limit={limit}"),
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| ClientError::Strange(error.into()))
}

fn unreachable(path: &Path, source: io::Error) -> ClientError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Forbidden { path },
        _ => ClientError::Unreachable { path, source },
    }
}

/// Longer than an instance waits for its guard.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_ANSWER: usize = 16 << 20;
