//! What an operator wants: a stage, and a file that describes its fleet.
//! Not here: whether AWS has what the file names (`plan::refusal`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    code_package::CodePackage,
    domain_functions::{DomainFunctions, DomainFunctionsFile, FunctionsError},
};

/// A stage's name; stages share nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stage(String);

impl Stage {
    /// As the templates demand it: a letter, then letters and digits, 2 to 12 in all, lower case.
    pub(crate) fn parse(text: &str) -> Result<Self, WantedError> {
        let letter = text.starts_with(|first: char| first.is_ascii_lowercase());
        let rest = text.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit());
        let fits = letter && rest && (2..=12).contains(&text.len());
        if fits { Ok(Self(text.to_owned())) } else { Err(WantedError::Stage(text.to_owned())) }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A region's name, like `eu-central-1`; whether there is one is AWS's to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Region(String);

impl Region {
    pub(crate) fn parse(text: &str) -> Result<Self, WantedError> {
        let parts: Vec<_> = text.split('-').collect();
        let words = |parts: &[&str]| {
            parts.iter().all(|part| !part.is_empty() && part.chars().all(|char| char.is_ascii_lowercase()))
        };
        let fits = match parts.split_last() {
            Some((number, before)) => {
                before.len() >= 2 && words(before) && matches!(number.as_bytes(), [b'0'..=b'9'])
            }
            None => false,
        };
        if fits { Ok(Self(text.to_owned())) } else { Err(WantedError::Region(text.to_owned())) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole fleet.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) stage: Stage,
    pub(crate) home: Region,
    pub(crate) image_version: String,
    /// The instances' settings, TOML.
    pub(crate) settings: String,
    pub(crate) function: CodePackage,
    /// ARN of the role that CloudFormation takes; none where it goes by the caller's rights.
    pub(crate) service_role: Option<String>,
    /// The hosted zone in which instances may write challenges; empty for none.
    pub(crate) challenge_zone: String,
    /// ARNs of the KMS keys by which instances may encrypt private keys.
    pub(crate) key_encryption_keys: Vec<String>,
    pub(crate) edge: EdgeFile,
    pub(crate) tables: TablesFile,
    /// None for no functions over the domains table.
    pub(crate) domain_functions: Option<DomainFunctions>,
    pub(crate) regions: BTreeMap<Region, RegionWanted>,
    /// Regions of the file that were not chosen, and are left alone.
    pub(crate) others: BTreeSet<Region>,
    /// Whether the stage's name was typed once more: what customers' domains point to may go.
    pub(crate) is_confirmed: bool,
}

/// What is wanted of one region.
#[derive(Debug, Clone)]
pub(crate) struct RegionWanted {
    /// The VPC and its public subnets; none for the region's default ones.
    pub(crate) network: Option<Network>,
    pub(crate) image: ImageChoice,
    pub(crate) instance_type: String,
    /// `standard` or `unlimited`; empty for AWS's own choice, and for types that do not burst.
    pub(crate) cpu_credits: String,
    pub(crate) instance_count: u32,
    pub(crate) settings_parameter: String,
    /// ARN of the KMS key of that parameter; empty for AWS's own.
    pub(crate) settings_key: String,
    pub(crate) alarm_topic: String,
    /// IPv4 addresses from which metrics are read, like `10.0.0.0/16`; empty for none.
    pub(crate) metrics_source: String,
}

/// Which image instances are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageChoice {
    /// This one.
    Id(String),
    /// The one that was published under the version.
    Published,
    /// The only one of the account's that bears the version, by the tags of `packer/image.pkr.hcl`.
    Tagged,
}

/// Where instances are launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) vpc: String,
    pub(crate) subnets: Vec<String>,
}

/// The accelerator and its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EdgeFile {
    pub(crate) ip_address_type: String,
    pub(crate) hosted_zone_id: String,
    pub(crate) name: String,
}

