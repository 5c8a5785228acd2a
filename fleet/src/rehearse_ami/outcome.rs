//! What a bake left at AWS: images, copies, permissions, names, and nothing else.

use std::{fmt, path::Path};

use anyhow::ensure;
use serde_json::Value;
use xshell::{Shell, cmd};

use super::{Cloud, ELSEWHERE, FRIEND, HOME, ORGANIZATION};
use crate::publish::{Aws, Bake, Image};

/// As AWS's client prints it.
pub(super) struct Outcome {
    bake: Bake,
    deprecation: String,
    places: Vec<Place>,
    left: Vec<String>,
}

/// One region.
struct Place {
    image: Image,
    described: Value,
    permissions: Value,
    snapshots: Value,
    parameters: Value,
}

impl Outcome {
    /// Asks for everything that `manifest` leads to.
    pub(super) fn read(shell: &Shell, cloud: &Cloud, manifest: &Path) -> anyhow::Result<Self> {
        let aws = Aws::at(shell, Some(cloud.url()));
        let bake = Bake::read(manifest)?;
        let at = bake.built_at.saturating_add(TWO_YEARS_SECONDS).to_string();
        let deprecation = cmd!(shell, "date --utc --date=@{at} +%Y-%m-%dT00:00").quiet().read()?;
        let mut places = Vec::new();
        for image in &bake.images {
            places.push(Place::read(&aws, image, &bake)?);
        }
        let left = left(&aws)?;
        Ok(Self { bake, deprecation, places, left })
    }

    /// An error that names all that is not as it must be.
    pub(super) fn judge(&self) -> anyhow::Result<()> {
        let mut regions: Vec<_> = self.bake.images.iter().map(|image| image.region.as_str()).collect();
        regions.sort_unstable();
        let mut wanted = [&[HOME], ELSEWHERE.as_slice()].concat();
        wanted.sort_unstable();
        ensure!(regions == wanted, "there are images in {regions:?}, and should be in {wanted:?}");
        let faults: Vec<_> = self.places.iter().flat_map(|place| place.faults(&self.deprecation)).collect();
        ensure!(faults.is_empty(), "{}", faults.join("; "));
        ensure!(self.left.is_empty(), "the bake left {}", self.left.join(", "));
        Ok(())
    }
}

impl Place {
    fn read(aws: &Aws<'_>, image: &Image, bake: &Bake) -> anyhow::Result<Self> {
        let Image { region, id } = image;
        let name = |version: &str| format!("/gatehouse/images/{version}/{}", bake.architecture);
        // Of its own: an image that was only on the way must be gone.
        let described = aws.read(region, &["ec2", "describe-images", "--owners", "self"])?;
        let snapshot = text(&described, "/Images/0/BlockDeviceMappings/0/Ebs/SnapshotId");
        let permissions =
            ["ec2", "describe-image-attribute", "--image-id", id, "--attribute", "launchPermission"];
        let parameters = ["ssm", "get-parameters", "--names", &name(&bake.version), &name("latest")];
        Ok(Self {
            image: image.clone(),
            permissions: aws.read(region, &permissions)?,
            snapshots: aws.read(region, &["ec2", "describe-snapshots", "--snapshot-ids", snapshot])?,
            parameters: aws.read(region, &parameters)?,
            described,
        })
    }

