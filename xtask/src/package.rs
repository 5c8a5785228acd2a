//! `cargo xtask package`: the Debian package, with manual pages, licences and SBOM, into `target/package`.
//! Not here: what lies in a package (`packer/package`, and `package.metadata.deb` of `proxy/Cargo.toml` and `deploy/Cargo.toml`).
//! Invariants: the package is a function of the sources and the compiler (`cargo xtask package reproduce` builds twice and
//! compares); nothing is linked whose licence is not known and permitted
//! (`an_expression_is_permitted_by_what_it_lets_us_choose`).

mod architecture;
mod archive;
mod binary;
mod cargo_build;
mod crates;
mod debian;
mod function;
mod licences;
mod product;
pub(crate) mod profile;
mod sbom;
mod staging;
mod trial;

use std::path::PathBuf;

use xshell::{Shell, cmd};

use crate::{build_ebpf, setup, shell};

pub(crate) use architecture::Architecture;
pub(crate) use archive::{Archive, later};
pub(crate) use product::Product;

/// What to do with the package beyond building it.
#[derive(Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Step {
    /// Have lintian look at it; install, upgrade, remove and purge it in a Debian of its own
    Test,
    /// Build it a second time in another folder and compare the bytes
    Reproduce,
    /// Build the functions for Lambda, which is always for arm64
    Function,
}

/// Builds the package of `product` for `architecture`, and then does `step`.
pub(crate) fn run(product: Product, architecture: Architecture, step: Option<Step>) -> anyhow::Result<()> {
    let shell = shell()?;
    if step == Some(Step::Test) {
        setup::require_root(&shell, "package test")?;
    }
    setup::run(&shell, setup::Purpose::Package)?;
    if step == Some(Step::Function) {
        return function::run(&shell);
    }
    if architecture == Architecture::Arm64 {
        setup::arm64(&shell)?;
    }
    let archive = match product {
        Product::Gatehouse => build(&shell, architecture)?,
        Product::GatehouseDeploy => build_deploy(&shell, architecture)?,
    };
    match step {
        None | Some(Step::Function) => Ok(()),
        Some(Step::Test) => trial::run(&shell, &archive, product),
        Some(Step::Reproduce) => archive::reproduce(&shell, &archive, product),
    }
}

/// Builds the binary of this machine's package; says where it is.
pub(crate) fn program(shell: &Shell) -> anyhow::Result<PathBuf> {
    binary::build(shell, &Workspace::of(shell, Architecture::Amd64, Product::Gatehouse)?)
}

/// Builds the package of the tree as it is.
pub(crate) fn build(shell: &Shell, architecture: Architecture) -> anyhow::Result<Archive> {
    build_ebpf::run()?;
    let workspace = Workspace::of(shell, architecture, Product::Gatehouse)?;
    println!("package: building the binary (minutes the first time)");
    let binary = binary::build(shell, &workspace)?;
    let crates =
        crates::linked(shell, &[("gatehouse", architecture.target()), ("proxy-ebpf", "bpfel-unknown-none")])?;
    licences::judge(&crates)?;
    staging::lay(shell, &workspace, &binary, &crates)?;
    archive::pack(shell, &workspace)
}

/// Builds that of the program for a fleet's operator.
fn build_deploy(shell: &Shell, architecture: Architecture) -> anyhow::Result<Archive> {
    let product = Product::GatehouseDeploy;
    let workspace = Workspace::of(shell, architecture, product)?;
    println!("package: building the binary (minutes the first time)");
    let binary = cargo_build::build(shell, &workspace, product.cargo_package(), product.name(), &[])?;
    let crates = crates::linked(shell, &[(product.cargo_package(), architecture.target())])?;
    licences::judge(&crates)?;
    staging::lay(shell, &workspace, &binary, &crates)?;
    archive::pack(shell, &workspace)
}

/// The tree that is packaged.
struct Workspace {
    root: PathBuf,
    product: Product,
    architecture: Architecture,
    version: String,
    /// Of the last commit that changed what the package is made of: every time stamp in it is this one.
    epoch: String,
}

impl Workspace {
    fn of(shell: &Shell, architecture: Architecture, product: Product) -> anyhow::Result<Self> {
        let committed =
            cmd!(shell, "git log -1 --format=%ct --").args(product.sources()).quiet().ignore_stderr().read();
        let epoch = match committed {
            Ok(epoch) if !epoch.is_empty() => epoch,
            _ => {
                println!("package: no git history; time stamps are those of the change log");
                cmd!(shell, "stat --format=%Y CHANGELOG.md").quiet().read()?
            }
        };
        Ok(Self {
            root: shell.current_dir(),
            product,
            architecture,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch,
        })
    }
}

/// Where packages and what they are made of lie, below the workspace.
const FOLDER: &str = "target/package";
