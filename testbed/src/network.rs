//! The network of every case: an edge and a client namespace, joined by a veth with both ends inside. For Gatehouse as a
//! process the edge is the machine; for Gatehouse as an appliance it is the host of virtual machines, and a bridge; for a fleet it is what
//! stands before the machines, which are namespaces of their own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, ensure};

use crate::namespace::{self, Namespace};

/// Two namespaces and the wire between them. Addresses are of the documentation ranges (RFC 5737, RFC 3849) and the same
/// in every network, since no network knows of another.
#[derive(Debug)]
pub struct Network {
    /// Where Gatehouse, the table and the upstream live.
    pub edge: Namespace,
    /// Where the world lives: clients, the CA, DNS.
    pub client: Namespace,
}

impl Network {
    /// A network of its own for one test; `folder` outlives it.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        namespace::sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("-{}-{number}", std::process::id()), folder)
    }

    /// The network of `cargo xtask run`, with the plain names that its screen shows.
    pub fn plain(folder: &Path) -> anyhow::Result<Self> {
        namespace::sweep();
        for role in ["gatehouse-edge", "gatehouse-client"] {
            remove_unused(role)?;
        }
        Self::named("", folder)
    }

    /// A network whose edge holds a bridge instead of addresses A and B, for virtual machines that have these; [`Self::port`]
    /// makes the bridge's ports.
    pub fn of_machines(folder: &Path) -> anyhow::Result<Self> {
        namespace::sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let network = Self::made(&format!("-{}-{number}", std::process::id()), folder)?;
        network.edge.run("ip", &["link", "add", BRIDGE, "type", "bridge", "stp_state", "0"])?;
        network.edge.run("ip", &["link", "set", EDGE_LINK, "master", BRIDGE, "up"])?;
        equip(&network.edge, BRIDGE, &[(HOST, HOST_V6)])?;
        Ok(network)
    }

    /// A port of the bridge: the tap device `name`, which a virtual machine in the edge's namespace takes.
    pub fn port(&self, name: &str) -> anyhow::Result<()> {
        self.edge.run("ip", &["tuntap", "add", "dev", name, "mode", "tap"])?;
        self.edge.run("ip", &["link", "set", name, "master", BRIDGE, "up"]).map(drop)
    }

    /// A network whose edge is an accelerator's side: it has address A, and routes to a bridge on which machines of a fleet are, each a
    /// namespace of its own ([`Self::attach`]). How address A becomes a machine's is the caller's.
    pub fn of_fleet(folder: &Path) -> anyhow::Result<Self> {
        let network = Self::of_machines(folder)?;
        let gateway = format!("{FLEET_GATEWAY}/24");
        let edge = |arguments: &[&str]| network.edge.run("ip", arguments);
        edge(&["addr", "add", &format!("{EDGE_A}/24"), "dev", BRIDGE])?;
        // With an address of its own: a bridge takes the least of its ports', and whom machines know would change as ports go.
        let bridge = ["link", "add", FLEET_BRIDGE, "address", FLEET_BRIDGE_ADDRESS, "type", "bridge"];
        edge(&[&bridge[..], &["stp_state", "0"]].concat())?;
        edge(&["addr", "add", &gateway, "dev", FLEET_BRIDGE])?;
        edge(&["link", "set", FLEET_BRIDGE, "up"])?;
        network.edge.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        // For what machines ask of the client's side, as the CA.
        let fleet = format!("{}/24", fleet_machine(0));
        network.client.run("ip", &["route", "add", &fleet, "via", &HOST.to_string()])?;
        Ok(network)
    }

    /// A machine of the fleet at `address` ([`fleet_machine`]): a namespace whose way out is the edge.
    pub fn attach(&self, address: Ipv4Addr, hosts: &Path) -> anyhow::Result<Namespace> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let machine =
            Namespace::create(&format!("gatehouse-machine-{}-{number}", std::process::id()), hosts)?;
        let port = format!("gh-{number}");
        let peer = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", machine.name()];
        self.edge.run("ip", &peer)?;
        self.edge.run("ip", &["link", "set", &port, "master", FLEET_BRIDGE, "up"])?;
        machine.run("ip", &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        machine.run("ip", &["link", "set", "eth0", "up"])?;
        machine.run("ip", &["route", "add", "default", "via", &FLEET_GATEWAY.to_string()])?;
        Ok(machine)
    }

    /// Gives the client's side `count` addresses more, at most a hundred.
    pub fn further_clients(&self, count: u8) -> anyhow::Result<Vec<IpAddr>> {
        let [a, b, c, _] = CLIENT.octets();
        let addresses = (0..count.min(100)).map(|number| Ipv4Addr::new(a, b, c, FIRST_FURTHER + number));
        let add = |address: Ipv4Addr| {
            self.client.run("ip", &["addr", "add", &format!("{address}/24"), "dev", CLIENT_LINK])?;
            Ok(IpAddr::V4(address))
        };
        addresses.map(add).collect()
    }

    /// Attaches the stub program to the client's end: a native veth drops what `XDP_TX` sends unless its peer has a
    /// program as well.
    pub fn attach_stub(&self, object: &Path) -> anyhow::Result<()> {
        let object = object.to_str().context("the object's path is not UTF-8")?;
        ensure!(Path::new(object).exists(), "{object} is missing: run `cargo xtask build-ebpf`");
        // Forced: a second instance on the same link finds its peer equipped already.
        let link = ["-force", "link", "set", "dev", CLIENT_LINK, "xdpdrv", "obj", object, "sec", "xdp.frags"];
        self.client.run("ip", &link).map(drop)
    }

    fn named(suffix: &str, folder: &Path) -> anyhow::Result<Self> {
        let network = Self::made(suffix, folder)?;
        equip(&network.edge, EDGE_LINK, &[(EDGE_A, EDGE_A_V6), (EDGE_B, EDGE_B_V6)])?;
        network.edge.inside(|| {
            fs::write("/proc/sys/net/ipv4/tcp_migrate_req", "1")?;
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 60999")
        })??;
        Ok(network)
    }

    /// Both namespaces and the veth; the edge's end has no address yet.
    fn made(suffix: &str, folder: &Path) -> anyhow::Result<Self> {
        let hosts = hosts_file(folder)?;
        let edge = Namespace::create(&format!("gatehouse-edge{suffix}"), &hosts)?;
        let client = Namespace::create(&format!("gatehouse-client{suffix}"), &hosts)?;
        let network = Self { edge, client };
        network.join()?;
        Ok(network)
    }

    fn join(&self) -> anyhow::Result<()> {
        let peer = ["link", "add", EDGE_LINK, "type", "veth", "peer", "name", CLIENT_LINK, "netns"];
        self.edge.run("ip", &[&peer[..], &[self.client.name()]].concat())?;
        equip(&self.client, CLIENT_LINK, &[(CLIENT, CLIENT_V6), (STRANGER, STRANGER_V6)])?;
        self.client.inside(|| fs::write("/proc/sys/net/ipv4/ip_local_port_range", "2000 64000"))??;
        Ok(())
    }
}

