//! What is packaged: each product is a Debian package of one program, and both have its name.

use std::path::{Path, PathBuf};

use super::FOLDER;

/// As Debian names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Product {
    /// The proxy, for machines that serve
    Gatehouse,
    /// What makes and updates a fleet's stacks on AWS, for an operator's machine
    GatehouseDeploy,
}

impl Product {
    /// The package's name, and its program's.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gatehouse => "gatehouse",
            Self::GatehouseDeploy => "gatehouse-deploy",
        }
    }

    /// As cargo names what it is built from.
    pub(super) fn cargo_package(self) -> &'static str {
        match self {
            Self::Gatehouse => "gatehouse",
            Self::GatehouseDeploy => "deploy",
        }
    }

    /// Where its parts are made.
    pub(super) fn folder(self, root: &Path) -> PathBuf {
        let folder = root.join(FOLDER);
        match self {
            Self::Gatehouse => folder,
            Self::GatehouseDeploy => folder.join(self.name()),
        }
    }

    /// Where its documents lie.
    pub(super) fn documents(self) -> String {
        format!("usr/share/doc/{}", self.name())
    }

    /// What it is made of.
    pub(super) fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Gatehouse => &[
                "aws-call",
                "proxy",
                "proxy-common",
                "proxy-ebpf",
                "packer/package",
                "xtask/src/package",
                "Cargo.toml",
                "Cargo.lock",
                "CHANGELOG.md",
            ],
            Self::GatehouseDeploy => &[
                "aws-call",
                "deploy",
                "infra",
                "docs/deploying.md",
                "xtask/src/package",
                "Cargo.toml",
                "Cargo.lock",
                "CHANGELOG.md",
            ],
        }
    }

    /// What is linked into it, for the list of licences.
    pub(super) fn linked(self) -> &'static str {
        match self {
            Self::Gatehouse => "/usr/bin/gatehouse and into the XDP program inside it",
            Self::GatehouseDeploy => "/usr/bin/gatehouse-deploy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_of_a_product_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for product in [Product::Gatehouse, Product::GatehouseDeploy] {
            for source in product.sources() {
                assert!(root.join(source).exists(), "{product:?}: {source}");
            }
        }
    }
}
