//! Plaintext on one side, records in memory, ciphertext buffers on the other.
//!
//! Reading pulls: ciphertext is received only when no plaintext is left, so a reader that stops also stops the peer.
//! Writing pushes: plaintext is encrypted at once, and refused while the transport holds its limit of unsent ciphertext.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::SocketAddr,
    task::{Context, Poll, ready},
};

use rustls::ProtocolVersion;

use super::{
    alert::Alert,
    record::{MAX_CONTENT, RecordFault},
    record_layer::RecordLayer,
};
use crate::transport::{ByteStream, Outgoing, Stream};

/// Plaintext over TLS over a transport stream, on the server's and the client's side.
pub struct TlsStream<S> {
    stream: S,
    /// Apart, as keys are large and a stream is moved into its task.
    records: Box<RecordLayer>,
    /// Why there is nothing more to read.
    fault: Option<RecordFault>,
    version: ProtocolVersion,
    is_http2: bool,
    is_resumed: bool,
    is_closing: bool,
}

/// What a handshake came to.
pub(super) struct Agreed {
    pub(super) records: RecordLayer,
    /// By ALPN; empty without.
    pub(super) protocol: Vec<u8>,
    pub(super) version: ProtocolVersion,
    pub(super) is_resumed: bool,
}

impl<S: Stream> TlsStream<S> {
    /// Behind a handshake.
    pub(super) fn new(stream: S, agreed: Agreed) -> Self {
        let Agreed { records, protocol, version, is_resumed } = agreed;
        let (records, is_http2) = (Box::new(records), protocol == b"h2");
        Self { stream, records, fault: None, version, is_http2, is_resumed, is_closing: false }
    }

    /// Whether ALPN chose `h2` (RFC 9113 §3.2).
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// See [`Stream::local_address`].
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_address()
    }

    /// The version of TLS, as OpenSSL writes it.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.version {
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "unknown",
        }
    }

    /// Whether the handshake resumed a session (RFC 8446 §2.2, RFC 5077 §3).
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Receives some ciphertext.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let count = if let Some(chunk) = self.records.incomplete() {
            let Poll::Ready(count) = chunk.poll_append(|place| self.stream.poll_recv_into(cx, place)) else {
                self.records.wait();
                return Poll::Pending;
            };
            count?
        } else {
            let chunk = ready!(self.stream.poll_recv(cx))?;
            let count = chunk.len();
            self.records.receive(chunk);
            count
        };
        // RFC 8446 §6.1: an end without close_notify may be an attacker's; the reader gets an error.
        if count == 0 { Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())) } else { Poll::Ready(Ok(())) }
    }

    /// Queues what the peer has to be told, which does not wait for our next write; of a connection's life it is a few records. A peer that
    /// takes nothing more may have said something before: only the writer learns of it.
    fn push_outgoing(&mut self, cx: &mut Context<'_>) {
        let mut is_any = false;
        for chunk in self.records.outgoing() {
            // RFC 8446 §6.1: behind close_notify there is nothing more.
            if !self.is_closing {
                self.stream.send(chunk);
                is_any = true;
            }
        }
        if is_any {
            let _ = self.stream.poll_flush(cx);
        }
    }

    /// The alert for `fault` is sent once; the connection is over either way.
    fn fail(&mut self, cx: &mut Context<'_>, fault: RecordFault) -> io::Error {
        self.fault = Some(fault);
        if let Some(alert) = fault.alert() {
            // Keys that cannot seal it are why.
            let _ = self.records.say(alert);
            self.push_outgoing(cx);
        }
        fault.into()
    }
}

impl<S: Stream> ByteStream for TlsStream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(fault) = self.fault {
                return Poll::Ready(Err(fault.into()));
            }
            let read = self.records.read(place);
            self.push_outgoing(cx);
            match read {
                Ok(Some(count)) => return Poll::Ready(Ok(count)),
                Ok(None) => ready!(self.poll_receive(cx))?,
                Err(fault) => return Poll::Ready(Err(self.fail(cx, fault))),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        // RFC 8446 §6.2: behind a fatal alert of either side there is nothing more.
        if let Some(fault) = self.fault {
            return Poll::Ready(Err(fault.into()));
        }
        ready!(self.stream.poll_send_ready(cx))?;
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = 0;
        // Several records share a send.
        while written < total.min(AT_ONCE) {
            let sealed = self.records.seal(slices, written);
            self.push_outgoing(cx);
            let (count, record) = sealed?;
            self.stream.send(record);
            written += count;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // RFC 8446 §6.2: behind a fatal alert there is nothing more.
        if !self.is_closing && self.fault.and_then(RecordFault::alert).is_none() {
            let _ = self.records.say(Alert::CloseNotify);
            self.push_outgoing(cx);
        }
        self.is_closing = true;
        self.stream.poll_shutdown(cx)
    }

    fn outgoing(&self) -> Outgoing {
        self.stream.outgoing()
    }

    fn is_silent(&mut self) -> bool {
        self.fault.is_none() && self.records.is_empty() && self.stream.is_silent()
    }

    fn reset_on_drop(&self) {
        self.stream.reset_on_drop();
    }
}

/// Bytes of plaintext that are sealed at once.
const AT_ONCE: usize = 4 * MAX_CONTENT;
