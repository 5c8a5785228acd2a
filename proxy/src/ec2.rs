//! The EC2 instance this process runs on: its id, its region, and whether its Auto Scaling group is terminating it.
//! Not here: what follows from that (`run`); calls to other services.
//! Invariants: outside EC2 nothing is asked (`only_a_machine_of_ec2_is_asked`); every answer is bounded in size and time, and no worker
//! waits for one; a metadata service that stops answering changes nothing (`silence_changes_nothing_and_is_told_once`).

mod lifecycle;
mod metadata;
mod source;

use std::{fmt, net::IpAddr};

use aws_config::{
    Region, environment::EnvironmentVariableRegionProvider, imds::region::ImdsRegionProvider,
    meta::region::RegionProviderChain, profile::ProfileFileRegionProvider,
};
use serde::{Deserialize, Serialize};

pub use self::{
    lifecycle::{LifecycleTarget, follow},
    metadata::{InstanceMetadata, MetadataSilence},
    source::IdentitySource,
};

/// The identity of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceIdentity {
    /// Like `i-0123456789abcdef0`.
    pub id: String,
    /// Like `eu-central-1a`.
    pub availability_zone: String,
    /// Like `eu-central-1`.
    pub region: String,
    /// Its private IPv4 address; a subnet may have none.
    pub address: Option<IpAddr>,
}

/// What a start reads about the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ec2Facts {
    /// The settings forbid to ask.
    Off,
    /// The machine is not an EC2 instance.
    Elsewhere,
    /// The endpoint did not answer; why.
    Silent(String),
    /// It answered.
    Known(InstanceIdentity),
}

impl IdentitySource {
    /// Reads the identity of the instance.
    pub async fn see(&self) -> Ec2Facts {
        match self {
            Self::Off => Ec2Facts::Off,
            Self::Elsewhere => Ec2Facts::Elsewhere,
            Self::Ask(metadata) => match metadata.identity().await {
                Ok(identity) => Ec2Facts::Known(identity),
                Err(unanswered) => Ec2Facts::Silent(unanswered.to_string()),
            },
        }
    }

    /// The region to work in: `configured`, or what `AWS_REGION`, the profile or at last the instance says.
    pub async fn region(&self, configured: Option<&str>) -> Option<Region> {
        let said = RegionProviderChain::first_try(configured.map(|region| Region::new(region.to_owned())))
            .or_else(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new());
        let chain = match self {
            Self::Off | Self::Elsewhere => said,
            Self::Ask(metadata) => {
                said.or_else(ImdsRegionProvider::builder().imds_client(metadata.client()).build())
            }
        };
        chain.region().await
    }
}

impl Ec2Facts {
    /// The instance, if it is known.
    #[must_use]
    pub fn identity(&self) -> Option<&InstanceIdentity> {
        match self {
            Self::Known(identity) => Some(identity),
            Self::Off | Self::Elsewhere | Self::Silent(_) => None,
        }
    }
}

impl fmt::Display for Ec2Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("not asked: instance.metadata is off"),
            Self::Elsewhere => f.write_str("not on EC2"),
            Self::Silent(why) => write!(f, "unknown: {why}"),
            Self::Known(identity) => identity.fmt(f),
        }
    }
}

impl fmt::Display for InstanceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} ({})", self.id, self.availability_zone, self.region)?;
        self.address.map_or(Ok(()), |address| write!(f, ", {address}"))
    }
}
