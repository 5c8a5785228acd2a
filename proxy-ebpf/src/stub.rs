//! Passes every packet. A veth end needs some program before its peer's `XDP_TX` reaches it, and the benchmark needs the
//! time of a program that does nothing.
#![no_std]
#![no_main]
#![expect(missing_docs, unreachable_pub, reason = "the entry point is what the macro makes of it")]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Passes a packet.
#[xdp(frags)]
pub fn stub(_: XdpContext) -> u32 {
    XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
