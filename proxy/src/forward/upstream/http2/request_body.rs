//! A request's body as hyper takes it.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::send_tasks::SendTasks;
use crate::forward::upload::{Upload, UploadEnd};

/// A body on its way. hyper has it while the request is sent, which may end after the response has.
pub(in crate::forward::upstream) struct RequestInTransit {
    upload: Rc<RefCell<Upload>>,
    /// Until it is asked for the first time.
    begins: Option<SendTasks>,
}

impl RequestInTransit {
    /// One that is sent by one of `tasks`.
    pub(super) fn new(upload: Rc<RefCell<Upload>>, tasks: SendTasks) -> Self {
        Self { upload, begins: Some(tasks) }
    }
}

impl Body for RequestInTransit {
    type Data = Bytes;
    type Error = UploadEnd;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadEnd>>> {
        if let Some(tasks) = self.begins.take() {
            tasks.begin(Rc::clone(&self.upload));
        }
        let mut upload = self.upload.borrow_mut();
        Poll::Ready(match ready!(upload.poll_next(cx)) {
            Some(data) => Some(data.map(Frame::data)),
            None => upload.take_trailers().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.upload.borrow().is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.upload.borrow().left().map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