    fn faults(&self, deprecation: &str) -> Vec<String> {
        let Image { region, id } = &self.image;
        let image = self.described.pointer("/Images/0").unwrap_or(&Value::Null);
        let is = |what: &str, holds: bool| (!holds).then(|| format!("{region}: {what}"));
        let tagged = |tags: &Value| {
            [("Application", "gatehouse"), ("Version", env!("CARGO_PKG_VERSION")), ("Architecture", "amd64")]
                .iter()
                .all(|(key, value)| tag(tags, key) == Some(value))
                && tag(tags, "Base").is_some_and(|base| base.starts_with("debian-12-"))
        };
        let allowed = |field: &str, value: &str| {
            any(&self.permissions, "LaunchPermissions", |one| text(one, field) == value)
        };
        [
            is("there is another image beside it", self.described.pointer("/Images/1").is_none()),
            is("its id is not the manifest's", text(image, "/ImageId") == id),
            is("it is not available", text(image, "/State") == "available"),
            is("its name is another", text(image, "/Name").starts_with("gatehouse-")),
            is("it is not tagged", tagged(image)),
            is(
                "its snapshot is not tagged",
                tagged(self.snapshots.pointer("/Snapshots/0").unwrap_or(&Value::Null)),
            ),
            is(
                "it is not encrypted",
                image.pointer("/BlockDeviceMappings/0/Ebs/Encrypted") == Some(&true.into()),
            ),
            is("it does not require IMDSv2", text(image, "/ImdsSupport") == "v2.0"),
            is("it is deprecated at another time", text(image, "/DeprecationTime").starts_with(deprecation)),
            is("the other account may not launch it", allowed("/UserId", FRIEND)),
            is("the organization may not launch it", allowed("/OrganizationArn", ORGANIZATION)),
            is("a parameter is missing, or names another", self.is_named()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn is_named(&self) -> bool {
        let Image { id, .. } = &self.image;
        let ours = |one: &&Value| text(one, "/Value") == id && text(one, "/DataType") == "aws:ec2:image";
        let parameters = self.parameters.get("Parameters").and_then(Value::as_array);
        parameters.is_some_and(|parameters| parameters.iter().filter(ours).count() == 2)
    }
}

/// What belonged to the bake alone and is still there.
fn left(aws: &Aws<'_>) -> anyhow::Result<Vec<String>> {
    let names = |value: &Value, list: &str, name: &str| -> Vec<String> {
        let list = value.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().map(|one| text(one, name).to_owned()).collect()
    };
    let running =
        ["ec2", "describe-instances", "--filters", "Name=instance-state-name,Values=pending,running,stopped"];
    let running = names(&aws.read(HOME, &running)?, "Reservations", "/Instances/0/InstanceId");
    let keys = names(&aws.read(HOME, &["ec2", "describe-key-pairs"])?, "KeyPairs", "/KeyName");
    let groups =
        names(&aws.read(HOME, &["ec2", "describe-security-groups"])?, "SecurityGroups", "/GroupName");
    let groups = groups.into_iter().filter(|name| name != "default").collect();
    Ok([running, keys, groups].concat())
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images: Vec<_> =
            self.bake.images.iter().map(|image| format!("{} {}", image.region, image.id)).collect();
        write!(
            f,
            "{} is {}; encrypted, IMDSv2 only, deprecated from {}, tagged, shared, named; nothing else is left",
            self.bake.name(),
            images.join(", "),
            self.deprecation
        )
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn any(value: &Value, list: &str, holds: impl Fn(&Value) -> bool) -> bool {
    value.get(list).and_then(Value::as_array).is_some_and(|list| list.iter().any(holds))
}

fn tag<'a>(tagged: &'a Value, key: &str) -> Option<&'a str> {
    let tags = tagged.get("Tags").and_then(Value::as_array)?;
    tags.iter().find(|tag| text(tag, "/Key") == key).map(|tag| text(tag, "/Value"))
}

const TWO_YEARS_SECONDS: u64 = 730 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place() -> Place {
        let tags = json!([
            {"Key": "Application", "Value": "gatehouse"},
            {"Key": "Version", "Value": env!("CARGO_PKG_VERSION")},
            {"Key": "Architecture", "Value": "amd64"},
            {"Key": "Base", "Value": "debian-12-amd64-1"},
        ]);
        let parameter = json!({"Value": "ami-1", "DataType": "aws:ec2:image"});
        Place {
            image: Image { region: HOME.to_owned(), id: "ami-1".to_owned() },
            described: json!({"Images": [{
                "ImageId": "ami-1",
                "State": "available",
                "Name": "gatehouse-0.1.0-amd64-1",
                "Tags": tags,
                "ImdsSupport": "v2.0",
                "DeprecationTime": "2028-11-24T00:00:00.000Z",
                "BlockDeviceMappings": [{"Ebs": {"Encrypted": true}}],
            }]}),
            permissions: json!({"LaunchPermissions": [{"UserId": FRIEND}, {"OrganizationArn": ORGANIZATION}]}),
            snapshots: json!({"Snapshots": [{"Tags": tags}]}),
            parameters: json!({"Parameters": [parameter, parameter]}),
        }
    }

    type Spoil = fn(&mut Place);

    #[test]
    fn what_is_wrong_with_an_image_is_named() {
        assert_eq!(place().faults("2028-11-24T00:00"), Vec::<String>::new());
        assert_eq!(place().faults("2027"), ["eu-central-1: it is deprecated at another time"]);
        let wrong: [(Spoil, &str); 7] = [
            (|place| place.image.id = "ami-2".to_owned(), "its id is not the manifest's"),
            (
                |place| place.described["Images"] = json!([place.described["Images"][0], {}]),
                "there is another image beside it",
            ),
            (|place| place.described["Images"][0]["ImdsSupport"] = json!(null), "it does not require IMDSv2"),
            (|place| place.described["Images"][0]["BlockDeviceMappings"] = json!([]), "it is not encrypted"),
            (|place| place.snapshots = json!({}), "its snapshot is not tagged"),
            (|place| place.permissions = json!({}), "the organization may not launch it"),
            (|place| place.parameters["Parameters"] = json!([]), "a parameter is missing"),
        ];
        for (spoil, named) in wrong {
            let mut place = place();
            spoil(&mut place);
            let faults = place.faults("2028-11-24T00:00").join("; ");
            assert!(faults.contains(named), "{faults} instead of {named}");
        }
    }
}
