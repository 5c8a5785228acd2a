//! Whom a command asks: the running instance, or the tables themselves when none runs here.

use std::sync::Arc;

use crate::{
    api_token::TokenId,
    certificates::{
        listing::{self, Summary},
        order_subject,
        own::{self, Imported, OwnCertificate, Removed},
        spread::{self, Spread, SpreadPart},
    },
    clock,
    config::{CertificatesConfig, Config, Endpoint, EventsConfig, StaticDomain, WebhookName},
    control::{
        ControlClient,
        events::{self, EventList, EventQuestion, NewReplay, Replay, Thoroughness},
        fleet::{Fleet, fleet},
        setup_links::{self, IssuedLink, LinkSettings, NewLink},
        table::{self, NoCertificate, NoDomain},
        tokens::{self, IssuedToken, NewToken, TokenList},
        wire::{
            Bookmark, CertificatePage, ChangeReach, Changed, Domain, EntryPage, ReindexReport, Retried,
            Tenant,
        },
    },
    domains::{
        ChangeError,
        admin::{self, Issuance, Requester, Sources, Wanted},
        change,
        entry_count::{self, CountReport},
    },
    ec2,
    forward::AddressPolicy,
    name::Pattern,
    store::{
        Engine, Store,
        certificate_table::IssuerKey,
        instant::Micros,
        state_table::{self, OwnCertificates, TokenRecord, find_own},
    },
    webhooks::standing::{WebhookStanding, standings},
};

use super::{error::CommandError, notice};

/// Who answers.
pub(super) enum Access {
    /// The instance of this machine.
    Instance(ControlClient),
    /// Nobody; the tables are read and written by this process.
    Tables(Box<OfflineTables>),
}

/// Tables without an instance, and what the settings say of their entries.
pub(super) struct OfflineTables {
    store: Store,
    listed: Vec<StaticDomain>,
    table: admin::Table,
    rules: admin::Rules,
    issuer_keys: Vec<IssuerKey>,
    certificates: CertificatesConfig,
    events: EventsConfig,
    links: LinkSettings,
}

impl Access {
    /// Finds the instance, or else connects to the store, which it says on stderr. It makes no store.
    pub(super) async fn open(config: &Config) -> Result<Self, CommandError> {
        match ControlClient::find(&config.control_socket()).await? {
            Some(client) => Ok(Self::Instance(client)),
            None => OfflineTables::open(config).await,
        }
    }

