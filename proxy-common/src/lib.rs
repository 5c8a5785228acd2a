//! What the kernel program and user space share: the walk from a packet to a server name, the keyed hash under which
//! names are compared, and the layout of every map.
//! Not here: what a verdict leads to (`proxy-ebpf` acts, `gatehouse::guard` decides policy).
#![no_std]

pub mod budget;
pub mod client_hello;
pub mod decide;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod flow;
pub mod maps;
#[cfg(any(test, feature = "fixture", feature = "user"))]
pub mod model;
pub mod name_hash;
pub mod reset;
mod seal;
pub mod segment;
mod siphash;
pub mod source;
