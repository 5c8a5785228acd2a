//! Instances on loopback addresses of their own, and the service manager that starts them.

use std::{
    fs::{self, File},
    io::{IoSliceMut, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::{
    cmsg_space,
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
    unistd::Pid,
};
use tempfile::TempDir;
use testbed::wait;

/// A folder with settings, and an address that no other test has.
pub(crate) struct Place {
    folder: TempDir,
    host: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let host = format!("127.{}.{low}.{}", high.max(1), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { folder: tempfile::tempdir().unwrap(), host }
    }

    /// Writes settings: listeners here, one worker, and what is given.
    pub(crate) fn write(&self, more: &str) {
        let (folder, host) = (self.path().display(), &self.host);
        let settings = format!(
            "state_directory = \"{folder}/state\"\n{more}\n[listen]\nhttps = [\"{host}:8443\"]\nhttp = [\"{host}:8080\"]\n\
             [control]\nmetrics = \"{host}:9464\"\n"
        );
        fs::write(self.path().join("gatehouse.toml"), settings).unwrap();
    }

    /// Writes a fragment of settings beside them.
    pub(crate) fn write_fragment(&self, name: &str, text: &str) {
        let folder = self.path().join("conf.d");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn http(&self) -> SocketAddr {
        format!("{}:8080", self.host).parse().unwrap()
    }

    pub(crate) fn https(&self) -> SocketAddr {
        format!("{}:8443", self.host).parse().unwrap()
    }

    /// The name under which a manager keeps a listener.
    pub(crate) fn kept(&self) -> [String; 2] {
        [format!("https.{}-8443", self.host), format!("http.{}-8080", self.host)]
    }

    /// What `gatehouse --config gatehouse.toml` with the arguments of `line` says.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_by("gatehouse.toml", line)
    }

    /// The same with another file.
    pub(crate) fn run_by(&self, settings: &str, line: &str) -> Said {
        self.run_with(settings, line, &[])
    }

    /// The same with variables.
    pub(crate) fn run_with(&self, settings: &str, line: &str, variables: &[(&str, &str)]) -> Said {
        let output = self.command(settings, line).envs(variables.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// `gatehouse --config settings` with the arguments of `line`, not started yet.
    pub(crate) fn command(&self, settings: &str, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.args(["--config", settings]).args(line.split_whitespace()).env_clear();
        command.current_dir(self.path());
        command
    }
}

#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A process; dropped, it is killed.
pub(crate) struct Instance {
    child: Child,
    log: PathBuf,
}

impl Instance {
    /// One with these settings that serves, where it lies, and its manager.
    pub(crate) fn serving(settings: &str) -> (Place, Manager, Self) {
        let (place, manager) = (Place::new(), Manager::new());
        place.write(settings);
        let instance = Self::start(&place, &manager, Vec::new(), &[]);
        manager.hear_until("STATUS=Serving");
        (place, manager, instance)
    }

    /// Starts one that is told of `manager`, with `handed` as its descriptors from 3 on, each under a name; two at most.
    pub(crate) fn start(
        place: &Place,
        manager: &Manager,
        handed: Vec<(String, OwnedFd)>,
        environment: &[(&str, &str)],
    ) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let log = place.path().join(format!("log-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        // A shell that becomes the instance: only then is its process known, which the variables name.
        let script = match handed.len() {
            0 => "exec </dev/null >/dev/null; exec \"$@\"",
            1 => "exec 3<&0 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"",
            _ => "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$@\"",
        };
        let (names, descriptors): (Vec<String>, Vec<OwnedFd>) = handed.into_iter().unzip();
        let mut shell = Command::new("/bin/sh");
        shell.args([
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_gatehouse"),
            "--config",
            "gatehouse.toml",
            "run",
        ]);
        shell.env_clear().env("NOTIFY_SOCKET", manager.path()).envs(environment.iter().copied());
        shell.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        let mut descriptors = descriptors.into_iter().map(Stdio::from);
        shell.stdin(descriptors.next().unwrap_or_else(Stdio::null));
        shell.stdout(descriptors.next().unwrap_or_else(Stdio::null));
        shell.stderr(File::create(&log).unwrap()).current_dir(place.path());
        Self { child: shell.spawn().unwrap(), log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually("the end of the instance", || {
            self.child.try_wait()?.with_context(|| fs::read_to_string(&self.log).unwrap_or_default())
        })
    }

    /// Waits until `part` is in its log.
    pub(crate) fn has_logged(&self, part: &str) {
        eventually(part, || {
            let log = self.log();
            ensure!(log.contains(part), "{log}");
            Ok(())
        });
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("what the instance said:\n{}", self.log());
        }
    }
}

/// Who starts instances: hears what they say, and keeps what they give it.
pub(crate) struct Manager {
    folder: TempDir,
    socket: UnixDatagram,
}

/// One datagram.
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { folder, socket }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Hears until one says `wanted`, that one included.
    pub(crate) fn hear_until(&self, wanted: &str) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let heard = self.hear();
            let last = heard.text.contains(wanted);
            all.push(heard);
            if last {
                return all;
            }
        }
    }

    #[expect(unsafe_code, reason = "descriptors in a message are numbers that nobody owns yet")]
    fn hear(&self) -> Heard {
        let (mut bytes, mut space) = ([0; 1024], cmsg_space!([i32; 8]));
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let message = message.expect("the manager was told nothing in time");
        let mut descriptors = Vec::new();
        for part in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                // SAFETY: the kernel has just opened them for this process.
                descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        let count = message.bytes;
        Heard { text: String::from_utf8(bytes[..count].to_vec()).unwrap(), descriptors }
    }
}

/// What a command says that must succeed.
pub(crate) fn tell(place: &Place, line: &str) -> Said {
    let said = place.run(line);
    assert_eq!(said.code, Some(0), "{line}: {said:?}");
    said
}

/// GET /health on a connection of its own.
pub(crate) fn health(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| std::io::Error::other(format!("no answer but {answer:?}")))
}

/// What `look` finds at last.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> anyhow::Result<T>) -> T {
    wait::until(what, PATIENCE, look).unwrap()
}

const PATIENCE: Duration = Duration::from_mins(1);
