//! The control socket: a Unix socket that is its owner's alone from the moment it exists.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::handed::{CONTROL_SOCKET, HandedSockets};

/// A bound control socket; dropped, its file goes, unless a predecessor or a successor answers there.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    file: SocketFile,
}

/// Whose its file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SocketFile {
    Ours,
    /// A predecessor's still, or a successor's already.
    Others,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error(
        "control.socket: an instance answers on `{path}` already; stop it, or give this one its own `state_directory`"
    )]
    Taken {
        /// Its path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("control.socket: `{path}` exists and is not a socket; name another path")]
    NotASocket {
        /// Its path.
        path: PathBuf,
    },
    /// The file system or the kernel refuses.
    #[error(
        "control.socket: `{path}` cannot be created; name a path in a directory that this user may write to"
    )]
    Refused {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ControlSocket {
    /// Binds `path`; what an instance that died left there is removed. A predecessor's socket of this path may have been `handed` over.
    pub fn bind(path: &Path, handed: &mut HandedSockets) -> Result<Self, SocketError> {
        let (listener, file) = if let Some(listener) = handed.unix(path) {
            (listener, SocketFile::Others)
        } else {
            clear(path)?;
            let bound =
                bind(path).map_err(|source| SocketError::Refused { path: path.to_path_buf(), source });
            (bound?, SocketFile::Ours)
        };
        Ok(Self { path: path.to_path_buf(), listener, file })
    }

    /// Takes over its file from a predecessor, which no longer answers there.
    pub fn take_over(&mut self) {
        self.file = SocketFile::Ours;
    }

    /// Whether [`ControlSocket::bind`] would find `path` taken or no socket; makes and removes nothing.
    pub fn probe(path: &Path, handed: &HandedSockets) -> Result<(), SocketError> {
        if handed.has_unix(path) { Ok(()) } else { is_left_over(path).map(drop) }
    }

    /// A descriptor of it, for a successor.
    pub fn share(&self) -> io::Result<(&'static str, OwnedFd)> {
        Ok((CONTROL_SOCKET, self.listener.as_fd().try_clone_to_owned()?))
    }

    /// Leaves its file to a successor, which answers there.
    pub fn leave(mut self) {
        self.file = SocketFile::Others;
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener for the control runtime, on which this is called.
    pub(super) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.file == SocketFile::Ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The kernel makes the file with the mode of the unbound socket (`unix_bind_bsd`): there is no moment at which others
    // could connect.
    fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn clear(path: &Path) -> Result<(), SocketError> {
    if is_left_over(path)? {
        fs::remove_file(path).map_err(|source| SocketError::Refused { path: path.to_path_buf(), source })?;
    }
    Ok(())
}

/// Whether a dead instance has left its socket at `path`; otherwise nothing is there.
fn is_left_over(path: &Path) -> Result<bool, SocketError> {
    let path_buf = || path.to_path_buf();
    let refused = |source| SocketError::Refused { path: path_buf(), source };
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(refused(error)),
    };
    if !there.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path_buf() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Taken { path: path_buf() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(refused(error)),
    }
}

const BACKLOG: i32 = 16;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(path: &Path) -> Result<ControlSocket, SocketError> {
        ControlSocket::bind(path, &mut HandedSockets::default())
    }

    #[test]
    fn a_successor_answers_at_the_same_socket_and_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let first = open(&path).unwrap();
        let mut handed = HandedSockets::default();
        let mut hand_over = || {
            let (setting, socket) = first.share().unwrap();
            handed.add(setting.to_owned(), socket);
            ControlSocket::probe(&path, &handed).unwrap();
            ControlSocket::bind(&path, &mut handed).unwrap()
        };
        drop(hand_over());
        assert!(path.exists(), "one that fails leaves it to its predecessor");
        let mut second = hand_over();
        second.take_over();
        first.leave();
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let socket = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(open(&path), Err(SocketError::Taken { .. })));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_instance_left_is_removed_and_what_is_foreign_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a killed process leaves its file");
        drop(open(&path).unwrap());
        fs::write(&path, "a letter").unwrap();
        assert!(matches!(open(&path), Err(SocketError::NotASocket { .. })));
        assert!(path.exists());
        assert!(matches!(open(&directory.path().join("no/x")), Err(SocketError::Refused { .. })));
    }
}
