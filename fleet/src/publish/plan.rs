//! What is to be called, from what is wanted and what is seen.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{
    Aws,
    manifest::{Bake, Image},
};

/// What shall be true of every image, and the names it shall have.
pub(super) struct Wanted {
    deprecation: String,
    organizations: Vec<String>,
    parameters: [String; 2],
}

impl Wanted {
    pub(super) fn of(
        bake: &Bake,
        prefix: &str,
        deprecation: String,
        organizations: &[String],
    ) -> anyhow::Result<Self> {
        ensure!(
            prefix.starts_with('/') && !prefix.ends_with('/'),
            "--prefix: `{prefix}` is not a path of parameters; write it like `/gatehouse/images`"
        );
        for arn in organizations {
            ensure!(
                arn.starts_with("arn:") && arn.contains(":organizations:"),
                "--organization: `{arn}` is not the ARN of an organization; `aws organizations describe-organization` shows it"
            );
        }
        let name = |version: &str| format!("{prefix}/{version}/{}", bake.architecture);
        let parameters = [name(&bake.version), name("latest")];
        Ok(Self { deprecation, organizations: organizations.to_vec(), parameters })
    }

    /// The version's first, so that `latest` is never ahead of it.
    pub(super) fn parameters(&self) -> &[String] {
        &self.parameters
    }
}

/// What is true of one image, and what the names point to in its region.
#[derive(Default)]
pub(super) struct Seen {
    imdsv2: bool,
    deprecation: Option<String>,
    organizations: Vec<String>,
    parameters: BTreeMap<String, String>,
}

impl Seen {
    pub(super) fn read(aws: &Aws<'_>, Image { region, id }: &Image, wanted: &Wanted) -> anyhow::Result<Self> {
        let images = aws.read(region, &["ec2", "describe-images", "--image-ids", id])?;
        let permissions =
            ["ec2", "describe-image-attribute", "--image-id", id, "--attribute", "launchPermission"];
        let permissions = aws.read(region, &permissions)?;
        let [version, latest] = &wanted.parameters;
        let parameters = aws.read(region, &["ssm", "get-parameters", "--names", version, latest])?;
        Self::of(&images, &permissions, &parameters).with_context(|| format!("{region}: there is no {id}"))
    }

    /// From the answers; none where no image is among them.
    fn of(images: &Value, permissions: &Value, parameters: &Value) -> Option<Self> {
        let image = images.pointer("/Images/0")?;
        let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let list = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let permissions = list(permissions, "LaunchPermissions");
        let parameters = list(parameters, "Parameters");
        Some(Self {
            imdsv2: text(image, "ImdsSupport").is_some_and(|support| support == IMDSV2),
            deprecation: text(image, "DeprecationTime"),
            organizations: permissions.iter().filter_map(|one| text(one, "OrganizationArn")).collect(),
            parameters: parameters
                .iter()
                .filter_map(|one| text(one, "Name").zip(text(one, "Value")))
                .collect(),
        })
    }
}

/// One thing that AWS is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    RequireImdsv2(&'a Image),
    Deprecate(&'a Image, &'a str),
    Share(&'a Image, &'a str),
    Point(&'a Image, &'a str),
}

/// What is left to do, in order.
pub(super) fn missing<'a>(images: &'a [Image], wanted: &'a Wanted, seen: &[Seen]) -> Vec<Call<'a>> {
    let pairs = || images.iter().zip(seen);
    let mut calls: Vec<_> = pairs().flat_map(|(image, seen)| of_image(image, wanted, seen)).collect();
    for name in wanted.parameters() {
        let elsewhere = pairs().filter(|(image, seen)| seen.parameters.get(name) != Some(&image.id));
        calls.extend(elsewhere.map(|(image, _)| Call::Point(image, name)));
    }
    calls
}