    /// As [`Access::open`], to change the entry of `name`: where no instance runs and none would read the change, no store is opened.
    pub(super) async fn open_to_change(config: &Config, name: &Pattern) -> Result<Self, CommandError> {
        if let Some(client) = ControlClient::find(&config.control_socket()).await? {
            return Ok(Self::Instance(client));
        }
        let sources = Sources::new(&config.domains.r#static, table_of(config));
        sources.leave_to_the_table(name).map_err(ChangeError::from)?;
        OfflineTables::open(config).await
    }

    pub(super) async fn domains(
        &self,
        tenant: Option<&Tenant>,
        after: Option<&Pattern>,
        limit: u16,
    ) -> Result<EntryPage<Domain>, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.domains(tenant, after, limit).await?),
            Self::Tables(tables) => {
                Ok(table::domains(&tables.store, &tables.listed, tenant, after, limit).await?)
            }
        }
    }

    pub(super) async fn domain(&self, name: &Pattern) -> Result<Domain, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.domain(name).await?),
            Self::Tables(tables) => {
                let found = table::domain(&tables.store, &tables.listed, name).await?;
                Ok(found.ok_or_else(|| NoDomain(name.clone()))?)
            }
        }
    }

    pub(super) async fn administer(&self, request: &admin::Request) -> Result<Changed, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.administer(request).await?),
            Self::Tables(tables) => tables.administer(request).await,
        }
    }

    /// What [`Access::administer`] would do.
    pub(super) async fn preview(&self, request: &admin::Request) -> Result<admin::Report, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.preview(request).await?),
            Self::Tables(tables) => {
                let sources = tables.sources();
                Ok(change::preview(&tables.store, request, sources, &tables.rules, &change::Unknown)
                    .await?
                    .report)
            }
        }
    }

    pub(super) async fn certificates(
        &self,
        after: Option<&Bookmark>,
        limit: u16,
    ) -> Result<CertificatePage, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.certificates(after, limit).await?),
            Self::Tables(tables) => Ok(table::certificates(&tables.store, after, limit).await?),
        }
    }

    /// The operator's own, by what they are for.
    pub(super) async fn own_certificates(&self) -> Result<OwnCertificates, CommandError> {
        let own = self.certificates(None, 1).await?.own.into_iter().map(|row| {
            let not_after = row.not_after.at();
            (row.name, state_table::OwnCertificate { serial: row.serial, not_after })
        });
        Ok(own.collect())
    }

    pub(super) async fn retry(&self, name: &Pattern) -> Result<Retried, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.retry(name).await?),
            Self::Tables(tables) => {
                let own = find_own(&tables.store).await?;
                Ok(table::retry(&tables.store, name, &tables.subject(&own, name)).await?)
            }
        }
    }

    pub(super) async fn spread_renewals(&self, part: &SpreadPart) -> Result<Spread, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.spread_renewals(part).await?),
            Self::Tables(tables) => Ok(spread::spread(&tables.store, part).await?),
        }
    }

    pub(super) async fn certificate(&self, name: &Pattern) -> Result<Summary, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.certificate(name).await?),
            Self::Tables(tables) => {
                let subject = tables.subject(&find_own(&tables.store).await?, name);
                let found = listing::show(&tables.store, &tables.issuer_keys, name, &subject).await?;
                Ok(found.ok_or_else(|| NoCertificate(name.clone()))?)
            }
        }
    }

    pub(super) async fn import_own(&self, own: &OwnCertificate) -> Result<Imported, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.import_own(own).await?),
            Self::Tables(tables) => Ok(own::import(&tables.store, own).await?),
        }
    }

    pub(super) async fn remove_own(&self, name: &Pattern) -> Result<Removed, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.remove_own(name).await?),
            Self::Tables(tables) => Ok(own::remove(&tables.store, name).await?),
        }
    }

    pub(super) async fn make_link(&self, name: &Pattern, new: NewLink) -> Result<IssuedLink, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.make_link(name, new).await?),
            Self::Tables(tables) => {
                let now = Micros::of(clock::wall());
                Ok(setup_links::make_link(&tables.store, &tables.links, name, new, now).await?)
            }
        }
    }

    pub(super) async fn create_token(&self, new: NewToken) -> Result<IssuedToken, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.create_token(&new).await?),
            Self::Tables(tables) => {
                Ok(tokens::create_token(&tables.store, new, Micros::of(clock::wall())).await?)
            }
        }
    }

    pub(super) async fn tokens(&self) -> Result<TokenList, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.tokens().await?),
            Self::Tables(tables) => Ok(tokens::tokens(&tables.store).await?),
        }
    }

    pub(super) async fn revoke_token(&self, id: &TokenId) -> Result<TokenRecord, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.revoke_token(id).await?),
            Self::Tables(tables) => {
                Ok(tokens::revoke_token(&tables.store, id, Micros::of(clock::wall())).await?)
            }
        }
    }

    pub(super) async fn events(&self, question: &EventQuestion) -> Result<EventList, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.events(question).await?),
            Self::Tables(tables) => {
                let now = Micros::of(clock::wall());
                Ok(events::events(&tables.store, question, Thoroughness::Thorough, now).await?)
            }
        }
    }

    pub(super) async fn webhooks(&self) -> Result<Vec<WebhookStanding>, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.webhooks().await?),
            Self::Tables(tables) => Ok(standings(&tables.store, &tables.events).await?),
        }
    }

    pub(super) async fn replay(
        &self,
        webhook: &WebhookName,
        new: &NewReplay,
    ) -> Result<Replay, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.replay(webhook, new).await?),
            Self::Tables(tables) => {
                Ok(events::replay(&tables.store, webhook, new, Micros::of(clock::wall())).await?)
            }
        }
    }

    pub(super) async fn count(&self, tenant: &Tenant) -> Result<CountReport, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.count(tenant).await?),
            Self::Tables(tables) => Ok(entry_count::count(&tables.store, tenant.as_str()).await?),
        }
    }

    pub(super) async fn fleet(&self) -> Result<Fleet, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.fleet().await?),
            Self::Tables(tables) => Ok(fleet(&tables.store, Micros::of(clock::wall())).await?),
        }
    }

    pub(super) async fn reindex(&self) -> Result<ReindexReport, CommandError> {
        match self {
            Self::Instance(client) => Ok(client.reindex().await?),
            Self::Tables(tables) => {
                Ok(ReindexReport::of_all_parts(async |part| table::reindex(&tables.store, part).await)
                    .await?)
            }
        }
    }
}

