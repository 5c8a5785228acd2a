//! What the template `fleet` grants to the function, and what calls need.

use std::collections::BTreeSet;

/// Actions of the role `FunctionRole`, read line by line: each stands in quotes, alone or in a list.
pub(crate) fn granted() -> BTreeSet<String> {
    let template = include_str!("../../../infra/fleet.yaml");
    let role = template.split("\n  FunctionRole:").nth(1).expect("infra/fleet.yaml has no FunctionRole");
    let lines = role.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with("   "));
    let quoted = lines.filter_map(|line| line.split('"').nth(1));
    let is_action = |text: &&str| {
        let service = text.split_once(':').map_or("", |(service, _)| service);
        !service.is_empty() && !["arn", "sts"].contains(&service)
    };
    quoted.filter(is_action).map(str::to_owned).collect()
}

/// What `calls` need, with what is needed beside them.
pub(crate) fn needed(calls: BTreeSet<String>) -> BTreeSet<String> {
    let beside = [
        // "AddEndpoints" and "RemoveEndpoints" ask for it, too.
        "globalaccelerator:UpdateEndpointGroup",
        // Made by Global Accelerator in the caller's name.
        "iam:CreateServiceLinkedRole",
        // Lambda writes its log in the role's name.
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ];
    calls.into_iter().chain(beside.map(str::to_owned)).collect()
}
