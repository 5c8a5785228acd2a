//! Looks at AWS for what a plan depends on; changes nothing.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use crate::{
    aws::{Aws, Fault},
    found::{Found, FoundPackage, FoundRegion, FoundStack, Image},
    plan::Purpose,
    stack::{Condition, Kind, StackKey},
    wanted::{ImageChoice, Region, RegionWanted, Stage, Wanted},
};

/// Everything that a rollout depends on.
pub(crate) async fn for_rollout(aws: &Aws, wanted: &Wanted, purpose: Purpose) -> Result<Found, Fault> {
    let mut found = Found { looked: true, regions: aws.regions(&wanted.home).await?, ..Found::default() };
    let regions = wanted.regions.keys().filter(|region| found.regions.contains(region)).cloned();
    let regions: BTreeSet<_> = regions.collect();
    let with_stacks = wanted.regions_with_code().into_iter().cloned().collect();
    stacks(&mut found, aws, wanted, &with_stacks, &with_stacks).await?;
    found.functions = functions(aws, wanted, &found).await?;
    found.has_package = wanted.function.path().is_file();
    found.accelerators = aws.accelerators().await?;
    if !wanted.edge.hosted_zone_id.is_empty() {
        found.zone = aws.zone(&wanted.edge.hosted_zone_id).await?;
        // An update makes no record, and asks for no right to list them.
        if purpose == Purpose::Deploy {
            found.records = aws.records(&wanted.edge.hosted_zone_id, &wanted.edge.name).await?;
        }
    }
    let mut looks = JoinSet::new();
    for (region, of_region) in &wanted.regions {
        if !regions.contains(region) {
            continue;
        }
        let bucket = found.output(&StackKey::new(Kind::Artifacts, region), "Bucket").map(str::to_owned);
        let code = bucket.map(|bucket| (bucket, wanted.function.key()));
        let place = Place {
            aws: aws.clone(),
            region: region.clone(),
            wanted: of_region.clone(),
            version: wanted.image_version.clone(),
            code,
        };
        looks.spawn(async move { (place.region.clone(), place.look().await) });
    }
    for (region, place) in looks.join_all().await {
        found.places.insert(region, place?);
    }
    Ok(found)
}

async fn functions(aws: &Aws, wanted: &Wanted, found: &Found) -> Result<FoundPackage, Fault> {
    let Some(functions) = &wanted.domain_functions else { return Ok(FoundPackage::default()) };
    let is_uploaded = match found.output(&StackKey::new(Kind::Artifacts, &wanted.home), "Bucket") {
        Some(bucket) => aws.has_object(&wanted.home, bucket, &functions.package.key()).await?,
        None => false,
    };
    Ok(FoundPackage { is_here: functions.package.path().is_file(), is_uploaded })
}

/// All stacks of the stage, also where the fleet's file names no region. A region that is denied to the caller is passed over, unless the file
/// names it, or it is one of the `chosen`.
pub(crate) async fn for_stacks(aws: &Aws, wanted: &Wanted, chosen: &[Region]) -> Result<Found, Fault> {
    let mut found = Found { looked: true, regions: aws.regions(&wanted.home).await?, ..Found::default() };
    let (regions, named) = (found.regions.clone(), wanted.regions.keys().chain(chosen).cloned().collect());
    stacks(&mut found, aws, wanted, &regions, &named).await?;
    Ok(found)
}

/// In `regions`, of which the `named` ones have to answer.
async fn stacks(
    found: &mut Found,
    aws: &Aws,
    wanted: &Wanted,
    regions: &BTreeSet<Region>,
    named: &BTreeSet<Region>,
) -> Result<(), Fault> {
    let mut looks = JoinSet::new();
    for kind in Kind::ALL {
        let alone = BTreeSet::from([wanted.home.clone()]);
        let regions = if kind.is_at_home() { alone } else { regions.clone() };
        for region in regions.into_iter().filter(|region| found.regions.contains(region)) {
            let (aws, stage, key) = (aws.clone(), wanted.stage.clone(), StackKey::new(kind, &region));
            looks.spawn(async move { (key.clone(), stack(&aws, &stage, &key).await) });
        }
    }
    for (key, stack) in looks.join_all().await {
        match stack {
            Ok(Some(stack)) => drop(found.stacks.insert(key, stack)),
            Ok(None) => {}
            Err(fault) if fault.is_denial() && key.region != wanted.home && !named.contains(&key.region) => {
                found.denied.insert(key.region);
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

async fn stack(aws: &Aws, stage: &Stage, key: &StackKey) -> Result<Option<FoundStack>, Fault> {
    let name = key.name(stage);
    let Some(mut stack) = aws.stack(&key.region, &name).await? else { return Ok(None) };
    if stack.condition() == Condition::Ready {
        stack.template = aws.template(&key.region, &name).await?;
    }
    if stack.condition() == Condition::Undone && key.kind == Kind::Domains {
        stack.made = aws.made(&key.region, &stack.id).await?;
    }
    Ok(Some(stack))
}

/// What is looked for in one region.
struct Place {
    aws: Aws,
    region: Region,
    wanted: RegionWanted,
    version: String,
    /// Bucket and name of the function's package.
    code: Option<(String, String)>,
}

impl Place {
    async fn look(&self) -> Result<FoundRegion, Fault> {
        let Self { aws, region, wanted, .. } = self;
        let instance_type = aws.instance_type(region, &wanted.instance_type).await?;
        let architectures = instance_type.as_ref().map(|one| one.architectures.as_slice());
        let is_arm64 = architectures.is_none_or(|names| names.iter().any(|name| name == "arm64"));
        let architecture = if is_arm64 { "arm64" } else { "amd64" };
        let (image, same_version) = self.image(architecture).await?;
        let network = match &wanted.network {
            Some(network) => Some(network.clone()),
            None => aws.default_network(region, &wanted.instance_type).await?,
        };
        let has_code = match &self.code {
            Some((bucket, key)) => aws.has_object(region, bucket, key).await?,
            None => false,
        };
        let vcpus_permitted = aws.vcpus_permitted(region).await?;
        Ok(FoundRegion { image, same_version, network, instance_type, vcpus_permitted, has_code })
    }

    /// The image; or, where several bear the version, their ids.
    async fn image(&self, architecture: &str) -> Result<(Option<Image>, Vec<String>), Fault> {
        let Self { aws, region, wanted, version, .. } = self;
        let id = match &wanted.image {
            ImageChoice::Id(id) => Some(id.clone()),
            ImageChoice::Published => aws.published_image(region, version, architecture).await?,
            ImageChoice::Tagged => {
                let mut images = aws.images_of_version(region, version, architecture).await?;
                if images.len() > 1 {
                    return Ok((None, images.into_iter().map(|image| image.id).collect()));
                }
                return Ok((images.pop(), Vec::new()));
            }
        };
        let image = match id {
            Some(id) => aws.image(region, &id).await?,
            None => None,
        };
        Ok((image, Vec::new()))
    }
}
