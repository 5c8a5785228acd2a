//! An answer's body as hyper takes it: its end is the end of its request, and what it gives is held to a pace.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::{
    forward,
    worker::{activity::InProgress, streams::Outlet},
};

/// A body in progress. In HTTP/2 it is given piece by piece, so that what its client takes can be seen.
pub(super) struct Tracked {
    body: forward::Body,
    rest: Bytes,
    outlet: Option<Rc<Outlet>>,
    in_progress: InProgress,
}

impl Tracked {
    /// Made within the task that sends it.
    pub(super) fn new(body: forward::Body, in_progress: InProgress) -> Self {
        Self { body, rest: Bytes::new(), outlet: Outlet::current(), in_progress }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.rest))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
        // Trailers are discarded before (RFC 9110 §6.5.1).
        Poll::Ready(frame.map(|frame| Ok(frame.into_data().unwrap_or_default())))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.in_progress.is_cut() || self.outlet.as_ref().is_some_and(|outlet| outlet.is_lost()) {
            self.body.not_taken();
        }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(outlet) = &self.outlet {
            outlet.taken();
        }
        let Some(mut bytes) = ready!(self.poll_next(cx)).transpose()? else { return Poll::Ready(None) };
        if let Some(outlet) = self.outlet.clone() {
            if bytes.len() > outlet.piece() {
                self.rest = bytes.split_off(outlet.piece());
            }
            outlet.gave(bytes.len());
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}
