//! Fleet state over the DynamoDB API: the client, the three tables, their items.
//! Not here: what items mean (`domains`, `certificates` decide).
//! Invariants: the SDK is the only client, and where it points is the only difference between AWS, another endpoint and the engine in this process;
//! no serving path Scans.

use std::path::Path;

/// The client and the names of the tables; cheap to clone.
#[derive(Clone)]
pub struct Store {
    client: aws_sdk_dynamodb::Client,
    tables: std::sync::Arc<Tables>,
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
    /// Points the SDK where `config` says; the embedded engine keeps its file in `state_directory`.
    pub async fn connect(
        _config: &crate::config::Store,
        _state_directory: &Path,
    ) -> Result<Self, ConnectError> {
        todo!()
    }

    /// The SDK's client; for this room's tables only.
    pub(crate) fn client(&self) -> &aws_sdk_dynamodb::Client {
        &self.client
    }

    /// Names of the tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {}
