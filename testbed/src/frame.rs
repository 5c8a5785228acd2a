//! Ethernet frames by hand, for what no socket of this kernel sends: VLAN tags.
#![expect(unsafe_code, reason = "nix makes a packet socket's address from a raw one only")]

use std::{
    fs::{self, File},
    io::Write,
    mem::size_of,
    net::Ipv4Addr,
    os::fd::AsRawFd,
};

use anyhow::Context;
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, SockaddrLike, bind, socket},
};

use crate::namespace::Namespace;

/// A TCP segment with a payload, in IPv4, below any number of 802.1Q tags.
#[derive(Debug, Clone)]
pub struct Segment {
    /// VLAN identifiers, outermost first.
    pub tags: Vec<u16>,
    /// From.
    pub source: (Ipv4Addr, u16),
    /// To.
    pub destination: (Ipv4Addr, u16),
    /// TCP payload.
    pub payload: Vec<u8>,
}

/// Sends `segment` from `link` of `namespace` to the interface with the address `to`.
pub fn send(namespace: &Namespace, link: &str, to: [u8; 6], segment: &Segment) -> anyhow::Result<()> {
    let (link, segment) = (link.to_owned(), segment.clone());
    namespace.await_inside(move || {
        let from = hardware_address_here(&link)?;
        let mut socket = packet_socket(&link)?;
        socket.write_all(&segment.frame(from, to)).context("the frame was not taken")
    })?
}

/// The hardware address of `link` of `namespace`.
pub fn hardware_address(namespace: &Namespace, link: &str) -> anyhow::Result<[u8; 6]> {
    let link = link.to_owned();
    namespace.inside(move || hardware_address_here(&link))?
}

impl Segment {
    fn frame(&self, from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
        let mut frame = [to, from].concat();
        for tag in &self.tags {
            frame.extend_from_slice(&VLAN.to_be_bytes());
            frame.extend_from_slice(&tag.to_be_bytes());
        }
        frame.extend_from_slice(&IPV4.to_be_bytes());
        frame.extend_from_slice(&self.packet());
        frame
    }

    /// RFC 791 §3.1 and RFC 9293 §3.1, checksums left out: the guard looks at none.
    fn packet(&self) -> Vec<u8> {
        let length = u16::try_from(40 + self.payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, 6, 0, 0];
        packet.extend_from_slice(&self.source.0.octets());
        packet.extend_from_slice(&self.destination.0.octets());
        packet.extend_from_slice(&self.source.1.to_be_bytes());
        packet.extend_from_slice(&self.destination.1.to_be_bytes());
        // Sequence and acknowledgement 1, five words of header, PSH and ACK.
        packet.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(&self.payload);
        packet
    }
}

fn hardware_address_here(link: &str) -> anyhow::Result<[u8; 6]> {
    let text = fs::read_to_string(format!("/sys/class/net/{link}/address"))?;
    let bytes =
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>()?;
    <[u8; 6]>::try_from(bytes).ok().with_context(|| format!("`{text}` is no hardware address"))
}

fn packet_socket(link: &str) -> anyhow::Result<File> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    let index = i32::try_from(if_nametoindex(link)?)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: `address` is an initialised `sockaddr_ll` whose family says so, and `length` is its size.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) };
    let address = address.context("no packet address")?;
    bind(socket.as_raw_fd(), &address)?;
    Ok(File::from(socket))
}

const VLAN: u16 = 0x8100;
const IPV4: u16 = 0x0800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_stand_between_addresses_and_packet() {
        let end = |port| (Ipv4Addr::LOCALHOST, port);
        let segment =
            Segment { tags: vec![7, 8], source: end(1), destination: end(443), payload: vec![22, 3, 1] };
        let frame = segment.frame([1; 6], [2; 6]);
        assert_eq!(frame[..12], [[2; 6], [1; 6]].concat());
        assert_eq!(frame[12..22], [0x81, 0, 0, 7, 0x81, 0, 0, 8, 8, 0]);
        assert_eq!(frame.len(), 22 + 20 + 20 + 3);
    }
}
