//! A response's body as it is sent: its end is the end of its request, and its data counts as held until it is sent.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Frame, SizeHint};

use crate::{
    forward,
    worker::{
        activity::InProgress,
        http::client_resets::Unanswered,
        response_buffer::{Piece, StreamBuffer},
    },
};

/// A body in progress.
pub(super) struct Tracked {
    body: forward::Body,
    buffer: Rc<StreamBuffer>,
    in_progress: InProgress,
    /// In HTTP/2, where a client can give up one request and go on with others.
    unanswered: Option<Unanswered>,
}

impl Tracked {
    pub(super) fn new(
        body: forward::Body,
        buffer: Rc<StreamBuffer>,
        in_progress: InProgress,
        unanswered: Option<Unanswered>,
    ) -> Self {
        Self { body, buffer, in_progress, unanswered }
    }

    /// Whatever becomes of the stream now is not its client's doing.
    fn end(&mut self) {
        if let Some(unanswered) = self.unanswered.take() {
            unanswered.end();
        }
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.in_progress.is_cut() || self.buffer.is_cut() {
            self.body.not_taken();
            self.end();
        }
        if self.body.is_end_stream() {
            self.end();
        }
    }
}

impl Body for Tracked {
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, io::Error>>> {
        if self.body.is_end_stream() {
            ready!(self.buffer.poll_finish(cx));
            return Poll::Ready(None);
        }
        let piece = ready!(self.buffer.poll_piece(cx));
        self.body.request(piece);
        let frame =
            ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose().inspect_err(|_| self.end())?;
        Poll::Ready(frame.map(|frame| Ok(frame.map_data(|bytes| self.buffer.hold(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.buffer.may_finish()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
