//! The project's own programs as callers: whose policy each one's is, with the values that tests give to its template, and what of it no
//! test can use.

use crate::{
    ACCOUNT, Policy,
    proof::{Exempt, LeftOut},
    template::{Template, TemplateError},
};

/// A program with a policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `gatehouse`, as an instance of a fleet.
    Instance,
    /// `fleet-function`.
    FleetFunction,
    /// `domain-functions`, as the verifier.
    Verifier,
    /// `domain-functions`, as the checker.
    Checker,
    /// `gatehouse-deploy`, with `service_role` in the fleet's file.
    Deployer,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Instance, Self::FleetFunction, Self::Verifier, Self::Checker, Self::Deployer];

    /// The id of its access key in tests. No double looks at signatures, so that there is no secret.
    #[must_use]
    pub const fn access_key(self) -> &'static str {
        match self {
            Self::Instance => "AKIAINSTANCE",
            Self::FleetFunction => "AKIAFLEETFUNCTION",
            Self::Verifier => "AKIAVERIFIER",
            Self::Checker => "AKIACHECKER",
            Self::Deployer => "AKIADEPLOYER",
        }
    }

    /// Whose access key this is.
    #[must_use]
    pub fn of(access_key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.access_key() == access_key)
    }

    /// The resource that has its policy.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Instance => "InstanceRole",
            Self::FleetFunction => "FunctionRole",
            Self::Verifier => "VerifierRole",
            Self::Checker => "CheckerRole",
            Self::Deployer => "Calls",
        }
    }

    /// Its policy, as its template has it.
    pub fn policy(self) -> Result<Policy, TemplateError> {
        let (text, own) = match self {
            Self::Instance | Self::FleetFunction => (FLEET, FLEET_VALUES),
            Self::Verifier | Self::Checker => (FUNCTIONS, FUNCTIONS_VALUES),
            Self::Deployer => (DEPLOYER, DEPLOYER_VALUES),
        };
        let common = [("AWS::Partition", "aws"), ("AWS::AccountId", ACCOUNT)];
        Template::read(text, &[&common[..], own].concat())?.policy(self.resource())
    }

    /// What of its policy no call of its own can use.
    #[must_use]
    pub fn exempt(self) -> &'static [Exempt] {
        match self {
            Self::Instance => INSTANCE_EXEMPT,
            Self::FleetFunction => FLEET_FUNCTION_EXEMPT,
            Self::Verifier | Self::Checker => DOMAIN_FUNCTION_EXEMPT,
            Self::Deployer => DEPLOYER_EXEMPT,
        }
    }

    /// What it calls in tests and is not granted on purpose.
    #[must_use]
    pub fn left_out(self) -> &'static [LeftOut] {
        match self {
            Self::Instance => INSTANCE_LEFT_OUT,
            Self::FleetFunction | Self::Verifier | Self::Checker | Self::Deployer => &[],
        }
    }
}

pub(crate) const FLEET: &str = include_str!("../../infra/fleet.yaml");
pub(crate) const FUNCTIONS: &str = include_str!("../../infra/functions.yaml");
pub(crate) const DEPLOYER: &str = include_str!("../../infra/deployer.yaml");

/// A fleet's region need not be the tables': in tests only the settings' parameter and the function's services are there.
const FLEET_VALUES: &[(&str, &str)] = &[
    ("AWS::Region", "eu-south-2"),
    ("AWS::StackName", "gatehouse-tst-fleet"),
    ("AWS::StackId", FLEET_STACK),
    ("EndpointGroup.EndpointGroupArn", ENDPOINT_GROUP),
    ("HomeRegion", "eu-central-1"),
    ("CertificatesTable", "gatehouse-certificates"),
    ("DomainsTable", "gatehouse-domains"),
    ("StateTable", "gatehouse-state"),
    ("Key", TABLES_KEY),
    ("SettingsParameter", "/gatehouse/fleet"),
    ("SettingsKey", "arn:aws:kms:eu-south-2:123456789012:key/settings"),
    // moto draws the ids of keys and zones.
    ("KeyEncryptionKeys", "arn:aws:kms:eu-central-1:123456789012:key/*"),
    ("ChallengeZone", "*"),
];
const FUNCTIONS_VALUES: &[(&str, &str)] = &[
    ("AWS::Region", "eu-central-1"),
    ("AWS::StackName", "gatehouse-tst-functions"),
    ("DomainsTable", "gatehouse-domains"),
    ("StateTable", "gatehouse-state"),
    ("Key", TABLES_KEY),
];
const DEPLOYER_VALUES: &[(&str, &str)] = &[("Stage", "tst"), ("ServiceRole.Arn", SERVICE_ROLE)];