impl Default for EdgeFile {
    fn default() -> Self {
        Self { ip_address_type: "IPV4".to_owned(), hosted_zone_id: String::new(), name: String::new() }
    }
}

/// Tables that are there already.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TablesFile {
    pub(crate) certificates: String,
    pub(crate) domains: String,
    pub(crate) state: String,
    pub(crate) key: String,
}

impl TablesFile {
    /// As parameters of the stack `domains`.
    pub(crate) fn parameters(&self) -> [(&'static str, &String); 4] {
        [
            ("ExistingCertificatesTable", &self.certificates),
            ("ExistingDomainsTable", &self.domains),
            ("ExistingStateTable", &self.state),
            ("ExistingKey", &self.key),
        ]
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetFile {
    home_region: String,
    image_version: String,
    settings: PathBuf,
    function: PathBuf,
    service_role: Option<String>,
    instance_type: Option<String>,
    cpu_credits: Option<String>,
    instance_count: Option<u32>,
    #[serde(default)]
    challenge_zone: String,
    #[serde(default)]
    key_encryption_keys: Vec<String>,
    #[serde(default)]
    edge: EdgeFile,
    #[serde(default)]
    tables: TablesFile,
    domain_functions: Option<DomainFunctionsFile>,
    regions: BTreeMap<String, RegionFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionFile {
    vpc: Option<String>,
    #[serde(default)]
    subnets: Vec<String>,
    image_id: Option<String>,
    instance_type: Option<String>,
    cpu_credits: Option<String>,
    instance_count: Option<u32>,
    #[serde(default)]
    settings_parameter: String,
    #[serde(default)]
    settings_key: String,
    #[serde(default)]
    alarm_topic: String,
    #[serde(default)]
    metrics_source: String,
}

impl Wanted {
    /// Reads the fleet's file; paths in it are relative to its folder.
    pub(crate) fn read(stage: Stage, path: &Path) -> Result<Self, WantedError> {
        let text = fs::read_to_string(path).map_err(|source| unreadable("--file", path, source))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let file: FleetFile = toml::from_str(&text)
            .map_err(|source| WantedError::Form { path: path.to_owned(), source: Box::new(source) })?;
        let settings = folder.join(&file.settings);
        let settings =
            fs::read_to_string(&settings).map_err(|source| unreadable("settings", &settings, source))?;
        // CloudFormation need not keep a parameter's last white space, and a second look would find a difference.
        Self::of(stage, file, settings.trim_end().to_owned(), folder)
    }

    fn of(stage: Stage, file: FleetFile, settings: String, folder: &Path) -> Result<Self, WantedError> {
        if settings.is_empty() || settings.len() > MOST_SETTINGS_BYTES {
            return Err(WantedError::Settings(settings.len()));
        }
        if file.edge.hosted_zone_id.is_empty() != file.edge.name.is_empty() {
            return Err(WantedError::ZoneAndName);
        }
        if file.regions.is_empty() {
            return Err(WantedError::NoRegion);
        }
        if let Some(other) = file.service_role.as_deref().filter(|text| !is_role(text)) {
            return Err(WantedError::ServiceRole(other.to_owned()));
        }
        let function = folder.join(&file.function).into();
        let functions = file.domain_functions.map(|file| DomainFunctions::of(file, &settings, folder));
        let common = Common {
            instance_type: file.instance_type,
            cpu_credits: file.cpu_credits,
            instance_count: file.instance_count,
        };
        let mut regions = BTreeMap::new();
        for (name, region) in file.regions {
            let wanted = common.region(&name, region)?;
            regions.insert(Region::parse(&name)?, wanted);
        }
        Ok(Self {
            stage,
            home: Region::parse(&file.home_region)?,
            image_version: image_version("image_version", &file.image_version)?,
            settings,
            function,
            service_role: file.service_role,
            challenge_zone: file.challenge_zone,
            key_encryption_keys: file.key_encryption_keys,
            edge: file.edge,
            tables: file.tables,
            domain_functions: functions.transpose()?,
            regions,
            others: BTreeSet::new(),
            is_confirmed: false,
        })
    }

    /// Of these regions alone; of all, where none is named.
    pub(crate) fn only(mut self, regions: &[Region]) -> Result<Self, WantedError> {
        if let Some(other) = regions.iter().find(|region| !self.regions.contains_key(region)) {
            return Err(WantedError::OtherRegion(other.clone()));
        }
        if !regions.is_empty() {
            let others = self.regions.extract_if(.., |region, _| !regions.contains(region));
            self.others.extend(others.map(|(region, _)| region));
        }
        Ok(self)
    }

    /// The same, where the operator has `typed` this as the stage's name once more.
    pub(crate) fn confirmed(mut self, typed: Option<&str>) -> Self {
        self.is_confirmed = typed == Some(self.stage.0.as_str());
        self
    }

    /// The same with the image of `version` in each region, whatever the file says.
    pub(crate) fn with_image_version(mut self, version: &str) -> Result<Self, WantedError> {
        self.image_version = image_version("--image-version", version)?;
        for region in self.regions.values_mut() {
            region.image = ImageChoice::Tagged;
        }
        Ok(self)
    }

    /// What has to be written into the file, or it has the image of `version` go again.
    pub(crate) fn edits_for(&self, version: &str) -> Vec<String> {
        let other = (self.image_version != version).then(|| {
            let before = &self.image_version;
            format!(
                "write `image_version = \"{version}\"`, or the next `deploy` or `update` goes back to `{before}`"
            )
        });
        let ids = self.regions.iter().filter(|(_, region)| matches!(region.image, ImageChoice::Id(_)));
        let ids = ids.map(|(region, _)| {
            format!("take `image_id` out of `[regions.{region}]`, or the next `deploy` or `update` goes back to that image")
        });
        other.into_iter().chain(ids).collect()
    }

    /// Whether a region's instances have the image's guard in its native mode, as far as the file knows: not what `settings_parameter` holds.
    pub(crate) fn has_native_guard(&self, region: &RegionWanted) -> bool {
        let settings: Table = self.settings.parse().unwrap_or_default();
        let guard = settings.get("guard").and_then(Value::as_table);
        let of_guard = |name: &str| guard.and_then(|guard| guard.get(name));
        let is_generic = of_guard("attach").and_then(Value::as_str) == Some("generic");
        let is_off = of_guard("interfaces").and_then(Value::as_array).is_some_and(Vec::is_empty);
        region.settings_parameter.is_empty() && !is_generic && !is_off
    }

    /// Where code of functions lies: beside each fleet, and at home for those over the domains table, also where no fleet is.
    pub(crate) fn regions_with_code(&self) -> BTreeSet<&Region> {
        let home = self.domain_functions.as_ref().map(|_| &self.home);
        self.regions.keys().chain(home).collect()
    }
}

/// What a region takes from the whole file.
struct Common {
    instance_type: Option<String>,
    cpu_credits: Option<String>,
    instance_count: Option<u32>,
}

impl Common {
    fn region(&self, name: &str, file: RegionFile) -> Result<RegionWanted, WantedError> {
        let network = match (file.vpc, file.subnets) {
            (Some(vpc), subnets) if !subnets.is_empty() => Some(Network { vpc, subnets }),
            (None, subnets) if subnets.is_empty() => None,
            _ => return Err(WantedError::HalfNetwork(name.to_owned())),
        };
        let instance_count = file.instance_count.or(self.instance_count).unwrap_or(2);
        if !(1..=9).contains(&instance_count) {
            return Err(WantedError::InstanceCount { region: name.to_owned(), count: instance_count });
        }
        if !file.metrics_source.is_empty() && !is_network(&file.metrics_source) {
            return Err(WantedError::MetricsSource { region: name.to_owned(), written: file.metrics_source });
        }
        let instance_type = file.instance_type.or_else(|| self.instance_type.clone());
        let instance_type = instance_type.unwrap_or_else(|| "t4g.micro".to_owned());
        let cpu_credits = match (is_burstable(&instance_type), file.cpu_credits) {
            (true, credits) => credits.or_else(|| self.cpu_credits.clone()).unwrap_or_default(),
            (false, None) => String::new(),
            (false, Some(_)) => {
                return Err(WantedError::CpuCredits { region: name.to_owned(), instance_type });
            }
        };
        Ok(RegionWanted {
            network,
            image: file.image_id.map_or(ImageChoice::Published, ImageChoice::Id),
            instance_type,
            cpu_credits,
            instance_count,
            settings_parameter: file.settings_parameter,
            settings_key: file.settings_key,
            alarm_topic: file.alarm_topic,
            metrics_source: file.metrics_source,
        })
    }
}

/// Why there is nothing to plan from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WantedError {
    #[error(
        "--stage: `{0}` is not a stage; write a letter, then letters and digits, 2 to 12 in all, like `prd`"
    )]
    Stage(String),
    #[error("region: `{0}` is not a region's name; write it like `eu-central-1`")]
    Region(String),
    #[error("--region: `{0}` is not in the fleet's file; add a table `[regions.{0}]` to it")]
    OtherRegion(Region),
    #[error(
        "AWS_ENDPOINT_URL: `{0}` is not a URL; write it like `http://127.0.0.1:5000`, or unset it for AWS itself"
    )]
    Endpoint(String),
    #[error("{field}: cannot read `{}`; give the path of a file", path.display())]
    Unreadable { field: &'static str, path: PathBuf, source: io::Error },
    #[error("--file: `{}` is not a fleet's description; docs/deploying.md shows one", path.display())]
    Form { path: PathBuf, source: Box<toml::de::Error> },
    #[error(
        "settings: the file has {0} bytes; a stack's parameter takes 1 to {MOST_SETTINGS_BYTES}: put the rest into `settings_parameter`"
    )]
    Settings(usize),
    #[error(
        "service_role: `{0}` is not a role's ARN; write it like `arn:aws:iam::111122223333:role/name`, an output of infra/deployer.yaml"
    )]
    ServiceRole(String),
    #[error(transparent)]
    DomainFunctions(#[from] FunctionsError),
    #[error(
        "{field}: `{written}` is not a version; write it like `0.1.0`: at most 64 letters, digits and `.`, `+`, `~`, `-`"
    )]
    ImageVersion { field: &'static str, written: String },
    #[error("edge: `hosted_zone_id` and `name` go together; set both or none")]
    ZoneAndName,
    #[error("regions: there is none; add a table like `[regions.eu-central-1]`")]
    NoRegion,
    #[error("regions.{0}: `vpc` and `subnets` go together; set both, or none for the region's default VPC")]
    HalfNetwork(String),
    #[error(
        "regions.{region}: `instance_count = {count}`; an endpoint group takes 1 to 9, and one more while it is updated"
    )]
    InstanceCount { region: String, count: u32 },
    #[error(
        "regions.{region}.cpu_credits: `{instance_type}` does not burst; leave it out, or choose a type like `t4g.micro`"
    )]
    CpuCredits { region: String, instance_type: String },
    #[error(
        "regions.{region}.metrics_source: `{written}` is not an IPv4 network of at most 2^24 addresses; write it like `10.0.0.0/16`, or leave it out"
    )]
    MetricsSource { region: String, written: String },
}

