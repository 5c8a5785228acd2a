//! Whom a command asks: the running instance, or the tables themselves when none runs here.

use crate::{
    certificates::listing::{self, Listed, Summary},
    config::{Config, Endpoint, StaticDomain},
    control::{
        ControlClient,
        table::{self, NoCertificate, NoDomain},
        wire::{Bookmark, ChangeReach, Changed, Domain, EntryPage, ReindexReport, Retried, Tenant},
    },
    domains::{ChangeError, change},
    ec2::IdentitySource,
    name::{Pattern, ServerName},
    store::{Store, certificate_table::IssuerKey, tables},
    target::Target,
};

use super::error::CommandError;

/// Who answers.
pub(super) enum Access {
    /// The instance of this machine.
    Instance(ControlClient),
    /// Nobody; the tables are read and written by this process.
    Tables { store: Store, listed: Vec<StaticDomain>, issuer_keys: Vec<IssuerKey> },
}

impl Access {
    /// Finds the instance, or else connects to the store, which it says on stderr.
    pub(super) async fn open(config: &Config) -> Result<Self, CommandError> {
        let socket = config.control_socket();
        if let Some(client) = ControlClient::find(&socket).await? {
            return Ok(Self::Instance(client));
        }
        eprintln!("gatehouse: no instance runs here (`{}`); asking the tables themselves", socket.display());
        let store =
            Store::connect(&config.store, &IdentitySource::of(&config.instance), &config.state_directory)
                .await?;
        if config.store.endpoint == Endpoint::Embedded {
            tables::create(&store).await?;
        }
        let issuer_keys = listing::issuer_keys(&config.certificates);
        Ok(Self::Tables { store, listed: config.domains.r#static.clone(), issuer_keys })
    }

    pub(super) async fn domains(
        &self,
        tenant: Option<&Tenant>,
        after: Option<&Pattern>,
        limit: u16,
    ) -> Result<EntryPage<Domain>, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.domains(tenant, after, limit).await?),
            Self::Tables { store, listed, .. } => {
                Ok(table::domains(store, listed, tenant, after, limit).await?)
            }
        }
    }

    pub(super) async fn domain(&self, name: &Pattern) -> Result<Domain, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.domain(name).await?),
            Self::Tables { store, listed, .. } => {
                let found = table::domain(store, listed, name).await?;
                Ok(found.ok_or_else(|| NoDomain(name.clone()))?)
            }
        }
    }

    pub(super) async fn add(&self, name: &Pattern, target: Option<Target>) -> Result<Changed, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.add(name, target).await?),
            Self::Tables { store, listed, .. } => {
                in_settings(listed, name)?;
                change::add(store, name, target.as_ref()).await?;
                table::retry_added(store, name).await;
                Ok(in_table(name))
            }
        }
    }

    pub(super) async fn remove(&self, name: &Pattern) -> Result<Changed, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.remove(name).await?),
            Self::Tables { store, listed, .. } => {
                in_settings(listed, name)?;
                change::remove(store, name).await?;
                Ok(in_table(name))
            }
        }
    }

    pub(super) async fn certificates(
        &self,
        after: Option<&Bookmark>,
        limit: u16,
    ) -> Result<EntryPage<Listed>, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.certificates(after, limit).await?),
            Self::Tables { store, .. } => Ok(table::certificates(store, after, limit).await?),
        }
    }

    pub(super) async fn retry(&self, name: &ServerName) -> Result<Retried, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.retry(name).await?),
            Self::Tables { store, .. } => Ok(table::retry(store, name).await?),
        }
    }

    pub(super) async fn certificate(&self, name: &ServerName) -> Result<Summary, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.certificate(name).await?),
            Self::Tables { store, issuer_keys, .. } => {
                let found = listing::show(store, issuer_keys, name).await?;
                Ok(found.ok_or_else(|| NoCertificate(name.clone()))?)
            }
        }
    }

    pub(super) async fn reindex(&self) -> Result<ReindexReport, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.reindex().await?),
            Self::Tables { store, .. } => Ok(table::reindex(store).await?),
        }
    }
}

/// As an instance refuses it: the settings decide on what stands in them.
fn in_settings(listed: &[StaticDomain], name: &Pattern) -> Result<(), ChangeError> {
    let decided = listed.iter().any(|entry| entry.name == *name);
    if decided { Err(ChangeError::Static(name.clone())) } else { Ok(()) }
}

fn in_table(name: &Pattern) -> Changed {
    Changed { domain: name.clone(), reach: ChangeReach::Table }
}
