//! Settings: TOML files, a parameter's value and the environment, read into one validated [`Config`].
//! Not here: how a parameter is read (`ssm`), what settings do. Every other module is given its section.
//! Invariants: a setting is declared once, with type, default and help; reading, errors, the sample file and the reference follow from
//! that declaration (`checked_in_sample_is_the_declaration`, `settings_page_is_the_declaration`); what a file or variable says is used
//! or refused, never ignored (`whatever_is_wrong_is_named_with_a_remedy`).

mod difference;
mod domain_settings;
mod environment;
mod error;
mod event_kind;
mod header_rule;
mod issuer;
mod json_schema;
mod key_encryption;
mod layer;
mod loop_id;
mod network;
mod parameter;
mod parameter_name;
mod proxy_protocol;
mod quantity;
mod read;
mod reference;
mod reloadable;
mod request_rate;
mod schema;
mod socket_prefix;
mod static_domain;
mod suggest;
mod tenant_quota;
mod toml_errors;
mod upstream_tls;
mod wildcard_certificate;
#[macro_use]
mod section;
mod api;
mod compression;
mod control;
mod enums;
mod error_pages;
mod listen;
mod sections;
mod validate;
mod verification;
mod webhook;

pub use api::ApiConfig;
pub use compression::{CompressionConfig, MediaType};
pub use control::ControlConfig;
pub use difference::{difference, merge};
pub use domain_settings::{
    CLIENT_REQUEST_RATE, DomainSettings, HOST, MAINTENANCE, MINIMUM_TLS, PairFault, REDIRECT, REQUEST_RATE,
    WWW,
};
pub use enums::{
    Attach, Balance, ContentCoding, Endpoint, GuardMode, Io, LogFormat, Maintenance, MetadataEndpoint,
    RequiredProof, Scrape, SiteRedirect, TlsVersion, UpstreamHost, WwwPair,
};
pub use error::{At, ConfigError, SettingOrigin, SettingsProblem, WrongValue};
pub use error_pages::{ContentSecurityPolicy, ErrorPagesConfig};
pub use event_kind::{EventKind, NoEventKind};
pub use header_rule::{HeaderOperation, HeaderRule, Template, TemplateField, TemplatePart};
pub use issuer::{ExternalAccountConfig, IssuerConfig};
pub use json_schema::JsonSchema;
pub use key_encryption::KeyEncryption;
pub use listen::ListenConfig;
pub use loop_id::LoopId;
pub use network::{Network, NetworkError, contain};
pub use parameter::ParameterReference;
pub use parameter_name::ParameterName;
pub use proxy_protocol::ProxyProtocol;
pub use quantity::{ByteSize, Span};
pub use read::{Gathered, Loaded, gather};
pub use reference::{reference, sample};
pub use reloadable::Reloadable;
pub use request_rate::RequestRate;
pub use schema::schema;
pub use section::{Field, Section, Subsection};
pub use sections::{
    CertificatesConfig, Config, DomainsConfig, GuardConfig, HeadersConfig, InstanceConfig, LimitsConfig,
    LogConfig, StoreConfig, TlsConfig, UpstreamConfig, WorkerConfig,
};
pub use socket_prefix::{SocketPrefix, SocketPrefixError};
pub use static_domain::StaticDomain;
pub use tenant_quota::TenantQuota;
pub use upstream_tls::UpstreamTls;
pub(crate) use validate::{LONGEST_TICKET_KEY_PERIOD, MAX_ISSUERS, leads_to, without_query};
pub use verification::VerificationConfig;
pub use webhook::{EventsConfig, NoWebhookName, WebhookConfig, WebhookName};
pub use wildcard_certificate::{HostedZoneId, WildcardCertificate};