/// The stack that the fleet's function signals, in tests.
pub const FLEET_STACK: &str = "arn:aws:cloudformation:eu-south-2:123456789012:stack/gatehouse-tst-fleet/a";
/// The endpoint group that it changes.
pub const ENDPOINT_GROUP: &str =
    "arn:aws:globalaccelerator::123456789012:accelerator/a/listener/b/endpoint-group/c";
/// `CloudFormation`'s role in the fleet's file.
pub const SERVICE_ROLE: &str = "arn:aws:iam::123456789012:role/deployer";
const TABLES_KEY: &str = "arn:aws:kms:eu-central-1:123456789012:key/tables";

const TABLES_KEY_EXEMPT: Exempt = Exempt {
    sid: "TablesKey",
    part: None,
    reason: "DynamoDB calls KMS on behalf of who reads and writes a table (\"DynamoDB encryption at rest\"); no double of it does",
};
const LOG_EXEMPT: Exempt = Exempt {
    sid: "Log",
    part: None,
    reason: "Lambda writes a function's log in its role's name (\"Sending Lambda function logs to CloudWatch Logs\")",
};
const INSTANCE_EXEMPT: &[Exempt] = &[
    TABLES_KEY_EXEMPT,
    Exempt {
        sid: "SettingsKey",
        part: None,
        reason: "Systems Manager calls KMS on behalf of who reads a parameter (\"How Parameter Store uses KMS\"); no double of it does",
    },
];
const INSTANCE_LEFT_OUT: &[LeftOut] = &[LeftOut {
    action: "dynamodb:Scan",
    resource: "arn:aws:dynamodb:eu-central-1:123456789012:table/gatehouse-domains",
    reason: "`gatehouse domain list` without `--tenant`, which a person runs beside the instance; docs/security.md has it among the further \
             rights, and into a fleet's instances nobody gets",
}];
const FLEET_FUNCTION_EXEMPT: &[Exempt] = &[
    Exempt {
        sid: "AcceleratorsOwnRole",
        part: None,
        reason: "Global Accelerator makes its role in the name of who adds the first endpoint that keeps clients' addresses",
    },
    LOG_EXEMPT,
];
const DOMAIN_FUNCTION_EXEMPT: &[Exempt] = &[TABLES_KEY_EXEMPT, LOG_EXEMPT];
const DEPLOYER_EXEMPT: &[Exempt] = &[
    Exempt {
        sid: "Stacks",
        part: Some("cloudformation:ContinueUpdateRollback"),
        reason: "a person's: the program names the call where neither an update nor its way back came through, and does not make it",
    },
    Exempt {
        sid: "Stacks",
        part: Some("cloudformation:DeleteChangeSet"),
        reason: "an update without a change is planned as none; moto makes no change set that is empty nevertheless",
    },
    Exempt {
        sid: "CodesBucket",
        part: Some("s3:ListBucket"),
        reason: "S3 tells who may not list that an absent object is forbidden (\"HeadObject\")",
    },
];

/// Policies that `CloudFormation` calls by, in the deployer's name or as the service role: no program of ours does, and moto makes resources
/// without such calls. `infra/check` compares them with AWS's resource schemas.
pub const OF_CLOUDFORMATION: [&str; 5] = ["Fleets", "Functions", "Reads", "ServiceRole", "Stacks"];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn each_policy_of_the_templates_is_somebodys() {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let template = Template::read(&fs::read_to_string(&path).unwrap(), &[]).unwrap();
                found.extend(template.holders().unwrap().into_iter().map(str::to_owned));
            }
        }
        let known = Role::ALL.map(Role::resource).into_iter().chain(OF_CLOUDFORMATION);
        assert_eq!(found, known.map(str::to_owned).collect());
    }

    #[test]
    fn each_policy_is_understood() {
        for role in Role::ALL {
            let grants = role.policy().unwrap().grants().count();
            assert!(grants > 5, "{role:?}: {grants}");
            assert_eq!(Role::of(role.access_key()), Some(role));
        }
        assert_eq!(Role::of("AKIDEXAMPLE"), None);
    }
}
