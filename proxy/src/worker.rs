//! One core: accept, TLS, forward; and how all cores start, drain and end together.
//! Not here: what a request becomes (`forward`), which sockets there are (`main` makes them).
//! Invariants: a worker that is lost ends the process; draining accepts until it is quiet.

use tokio::sync::watch;

/// Whether this instance serves; `/health` and every worker follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet: health says 503.
    Starting,
    /// Serving: health says 200.
    Serving,
    /// Running, and unable to serve names it does not know: health says 503.
    Unable,
    /// Told to end: health says 503, requests in flight finish.
    Draining,
}

/// The phase as workers watch it.
pub type PhaseWatch = watch::Receiver<Phase>;
