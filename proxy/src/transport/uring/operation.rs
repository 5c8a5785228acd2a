//! The operations a stream gives to the ring: a poll, and a send of one batch.

use std::{io, os::fd::AsRawFd, ptr, rc::Rc};

use io_uring::{cqueue, opcode, types};
use socket2::Socket;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use crate::transport::queue::{BATCH, Batch};

/// A poll in flight; it ends when there is something to read, or the end.
pub(super) type AwaitingReadable = InFlightOneshot<Rc<Socket>, Readable>;

/// A send in flight; it ends with what the kernel took, and the batch.
pub(super) type Sending = InFlightOneshot<Lent, Sent>;

pub(super) fn await_readable(socket: &Rc<Socket>) -> AwaitingReadable {
    let poll = opcode::PollAdd::new(types::Fd(socket.as_raw_fd()), READABLE).build();
    UnsubmittedOneshot::new(Rc::clone(socket), Readable, poll).submit()
}

pub(super) fn send(socket: &Rc<Socket>, batch: Batch) -> Sending {
    let descriptor = types::Fd(socket.as_raw_fd());
    let message = if batch.is_single() { None } else { Some(SendMessage::of(&batch)) };
    let entry = match &message {
        None => {
            let length = u32::try_from(batch.first.len()).unwrap_or(u32::MAX);
            opcode::Send::new(descriptor, batch.first.as_ptr(), length).flags(FLAGS).build()
        }
        Some(message) => {
            opcode::SendMsg::new(descriptor, &raw const message.header).flags(FLAGS.cast_unsigned()).build()
        }
    };
    let lent = Lent { _socket: Rc::clone(socket), batch, _message: message };
    UnsubmittedOneshot::new(lent, Sent, entry).submit()
}

/// How a poll ends. The socket it holds stays open until then.
pub(super) struct Readable;

impl OneshotOutputTransform for Readable {
    type Output = io::Result<()>;
    type StoredData = Rc<Socket>;

    fn transform_oneshot_output(self, _: Rc<Socket>, completion: cqueue::Entry) -> io::Result<()> {
        result(&completion).map(drop)
    }
}

/// What the kernel reads while a send is in flight.
pub(super) struct Lent {
    _socket: Rc<Socket>,
    batch: Batch,
    _message: Option<Box<SendMessage>>,
}

/// How a send ends.
pub(super) struct Sent;

impl OneshotOutputTransform for Sent {
    type Output = (io::Result<usize>, Batch);
    type StoredData = Lent;

    fn transform_oneshot_output(self, lent: Lent, completion: cqueue::Entry) -> Self::Output {
        (result(&completion), lent.batch)
    }
}

/// Where the chunks of a batch lie. Boxed: the header points at the slices, and the kernel at the header.
struct SendMessage {
    slices: [libc::iovec; BATCH],
    header: libc::msghdr,
}

impl SendMessage {
    #[expect(unsafe_code, reason = "libc offers no other way to make a `msghdr`, which has private padding")]
    fn of(batch: &Batch) -> Box<Self> {
        // SAFETY: of a `msghdr`, all zeroes is the value without name, buffers and control data.
        let header = unsafe { std::mem::zeroed() };
        let nothing = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut message = Box::new(Self { slices: [nothing; BATCH], header });
        let mut count = 0;
        for (slice, chunk) in message.slices.iter_mut().zip(batch.chunks()) {
            *slice = libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() };
            count += 1;
        }
        message.header.msg_iov = message.slices.as_mut_ptr();
        message.header.msg_iovlen = count;
        message
    }
}

fn result(completion: &cqueue::Entry) -> io::Result<usize> {
    let result = completion.result();
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
/// The kernel goes on by itself until all was taken (`io_uring_enter(2)`, since Linux 5.19); a broken pipe is an error.
const FLAGS: libc::c_int = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