fn of_image<'a>(image: &'a Image, wanted: &'a Wanted, seen: &Seen) -> Vec<Call<'a>> {
    let mut calls = Vec::new();
    if !seen.imdsv2 {
        calls.push(Call::RequireImdsv2(image));
    }
    // EC2 rounds to the minute and writes milliseconds.
    let minute = |time: &str| time.chars().take("2028-11-24T00:00".len()).collect::<String>();
    if seen.deprecation.as_deref().map(minute) != Some(minute(&wanted.deprecation)) {
        calls.push(Call::Deprecate(image, &wanted.deprecation));
    }
    let strangers = wanted.organizations.iter().filter(|arn| !seen.organizations.contains(arn));
    calls.extend(strangers.map(|arn| Call::Share(image, arn)));
    calls
}

impl Call<'_> {
    fn image(&self) -> &Image {
        match self {
            Self::RequireImdsv2(image)
            | Self::Deprecate(image, _)
            | Self::Share(image, _)
            | Self::Point(image, _) => image,
        }
    }

    pub(super) fn region(&self) -> &str {
        &self.image().region
    }

    /// For AWS's command line.
    pub(super) fn arguments(&self) -> Vec<String> {
        let id = self.image().id.as_str();
        let words: Vec<&str> = match self {
            // By name and value: `--imds-support` is younger than Debian's client.
            Self::RequireImdsv2(_) => {
                vec![
                    "ec2",
                    "modify-image-attribute",
                    "--image-id",
                    id,
                    "--attribute",
                    "imdsSupport",
                    "--value",
                    IMDSV2,
                ]
            }
            Self::Deprecate(_, at) => {
                vec!["ec2", "enable-image-deprecation", "--image-id", id, "--deprecate-at", at]
            }
            Self::Share(_, arn) => {
                let mut words = vec!["ec2", "modify-image-attribute", "--image-id", id];
                words.extend(["--attribute", "launchPermission", "--operation-type", "add"]);
                words.extend(["--organization-arns", arn]);
                words
            }
            // Of this type, so that AWS itself refuses what is no image there.
            Self::Point(_, name) => {
                let mut words = vec!["ssm", "put-parameter", "--name", name, "--value", id];
                words.extend(["--type", "String", "--data-type", "aws:ec2:image", "--overwrite"]);
                words
            }
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// What the caller has to be permitted.
    pub(super) fn permission(&self) -> &'static str {
        match self {
            Self::RequireImdsv2(_) | Self::Share(..) => "ec2:ModifyImageAttribute",
            Self::Deprecate(..) => "ec2:EnableImageDeprecation",
            Self::Point(..) => "ssm:PutParameter",
        }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Image { region, id } = self.image();
        match self {
            Self::RequireImdsv2(_) => {
                write!(f, "{region}: {id} shall start instances that answer IMDSv2 alone")
            }
            Self::Deprecate(_, at) => write!(f, "{region}: {id} shall be deprecated at {at}"),
            Self::Share(_, arn) => write!(f, "{region}: {id} shall be launched by {arn}, too"),
            Self::Point(_, name) => write!(f, "{region}: {name} shall be {id}"),
        }
    }
}

