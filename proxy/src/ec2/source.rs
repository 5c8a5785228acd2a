//! Whether there is a metadata service to ask, decided without a call.

use std::{fs::File, io::Read};

use http::Uri;

use super::InstanceMetadata;
use crate::config;

/// Where the metadata service is.
#[derive(Debug, Clone)]
pub enum IdentitySource {
    /// The settings or `AWS_EC2_METADATA_DISABLED` forbid to ask.
    Off,
    /// The machine is not an EC2 instance.
    Elsewhere,
    /// From here.
    Ask(InstanceMetadata),
}

/// What the firmware says, and what the SDK's own variables say.
#[derive(Debug, Default)]
struct Signs {
    /// `AWS_EC2_METADATA_DISABLED`.
    is_disabled: bool,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` is there: the SDK asks it wherever it runs.
    names_endpoint: bool,
    /// Who made the machine, as the firmware has it.
    vendors: Vec<String>,
    /// The hypervisor's identifier, on Xen.
    hypervisor: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum SourceChoice<'a> {
    Off,
    Elsewhere,
    /// The endpoint that the SDK finds.
    Usual,
    At(&'a Uri),
}

impl IdentitySource {
    /// What the settings and, for `auto`, this machine lead to.
    #[must_use]
    pub fn of(instance: &config::InstanceConfig) -> Self {
        match choose(&instance.metadata, &Signs::read()) {
            SourceChoice::Off => Self::Off,
            SourceChoice::Elsewhere => Self::Elsewhere,
            SourceChoice::Usual => Self::Ask(InstanceMetadata::usual()),
            SourceChoice::At(endpoint) => Self::Ask(InstanceMetadata::at(endpoint)),
        }
    }
}

fn choose<'a>(setting: &'a config::MetadataEndpoint, signs: &Signs) -> SourceChoice<'a> {
    match setting {
        config::MetadataEndpoint::Off => SourceChoice::Off,
        config::MetadataEndpoint::Url(endpoint) => SourceChoice::At(endpoint),
        config::MetadataEndpoint::Auto if signs.is_disabled => SourceChoice::Off,
        config::MetadataEndpoint::Auto if signs.names_endpoint || signs.tell_of_ec2() => SourceChoice::Usual,
        config::MetadataEndpoint::Auto => SourceChoice::Elsewhere,
    }
}

impl Signs {
    fn read() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            is_disabled: variable("AWS_EC2_METADATA_DISABLED")
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
            names_endpoint: variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").is_some(),
            vendors: VENDORS.iter().filter_map(|path| first_line(path)).collect(),
            hypervisor: first_line("/sys/hypervisor/uuid"),
        }
    }

    /// "Detect whether a host is an EC2 instance" of the EC2 user guide: Nitro names its vendor, Xen begins its identifier with `ec2`.
    fn tell_of_ec2(&self) -> bool {
        let xen = self.hypervisor.as_deref().and_then(|uuid| uuid.get(..3));
        self.vendors.iter().any(|vendor| vendor == "Amazon EC2")
            || xen.is_some_and(|begin| begin.eq_ignore_ascii_case("ec2"))
    }
}

fn first_line(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST_SIGN).read_to_string(&mut text).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

const VENDORS: [&str; 2] = ["/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/board_vendor"];
const LONGEST_SIGN: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_machine_of_ec2_is_asked() {
        let signs = |vendor: &str, hypervisor: Option<&str>| Signs {
            vendors: vec![vendor.to_owned()],
            hypervisor: hypervisor.map(str::to_owned),
            ..Signs::default()
        };
        for (signs, wanted) in [
            (Signs::default(), SourceChoice::Elsewhere),
            (signs("QEMU", None), SourceChoice::Elsewhere),
            (signs("Amazon", Some("00000000-0000-0000-0000-000000000000")), SourceChoice::Elsewhere),
            (signs("Amazon EC2", None), SourceChoice::Usual),
            (signs("Xen", Some("EC2E1916-9099-7CAF-FD21-012345ABCDEF")), SourceChoice::Usual),
            (Signs { names_endpoint: true, ..Signs::default() }, SourceChoice::Usual),
            (Signs { is_disabled: true, ..signs("Amazon EC2", None) }, SourceChoice::Off),
        ] {
            assert_eq!(choose(&config::MetadataEndpoint::Auto, &signs), wanted, "{signs:?}");
        }
    }

    #[test]
    fn what_the_settings_say_goes_first() {
        let ec2 = Signs { vendors: vec!["Amazon EC2".to_owned()], ..Signs::default() };
        assert_eq!(choose(&config::MetadataEndpoint::Off, &ec2), SourceChoice::Off);
        let elsewhere = Uri::from_static("http://127.0.0.1:1338");
        let setting = config::MetadataEndpoint::Url(elsewhere.clone());
        assert_eq!(choose(&setting, &Signs { is_disabled: true, ..ec2 }), SourceChoice::At(&elsewhere));
    }
}
