//! A whole edge on one machine.

pub mod bench;
