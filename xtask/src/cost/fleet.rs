//! The fleet whose bill is wanted.

use clap::ValueEnum;

/// Counts are whole numbers; they are `f64` because all that is done with them is to multiply them by prices.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fleet {
    pub(super) regions: f64,
    /// In each region.
    pub(super) instances: f64,
    pub(super) instance_type: String,
    pub(super) domains: f64,
    /// In a month, of all regions.
    pub(super) requests: f64,
    pub(super) requests_per_connection: f64,
    /// To clients in a month, from all regions.
    pub(super) gigabytes: f64,
    /// Of each instance.
    pub(super) disk_gigabytes: f64,
    pub(super) poll_seconds: f64,
    pub(super) key: Key,
    pub(super) is_verifying: bool,
}

/// Whose key encrypts the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    /// One of this account, as the stacks make it
    Own,
    /// AWS's, which costs nothing and which nobody can take away from a reader of the tables
    Aws,
}

impl Fleet {
    /// Instances of all regions.
    pub(super) fn all_instances(&self) -> f64 {
        self.regions * self.instances
    }
}

/// A whole number.
pub(super) fn count(text: &str) -> Result<f64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number: &f64| is_number && *number <= MOST);
    number.ok_or_else(|| format!("write a whole number up to {MOST}, without separators, like `1000000`"))
}

/// A whole number from one on.
pub(super) fn some(text: &str) -> Result<f64, String> {
    let number = count(text)?;
    if number < 1.0 { Err("write at least `1`".to_owned()) } else { Ok(number) }
}

/// What `domains.poll` may be.
pub(super) fn span_seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.1..=3600.0).contains(number));
    number.ok_or_else(|| "write seconds from `0.1` to `3600`".to_owned())
}

const MOST: f64 = 1e15;
