//! The policies of the templates as a page for people, `docs/policies.md`: what each statement grants, and why, by the comment above it.

use std::fmt::Write as _;

use crate::{
    Policy, Role,
    role::{DEPLOYER, FLEET, FUNCTIONS, OF_CLOUDFORMATION},
    template::{Template, TemplateError},
};

/// The whole page.
pub fn page() -> Result<String, TemplateError> {
    let mut page = BEGIN.to_owned();
    for (file, text) in [("fleet", FLEET), ("functions", FUNCTIONS), ("deployer", DEPLOYER)] {
        let template = Template::placeholders(text)?;
        for holder in template.holders()? {
            let policy = template.policy(holder)?;
            if policy.statements().next().is_some() {
                section(&mut page, holder, file, &policy, text);
            }
        }
    }
    Ok(page)
}

fn section(page: &mut String, holder: &str, file: &str, policy: &Policy, text: &str) {
    let _ = write!(page, "\n## {holder} (`infra/{file}.yaml`)\n\n{}\n", who(holder));
    for statement in policy.statements() {
        let _ = write!(page, "\n**{}**", statement.sid);
        if let Some(why) = why(text, holder, &statement.sid) {
            let _ = write!(page, ": {why}");
        }
        let _ =
            write!(page, "\n\n- {}\n- on {}\n", quoted(statement.actions()), quoted(statement.resources()));
        for condition in statement.conditions() {
            let _ = writeln!(page, "- if {condition}");
        }
    }
}

/// Whose it is.
fn who(holder: &str) -> &'static str {
    match Role::ALL.into_iter().find(|role| role.resource() == holder) {
        Some(Role::Instance) => "Of instances. Settings decide which of the last statements there are.",
        Some(Role::FleetFunction) => "Of the function that keeps endpoints and instances in step.",
        Some(Role::Verifier) => "Of the function that says which names are served.",
        Some(Role::Checker) => "Of the function that checks customers' names.",
        Some(Role::Deployer) => "Of who runs `gatehouse-deploy`.",
        None if OF_CLOUDFORMATION.contains(&holder) => {
            "Of CloudFormation, on behalf of who runs `gatehouse-deploy` or by the role `ServiceRole`. Nobody has tried it."
        }
        None => "",
    }
}

/// The comment above a statement of a role or policy, as one line.
fn why(text: &str, holder: &str, sid: &str) -> Option<String> {
    let own = text.split(&format!("\n  {holder}:\n")).nth(1)?;
    let before = own.split(&format!("- Sid: {sid}\n")).next()?;
    let comment: Vec<_> =
        before.lines().rev().skip(1).map_while(|line| line.trim().strip_prefix("# ")).collect();
    let comment = comment.into_iter().rev().collect::<Vec<_>>().join(" ");
    (!comment.is_empty()).then_some(comment)
}

fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ")
}

const BEGIN: &str = "# Policies

For whoever reviews what Gatehouse may do in an AWS account. It answers: which right each part has, on what, under which condition, and why. The page is
generated from the templates in `infra` (`cargo run -p aws-policy page`), and what stands in angle brackets is a parameter of theirs. How the rights
are known to be those that are needed says [deploying.md](deploying.md#rights).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_that_of_the_templates() {
        let written = include_str!("../../docs/policies.md");
        assert!(page().unwrap() == written, "generate docs/policies.md anew: cargo run -p aws-policy page");
    }

    #[test]
    fn the_reason_of_a_statement_is_the_comment_above_it() {
        let text = "\n  A:\n    # not this\n    Statement:\n      # For one.\n      # And two.\n      - Sid: S\n      - Sid: T\n  B:\n      # Other.\n      - Sid: S\n";
        assert_eq!(why(text, "A", "S").as_deref(), Some("For one. And two."));
        assert_eq!(why(text, "A", "T"), None);
        assert_eq!(why(text, "B", "S").as_deref(), Some("Other."));
    }
}