/// As the template demands it. In the value of a filter of EC2's, `*` and `?` would stand for others.
fn image_version(field: &'static str, text: &str) -> Result<String, WantedError> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || ".+~-".contains(char);
    let fits = (1..=64).contains(&text.len()) && text.chars().all(is_part);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(WantedError::ImageVersion { field, written: text.to_owned() })
    }
}

/// As EC2 takes it: metrics are for a network, not for everybody.
fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let is_length = |number: u8| (8..=32).contains(&number) && number.to_string() == length;
    address.parse::<Ipv4Addr>().is_ok() && length.parse().is_ok_and(is_length)
}

/// Types of the families `t2`, `t3`, `t3a`, `t4g` ("Burstable performance instances").
fn is_burstable(instance_type: &str) -> bool {
    instance_type
        .strip_prefix('t')
        .is_some_and(|rest| rest.starts_with(|second: char| second.is_ascii_digit()))
}

fn is_role(text: &str) -> bool {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    matches!(parts.as_slice(), ["arn", _, "iam", "", account, role]
        if account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) && role.len() > "role/".len() && role.starts_with("role/"))
}

fn unreadable(field: &'static str, path: &Path, source: io::Error) -> WantedError {
    WantedError::Unreadable { field, path: path.to_owned(), source }
}

