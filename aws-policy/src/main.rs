//! `aws-policy FOLDER`, at the end of `cargo xtask test`: whether what instances have called in all end-to-end cases is what their policy grants
//! them. `aws-policy page` prints `docs/policies.md`. The other roles' calls are compared by the tests that cause them, since each has one story that causes all.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use aws_policy::{Role, page, proof, record};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!(
            "usage: aws-policy page, or aws-policy FOLDER, where tests ran with {}=FOLDER",
            record::FOLDER_VARIABLE
        );
        return ExitCode::from(2);
    };
    let outcome = if folder.as_os_str() == "page" { print_page() } else { compare(&folder) };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn print_page() -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", page::page()?);
    Ok(ExitCode::SUCCESS)
}

fn compare(folder: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let calls = record::read(folder)?.remove(&Role::Instance).unwrap_or_default();
    println!("{} calls of instances were recorded", calls.len());
    let faults = proof::faults(Role::Instance, &calls)?;
    for fault in &faults {
        println!("{fault}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
