//! What is found at AWS, as far as a plan depends on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    stack::{Condition, StackKey},
    wanted::{Network, Region},
};

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Whether anybody looked: without an account, what only AWS knows stays open.
    pub(crate) looked: bool,
    /// Regions that the account may use.
    pub(crate) regions: BTreeSet<Region>,
    pub(crate) stacks: BTreeMap<StackKey, FoundStack>,
    /// Regions that the fleet's file does not name, and into which the caller may not look: an organization denies them, mostly.
    pub(crate) denied: BTreeSet<Region>,
    pub(crate) places: BTreeMap<Region, FoundRegion>,
    /// The zone's name; none where the account has no such zone.
    pub(crate) zone: Option<String>,
    /// Types of the records that the accelerator's name has in it, like `A`.
    pub(crate) records: BTreeSet<String>,
    pub(crate) accelerators: Option<Used>,
    /// Whether the function's package lies where the fleet's file says.
    pub(crate) has_package: bool,
    /// Where the package of the functions over the domains table is.
    pub(crate) functions: FoundPackage,
}

/// A package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FoundPackage {
    /// Where the fleet's file says.
    pub(crate) is_here: bool,
    /// In the home region's bucket.
    pub(crate) is_uploaded: bool,
}

/// A stack.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundStack {
    /// Its ARN, by which it is found once it is deleted, too.
    pub(crate) id: String,
    /// In CloudFormation's words.
    pub(crate) status: String,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) template: String,
    pub(crate) is_protected: bool,
    /// What it made although its creation failed, by the template's names: asked of the stack `domains` alone, which retains it.
    pub(crate) made: BTreeMap<String, String>,
}

/// A region.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundRegion {
    pub(crate) image: Option<Image>,
    /// Ids of images that all bear the version; empty where it is clear which is meant.
    pub(crate) same_version: Vec<String>,
    /// The one that was asked for, or the default one.
    pub(crate) network: Option<Network>,
    pub(crate) instance_type: Option<InstanceType>,
    /// Of virtual CPUs, of standard instances.
    pub(crate) vcpus_permitted: Option<u32>,
    /// Whether the function's package lies in the region's bucket.
    pub(crate) has_code: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: String,
    /// As EC2 names it: `arm64`, `x86_64`.
    pub(crate) architecture: String,
    pub(crate) is_available: bool,
}

/// A type of instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstanceType {
    pub(crate) vcpus: u32,
    pub(crate) architectures: Vec<String>,
}

/// A quota and what is used of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) used: u32,
    pub(crate) most: u32,
}

impl Found {
    /// The stack, unless it is as good as absent.
    pub(crate) fn stack(&self, key: &StackKey) -> Option<&FoundStack> {
        self.stacks.get(key).filter(|stack| stack.condition() != Condition::Absent)
    }

    pub(crate) fn output(&self, key: &StackKey, name: &str) -> Option<&str> {
        self.stack(key)?.outputs.get(name).map(String::as_str)
    }
}

impl FoundStack {
    pub(crate) fn condition(&self) -> Condition {
        Condition::of(&self.status)
    }
}
