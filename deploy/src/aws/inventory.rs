//! What a plan has to know before anything is changed: account, regions, images, networks, types, quotas, zones.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Aws, Fault, s3::encoded, xml::Tree};
use crate::{
    found::{Image, InstanceType, Used},
    wanted::{Network, Region},
};

impl Aws {
    /// The account's number.
    pub(crate) async fn account(&self, region: &Region) -> Result<String, Fault> {
        let answer = self.query("sts", region, ("GetCallerIdentity", "2011-06-15"), &[]).await?;
        let identity = answer.child("GetCallerIdentityResult");
        Ok(identity.map(|identity| identity.text("Account").to_owned()).unwrap_or_default())
    }

    /// Regions that the account may use.
    pub(crate) async fn regions(&self, home: &Region) -> Result<BTreeSet<Region>, Fault> {
        let answer = self.ec2(home, "DescribeRegions", &[]).await?;
        let names = answer.list("regionInfo").iter().map(|region| region.text("regionName"));
        Ok(names.filter_map(|name| Region::parse(name).ok()).collect())
    }

    /// The image that was published under this version, for a type's architecture as `xtask` names it.
    pub(crate) async fn published_image(
        &self,
        region: &Region,
        version: &str,
        architecture: &str,
    ) -> Result<Option<String>, Fault> {
        let body = json!({ "Name": format!("/gatehouse/images/{version}/{architecture}") });
        match self.json("ssm", region.as_str(), ("AmazonSSM.GetParameter", "1.1"), body).await {
            Ok(answer) => Ok(answer.pointer("/Parameter/Value").and_then(Value::as_str).map(str::to_owned)),
            Err(fault) if fault.is_absence() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub(crate) async fn image(&self, region: &Region, id: &str) -> Result<Option<Image>, Fault> {
        let answer = absent(self.ec2(region, "DescribeImages", &[("ImageId.1", id)]).await)?;
        Ok(answer.list("imagesSet").first().map(read_image))
    }

    /// The account's own images of this version, for a type's architecture as `xtask` names it; in the order of their ids.
    pub(crate) async fn images_of_version(
        &self,
        region: &Region,
        version: &str,
        architecture: &str,
    ) -> Result<Vec<Image>, Fault> {
        let fields = [
            ("Owner.1", "self"),
            ("Filter.1.Name", "tag:Application"),
            ("Filter.1.Value.1", "gatehouse"),
            ("Filter.2.Name", "tag:Version"),
            ("Filter.2.Value.1", version),
            ("Filter.3.Name", "tag:Architecture"),
            ("Filter.3.Value.1", architecture),
            // One whose copy has failed is none.
            ("Filter.4.Name", "state"),
            ("Filter.4.Value.1", "available"),
            ("Filter.4.Value.2", "pending"),
        ];
        let answer = self.ec2(region, "DescribeImages", &fields).await?;
        let mut images: Vec<_> = answer.list("imagesSet").iter().map(read_image).collect();
        images.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(images)
    }

    /// The default VPC, and its subnets in zones that offer the type.
    pub(crate) async fn default_network(
        &self,
        region: &Region,
        instance_type: &str,
    ) -> Result<Option<Network>, Fault> {
        let filter = [("Filter.1.Name", "is-default"), ("Filter.1.Value.1", "true")];
        let answer = self.ec2(region, "DescribeVpcs", &filter).await?;
        let Some(vpc) = answer.list("vpcSet").first().map(|vpc| vpc.text("vpcId").to_owned()) else {
            return Ok(None);
        };
        let filter = [
            ("Filter.1.Name", "vpc-id"),
            ("Filter.1.Value.1", vpc.as_str()),
            ("Filter.2.Name", "default-for-az"),
            ("Filter.2.Value.1", "true"),
        ];
        let answer = self.ec2(region, "DescribeSubnets", &filter).await?;
        let zones = self.zones_that_offer(region, instance_type).await?;
        let subnets = answer.list("subnetSet").iter();
        let subnets = subnets.filter(|subnet| zones.contains(subnet.text("availabilityZone")));
        let subnets = subnets.map(|subnet| subnet.text("subnetId").to_owned());
        // In one order, or a second look would find a difference.
        let subnets: Vec<_> = subnets.collect::<BTreeSet<_>>().into_iter().collect();
        Ok((!subnets.is_empty()).then_some(Network { vpc, subnets }))
    }

    /// Not every zone has every type: `us-east-1e` has none of Graviton's.
    async fn zones_that_offer(
        &self,
        region: &Region,
        instance_type: &str,
    ) -> Result<BTreeSet<String>, Fault> {
        let fields = [
            ("LocationType", "availability-zone"),
            ("Filter.1.Name", "instance-type"),
            ("Filter.1.Value.1", instance_type),
        ];
        let answer = self.ec2(region, "DescribeInstanceTypeOfferings", &fields).await?;
        let zones = answer.list("instanceTypeOfferingSet").iter();
        Ok(zones.map(|offering| offering.text("location").to_owned()).collect())
    }

    pub(crate) async fn instance_type(
        &self,
        region: &Region,
        name: &str,
    ) -> Result<Option<InstanceType>, Fault> {
        let answer = absent(self.ec2(region, "DescribeInstanceTypes", &[("InstanceType.1", name)]).await)?;
        Ok(answer.list("instanceTypeSet").first().and_then(|one| {
            let architectures = one.child("processorInfo")?.list("supportedArchitectures");
            let architectures = architectures.iter().map(|name| name.own_text().to_owned()).collect();
            Some(InstanceType { vcpus: one.child("vCpuInfo")?.number("defaultVCpus")?, architectures })
        }))
    }

    /// Virtual CPUs of standard instances; none where the service does not say.
    pub(crate) async fn vcpus_permitted(&self, region: &Region) -> Result<Option<u32>, Fault> {
        let body = json!({ "ServiceCode": "ec2", "QuotaCode": "L-1216C47A" });
        let target = ("ServiceQuotasV20190624.GetServiceQuota", "1.1");
        match self.json("servicequotas", region.as_str(), target, body).await {
            Ok(answer) => Ok(answer.pointer("/Quota/Value").and_then(whole)),
            Err(fault) if fault.is_absence() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Accelerators that there are, and may be; none where nobody says.
    pub(crate) async fn accelerators(&self) -> Result<Option<Used>, Fault> {
        let used = self.accelerator_names().await?.len();
        // "Quotas for AWS Global Accelerator": told in us-east-1 alone.
        let target = ("ServiceQuotasV20190624.ListServiceQuotas", "1.1");
        let body = json!({ "ServiceCode": "globalaccelerator" });
        let answer = match self.json("servicequotas", "us-east-1", target, body).await {
            Ok(answer) => answer,
            // An organization may deny us-east-1; one accelerator too many is then refused by the service itself.
            Err(fault) if fault.is_absence() || fault.is_denial() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let quotas = answer.get("Quotas").and_then(Value::as_array).cloned().unwrap_or_default();
        let named = |quota: &&Value| {
            quota.get("QuotaName").and_then(Value::as_str) == Some("Standard accelerators per AWS account")
        };
        let most = quotas.iter().find(named).and_then(|quota| quota.get("Value")).and_then(whole);
        Ok(most.map(|most| Used { used: u32::try_from(used).unwrap_or(u32::MAX), most }))
    }

    pub(crate) async fn accelerator_names(&self) -> Result<Vec<String>, Fault> {
        let target = ("GlobalAccelerator_V20180706.ListAccelerators", "1.1");
        let answer =
            self.json("globalaccelerator", "us-west-2", target, json!({ "MaxResults": 100 })).await?;
        let list = answer.get("Accelerators").and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |one: &Value| one.get("Name").and_then(Value::as_str).map(str::to_owned);
        Ok(list.iter().filter_map(name).collect())
    }

    /// The zone's name.
    pub(crate) async fn zone(&self, id: &str) -> Result<Option<String>, Fault> {
        let path = format!("/2013-04-01/hostedzone/{id}");
        match self.rest("route53", "us-east-1", "GET", path, Vec::new()).await {
            Ok(body) => {
                let zone = Tree::parse(&body).unwrap_or_default();
                Ok(zone.child("HostedZone").map(|zone| zone.text("Name").to_owned()))
            }
            Err(fault) if fault.is_absence() => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Types of the records that `name` has in the zone; none where the account has no such zone.
    pub(crate) async fn records(&self, zone: &str, name: &str) -> Result<BTreeSet<String>, Fault> {
        // The list begins with the name's own, and goes on with those behind it.
        let path = format!("/2013-04-01/hostedzone/{zone}/rrset?name={}.", encoded(name));
        match self.rest("route53", "us-east-1", "GET", path, Vec::new()).await {
            Ok(body) => {
                let answer = Tree::parse(&body).unwrap_or_default();
                let sets = answer.list("ResourceRecordSets").iter();
                let own =
                    sets.filter(|set| set.text("Name").trim_end_matches('.').eq_ignore_ascii_case(name));
                Ok(own.map(|set| set.text("Type").to_owned()).collect())
            }
            Err(fault) if fault.is_absence() => Ok(BTreeSet::new()),
            Err(fault) => Err(fault),
        }
    }

    async fn ec2(
        &self,
        region: &Region,
        action: &'static str,
        fields: &[(&str, &str)],
    ) -> Result<Tree, Fault> {
        self.query("ec2", region, (action, "2016-11-15"), fields).await
    }
}

fn read_image(image: &Tree) -> Image {
    Image {
        id: image.text("imageId").to_owned(),
        architecture: image.text("architecture").to_owned(),
        is_available: image.text("imageState") == "available",
    }
}

/// An empty answer, where the service calls it a fault that there is no such thing.
fn absent(answer: Result<Tree, Fault>) -> Result<Tree, Fault> {
    match answer {
        Err(fault) if fault.is_absence() => Ok(Tree::default()),
        answer => answer,
    }
}

/// Quotas are told as floating-point numbers.
fn whole(value: &Value) -> Option<u32> {
    let text = format!("{:.0}", value.as_f64()?.floor());
    text.parse().ok()
}
