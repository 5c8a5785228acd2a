//! What Gatehouse says about itself: metrics, the access log, tracing.
//! Not here: what is counted (each room declares its own metrics), serving them (`control`).

pub mod access_log;
pub mod metrics;
