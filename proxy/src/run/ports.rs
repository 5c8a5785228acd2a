//! Whether a port is somebody else's already. Our listeners share theirs among workers (`SO_REUSEPORT`), and the kernel lets any
//! process of the same user join: two instances would each have half of the connections, and nothing would say so.
//! Not here: sockets that were handed over (`inherited`): theirs is a predecessor's port.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use socket2::{Domain, Socket, Type};

/// Whether an address may be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// Nobody listens there.
    Free,
    /// Sockets of this user listen there, and would share it.
    Shared,
}

/// Who listens at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pub(crate) pid: u32,
    /// `/proc/pid/comm`.
    pub(crate) command: String,
}

impl PortHolder {
    /// Whether it is the service manager, which keeps sockets over a restart.
    pub(crate) fn is_manager(&self) -> bool {
        self.pid == 1 || self.command == "systemd"
    }
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.command.escape_default(), self.pid)
    }
}

/// Looks whether anybody listens at `address`, a wildcard of the other family that takes both among them. It binds and does not
/// listen: a socket that listens would be given connections.
pub(crate) fn probe(address: SocketAddr) -> io::Result<Port> {
    let socket = unbound(address)?;
    // Connections of before that linger (TIME-WAIT) are no listeners.
    socket.set_reuse_address(true)?;
    match socket.bind(&address.into()) {
        Ok(()) => Ok(Port::Free),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let socket = unbound(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into()).map(|()| Port::Shared)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Who listens at `address`, as far as this user may see it.
pub(crate) fn holder(address: SocketAddr) -> Option<PortHolder> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let inodes: Vec<_> = tables.iter().flat_map(|table| listening(table, address)).collect();
    processes().find(|pid| holds(*pid, &inodes)).map(|pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        PortHolder { pid, command: command.trim().to_owned() }
    })
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let descriptors = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    let targets =
        descriptors.into_iter().flatten().flatten().filter_map(|entry| entry.path().read_link().ok());
    let mut names = targets.filter_map(|target| target.to_str().map(str::to_owned));
    names.any(|name| inodes.iter().any(|inode| name == format!("socket:[{inode}]")))
}

/// proc(5), `/proc/net/tcp`: the inodes of sockets that listen where `address` is.
fn listening(table: &str, address: SocketAddr) -> Vec<String> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let matching = lines.filter(|fields| {
        let local = fields.get(1).and_then(|text| local_address(text));
        fields.get(3) == Some(&LISTEN) && local.is_some_and(|local| overlap(local, address))
    });
    matching.filter_map(|fields| fields.get(9).map(|inode| (*inode).to_owned())).collect()
}

/// Words of the address in the byte order of the machine, the port in that of the network: `0100007F:1F90`.
fn local_address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..words.len()).step_by(8).take(4) {
        bytes.extend(u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::V4(Ipv4Addr::from(bytes)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip, port))
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// The state of a socket that listens.
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listen(address: &str, reuse_port: bool, only_v6: bool) -> (Socket, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_port(reuse_port).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(only_v6).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        socket.listen(1).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, bound)
    }

    #[test]
    fn a_port_that_is_shared_is_not_free() {
        let (_held, address) = listen("127.0.0.1:0", true, true);
        assert_eq!(probe(address).unwrap(), Port::Shared);
        let wildcard = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(probe(wildcard).unwrap(), Port::Shared, "the wildcard would take half of it");
        let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
        assert_eq!(probe(other).unwrap(), Port::Free);
    }

    #[test]
    fn a_wildcard_of_both_families_holds_that_of_one() {
        let (held, address) = listen("[::]:0", true, false);
        let of_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(probe(of_v4).unwrap(), Port::Shared);
        drop(held);
        let (_held, address) = listen("[::]:0", true, true);
        let of_v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(probe(of_v4).unwrap(), Port::Free, "one for IPv6 alone leaves IPv4");
    }

    #[test]
    fn a_port_held_alone_is_an_error_and_its_holder_is_found() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        assert_eq!(probe(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let wildcard = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        for asked in [address, wildcard] {
            assert_eq!(holder(asked).map(|holder| holder.pid), Some(std::process::id()), "{asked}");
        }
        drop(held);
        assert_eq!(holder(address), None);
    }

    #[test]
    fn lines_of_the_kernel_are_read_and_others_are_not() {
        for (text, address) in [
            ("0100007F:1F90", Some("127.0.0.1:8080")),
            ("00000000:01BB", Some("0.0.0.0:443")),
            ("00000000000000000000000001000000:0050", Some("[::1]:80")),
            ("", None),
            ("0100007F", None),
            ("0100:1F90", None),
            ("ä100007F:1F90", None),
        ] {
            assert_eq!(local_address(text), address.map(|address| address.parse().unwrap()), "{text}");
        }
    }
}
