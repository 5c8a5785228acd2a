//! The guard in the kernel: reads a packet, has `proxy_common::decide` judge it, counts it once and acts.
//! Not here: any policy; it is in the maps, and its order is in `proxy_common`.
//! Invariants: every packet is counted under exactly one verdict and what passes is not touched
//! (`every_frame_meets_its_verdict_and_every_verdict_is_met`); what is not configured passes
//! (`without_settings_everything_passes`).
#![no_std]
#![no_main]
#![expect(missing_docs, unreachable_pub, reason = "the entry point is what the macro makes of it")]
#![feature(asm_experimental_arch)]

mod bpf_loop;
mod packet;
mod reject;
mod tables;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use proxy_common::decide::{Decision, judge, screen};
use proxy_common::maps::Verdict;

use crate::packet::Packet;
use crate::tables::{KernelMaps, Room};

/// Judges a packet.
#[xdp(frags)]
pub fn guard(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let candidate = match screen(&packet, &KernelMaps { packet: &packet }) {
        Ok(candidate) => candidate,
        Err(verdict) => return settle(verdict, packet.bytes()),
    };
    let Some(room) = tables::room() else { return pass(Verdict::PassUnparsed, packet.bytes()) };
    room.candidate = candidate;
    match judge_payload(&packet, room) {
        XDP_PASS => XDP_PASS,
        _ => reject::reject(&packet, room),
    }
}

/// Judges the payload of the candidate in `room`; anything but `XDP_PASS` is for what is `rejected` there.
///
/// Never inlined: so the verifier knows nothing of how the candidate was found, and follows what comes after it once, not
/// once for each way that headers can be laid out.
#[inline(never)]
fn judge_payload(packet: &Packet, room: &mut Room) -> u32 {
    let Room { candidate, scratch, rejected, .. } = room;
    match judge(packet, candidate, &KernelMaps { packet }, scratch) {
        Decision::Pass(verdict) => pass(verdict, packet.bytes()),
        Decision::Drop(verdict) => settle(verdict, packet.bytes()),
        Decision::Reject(cause, server) => {
            *rejected = (cause, server);
            XDP_DROP
        }
    }
}

/// Counts what its headers alone have decided.
#[inline]
fn settle(verdict: Verdict, bytes: u32) -> u32 {
    tables::count(verdict, bytes);
    if verdict.drops() { XDP_DROP } else { XDP_PASS }
}

#[inline]
fn pass(verdict: Verdict, bytes: u32) -> u32 {
    tables::count(verdict, bytes);
    XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could loop here.
    loop {}
}
