//! The appliance's image, booted and asserted on from outside; `cargo xtask image test` calls it.
//! Not here: how the image is made (`packer`, `xtask`); what Gatehouse does as a process (`proxy/tests/it`).
//! Invariants: everything around the machine is real, and what a case asserts it sees from outside or by a root shell on
//! a second serial line, which the image itself does not have: user data brings it; a case that fails says what the
//! machine's console and log said last.

mod cases;
mod guest;
mod repository;
mod services;
mod trial;
mod world;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

fn main() -> ExitCode {
    match trial::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is tested.
#[derive(Parser)]
#[command(
    name = "ami-tests",
    about = "Boots the appliance's image and asserts on it from outside; `cargo xtask image test` calls it"
)]
struct Arguments {
    /// The baked disk
    #[arg(long)]
    image: PathBuf,
    /// The Debian package that is in it
    #[arg(long)]
    package: PathBuf,
    /// The same under a later version, to upgrade to
    #[arg(long)]
    next: PathBuf,
    /// What QEMU runs the machines on: `tcg` works everywhere, `kvm` is as quick as the machine
    #[arg(long, default_value = "tcg")]
    accelerator: String,
    /// Memory of each machine in MiB: that of the smallest instance there is (t4g.nano: 512) less what a hypervisor keeps
    #[arg(long, default_value_t = 480)]
    memory: u32,
    /// Leave the disks, consoles and logs where they are, and say where
    #[arg(long)]
    keep: bool,
    /// Only the cases whose names contain one of these; the first boot is always made
    filter: Vec<String>,
}
