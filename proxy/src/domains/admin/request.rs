//! What is asked of an entry.

use super::{ExpectedVersion, Patch, PatchField, Requester};
use crate::{
    config::{DomainSettings, Maintenance, WwwPair},
    name::{Pattern, ServerName},
    store::domain_table::Tenant,
    target::Target,
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which entry.
    pub pattern: Pattern,
    /// What is to become of it.
    pub wanted: Wanted,
    /// For which version of it.
    pub expected: ExpectedVersion,
    /// Who asks.
    pub by: Requester,
}

/// What is to become of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It is there and says this.
    Present {
        /// Its own target; absent, the default.
        target: Option<Target>,
        /// What is set for its name; what is absent is as it was.
        settings: DomainSettings,
        /// Whose it is; absent, as it was, and of the default tenant where there was none.
        tenant: Option<Tenant>,
        /// What becomes of an entry that says something else.
        existing: Existing,
        /// Whether it waits for its verification, where the settings ask for one.
        proof: Proof,
    },
    /// Parts of it say something else.
    Patched(Patch),
    /// It is gone.
    Absent,
    /// It is kept and not served.
    Suspended,
    /// It is served again.
    Resumed,
    /// Its requests are answered in place of its target, or no longer.
    Maintained(Maintenance),
}

/// What becomes of an entry that says something else than the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the request is refused.
    Keep,
    /// It is replaced.
    Replace,
}

/// Whether a new entry waits for its verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// As the settings say.
    Needed,
    /// It does not: who asks answers for it.
    Waived,
}

impl Existing {
    /// By whether `--replace`, or its like, was given.
    #[must_use]
    pub fn replaced(is_replaced: bool) -> Self {
        if is_replaced { Self::Replace } else { Self::Keep }
    }
}

impl Proof {
    /// By whether `--verified`, or its like, was given.
    #[must_use]
    pub fn waived(is_waived: bool) -> Self {
        if is_waived { Self::Waived } else { Self::Needed }
    }
}

impl Request {
    /// What `by` asks for, whichever version is there.
    #[must_use]
    pub fn new(pattern: Pattern, wanted: Wanted, by: Requester) -> Self {
        Self { pattern, wanted, expected: ExpectedVersion::Any, by }
    }

    /// Whether its entry is to speak for both names of a pair.
    pub(in crate::domains) fn is_for_pair(&self) -> bool {
        match &self.wanted {
            Wanted::Present { settings, .. } => settings.is_pair(),
            Wanted::Patched(patch) => {
                matches!(patch.www, PatchField::Set(WwwPair::Redirect | WwwPair::Serve))
            }
            Wanted::Absent | Wanted::Suspended | Wanted::Resumed | Wanted::Maintained(_) => false,
        }
    }

    /// What its entry may begin to speak for: its own names, and the other one of its pair.
    pub(in crate::domains) fn new_names(&self) -> (Option<&Pattern>, Option<ServerName>) {
        let own = matches!(self.wanted, Wanted::Present { .. }).then_some(&self.pattern);
        (own, self.pattern.counterpart().ok().filter(|_| self.is_for_pair()))
    }
}
