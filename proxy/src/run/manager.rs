//! The service manager: systemd, or another that speaks `sd_notify(3)`. It is sent the instance's status, and the listening sockets to
//! store over a restart.
//! Not here: what it passes at a start (`inherited`).
//! Invariants: without a manager nothing is sent and nothing fails; when workers hang, the watchdog is not notified
//! (`a_silent_worker_stops_the_watchdog`); of a process and its successor it hears one at a time
//! (`the_manager_hears_one_process_at_a_time_and_loses_nothing_of_the_next`).

use std::{
    ffi::{OsStr, OsString},
    fmt, io, mem,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use super::datagram;
use crate::{
    clock::now,
    guard::Heartbeat,
    phase::{Phase, PhaseWatch},
};

/// What a manager passes in the environment of a process that it starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    notify_socket: Option<OsString>,
    /// How often it must be notified that the process is alive.
    pub(super) watchdog: Option<Duration>,
    /// The names of the descriptors from 3 on that are meant for this process.
    pub(super) descriptors: Vec<String>,
}

impl Environment {
    /// Reads the variables of `sd_notify(3)`, `sd_watchdog_enabled(3)` and `sd_listen_fds(3)` for the process `pid`.
    pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        // A child inherits variables that are meant for its parent.
        let meant = |name| text(name).is_none_or(|value| value.parse() == Ok(pid));
        let period = text("WATCHDOG_USEC").and_then(|value| value.parse().ok()).filter(|usec| *usec > 0);
        let count = text("LISTEN_FDS").and_then(|value| value.parse().ok()).unwrap_or(0);
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
        let handed_over = text("LISTEN_PID").is_some() && meant("LISTEN_PID");
        Self {
            notify_socket: variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
            watchdog: period.map(Duration::from_micros).filter(|_| meant("WATCHDOG_PID")),
            descriptors: names.take(if handed_over { count.min(MOST_DESCRIPTORS) } else { 0 }).collect(),
        }
    }
}

/// A message to the manager.
#[derive(Debug, Clone, Copy)]
pub(super) enum NotifyMessage<'a> {
    Ready,
    Status(&'a str),
    Reloading { monotonic: Duration },
    Stopping,
    Watchdog,
}

impl fmt::Display for NotifyMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            Self::Status(text) => write!(f, "STATUS={text}"),
            Self::Reloading { monotonic } => {
                write!(f, "RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros())
            }
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Watchdog => f.write_str("WATCHDOG=1"),
        }
    }
}

/// The connection to the manager, if there is one; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Manager(Option<Arc<Connection>>);

#[derive(Debug)]
struct Connection {
    socket: UnixDatagram,
    delivery: Mutex<Delivery>,
}

/// What becomes of a message: the manager hears the main process alone (`NotifyAccess=main`).
#[derive(Debug)]
enum Delivery {
    /// This is the main process.
    Direct,
    /// A predecessor is, so far.
    HeldBack(Vec<(String, Option<OwnedFd>)>),
    /// A successor is.
    Silent,
}

impl Manager {
    /// The one that `environment` names.
    pub(super) fn of(environment: &Environment) -> Self {
        match environment.notify_socket.as_deref().map(connect).transpose() {
            Ok(socket) => Self(
                socket.map(|socket| Arc::new(Connection { socket, delivery: Mutex::new(Delivery::Direct) })),
            ),
            Err(error) => {
                warn!(%error, "NOTIFY_SOCKET: the service manager cannot be reached");
                Self(None)
            }
        }
    }

