//! Caddy's table of certificates, accounts, challenges and locks.
//! Not here: which of several certificates is presented, when one is ordered and by which instance (`certificates`).
//! Invariants: what Caddy reads is written as Caddy writes it, byte for byte (`caddys_own_items_are_rewritten_byte_for_byte`); a commit
//! is complete or absent, and never replaces a chain it has not seen (`a_late_holder_cannot_overwrite`); no item, of any writer,
//! causes a panic (`no_item_panics`).

mod account;
mod challenge;
mod commit;
mod contents;
mod document;
mod folders;
mod item;
mod keys;
mod lock;
mod read;
mod rewrap;

pub use account::{Account, AccountKeyCommit, StoredAccount, commit_account_key, find_account};
#[cfg(test)]
pub(crate) use challenge::challenge_for_tests;
pub use challenge::{
    Challenge, Identifier, StoredChallenge, find_challenge, find_challenges, put_challenge, remove_challenge,
    remove_stored_challenge,
};
pub use commit::{Commit, commit, remove, repeat_on_conflict};
pub use contents::{ContentsError, ItemContents, Version};
pub use document::CertificateMetadata;
pub use folders::folders;
pub(crate) use keys::DELETED;
pub use keys::{AccountKeys, CaddyFolder, IssuerKey, SiteKeys};
pub use lock::{Lock, LockOutcome};
pub use read::{
    CHAINS, ItemKind, Stored, StoredCertificates, StoredItem, StoredKey, read, read_chains, read_one,
};
pub use rewrap::{RewrapTo, Rewrapped, rewrap};

#[cfg(test)]
mod tests;
