//! What is done to a rejected segment. The server is freed first: while the kernel holds a socket of the flow, the segment
//! becomes a reset and is passed up to it. Seen with other ways: a reset to the client at once leaves requests for seconds
//! and accepted sockets for ever. Only when none is left (the client's retransmission) the client is reset, within a budget.
#![expect(unsafe_code, reason = "kernel helpers take pointers")]

use aya_ebpf::bindings::BPF_F_CURRENT_NETNS;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp};
use proxy_common::decide::ServerSide;
use proxy_common::maps::{Rejection, Verdict};
use proxy_common::reset;
use proxy_common::segment::{Family, Segment};
use proxy_common::source::ByteSource;

use crate::packet::Packet;
use crate::tables::{self, Room};

/// Rejects the candidate in `room` as it was `rejected` there, counts it, and says what the kernel is to do with the packet.
///
/// Never inlined: the packets it builds need most of the stack of 512 bytes.
#[inline(never)]
pub(crate) fn reject(packet: &Packet, room: &mut Room) -> u32 {
    tables::tell(room);
    let ((cause, server), bytes) = (room.rejected, packet.bytes());
    let rejection = act(packet, &room.candidate.segment, server);
    tables::count(Verdict::reject(cause, rejection), bytes);
    match rejection {
        Rejection::ResetServer => XDP_PASS,
        Rejection::ResetClient => XDP_TX,
        Rejection::Drop => XDP_DROP,
    }
}

#[inline]
fn act(packet: &Packet, segment: &Segment, server: ServerSide) -> Rejection {
    if server == ServerSide::Held && reset_server(packet, segment).is_some() {
        return Rejection::ResetServer;
    }
    if tables::take_reset() && reset_client(packet, segment).is_some() {
        return Rejection::ResetClient;
    }
    Rejection::Drop
}

/// Addresses and ports as `struct bpf_sock_tuple` has them: network order, source first.
#[repr(C, align(4))]
struct Tuple<const N: usize> {
    addresses: [u8; N],
    ports: [u8; 4],
}

/// Whether the kernel holds a request or a socket of this flow, not merely one that listens.
///
/// Never inlined, for the room its tuple takes on the stack.
#[inline(never)]
pub(crate) fn has_socket(packet: &Packet, segment: &Segment) -> bool {
    find_socket(packet, segment).unwrap_or(false)
}

#[inline]
fn find_socket(packet: &Packet, segment: &Segment) -> Option<bool> {
    let ports = packet.load_u32(segment.transport_offset)?.to_be_bytes();
    Some(match segment.family {
        Family::Ipv4 => {
            let addresses = packet.load_u64(segment.network_offset + IPV4_ADDRESSES_AT)?.to_be_bytes();
            is_held(packet, &Tuple { addresses, ports })
        }
        Family::Ipv6 => {
            let addresses: [u8; 32] = packet.load(segment.network_offset + IPV6_ADDRESSES_AT)?;
            is_held(packet, &Tuple { addresses, ports })
        }
    })
}

#[inline]
fn is_held<const N: usize>(packet: &Packet, tuple: &Tuple<N>) -> bool {
    let bytes = size_of::<Tuple<N>>() as u32;
    let tuple = core::ptr::from_ref(tuple).cast_mut().cast();
    let here = BPF_F_CURRENT_NETNS as u64;
    // SAFETY: the helper reads `bytes` behind the pointer, which is what a tuple has.
    let socket = unsafe { bpf_skc_lookup_tcp(packet.context().cast(), tuple, bytes, here, 0) };
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and held until it is released below.
    let state = unsafe { (*socket).state };
    // SAFETY: the reference was taken above and is released once.
    unsafe { bpf_sk_release(socket.cast()) };
    state != TCP_LISTEN
}

#[inline]
fn reset_server(packet: &Packet, segment: &Segment) -> Option<()> {
    let reset = reset::in_place(segment);
    packet.store(segment.transport_offset + reset::OFFSET_AND_FLAGS_AT, &reset.offset_and_flags)?;
    packet.store(segment.transport_offset + reset::CHECKSUM_AT, &reset.checksum)
}

#[inline]
fn reset_client(packet: &Packet, segment: &Segment) -> Option<()> {
    let end = match segment.family {
        Family::Ipv4 => answer_ipv4(packet, segment)?,
        Family::Ipv6 => answer_ipv6(packet, segment)?,
    };
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = packet.load(0)?;
    packet.store(0, &[s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5])?;
    // VLAN tags stay where they are, before the network header.
    packet.truncate(end)
}

/// Writes the headers of the answer and says where it ends.
#[inline]
fn answer_ipv4(packet: &Packet, segment: &Segment) -> Option<u32> {
    let start = segment.network_offset;
    let addresses = packet.load(start + IPV4_ADDRESSES_AT)?;
    packet.store(start, &reset::ipv4_header(addresses))?;
    packet.store(start + 20, &reset::tcp_header(segment, &addresses))?;
    Some(start + 40)
}

/// Writes the headers of the answer and says where it ends.
#[inline]
fn answer_ipv6(packet: &Packet, segment: &Segment) -> Option<u32> {
    let start = segment.network_offset;
    let addresses: [u8; 32] = packet.load(start + IPV6_ADDRESSES_AT)?;
    let source: [u8; 16] = packet.load(start + IPV6_ADDRESSES_AT)?;
    let destination: [u8; 16] = packet.load(start + IPV6_ADDRESSES_AT + 16)?;
    packet.store(start, &reset::IPV6_HEADER_START)?;
    packet.store(start + IPV6_ADDRESSES_AT, &destination)?;
    packet.store(start + IPV6_ADDRESSES_AT + 16, &source)?;
    packet.store(start + 40, &reset::tcp_header(segment, &addresses))?;
    Some(start + 60)
}

/// RFC 791 §3.1
const IPV4_ADDRESSES_AT: u32 = 12;
/// RFC 8200 §3
const IPV6_ADDRESSES_AT: u32 = 8;
/// `BPF_TCP_LISTEN`
const TCP_LISTEN: u32 = 10;
