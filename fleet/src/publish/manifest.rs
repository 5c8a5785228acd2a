//! Packer's manifest: which AMI a bake made where.

use std::{fs, path::Path};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// An AMI and the region it lies in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Image {
    pub(crate) region: String,
    pub(crate) id: String,
}

/// One run of the template's `amazon-ebs` source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bake {
    pub(crate) version: String,
    /// As Debian names it.
    pub(crate) architecture: String,
    /// Seconds since 1970.
    pub(crate) built_at: u64,
    /// By region.
    pub(crate) images: Vec<Image>,
}

impl Bake {
    /// The last run in `file`.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| {
            format!("{name}: cannot be read; `cargo xtask image ami` bakes and writes it")
        })?;
        Self::parse(&text).with_context(|| format!("{name} is no manifest of an AMI's bake"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let manifest: Value = serde_json::from_str(text)?;
        let build = last(&manifest)?;
        let field = |path: &str| {
            let value = build.pointer(path).and_then(Value::as_str);
            value.with_context(|| {
                format!("{path} of the build is missing; bake again with packer/image.pkr.hcl")
            })
        };
        let mut images =
            field("/artifact_id")?.split(',').map(Image::parse).collect::<anyhow::Result<Vec<_>>>()?;
        images.sort();
        let built_at =
            build.pointer("/build_time").and_then(Value::as_u64).context("/build_time is missing")?;
        let (version, architecture) =
            (word(field("/custom_data/version")?)?, word(field("/custom_data/architecture")?)?);
        Ok(Self { version, architecture, built_at, images })
    }

    /// Of what was baked, wherever it lies.
    pub(crate) fn name(&self) -> String {
        format!("gatehouse {} for {}", self.version, self.architecture)
    }
}

impl Image {
    fn parse(pair: &str) -> anyhow::Result<Self> {
        let parts = pair.split_once(':').filter(|(region, id)| !region.is_empty() && id.starts_with("ami-"));
        let (region, id) = parts.with_context(|| format!("/artifact_id: `{pair}` is not region:ami"))?;
        Ok(Self { region: region.to_owned(), id: id.to_owned() })
    }
}

/// Packer appends to a manifest that is there already, also what other sources made.
fn last(manifest: &Value) -> anyhow::Result<&Value> {
    let run = manifest.get("last_run_uuid").context("last_run_uuid is missing")?;
    let builds = manifest.get("builds").and_then(Value::as_array).context("builds is missing")?;
    let mut ours = builds.iter().filter(|build| {
        build.get("packer_run_uuid") == Some(run)
            && build.get("builder_type").and_then(Value::as_str) == Some(BUILDER)
    });
    let build = ours.next().context("its last run made no AMI; bake with `cargo xtask image ami`")?;
    ensure!(ours.next().is_none(), "its last run made two AMIs, and a name can stand for one only");
    Ok(build)
}

/// A part of a parameter's name.
fn word(text: &str) -> anyhow::Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if text.is_empty() || !text.chars().all(allowed) {
        bail!("`{text}` cannot be part of a parameter's name: letters, digits, `.`, `-` and `_` can");
    }
    Ok(text.to_owned())
}

const BUILDER: &str = "amazon-ebs";

#[cfg(test)]
mod tests {
    use super::*;

    /// As Packer 1.6.6 wrote it.
    fn manifest(builds: &[&str]) -> String {
        format!(r#"{{"builds": [{}], "last_run_uuid": "b"}}"#, builds.join(","))
    }

    fn build(builder: &str, run: &str, artifact: &str, version: &str) -> String {
        format!(
            r#"{{"name": "ami", "builder_type": "{builder}", "build_time": 1795521600, "files": null,
            "artifact_id": "{artifact}", "packer_run_uuid": "{run}",
            "custom_data": {{"architecture": "amd64", "version": "{version}"}}}}"#
        )
    }

    #[test]
    fn the_last_run_counts_and_of_it_the_ami() {
        let older = build("amazon-ebs", "a", "eu-central-1:ami-1", "0.0.9");
        let disk = build("qemu", "b", "VM", "0.1.0");
        let ours = build("amazon-ebs", "b", "us-west-2:ami-3,eu-central-1:ami-2", "0.1.0");
        let bake = Bake::parse(&manifest(&[&older, &disk, &ours])).unwrap();
        let image = |region: &str, id: &str| Image { region: region.to_owned(), id: id.to_owned() };
        assert_eq!(bake.images, [image("eu-central-1", "ami-2"), image("us-west-2", "ami-3")]);
        assert_eq!((bake.name().as_str(), bake.built_at), ("gatehouse 0.1.0 for amd64", 1_795_521_600));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = build("amazon-ebs", "b", "eu-central-1:ami-1", "0.1.0");
        for (text, wanted) in [
            ("{}".to_owned(), "last_run_uuid is missing"),
            (r#"{"last_run_uuid": "b"}"#.to_owned(), "builds is missing"),
            (manifest(&[&build("qemu", "b", "VM", "0.1.0")]), "its last run made no AMI"),
            (manifest(&[&good, &good]), "its last run made two AMIs"),
            (manifest(&[&build("amazon-ebs", "b", "ami-1", "0.1.0")]), "`ami-1` is not region:ami"),
            (manifest(&[&build("amazon-ebs", "b", ":ami-1", "0.1.0")]), "`:ami-1` is not region:ami"),
            (
                manifest(&[&build("amazon-ebs", "b", "eu-central-1:ami-1", "1~rc/1")]),
                "`1~rc/1` cannot be part",
            ),
            (
                manifest(&[&good.replace("custom_data", "data")]),
                "/custom_data/version of the build is missing",
            ),
            (manifest(&[&good.replace("build_time", "time")]), "/build_time is missing"),
        ] {
            let error = Bake::parse(&text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