/// Of the template's parameter `Settings`.
const MOST_SETTINGS_BYTES: usize = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A fleet in these regions, at home in the first.
    pub(crate) fn wanted(regions: &[&str]) -> Wanted {
        parse(&file(regions)).unwrap()
    }

    /// Likewise, where the file says more of the fleet and of its last region.
    pub(crate) fn described(of_fleet: &str, of_last_region: &str, regions: &[&str]) -> Wanted {
        parse(&format!("{of_fleet}\n{}{of_last_region}\n", file(regions))).unwrap()
    }

    fn file(regions: &[&str]) -> String {
        let tables: Vec<_> = regions.iter().map(|region| format!("[regions.{region}]\n")).collect();
        let tables = tables.concat();
        let home = regions.first().unwrap();
        format!(
            "home_region = \"{home}\"\nimage_version = \"0.1.0\"\nsettings = \"s\"\nfunction = \"f.zip\"\n{tables}"
        )
    }

    fn parse(text: &str) -> Result<Wanted, WantedError> {
        let file = toml::from_str(text).unwrap();
        Wanted::of(Stage::parse("prd").unwrap(), file, "[a]\n".to_owned(), Path::new(""))
    }

    #[test]
    fn a_stage_is_as_the_templates_demand() {
        for (text, fits) in [
            ("prd", true),
            ("t2", true),
            ("abcdefghijkl", true),
            ("p", false),
            ("", false),
            ("abcdefghijklm", false),
            ("2t", false),
            ("Prd", false),
            ("p-d", false),
        ] {
            assert_eq!(Stage::parse(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn a_region_has_the_form_of_one() {
        for (text, fits) in [
            ("eu-central-1", true),
            ("us-gov-west-1", true),
            ("eu-central", false),
            ("eu-1", false),
            ("eu-central-1a", false),
            ("Frankfurt", false),
            ("eu--1", false),
            ("", false),
        ] {
            assert_eq!(Region::parse(text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        let good = file(&["eu-central-1"]);
        for (text, named) in [
            (good.replace("eu-central-1", "frankfurt"), "`frankfurt` is not a region"),
            (format!("{good}vpc = \"vpc-1\"\n"), "regions.eu-central-1: `vpc` and `subnets`"),
            (format!("{good}subnets = [\"subnet-1\"]\n"), "regions.eu-central-1: `vpc` and `subnets`"),
            (format!("{good}metrics_source = \"0.0.0.0/0\"\n"), "metrics_source: `0.0.0.0/0` is not"),
            (format!("{good}metrics_source = \"10.0.0.0/+8\"\n"), "`10.0.0.0/+8` is not"),
            (format!("{good}metrics_source = \"sg-1\"\n"), "write it like `10.0.0.0/16`"),
            (format!("{good}instance_count = 10\n"), "`instance_count = 10`"),
            (
                format!("{good}instance_type = \"c7g.large\"\ncpu_credits = \"standard\"\n"),
                "regions.eu-central-1.cpu_credits: `c7g.large` does not burst",
            ),
            (format!("{good}[edge]\nname = \"edge.example.com\"\n"), "`hosted_zone_id` and `name`"),
            (format!("service_role = \"deployer\"\n{good}"), "service_role: `deployer` is not a role's ARN"),
            (format!("service_role = \"arn:aws:iam::1:role/a\"\n{good}"), "is not a role's ARN"),
            (format!("service_role = \"arn:aws:iam::111122223333:user/a\"\n{good}"), "is not a role's ARN"),
            (good.replace("\"0.1.0\"", "\"latest one\""), "image_version: `latest one` is not a version"),
            (good.replace("\"0.1.0\"", "\"\""), "image_version: `` is not a version"),
            (good.replace("[regions.eu-central-1]", "[regions]"), "regions: there is none"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn credits_are_chosen_for_types_that_burst() {
        for (of_fleet, of_region, wanted) in [
            ("", "", ""),
            ("cpu_credits = \"standard\"", "", "standard"),
            ("cpu_credits = \"standard\"", "cpu_credits = \"unlimited\"", "unlimited"),
            ("cpu_credits = \"standard\"", "instance_type = \"c7g.large\"", ""),
            ("cpu_credits = \"standard\"", "instance_type = \"trn1.2xlarge\"", ""),
        ] {
            let region = described(of_fleet, of_region, &["eu-central-1"]).regions.into_values().next();
            assert_eq!(region.unwrap().cpu_credits, wanted, "{of_fleet} {of_region}");
        }
    }

    #[test]
    fn metrics_are_read_from_a_network() {
        for source in ["", "10.0.0.0/8", "192.0.2.7/32"] {
            let text = format!("{}metrics_source = \"{source}\"\n", file(&["eu-central-1"]));
            let region = parse(&text).unwrap().regions.into_values().next().unwrap();
            assert_eq!(region.metrics_source, source);
        }
    }

    #[test]
    fn what_the_file_says_otherwise_is_named() {
        let by_id = |region: &str| format!("take `image_id` out of `[regions.{region}]`");
        let other =
            "write `image_version = \"0.2.0\"`, or the next `deploy` or `update` goes back to `0.1.0`";
        let plain = file(&["eu-central-1", "us-east-1"]);
        let pinned = format!("{plain}image_id = \"ami-1\"\n");
        for (text, version, named) in [
            (&plain, "0.1.0", vec![]),
            (&plain, "0.2.0", vec![other.to_owned()]),
            (&pinned, "0.1.0", vec![by_id("us-east-1")]),
            (&pinned, "0.2.0", vec![other.to_owned(), by_id("us-east-1")]),
        ] {
            let wanted = parse(text).unwrap();
            let edits = wanted.edits_for(version);
            let fit = edits.iter().zip(&named).all(|(edit, named)| edit.starts_with(named));
            assert!(fit && edits.len() == named.len(), "{version}: {edits:?}");
            let wanted = wanted.with_image_version(version).unwrap();
            assert_eq!(wanted.image_version, version);
            assert!(wanted.regions.values().all(|region| region.image == ImageChoice::Tagged), "{text}");
        }
    }

    #[test]
    fn a_region_that_the_file_lacks_is_not_chosen() {
        let [here, there] = ["eu-central-1", "us-east-1"].map(|name| Region::parse(name).unwrap());
        let both = wanted(&["eu-central-1", "us-east-1"]);
        assert_eq!(both.clone().only(&[]).unwrap().regions.len(), 2);
        let chosen = both.only(std::slice::from_ref(&there)).unwrap();
        assert!(chosen.regions.contains_key(&there) && chosen.others.contains(&here));
        assert!(wanted(&["us-east-1"]).only(&[here]).is_err());
    }
}
