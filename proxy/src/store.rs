//! Fleet state over the `DynamoDB` API: the client, the three tables, their items; and a copy of what one instance serves (`local_copy`).
//! Not here: what items mean (`domains`, `certificates` decide).
//! Invariants: the SDK is the only client, and its endpoint is the only difference between AWS, another service and the engine in this
//! process; no serving path scans (only `domain_table::reindex`, a list of all domains and `certificate_table::folders` do, for operators' commands); one process at a
//! time has an embedded store open (`a_second_opening_of_the_same_file_is_refused`).

mod batch;
pub mod certificate_table;
mod connect;
pub mod domain_table;
mod engine;
mod error;
#[cfg(feature = "fault-injection")]
mod fault_injection;
#[cfg(test)]
mod fixture;
mod genuine;
pub mod instant;
mod key_sealer;
pub mod local_copy;
mod metrics;
mod partition;
pub mod permissions;
mod private_key;
pub mod probe;
mod retry;
pub mod state_table;
pub mod tables;
mod tenant;

use std::sync::Arc;

pub use batch::Consistency;
pub use connect::ConnectError;
pub use engine::{Engine, EngineError};
pub use error::StoreError;
use error::if_held;
#[cfg(feature = "fault-injection")]
pub use fault_injection::{FaultPlan, Faults, PlanError};
pub use genuine::NotDynamoDb;
pub use private_key::PrivateKeyPem;

use connect::Keep;
use key_sealer::KeySealer;
pub use key_sealer::{KeyFileError, SealError};
use metrics::Meter;
pub(crate) use metrics::declare as declare_metrics;

/// An item as the SDK gives it.
type Item = std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>;

/// The client and the names of the tables; cheap to clone.
#[derive(Clone)]
pub struct Store {
    client: aws_sdk_dynamodb::Client,
    tables: Arc<Tables>,
    endpoint: Arc<str>,
    meter: Meter,
    sealer: KeySealer,
    _keep: Arc<Keep>,
}

/// Names of the tables.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Caddy's format: certificates, accounts, challenges, locks.
    pub certificates: String,
    /// Domains.
    pub domains: String,
    /// Leases, renewals, budgets.
    pub state: String,
}

impl Store {
    /// The SDK's client; for this module's tables only.
    pub(crate) fn client(&self) -> &aws_sdk_dynamodb::Client {
        &self.client
    }

    /// The region it works in.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.client.config().region().map(AsRef::as_ref)
    }

    /// Where it points, as the settings say it.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Names of the tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }
}

impl From<&crate::config::StoreConfig> for Tables {
    fn from(config: &crate::config::StoreConfig) -> Self {
        Self {
            certificates: config.certificates_table.clone(),
            domains: config.domains_table.clone(),
            state: config.state_table.clone(),
        }
    }
}
