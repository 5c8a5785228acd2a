//! Tasks of hyper's, on this worker. Each that sends a request's body ends when nobody wants the rest of it.
//!
//! hyper has no word for that: a body that waits for the window of its stream is not asked again, and its stream, whose response nobody reads
//! any more, would stay open, with what it holds of the connection's window, until the connection ends.
//! Invariant: a stream whose response is dropped is reset (`an_upload_that_nobody_reads_ends_with_its_client`).

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use hyper::rt::Executor;

use crate::forward::upload::Upload;

/// Where tasks of one connection run.
#[derive(Clone, Default)]
pub(in crate::forward::upstream) struct SendTasks {
    /// A body that hyper has just asked for the first time: unless all of it is sent at once, the next task is the one that sends it.
    begun: Rc<RefCell<Option<Rc<RefCell<Upload>>>>>,
    /// Who looks for what the connection may have received.
    watcher: Rc<RefCell<Option<Waker>>>,
}

impl SendTasks {
    pub(super) fn begin(&self, upload: Rc<RefCell<Upload>>) {
        self.begun.replace(Some(upload));
    }

    /// Wakes `watcher` behind the next turn of a task. The one that receives is among them, and hyper tells nobody of SETTINGS.
    pub(super) fn wake_behind_next(&self, watcher: &Waker) {
        self.watcher.replace(Some(watcher.clone()));
    }
}

impl<F: Future + 'static> Executor<F> for SendTasks {
    fn execute(&self, task: F) {
        let (upload, watcher) = (self.begun.take(), Rc::clone(&self.watcher));
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let given_up = upload.as_ref().map(|upload| upload.borrow_mut().poll_given_up(cx));
                if given_up.is_some_and(|given_up| given_up.is_ready()) {
                    return Poll::Ready(());
                }
                let polled = task.as_mut().poll(cx).map(drop);
                if let Some(watcher) = watcher.take() {
                    watcher.wake();
                }
                polled
            })
            .await;
        });
    }
}
