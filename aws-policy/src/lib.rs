//! Least privilege, proven both ways: what the project's programs call is what the policies in `infra` grant them.
//! A signed request becomes [`Call`]s as IAM judges them (`request`), a template becomes [`Policy`]s (`template`, `policy`), and [`proof`]
//! compares the two. Tests give each [`Role`] an access key of its own, by which their doubles of AWS know who calls (`record`).
//! Not here: IAM itself, whose verdict only AWS gives; what CloudFormation calls for a stack (`infra/check`).
//! Invariants: what is not understood is an error, never a permission (`what_is_not_understood_is_refused`); a call that nobody has mapped to
//! an action is a fault of the run (`a_call_of_unknown_form_is_told`); a role that nobody compares does not go unseen
//! (`each_policy_of_the_templates_is_somebodys`).

pub mod page;
pub mod policy;
pub mod proof;
pub mod record;
pub mod request;
pub mod role;
pub mod template;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use crate::{
    policy::Policy,
    record::Recorder,
    request::{Request, Signed},
    role::Role,
};

/// A call as IAM judges it: an action on a resource, and what its conditions may look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// Like `dynamodb:GetItem`.
    pub action: String,
    /// An ARN, or `*` where the action knows no resources.
    pub resource: String,
    /// Condition keys in lower case, with their values; a key that is absent is one that the request does not have.
    pub context: BTreeMap<String, Vec<String>>,
}

impl Call {
    /// Without condition keys.
    #[must_use]
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), context: BTreeMap::new() }
    }

    /// With the values of a condition key.
    #[must_use]
    pub fn with(mut self, key: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.context.insert(key.to_ascii_lowercase(), values.into_iter().map(Into::into).collect());
        self
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)?;
        for (key, values) in &self.context {
            write!(f, ", {key}={}", values.join("|"))?;
        }
        Ok(())
    }
}

/// The account of all tests, moto's own.
pub const ACCOUNT: &str = "123456789012";
