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

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use proxy_common::decide::{Decision, decide};
use proxy_common::maps::Verdict;

use crate::packet::Packet;
use crate::tables::KernelMaps;

/// Judges a packet.
#[xdp(frags)]
pub fn guard(context: XdpContext) -> u32 {
    let packet = Packet::new(&context);
    let Some(scratch) = tables::scratch() else { return XDP_PASS };
    let (verdict, action) = match decide(&packet, &KernelMaps, scratch) {
        Decision::Pass(verdict) => (verdict, XDP_PASS),
        Decision::Reject(cause, segment) => {
            let rejection = reject::reject(&packet, &segment);
            (Verdict::reject(cause, rejection), reject::action(rejection))
        }
    };
    tables::count(verdict, packet.received_bytes());
    action
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program that could loop here.
    loop {}
}
