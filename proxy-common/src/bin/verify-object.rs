//! Loads objects of XDP programs into the running kernel, attaches them nowhere, and prints what its verifier made of
//! them: `verify-object target/ebpf/guard`. It is a program of its own, since `xtask` is to compile in seconds.

use std::error::Error;
use std::process::ExitCode;

use aya::Ebpf;
use aya::programs::Xdp;

fn main() -> ExitCode {
    for path in std::env::args().skip(1) {
        match verify(&path) {
            Ok(said) => println!("{path}: {said}"),
            Err(error) => {
                eprintln!("{path}: {}", chain(error.as_ref()));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn verify(path: &str) -> Result<String, Box<dyn Error>> {
    let mut object = Ebpf::load_file(path)?;
    let mut said = Vec::new();
    for (name, program) in object.programs_mut() {
        let program: &mut Xdp = program.try_into()?;
        program.load()?;
        let info = program.info()?;
        let verified = info.verified_instruction_count().unwrap_or_default();
        let translated = info.size_translated().unwrap_or_default() / INSTRUCTION_BYTES;
        said.push(format!("{name} accepted, {translated} instructions, {verified} verified"));
    }
    Ok(said.join("; "))
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

const INSTRUCTION_BYTES: u32 = 8;
