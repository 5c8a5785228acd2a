//! Stacks that are made or changed.

use std::collections::BTreeMap;

use super::{Plan, Refusal, StackChange, Step, Value, parameters, refusal};
use crate::{
    domain_functions::DomainFunctions,
    found::{Found, FoundStack},
    stack::{Condition, Kind, StackKey},
    wanted::{ImageChoice, Network, Region, RegionWanted, Wanted},
};

/// Which stacks a rollout is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// All: what is missing is made, what differs is changed.
    Deploy,
    /// The fleets that are there.
    Update,
}

/// What has to be done; or everything that forbids it.
pub(crate) fn deploy(wanted: &Wanted, found: &Found, purpose: Purpose) -> Result<Plan, Vec<Refusal>> {
    let mut refused = refusal::of_rollout(wanted, found, purpose);
    refused.extend(parameters::refused(of_file(wanted, purpose)));
    if !refused.is_empty() {
        return Err(refused);
    }
    let rollout = Rollout { wanted, found, purpose };
    let mut plan = Plan::default();
    plan.then(rollout.base());
    plan.then(rollout.uploads_and_protection());
    let (new, changed): (Vec<_>, Vec<_>) =
        rollout.changes(Kind::Fleet).into_iter().partition(|change| change.is_new);
    let functions = rollout.functions();
    plan.then(functions.into_iter().chain(new.into_iter().map(Step::Change)).collect());
    // One region after the other: where one turns back, the others have not begun.
    for change in changed {
        plan.then(vec![Step::Change(change)]);
    }
    if purpose == Purpose::Deploy && becomes_dual_stack(wanted, found) {
        plan.then(rollout.changes(Kind::Edge).into_iter().map(Step::Change).collect());
    }
    Ok(plan)
}

/// The stacks of `purpose` as from nothing, so that what is known is what the file says.
fn of_file(wanted: &Wanted, purpose: Purpose) -> impl Iterator<Item = StackChange> {
    let kinds: &[Kind] = match purpose {
        Purpose::Update => &[Kind::Fleet],
        Purpose::Deploy => &Kind::ALL,
    };
    let nothing = Found::default();
    let rollout = Rollout { wanted, found: &nothing, purpose };
    let changes: Vec<_> = kinds.iter().flat_map(|kind| rollout.changes(*kind)).collect();
    changes.into_iter()
}

/// Whether an accelerator that is there gets IPv6. It takes none but endpoints that have it ("Endpoints for standard accelerators"), so all fleets
/// come before it; on the way back they come after it.
pub(super) fn becomes_dual_stack(wanted: &Wanted, found: &Found) -> bool {
    let edge = found.stack(&StackKey::new(Kind::Edge, &wanted.home));
    let is_dual_stack = |value: Option<&String>| value.is_some_and(|value| value == "DUAL_STACK");
    is_dual_stack(Some(&wanted.edge.ip_address_type))
        && edge.is_some_and(|edge| !is_dual_stack(edge.parameters.get("IpAddressType")))
}

/// Whether the functions' stack is deleted as it is: made anew, where functions are wanted. It holds nothing but, once it was complete, the
/// verifier's URL, which stands in others' settings: an update that is stuck is not replaced.
pub(super) fn functions_are_replaced(wanted: &Wanted, condition: Condition) -> bool {
    match condition {
        Condition::Undone | Condition::HalfDeleted => true,
        Condition::Stuck => wanted.domain_functions.is_none(),
        Condition::Absent | Condition::Ready | Condition::Busy => false,
    }
}

/// Whether there are to be more instances than there are, or fewer.
fn count_changes(stack: &FoundStack, parameters: &BTreeMap<&'static str, Value>) -> bool {
    let number = |text: &String| text.parse::<u32>().ok();
    let now = stack.parameters.get("InstanceCount").and_then(number);
    let then = match parameters.get("InstanceCount") {
        Some(Value::Known(text)) => number(text),
        _ => None,
    };
    now.zip(then).is_some_and(|(now, then)| then != now)
}

/// Of a fleet that is there.
fn network_of(stack: &FoundStack) -> Option<Network> {
    let parameter = |name: &str| stack.parameters.get(name);
    let subnets = parameter("Subnets")?.split(',').map(str::to_owned).collect();
    Some(Network { vpc: parameter("Vpc")?.clone(), subnets })
}