    /// None.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Tells it all of `words` at once.
    pub(super) fn tell(&self, words: &[NotifyMessage<'_>]) {
        let lines: Vec<_> = words.iter().map(NotifyMessage::to_string).collect();
        self.send(&lines.join("\n"), None);
    }

    /// Has it keep `socket` under `name` for the next start, which it does up to `FileDescriptorStoreMax=`.
    pub(super) fn keep(&self, name: &str, socket: impl AsFd) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(socket.as_fd()));
    }

    /// Has it close what it keeps under `name`.
    pub(super) fn forget(&self, name: &str) {
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
    }

    /// Keeps messages back from now on: a predecessor is the main process.
    pub(super) fn hold_back(&self) {
        self.deliver(Delivery::HeldBack(Vec::new()));
    }

    /// Sends what was held back, in order: this is the main process.
    pub(super) fn catch_up(&self) {
        let Some(Delivery::HeldBack(messages)) = self.deliver(Delivery::Direct) else { return };
        for (text, descriptor) in messages {
            self.send(&text, descriptor.as_ref().map(AsFd::as_fd));
        }
    }

    /// Tells it that the process `successor` is the main process from now on, and nothing after that.
    pub(super) fn hand_over(&self, successor: u32) {
        self.send(&format!("MAINPID={successor}"), None);
        self.deliver(Delivery::Silent);
    }

    /// What became of messages before.
    fn deliver(&self, delivery: Delivery) -> Option<Delivery> {
        let mut held = self.0.as_ref()?.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        Some(mem::replace(&mut held, delivery))
    }

    fn send(&self, text: &str, descriptor: Option<BorrowedFd<'_>>) {
        let Some(Connection { socket, delivery }) = self.0.as_deref() else { return };
        let mut delivery = delivery.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match &mut *delivery {
            Delivery::Direct => datagram::send(socket, text.as_bytes(), descriptor),
            Delivery::HeldBack(messages) => {
                let descriptor = descriptor.map(|descriptor| descriptor.try_clone_to_owned()).transpose();
                descriptor.map(|descriptor| messages.push((text.to_owned(), descriptor)))
            }
            Delivery::Silent => Ok(()),
        };
        if let Err(error) = sent {
            warn!(%error, "a message to the service manager could not be sent");
        }
    }
}

/// A path, or `@` and a name in the abstract namespace.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // It reads when it comes to it: what waits is a start or an end, never a worker.
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Tells the manager of each change of the phase, and that all is well as long as it is.
pub(super) async fn attend(
    manager: Manager,
    mut phase: PhaseWatch,
    heartbeat: Arc<Heartbeat>,
    watchdog: Option<Duration>,
) {
    // sd_watchdog_enabled(3): half of what is allowed. On the control runtime, so that its hanging is seen, too.
    let mut ticks = tokio::time::interval(watchdog.map_or(Duration::from_hours(24), |period| period / 2));
    loop {
        tokio::select! {
            changed = phase.changed() => match changed {
                Ok(()) => manager.tell(&[NotifyMessage::Status(status(*phase.borrow()))]),
                Err(_) => return,
            },
            _ = ticks.tick() => {
                if let Some(period) = watchdog && is_well(&heartbeat, now(), period) {
                    manager.tell(&[NotifyMessage::Watchdog]);
                }
            }
        }
    }
}

/// Whether every worker's event loop turns: a worker that hangs swallows its share of all connections.
fn is_well(heartbeat: &Heartbeat, now: Instant, period: Duration) -> bool {
    heartbeat.is_whole(now, period)
}

/// What `systemctl status` shows.
pub(super) fn status(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "Starting: reading the names; health says 503",
        Phase::Serving => "Serving",
        Phase::Degraded => {
            "Degraded: the domains table cannot be read, `gatehouse doctor` finds the cause; known names are served, health says 200"
        }
        Phase::Restored => {
            "Restored: the tables do not answer, `gatehouse doctor` finds the cause; names of the local copy are served, health says 200"
        }
        Phase::Unable => {
            "Unable to serve: the source of names is down, `gatehouse doctor` finds the cause; health says 503"
        }
        Phase::Overloaded => "Overloaded: memory is nearly used up; health says 503",
        Phase::Leaving => {
            "Leaving: the Auto Scaling group takes this instance out of service; requests are served, health says 503"
        }
        Phase::Draining => "Draining: requests in flight finish; health says 503",
        Phase::Replaced => "Replaced: a successor serves; requests in flight finish",
    }
}

/// `text` as a status can show it: one line, at most [`LONGEST_STATUS`] bytes.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let line = lines.join("; ").replace(char::is_control, " ");
    if line.len() <= LONGEST_STATUS {
        return line;
    }
    let kept = line.floor_char_boundary(LONGEST_STATUS - MORE.len());
    format!("{}{MORE}", line.get(..kept).unwrap_or_default())
}