const IMDSV2: &str = "v2.0";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORGANIZATION: &str = "arn:aws:organizations::123456789012:organization/o-a";

    fn bake() -> Bake {
        let image = |region: &str, id: &str| Image { region: region.to_owned(), id: id.to_owned() };
        let images = vec![image("eu-central-1", "ami-1"), image("us-west-2", "ami-2")];
        Bake { version: "0.1.0".to_owned(), architecture: "arm64".to_owned(), built_at: 0, images }
    }

    fn wanted(organizations: &[&str]) -> Wanted {
        let organizations: Vec<_> = organizations.iter().map(|arn| (*arn).to_owned()).collect();
        Wanted::of(&bake(), "/images", "2028-11-24T00:00:00Z".to_owned(), &organizations).unwrap()
    }

    /// As AWS answers once all is done.
    fn done(id: &str) -> Seen {
        let images =
            json!({"Images": [{"ImdsSupport": "v2.0", "DeprecationTime": "2028-11-24T00:00:00.000Z"}]});
        let permissions =
            json!({"LaunchPermissions": [{"UserId": "123456789012"}, {"OrganizationArn": ORGANIZATION}]});
        let parameter = |name: &str| json!({"Name": name, "Value": id});
        let parameters = [parameter("/images/0.1.0/arm64"), parameter("/images/latest/arm64")];
        Seen::of(&images, &permissions, &json!({"Parameters": parameters})).unwrap()
    }

    #[test]
    fn parameters_come_after_all_images() {
        let (bake, wanted) = (bake(), wanted(&[ORGANIZATION]));
        let calls = missing(&bake.images, &wanted, &[Seen::default(), Seen::default()]);
        let said: Vec<_> = calls.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "eu-central-1: ami-1 shall start instances that answer IMDSv2 alone",
                "eu-central-1: ami-1 shall be deprecated at 2028-11-24T00:00:00Z",
                "eu-central-1: ami-1 shall be launched by arn:aws:organizations::123456789012:organization/o-a, too",
                "us-west-2: ami-2 shall start instances that answer IMDSv2 alone",
                "us-west-2: ami-2 shall be deprecated at 2028-11-24T00:00:00Z",
                "us-west-2: ami-2 shall be launched by arn:aws:organizations::123456789012:organization/o-a, too",
                "eu-central-1: /images/0.1.0/arm64 shall be ami-1",
                "us-west-2: /images/0.1.0/arm64 shall be ami-2",
                "eu-central-1: /images/latest/arm64 shall be ami-1",
                "us-west-2: /images/latest/arm64 shall be ami-2",
            ]
        );
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let (bake, wanted) = (bake(), wanted(&[ORGANIZATION]));
        assert_eq!(missing(&bake.images, &wanted, &[done("ami-1"), done("ami-2")]), []);
        // A parameter of an earlier bake is moved, and nothing else is touched.
        let calls = missing(&bake.images, &wanted, &[done("ami-1"), done("ami-0")]);
        let other = &bake.images[1];
        assert_eq!(
            calls,
            [Call::Point(other, "/images/0.1.0/arm64"), Call::Point(other, "/images/latest/arm64")]
        );
        let sooner = Seen { deprecation: Some("2027-11-24T00:00:00.000Z".to_owned()), ..done("ami-1") };
        let calls = missing(&bake.images, &wanted, &[sooner, done("ami-2")]);
        assert_eq!(calls, [Call::Deprecate(&bake.images[0], "2028-11-24T00:00:00Z")]);
    }

    #[test]
    fn a_call_is_a_line_of_the_client() {
        let image = &bake().images[0];
        for (call, line) in [
            (
                Call::RequireImdsv2(image),
                "ec2 modify-image-attribute --image-id ami-1 --attribute imdsSupport --value v2.0",
            ),
            (
                Call::Deprecate(image, "2028-11-24T00:00:00Z"),
                "ec2 enable-image-deprecation --image-id ami-1 --deprecate-at 2028-11-24T00:00:00Z",
            ),
            (
                Call::Share(image, ORGANIZATION),
                "ec2 modify-image-attribute --image-id ami-1 --attribute launchPermission --operation-type add \
                 --organization-arns arn:aws:organizations::123456789012:organization/o-a",
            ),
            (
                Call::Point(image, "/images/latest/arm64"),
                "ssm put-parameter --name /images/latest/arm64 --value ami-1 --type String \
                 --data-type aws:ec2:image --overwrite",
            ),
        ] {
            assert_eq!(call.arguments().join(" "), line);
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        for (prefix, organization, named) in [
            ("images", ORGANIZATION, "--prefix: `images`"),
            ("/images/", ORGANIZATION, "--prefix: `/images/`"),
            ("/images", "o-a", "--organization: `o-a`"),
        ] {
            let refused = Wanted::of(&bake(), prefix, String::new(), &[organization.to_owned()]);
            assert!(refused.is_err_and(|error| error.to_string().contains(named)), "{named}");
        }
    }

    #[test]
    fn an_answer_without_an_image_is_none() {
        assert!(Seen::of(&json!({"Images": []}), &json!({}), &json!({})).is_none());
        assert!(Seen::of(&json!(null), &json!([]), &json!("")).is_none());
    }
}
