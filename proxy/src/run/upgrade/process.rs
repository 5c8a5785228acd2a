//! How a successor is started: as this process was, by the same command line and variables.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use socket2::Socket;

/// The process that a successor takes over from. The number tells it from a variable that a child of a child has inherited.
pub(super) const PREDECESSOR: &str = "GATEHOUSE_PREDECESSOR";

/// The program to start again: by the path by which this process was called, through whatever links lead there by then; without one, the file
/// that it runs. Asked for at the start, since the kernel knows a file that was replaced as deleted.
pub(in crate::run) fn installed_program() -> io::Result<PathBuf> {
    let running = env::current_exe()?;
    Ok(called(env::args_os().next(), &env::current_dir()?).filter(|path| path.is_file()).unwrap_or(running))
}

/// The path that `name`, the first argument, is; none, if it was found in a list of folders.
fn called(name: Option<OsString>, folder: &Path) -> Option<PathBuf> {
    let path = PathBuf::from(name?);
    (path.components().count() > 1).then(|| folder.join(path))
}

/// Starts `program` with `channel` as its standard input. It writes errors to a pipe until it is ready; its standard output is our standard
/// error, to which it goes on writing then.
pub(super) fn start(program: &Path, channel: Socket) -> io::Result<Child> {
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(PREDECESSOR, std::process::id().to_string());
    for name in OURS_ALONE {
        command.env_remove(name);
    }
    let channel = std::os::fd::OwnedFd::from(channel);
    command.stdin(Stdio::from(channel)).stdout(Stdio::from(stderr)).stderr(Stdio::piped()).spawn()
}

/// The predecessor's process, as the variables say.
pub(super) fn predecessor(variable: impl Fn(&str) -> Option<OsString>, parent: u32) -> Option<u32> {
    let pid = variable(PREDECESSOR).as_deref().and_then(OsStr::to_str)?.parse().ok()?;
    (pid == parent).then_some(pid)
}

/// `sd_listen_fds(3)`, `sd_watchdog_enabled(3)`: these say for which process they are meant. Without `WATCHDOG_PID` the period is the
/// successor's, too.
const OURS_ALONE: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_where_this_one_was_called() {
        for (name, path) in [
            (Some("/usr/bin/gatehouse"), Some("/usr/bin/gatehouse")),
            (Some("target/debug/gatehouse"), Some("/srv/target/debug/gatehouse")),
            (Some("./gatehouse"), Some("/srv/./gatehouse")),
            (Some("gatehouse"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(called(name.map(Into::into), Path::new("/srv")), path.map(PathBuf::from), "{name:?}");
        }
    }

    #[test]
    fn only_the_parent_is_a_predecessor() {
        for (value, parent, found) in
            [(Some("7"), 7, Some(7)), (Some("7"), 1, None), (Some("x"), 7, None), (None, 7, None)]
        {
            let variable = |name: &str| value.filter(|_| name == PREDECESSOR).map(OsString::from);
            assert_eq!(predecessor(variable, parent), found, "{value:?} {parent}");
        }
    }
}
