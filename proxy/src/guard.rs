//! The guard's user space: load, attach, pin and replace the program; keep its names in step; read its counters.
//! Not here: verdicts (`proxy_common`), which names are allowed (`domains`).
//! Invariants: fails open: whatever dies here, enforcement ends within seconds; one link per interface, replaced and never flapped.

pub mod pulse;
