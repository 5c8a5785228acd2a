//! The `gatehouse` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: gatehouse::allocator::Allocator = gatehouse::allocator::Allocator;

fn main() -> ExitCode {
    gatehouse::cli::main()
}
