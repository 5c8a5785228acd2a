//! Plaintext on one side, rustls in memory, ciphertext buffers on the other.
//!
//! Reading pulls: ciphertext is received only when no plaintext is left, so a reader that stops also stops the peer.
//! Writing pushes: plaintext is encrypted at once, and refused while the transport holds its limit of unsent ciphertext.

use std::{
    future::poll_fn,
    io::{self, BufRead, IoSlice, Write},
    mem::MaybeUninit,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{Connection, HandshakeKind, ProtocolVersion};
use tokio::io::ReadBuf;

use super::lingering_close::lingering_close;
use crate::transport::{ByteStream, Chunk, Outgoing, Stream};

/// Plaintext over TLS over a transport stream, on the server's and the client's side.
#[derive(Debug)]
pub struct TlsStream<S> {
    stream: S,
    pub(super) tls: Connection,
    undigested: Option<Chunk>,
    closing: bool,
}

impl<S: Stream> TlsStream<S> {
    /// For a connection before its handshake; `undigested` is ciphertext received before.
    pub(super) fn new(stream: S, tls: Connection, undigested: Option<Chunk>) -> Self {
        Self { stream, tls, undigested, closing: false }
    }

    /// Whether ALPN chose `h2` (RFC 9113 §3.2).
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.tls.alpn_protocol() == Some(b"h2")
    }

    /// The version of TLS, as OpenSSL writes it.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self.tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        }
    }

    /// Whether the handshake resumed a session (RFC 8446 §2.2, RFC 5077 §3).
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Completes the handshake within `limit` for all its messages together, so that a peer that trickles gains nothing. A peer
    /// that breaks the protocol gets an alert before the error is returned.
    pub(super) async fn handshake(&mut self, limit: Duration) -> io::Result<()> {
        let shaken = tokio::time::timeout(limit, self.exchange_flights()).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if shaken.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            lingering_close(&mut self.stream).await;
        }
        shaken
    }

    async fn exchange_flights(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            poll_fn(|cx| self.poll_flight(cx)).await?;
        }
        // What remains to be sent: Finished, tickets.
        self.encrypted_to_queue()?;
        poll_fn(|cx| self.stream.poll_flush(cx)).await
    }

    fn poll_flight(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.encrypted_to_queue()?;
        ready!(self.stream.poll_flush(cx))?;
        if self.tls.is_handshaking() {
            ready!(self.poll_receive(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Receives some ciphertext and passes it to rustls.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = match self.undigested.take() {
            Some(chunk) => chunk,
            None => ready!(self.stream.poll_recv(cx))?,
        };
        if chunk.is_empty() && self.tls.is_handshaking() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let digested = self.digest(&mut chunk);
        self.undigested = Some(chunk).filter(|chunk| !chunk.is_empty());
        if let Err(error) = digested {
            self.send_alert(cx);
            return Poll::Ready(Err(error));
        }
        // Key updates (RFC 8446 §4.6.3) are answered without waiting for our next write. A peer that takes nothing more may
        // have said something before: only the writer learns of it.
        self.encrypted_to_queue()?;
        let _ = self.stream.poll_flush(cx);
        Poll::Ready(Ok(()))
    }

    /// Has rustls read `chunk` until it has made plaintext of some of it, or the chunk is used up: it reads a few KiB at a
    /// time. An empty chunk is the end of the stream.
    fn digest(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        loop {
            let count = self.tls.read_tls(&mut &**chunk)?;
            chunk.advance(count);
            let state = self.tls.process_new_packets();
            let state = state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if chunk.is_empty() || count == 0 || state.plaintext_bytes_to_read() > 0 {
                return Ok(());
            }
        }
    }

    /// The alert that rustls chose is sent once; the connection is over either way.
    fn send_alert(&mut self, cx: &mut Context<'_>) {
        if self.encrypted_to_queue().is_ok() {
            let _ = self.stream.poll_flush(cx);
        }
    }

    fn encrypted_to_queue(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut TransportWriter(&mut self.stream))?;
        }
        Ok(())
    }

    /// Plaintext that is there already, into `place`; `None` asks for more ciphertext.
    fn read_plaintext(&mut self, place: &mut [MaybeUninit<u8>]) -> Option<io::Result<usize>> {
        let mut reader = self.tls.reader();
        let plaintext = match reader.fill_buf() {
            Ok(plaintext) => plaintext,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // RFC 8446 §6.1: an end without close_notify may be an attacker's; the reader gets an error.
            Err(error) => return Some(Err(error)),
        };
        let fitting = plaintext.split_at_checked(place.len()).map_or(plaintext, |(fitting, _)| fitting);
        ReadBuf::uninit(place).put_slice(fitting);
        let count = fitting.len();
        reader.consume(count);
        Some(Ok(count))
    }
}

impl<S: Stream> ByteStream for TlsStream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(read) = self.read_plaintext(place) {
                return Poll::Ready(read);
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_send_ready(cx))?;
        let count = self.tls.writer().write_vectored(slices)?;
        self.encrypted_to_queue()?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            self.closing = true;
            self.tls.send_close_notify();
            self.encrypted_to_queue()?;
        }
        self.stream.poll_shutdown(cx)
    }

    fn outgoing(&self) -> Outgoing {
        self.stream.outgoing()
    }

    fn is_silent(&mut self) -> bool {
        let waiting =
            self.tls.reader().fill_buf().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        waiting && self.undigested.is_none() && self.stream.is_silent()
    }
}

/// A stream as rustls writes to it.
struct TransportWriter<'a, S>(&'a mut S);

impl<S: Stream> Write for TransportWriter<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.0.write(&[IoSlice::new(bytes)]))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(self.0.write(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