const LONGEST_STATUS: usize = 400;
const MORE: &str = "…";
/// More than any number of workers and addresses makes.
const MOST_DESCRIPTORS: usize = 16_384;
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        let find =
            |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|pair| pair.1.into());
        Environment::read(find, 7)
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        for (variables, watchdog, descriptors) in [
            (&[][..], None, &[][..]),
            (&[("WATCHDOG_USEC", "30000000")], Some(30), &[]),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")], Some(30), &[]),
            (&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")], None, &[]),
            (&[("WATCHDOG_USEC", "0")], None, &[]),
            (&[("WATCHDOG_USEC", "soon")], None, &[]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")], None, &["a", "b"]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a")], None, &["a", ""]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "2")], None, &["", ""]),
            (&[("LISTEN_PID", "8"), ("LISTEN_FDS", "2")], None, &[]),
            (&[("LISTEN_FDS", "2")], None, &[]),
            (&[("LISTEN_PID", "7"), ("LISTEN_FDS", "-1")], None, &[]),
        ] {
            let read = read(variables);
            assert_eq!(read.watchdog, watchdog.map(Duration::from_secs), "{variables:?}");
            assert_eq!(read.descriptors, descriptors, "{variables:?}");
        }
        let many = read(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "4000000000")]);
        assert_eq!(many.descriptors.len(), MOST_DESCRIPTORS);
    }

    #[test]
    fn words_are_one_datagram_and_sockets_go_with_their_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::of(&read(&[("NOTIFY_SOCKET", path.to_str().unwrap())]));
        let told = || {
            let mut bytes = [0; 512];
            let count = heard.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..count].to_vec()).unwrap()
        };
        manager.tell(&[
            NotifyMessage::Reloading { monotonic: Duration::from_micros(12) },
            NotifyMessage::Status("Serving"),
        ]);
        assert_eq!(told(), "RELOADING=1\nMONOTONIC_USEC=12\nSTATUS=Serving");
        manager.keep("https.[--]-443", std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        assert_eq!(told(), "FDSTORE=1\nFDNAME=https.[--]-443\nFDPOLL=0");
        manager.forget("https.[--]-443");
        assert_eq!(told(), "FDSTOREREMOVE=1\nFDNAME=https.[--]-443");
    }

    #[test]
    fn the_manager_hears_one_process_at_a_time_and_loses_nothing_of_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_nonblocking(true).unwrap();
        let environment = read(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        let (first, second) = (Manager::of(&environment), Manager::of(&environment));
        let told = || {
            let mut bytes = [0; 512];
            let received = std::iter::from_fn(|| {
                let count = heard.recv(&mut bytes).ok()?;
                Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
            });
            received.collect::<Vec<_>>()
        };
        second.hold_back();
        second.keep("http.a", std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        second.tell(&[NotifyMessage::Ready]);
        assert!(told().is_empty());
        first.hand_over(7);
        first.tell(&[NotifyMessage::Stopping]);
        assert_eq!(told(), ["MAINPID=7"]);
        second.catch_up();
        second.tell(&[NotifyMessage::Watchdog]);
        assert_eq!(told(), ["FDSTORE=1\nFDNAME=http.a\nFDPOLL=0", "READY=1", "WATCHDOG=1"]);
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        Manager::of(&read(&[])).tell(&[NotifyMessage::Ready]);
        Manager::of(&read(&[("NOTIFY_SOCKET", "/nowhere/at/all")])).tell(&[NotifyMessage::Ready]);
    }

    #[test]
    fn a_status_is_one_bounded_line_of_text() {
        for (text, line) in [
            ("a.toml:3: not TOML", "a.toml:3: not TOML"),
            ("one\n  two\n\nthree\n", "one; two; three"),
            ("a\tb\u{1b}[1mc\rd", "a b [1mc d"),
        ] {
            assert_eq!(one_line(text), line);
        }
        assert_eq!(one_line(&"x".repeat(LONGEST_STATUS)), "x".repeat(LONGEST_STATUS));
        let bounded = one_line(&"ä".repeat(LONGEST_STATUS));
        assert!(bounded.len() <= LONGEST_STATUS && bounded.ends_with("ä…"), "{bounded}");
    }

    #[test]
    fn a_silent_worker_stops_the_watchdog() {
        let epoch = Instant::now();
        let (heartbeat, period) = (Heartbeat::new(2, epoch), Duration::from_secs(30));
        let at = |seconds| epoch + Duration::from_secs(seconds);
        heartbeat.beat(0, at(1));
        assert!(!is_well(&heartbeat, at(1), period), "the other has not begun");
        heartbeat.beat(1, at(2));
        assert!(is_well(&heartbeat, at(30), period));
        heartbeat.beat(0, at(40));
        assert!(!is_well(&heartbeat, at(40), period), "the other was last heard 38 s ago");
    }
}
