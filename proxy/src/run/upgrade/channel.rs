//! The socket between both: datagrams in order, with an end (`SOCK_SEQPACKET`, unix(7)); one may carry a descriptor.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use serde::{Serialize, de::DeserializeOwned};
use socket2::{Domain, Socket, Type};
use tokio::{io::Interest, net::UnixStream};

use super::message::LONGEST;
use crate::run::{datagram, inherited};

/// Two ends.
pub(super) fn pair() -> io::Result<(Socket, Socket)> {
    Socket::pair(Domain::UNIX, Type::SEQPACKET, None)
}

/// One end, on the control runtime. tokio has no type for such sockets: of its stream's only the readiness is used.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl Channel {
    /// Call it on the control runtime.
    pub(super) fn over(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        UnixStream::from_std(std::os::unix::net::UnixStream::from(OwnedFd::from(socket))).map(Self)
    }

    /// # Errors
    /// `BrokenPipe`, or `ConnectionReset`: the other process has ended.
    pub(super) async fn send(
        &self,
        message: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        self.0.async_io(Interest::WRITABLE, || datagram::send(&self.0, &text, descriptor)).await
    }

    /// The next message; none, when the other process has ended.
    ///
    /// # Cancel safety
    /// Safe: no message is taken unless it is returned.
    pub(super) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let received = self.0.async_io(Interest::READABLE, || receive(&self.0)).await;
        // ECONNRESET: it has ended without having read all that it was sent.
        match received {
            Ok(received) => received.map(|(message, _)| message).map(Ok).transpose(),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A message and the descriptor that came with it; none, at the end.
pub(super) fn receive<T: DeserializeOwned>(
    socket: &impl AsRawFd,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let (mut bytes, mut space) = ([0; LONGEST], cmsg_space!([RawFd; 1]));
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            descriptors.extend(numbers.into_iter().filter_map(inherited::claim));
        }
    }
    let count = message.bytes;
    match bytes.get(..count) {
        None | Some([]) => Ok(None),
        Some(text) => Ok(Some((serde_json::from_slice(text)?, descriptors.pop()))),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd as _};

    use super::{super::message::FromPredecessor, *};

    #[tokio::test]
    async fn a_socket_arrives_with_its_message_and_an_end_is_told_from_silence() {
        let (ours, theirs) = pair().unwrap();
        let ours = Channel::over(ours).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let message = FromPredecessor::Socket { name: "http.a".into() };
        ours.send(&message, Some(listener.as_fd())).await.unwrap();
        ours.send(&FromPredecessor::EndOfSockets, None).await.unwrap();
        let (first, socket) = receive::<FromPredecessor>(&theirs).unwrap().unwrap();
        assert_eq!(first, message);
        let same = TcpListener::from(socket.unwrap());
        assert_eq!(same.local_addr().unwrap(), listener.local_addr().unwrap());
        let (second, none) = receive::<FromPredecessor>(&theirs).unwrap().unwrap();
        assert_eq!((second, none.is_none()), (FromPredecessor::EndOfSockets, true));
        drop(theirs);
        assert_eq!(ours.receive::<FromPredecessor>().await.unwrap(), None);
        let error = ours.send(&FromPredecessor::TakeOver, None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
