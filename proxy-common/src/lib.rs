//! What the kernel program and user space share: the walk from a packet to a server name, the keyed hash under which
//! names are compared, and the layout of every map.
//! Not here: what a verdict leads to (`proxy-ebpf` acts, `gatehouse::guard` decides policy).
#![no_std]

pub mod maps;
pub mod name_hash;
mod siphash;