struct Rollout<'a> {
    wanted: &'a Wanted,
    found: &'a Found,
    purpose: Purpose,
}

impl Rollout<'_> {
    /// What fleets stand on.
    fn base(&self) -> Vec<Step> {
        match self.purpose {
            Purpose::Update => Vec::new(),
            Purpose::Deploy => {
                let kinds = [Kind::Artifacts, Kind::Domains, Kind::Edge].into_iter();
                let is_later =
                    |kind: &Kind| *kind == Kind::Edge && becomes_dual_stack(self.wanted, self.found);
                let changes = kinds
                    .filter(|kind| !is_later(kind))
                    .flat_map(|kind| self.changes(kind))
                    .map(Step::Change);
                let functions = StackKey::new(Kind::Functions, &self.wanted.home);
                let replaced = self.is_replaced(&functions).then_some(Step::Delete(functions));
                changes.chain(replaced).collect()
            }
        }
    }

    fn uploads_and_protection(&self) -> Vec<Step> {
        let lacks = |region: &&Region| !self.found.places.get(region).is_some_and(|place| place.has_code);
        let mut steps: Vec<_> = self
            .wanted
            .regions
            .keys()
            .filter(lacks)
            .map(|region| Step::Upload { region: region.clone(), package: self.wanted.function.clone() })
            .collect();
        let functions = self.wanted.domain_functions.iter();
        let lacking =
            functions.filter(|_| self.purpose == Purpose::Deploy && !self.found.functions.is_uploaded);
        steps.extend(lacking.map(|functions| Step::Upload {
            region: self.wanted.home.clone(),
            package: functions.package.clone(),
        }));
        let edge = StackKey::new(Kind::Edge, &self.wanted.home);
        let is_protected = self.found.stack(&edge).is_some_and(|stack| stack.is_protected);
        if self.purpose == Purpose::Deploy && !is_protected {
            steps.push(Step::Protect(edge));
        }
        steps
    }

    /// The functions over the domains table; where they are not wanted any more they go, since they hold nothing.
    fn functions(&self) -> Vec<Step> {
        let key = StackKey::new(Kind::Functions, &self.wanted.home);
        match (self.purpose, &self.wanted.domain_functions) {
            (Purpose::Update, _) => Vec::new(),
            (Purpose::Deploy, Some(_)) => {
                self.changes(Kind::Functions).into_iter().map(Step::Change).collect()
            }
            (Purpose::Deploy, None) => {
                self.found.stack(&key).map(|_| Step::Delete(key.clone())).into_iter().collect()
            }
        }
    }

    /// Of one kind, in every region where it has to be.
    fn changes(&self, kind: Kind) -> Vec<StackChange> {
        let at = |region| self.change(StackKey::new(kind, region));
        if kind.is_at_home() {
            return at(&self.wanted.home).into_iter().collect();
        }
        if kind == Kind::Artifacts {
            return self.wanted.regions_with_code().into_iter().filter_map(at).collect();
        }
        self.wanted.regions.keys().filter_map(at).collect()
    }

    fn is_replaced(&self, key: &StackKey) -> bool {
        let condition = self.found.stack(key).map(FoundStack::condition);
        key.kind == Kind::Functions
            && self.wanted.domain_functions.is_some()
            && condition.is_some_and(|condition| functions_are_replaced(self.wanted, condition))
    }

    fn change(&self, key: StackKey) -> Option<StackChange> {
        let parameters = self.parameters(&key);
        let Some(stack) = self.found.stack(&key).filter(|_| !self.is_replaced(&key)) else {
            return Some(StackChange {
                key,
                is_new: true,
                parameters,
                differs: Vec::new(),
                alarms: Vec::new(),
            });
        };
        let mut differs = Vec::new();
        // CloudFormation may cut white space at the ends.
        if stack.template.trim() != key.kind.template().trim() {
            differs.push("template");
        }
        let other = |(name, value): &(&&'static str, &Value)| !matches!(value, Value::Known(value) if stack.parameters.get(**name) == Some(value));
        differs.extend(parameters.iter().filter(other).map(|(name, _)| *name));
        // The alarm counts to the former number until the group has changed, and would turn back what is to become less. Then it counts to the
        // new one, in the ten minutes before as well: of more, some were missing all that time.
        let count_changes = count_changes(stack, &parameters);
        let watching = ["InstancesMissing", "FunctionFails"].into_iter();
        let watching = watching.filter(|name| !(count_changes && *name == "InstancesMissing"));
        let alarms = watching.filter_map(|name| stack.outputs.get(name).cloned()).collect();
        (!differs.is_empty()).then_some(StackChange { key, is_new: false, parameters, differs, alarms })
    }

    fn parameters(&self, key: &StackKey) -> BTreeMap<&'static str, Value> {
        let known = |text: &str| Value::Known(text.to_owned());
        let mut parameters = BTreeMap::from([("Stage", Value::Known(self.wanted.stage.to_string()))]);
        match key.kind {
            Kind::Artifacts => {}
            Kind::Domains => {
                parameters.extend(self.wanted.tables.parameters().map(|(name, text)| (name, known(text))));
            }
            Kind::Edge => {
                let edge = &self.wanted.edge;
                parameters.extend([
                    ("IpAddressType", known(&edge.ip_address_type)),
                    ("HostedZoneId", known(&edge.hosted_zone_id)),
                    ("Name", known(&edge.name)),
                ]);
            }
            Kind::Functions => {
                if let Some(functions) = &self.wanted.domain_functions {
                    parameters.extend(self.of_functions(functions));
                }
            }
            Kind::Fleet => {
                if let Some(region) = self.wanted.regions.get(&key.region) {
                    parameters.extend(self.of_fleet(&key.region, region));
                    let former = self.former(key, &parameters);
                    parameters.extend(former);
                }
            }
        }
        parameters
    }

    fn of_functions(&self, functions: &DomainFunctions) -> [(&'static str, Value); 10] {
        let known = |text: &str| Value::Known(text.to_owned());
        let concurrency = functions.verifier_concurrency.map(|number| number.to_string());
        let [artifacts, domains] =
            [Kind::Artifacts, Kind::Domains].map(|kind| StackKey::new(kind, &self.wanted.home));
        [
            ("DomainsTable", self.output(&domains, "DomainsTable")),
            ("StateTable", self.output(&domains, "StateTable")),
            ("Key", self.output(&domains, "Key")),
            ("CodeBucket", self.output(&artifacts, "Bucket")),
            ("CodeKey", Value::Known(functions.package.key())),
            ("Verifier", known(functions.verifier.as_str())),
            ("VerifierConcurrency", Value::Known(concurrency.unwrap_or_default())),
            ("CheckerSettings", known(functions.checker_settings.trim_end())),
            ("CheckerSchedule", known(&functions.schedule)),
            ("AlarmTopic", known(&functions.alarm_topic)),
        ]
    }

    fn of_fleet(&self, region: &Region, wanted: &RegionWanted) -> [(&'static str, Value); 23] {
        let known = |text: &str| Value::Known(text.to_owned());
        let place = self.found.places.get(region);
        let network = self.network(region, wanted);
        let of_network = |text: Option<String>| text.map_or(Value::Open("the default VPC's"), Value::Known);
        let (vpc, subnets) = network.map(|network| (network.vpc, network.subnets.join(","))).unzip();
        let image = place.and_then(|place| place.image.as_ref()).map(|image| image.id.clone());
        let image = image.or_else(|| match &wanted.image {
            ImageChoice::Id(id) => Some(id.clone()),
            ImageChoice::Published | ImageChoice::Tagged => None,
        });
        let [artifacts, domains, edge] = [
            StackKey::new(Kind::Artifacts, region),
            StackKey::new(Kind::Domains, &self.wanted.home),
            StackKey::new(Kind::Edge, &self.wanted.home),
        ];
        [
            ("Listener", self.output(&edge, "Listener")),
            ("IpAddressType", known(&self.wanted.edge.ip_address_type)),
            ("ImageId", image.map_or(Value::Open("the image of that version"), Value::Known)),
            ("ImageVersion", known(&self.wanted.image_version)),
            ("InstanceType", known(&wanted.instance_type)),
            ("CpuCredits", known(&wanted.cpu_credits)),
            ("InstanceCount", Value::Known(wanted.instance_count.to_string())),
            ("Vpc", of_network(vpc)),
            ("Subnets", of_network(subnets)),
            ("HomeRegion", known(self.wanted.home.as_str())),
            ("CertificatesTable", self.output(&domains, "CertificatesTable")),
            ("DomainsTable", self.output(&domains, "DomainsTable")),
            ("StateTable", self.output(&domains, "StateTable")),
            ("Key", self.output(&domains, "Key")),
            ("Settings", known(&self.wanted.settings)),
            ("SettingsParameter", known(&wanted.settings_parameter)),
            ("SettingsKey", known(&wanted.settings_key)),
            ("ChallengeZone", known(&self.wanted.challenge_zone)),
            ("KeyEncryptionKeys", Value::Known(self.wanted.key_encryption_keys.join(","))),
            ("CodeBucket", self.output(&artifacts, "Bucket")),
            ("CodeKey", Value::Known(self.wanted.function.key())),
            ("AlarmTopic", known(&wanted.alarm_topic)),
            ("MetricsSource", known(&wanted.metrics_source)),
        ]
    }

    /// Tables, and their key, that the fleet has and is about to leave: the instances' role changes within seconds, the instances one after the
    /// other. The next rollout takes them out.
    fn former(
        &self,
        key: &StackKey,
        parameters: &BTreeMap<&'static str, Value>,
    ) -> [(&'static str, Value); 4] {
        let stack = self.found.stack(key);
        let now = |name: &str| stack.and_then(|stack| stack.parameters.get(name));
        // The role names tables of the home region alone.
        let is_at_home = now("HomeRegion").is_some_and(|now| now == self.wanted.home.as_str());
        FORMER.map(|(former, name)| {
            let stays =
                |now: &String| matches!(parameters.get(name), Some(Value::Known(then)) if then == now);
            let left = now(name).filter(|now| is_at_home && !stays(now));
            (former, Value::Known(left.cloned().unwrap_or_default()))
        })
    }

    /// Where the file names none, the default one; as the fleet has it, while all of that is there. With each new subnet of the default VPC, and
    /// each zone more that offers the type, all instances would be replaced (`UpdatePolicy` goes by the group's subnets).
    fn network(&self, region: &Region, wanted: &RegionWanted) -> Option<Network> {
        if let Some(named) = &wanted.network {
            return Some(named.clone());
        }
        let default = self.found.places.get(region)?.network.as_ref()?;
        let now = self.found.stack(&StackKey::new(Kind::Fleet, region)).and_then(network_of);
        let is_there = |now: &Network| {
            now.vpc == default.vpc && now.subnets.iter().all(|one| default.subnets.contains(one))
        };
        now.filter(is_there).or_else(|| Some(default.clone()))
    }

    /// What the stack says now; what it will say, where it is not there yet, or names another table or key before.
    fn output(&self, key: &StackKey, name: &'static str) -> Value {
        let now = self.found.output(key, name).filter(|_| !self.names_another(key, name));
        now.map_or_else(|| Value::Output(key.clone(), name), |text| Value::Known(text.to_owned()))
    }

    fn names_another(&self, key: &StackKey, name: &str) -> bool {
        let Some(stack) = self.found.stack(key).filter(|_| self.purpose == Purpose::Deploy) else {
            return false;
        };
        // Of an output's name: `ExistingKey` decides on `Key`.
        let differs = |(parameter, wanted): &(&'static str, &String)| {
            parameter.strip_prefix("Existing") == Some(name)
                && stack.parameters.get(*parameter).is_some_and(|now| now != *wanted)
        };
        key.kind == Kind::Domains && self.wanted.tables.parameters().iter().any(differs)
    }
}

/// Parameters of the stack `fleet`: what its instances leave, and what they go to.
const FORMER: [(&str, &str); 4] = [
    ("FormerCertificatesTable", "CertificatesTable"),
    ("FormerDomainsTable", "DomainsTable"),
    ("FormerStateTable", "StateTable"),
    ("FormerKey", "Key"),
];
