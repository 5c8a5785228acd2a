//! What a request costs the binary that is shipped, which no change may raise unnoticed: instructions are the same on a busy machine.

use std::path::Path;

use xshell::{Shell, cmd};

use crate::{build_programs, setup};

/// Has the testbed count those of `binary` for requests on kept connections; fails if they are more than recorded.
pub(super) fn judge(shell: &Shell, binary: &Path) -> anyhow::Result<()> {
    setup::run(shell, setup::Purpose::Bench)?;
    build_programs(shell)?;
    let testbed = shell.current_dir().join("target/debug/testbed");
    println!("instructions: counting (a minute)");
    cmd!(shell, "{testbed} bench-instructions --binary {binary} --only kept-alive --recorded {RECORDED}")
        .quiet()
        .run()?;
    Ok(())
}

const RECORDED: &str = "testbed/instructions.json";