fn equip(namespace: &Namespace, link: &str, addresses: &[(Ipv4Addr, Ipv6Addr)]) -> anyhow::Result<()> {
    // veth hands over packets with partial checksums, which a program that rewrites them would have to complete.
    namespace.run("ethtool", &["-K", link, "tx", "off"])?;
    for (v4, v6) in addresses {
        namespace.run("ip", &["addr", "add", &format!("{v4}/24"), "dev", link])?;
        // Without `nodad` an address is tentative for a second, and binding to it fails.
        namespace.run("ip", &["addr", "add", &format!("{v6}/64"), "dev", link, "nodad"])?;
    }
    namespace.run("ip", &["link", "set", link, "up"]).map(drop)
}

fn hosts_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let file = folder.join("hosts");
    let text =
        format!("127.0.0.1 localhost upstream.test\n{CLIENT} ca.test ask.test\n{EDGE_A} {EDGE_NAME}\n");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn remove_unused(name: &str) -> anyhow::Result<()> {
    if !Path::new("/run/netns").join(name).exists() {
        return Ok(());
    }
    let pids = namespace::run(Command::new("ip").args(["netns", "pids", name]))?;
    ensure!(
        pids.trim().is_empty(),
        "the namespace {name} is in use: is another `cargo xtask run` up? (processes {})",
        pids.split_whitespace().collect::<Vec<_>>().join(", ")
    );
    namespace::run(Command::new("ip").args(["netns", "del", name])).map(drop)
}

/// The address of a fleet's machine `number`, from 1 on.
#[must_use]
pub fn fleet_machine(number: u8) -> Ipv4Addr {
    let [a, b, c, _] = FLEET_GATEWAY.octets();
    Ipv4Addr::new(a, b, c, number)
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The edge's end of the veth.
pub const EDGE_LINK: &str = "gh-edge";
/// The client's end of the veth.
pub const CLIENT_LINK: &str = "gh-client";
/// The bridge of [`Network::of_machines`].
const BRIDGE: &str = "gh-bridge";
/// The bridge of [`Network::of_fleet`].
const FLEET_BRIDGE: &str = "gh-fleet";
const FLEET_BRIDGE_ADDRESS: &str = "02:00:00:00:00:fe";
/// The edge's address on it.
const FLEET_GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// Where the host of virtual machines has what they all use: table, upstream.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
/// The same over IPv6.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200);
/// Where instance A listens.
pub const EDGE_A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The name of instance A in both namespaces, for clients that cannot be told an address.
pub const EDGE_NAME: &str = "edge.test";
/// Where instance B listens.
pub const EDGE_B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Where clients come from.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// Another address of the client's side, for what must not share a budget with clients.
pub const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);
/// The first of the addresses that [`Network::further_clients`] adds.
const FIRST_FURTHER: u8 = 110;
/// Instance A over IPv6.
pub const EDGE_A_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Instance B over IPv6.
pub const EDGE_B_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// Clients over IPv6.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
/// The stranger over IPv6.
pub const STRANGER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x101);
/// Loopback.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