impl OfflineTables {
    async fn open(config: &Config) -> Result<Access, CommandError> {
        let store = connect(config, || {
            let socket = config.control_socket();
            notice(&format!("no instance runs here (`{}`); using the tables directly", socket.display()));
        });
        let store = store.await?;
        Ok(Access::Tables(Box::new(Self {
            store,
            listed: config.domains.r#static.clone(),
            table: table_of(config),
            rules: rules_of(config),
            issuer_keys: listing::issuer_keys(&config.certificates),
            certificates: config.certificates.clone(),
            events: config.events.clone(),
            links: LinkSettings::of(config),
        })))
    }

    /// What a certificate for `name` is ordered for, where the operator has brought `own`.
    fn subject(&self, own: &OwnCertificates, name: &Pattern) -> Pattern {
        order_subject(&self.certificates, own, name, clock::wall())
    }

    fn sources(&self) -> Sources<'_> {
        Sources::new(&self.listed, self.table)
    }

    async fn administer(&self, request: &admin::Request) -> Result<Changed, CommandError> {
        let sources = self.sources();
        let decision =
            change::administer(&self.store, request, sources, &self.rules, &change::Unknown).await?;
        if matches!(request.wanted, Wanted::Present { .. } | Wanted::Resumed)
            && let Err(error) = table::retry_entry(&self.store, &decision.record).await
        {
            table::warn_not_retried(&decision.record, &error);
        }
        Ok(Changed { domain: request.pattern.clone(), report: decision.report, reach: ChangeReach::Table })
    }
}

/// The tables themselves. It makes no store; `found` is called before a store that is there is opened.
pub(super) async fn connect(config: &Config, found: impl FnOnce()) -> Result<Store, CommandError> {
    let (embedded, directory) = (config.store.endpoint == Endpoint::Embedded, &config.state_directory);
    if embedded && !Engine::is_in(directory) {
        let (socket, directory) = (config.control_socket(), directory.clone());
        return Err(CommandError::NoStore { socket, directory });
    }
    found();
    Ok(Store::connect(&config.store, &ec2::IdentitySource::of(&config.instance), directory).await?)
}

fn table_of(config: &Config) -> admin::Table {
    if config.domains.table { admin::Table::Read } else { admin::Table::Unread }
}

/// As an instance with these settings would decide.
fn rules_of(config: &Config) -> admin::Rules {
    let address_policy = Arc::new(AddressPolicy::of(&config.upstream));
    admin::Rules {
        default_target: config.domains.default_target.clone(),
        listeners: config.listen.https.iter().chain(&config.listen.http).copied().collect(),
        issuance: Issuance::of(&config.certificates),
        required: config.verification.required,
        entry_tls: address_policy.entry_tls().clone(),
        permits: address_policy.entry_permits(),
        reserved: admin::Rules::reserved(config),
        audit_kept: *config.domains.audit_kept,
        quotas: admin::Quotas::of(&config.domains),
    }
}

/// Who runs this command.
pub(super) fn requester() -> Requester {
    Requester::operator(format!("uid {}", nix::unistd::getuid()))
}
