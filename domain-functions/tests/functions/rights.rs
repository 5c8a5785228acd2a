//! What the template `functions` grants to a function, and what its calls need.

use std::collections::BTreeSet;

/// Actions of a role, read line by line: each stands in quotes, alone or in a list.
pub(crate) fn granted(role: &str) -> BTreeSet<String> {
    let template = include_str!("../../../infra/functions.yaml");
    let role = template.split(&format!("\n  {role}:")).nth(1).expect("infra/functions.yaml has no such role");
    let lines = role.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with("   "));
    let quoted = lines.filter_map(|line| line.split('"').nth(1));
    let is_action = |text: &&str| {
        let service = text.split_once(':').map_or("", |(service, _)| service);
        !service.is_empty() && !text.contains('$') && service != "sts"
    };
    quoted.filter(is_action).map(str::to_owned).collect()
}

/// What `calls` to tables need, with what is needed beside them.
pub(crate) fn needed(calls: &BTreeSet<String>) -> BTreeSet<String> {
    let beside = [
        // DynamoDB decrypts the tables in the caller's name.
        "kms:Decrypt",
        "kms:GenerateDataKey",
        // Lambda writes its log in the role's name.
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ];
    let operations = calls.iter().filter_map(|call| Some(format!("dynamodb:{}", call.split_once(' ')?.0)));
    operations.chain(beside.map(str::to_owned)).collect()
}
