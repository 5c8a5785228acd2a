//! A request's body as hyper takes it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::forward::upload::{Upload, UploadEnd};

/// A body on its way. hyper has it while the request is sent, which may end after the response has.
pub(in crate::forward::upstream) struct RequestInTransit(Rc<RefCell<Upload>>);

impl RequestInTransit {
    pub(super) fn new(upload: Rc<RefCell<Upload>>) -> Self {
        Self(upload)
    }
}

impl Body for RequestInTransit {
    type Data = Bytes;
    type Error = UploadEnd;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadEnd>>> {
        let mut upload = self.0.borrow_mut();
        Poll::Ready(match ready!(upload.poll_next_until_given_up(cx)) {
            Some(data) => Some(data.map(Frame::data)),
            None => upload.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.borrow().is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().left().map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
