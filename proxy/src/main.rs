//! The `gatehouse` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: gatehouse::allocator::Allocator = gatehouse::allocator::ALLOCATOR;

fn main() -> ExitCode {
    gatehouse::cli::main()
}
