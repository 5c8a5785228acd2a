//! Handshakes by rustls, of either side: without I/O, and over a transport stream. The records behind them are ours.

use std::{future::poll_fn, io, ops::Deref, time::Duration};

use rustls::{
    Error, ExtractedSecrets, HandshakeKind,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus},
};

use super::{
    lingering_close::lingering_close,
    record_layer::{KeySchedule, Received, RecordLayer},
    stream::{Agreed, TlsStream},
};
use crate::transport::{Chunk, Stream};

/// What rustls keeps of a connection whose records are ours.
type Extracted = (ExtractedSecrets, Box<dyn KeySchedule>);

/// A side of a handshake.
pub(super) trait Side: Deref<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;
    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn finish(self) -> Result<Extracted, Error>;
}

/// A handshake in progress, without its stream.
pub(super) struct Handshake<C> {
    side: C,
    /// Of the peer, and not used by rustls yet.
    received: Vec<u8>,
    /// To be sent together.
    flight: Vec<u8>,
    /// What the peer has sent behind its handshake.
    plaintext: Vec<u8>,
    has_ended: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Another step.
    Continue,
    /// More of the peer.
    Receive,
    /// The flight is complete.
    Send,
    /// Nothing: it is over.
    Finish,
}

/// Completes the handshake of `side` within `limit` for all its messages together, so that a peer that trickles gains nothing; of the peer,
/// `received` has come before. A peer that breaks the protocol gets an alert before the error is returned.
pub(super) async fn shake<S: Stream, C: Side>(
    mut stream: S,
    side: C,
    received: Vec<u8>,
    limit: Duration,
) -> io::Result<TlsStream<S>> {
    let mut handshake = Handshake::new(side, received);
    let shaken = tokio::time::timeout(limit, exchange_flights(&mut stream, &mut handshake)).await;
    let agreed = match shaken {
        Ok(Ok(())) => handshake.finish(),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    if agreed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
        lingering_close(&mut stream).await;
    }
    agreed.map(|agreed| TlsStream::new(stream, agreed))
}

async fn exchange_flights<S: Stream, C: Side>(
    stream: &mut S,
    handshake: &mut Handshake<C>,
) -> io::Result<()> {
    loop {
        match handshake.step() {
            Ok(Step::Continue) => {}
            Ok(Step::Receive) => {
                let chunk = poll_fn(|cx| stream.poll_recv(cx)).await?;
                handshake.receive(&chunk)?;
            }
            Ok(Step::Send) => {
                send(stream, &handshake.take_flight());
                poll_fn(|cx| stream.poll_flush(cx)).await?;
            }
            Ok(Step::Finish) => return Ok(()),
            Err(error) => {
                send(stream, &handshake.take_alert());
                return Err(invalid(error));
            }
        }
    }
}

fn send<S: Stream>(stream: &mut S, flight: &[u8]) {
    for piece in flight.chunks(Chunk::SIZE) {
        stream.send(Chunk::copy_of(piece));
    }
}

impl<C: Side> Handshake<C> {
    /// Of the peer, `received` has come already.
    pub(super) fn new(side: C, received: Vec<u8>) -> Self {
        Self { side, received, flight: Vec::new(), plaintext: Vec::new(), has_ended: false }
    }

    pub(super) fn step(&mut self) -> Result<Step, Error> {
        let Self { side, received, flight, plaintext, has_ended } = self;
        // All of it each time: rustls keeps places in it of messages that it has still to look at.
        let UnbufferedStatus { discard, state, .. } = side.process(received);
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, flight).map(|()| Step::Continue),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Step::Send)
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    plaintext.extend_from_slice(record.payload);
                }
                Ok(Step::Continue)
            }
            Ok(ConnectionState::PeerClosed) => {
                *has_ended = true;
                Ok(Step::Continue)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Receive),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Finish),
            // Neither side has ended its direction, and no early data is asked for.
            Ok(_) => Err(Error::General("the handshake ended before it was complete".to_owned())),
            Err(error) => Err(error),
        };
        received.drain(..discard.min(received.len()));
        step
    }

    /// Takes over what has come of the peer; nothing is its end.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() || self.has_ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.received.len() > MAX_RECEIVED {
            return Err(invalid(Error::General("the peer's handshake is too large".to_owned())));
        }
        self.received.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn take_flight(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.flight)
    }

    /// The alert that rustls chose behind an error, and what was to be sent before.
    fn take_alert(&mut self) -> Vec<u8> {
        // What it would have said comes before anything that the peer may have sent as well.
        while let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(data)), .. } =
            self.side.process(&mut self.received)
        {
            if encode(data, &mut self.flight).is_err() {
                break;
            }
        }
        self.take_flight()
    }

    /// What it came to, behind [`Step::Finish`].
    pub(super) fn finish(self) -> io::Result<Agreed> {
        let protocol = self.side.alpn_protocol().unwrap_or_default().to_vec();
        let suite =
            self.side.negotiated_cipher_suite().ok_or_else(|| invalid(Error::HandshakeNotComplete))?;
        let is_resumed = self.side.handshake_kind() == Some(HandshakeKind::Resumed);
        let (secrets, schedule) = self.side.finish().map_err(invalid)?;
        let received =
            Received { plaintext: &self.plaintext, ciphertext: &self.received, has_ended: self.has_ended };
        let records = RecordLayer::new(suite, secrets, schedule, &received)?;
        Ok(Agreed { records, protocol, version: suite.version().version, is_resumed })
    }
}

/// Appends a record of rustls's to `flight`.
fn encode<Data>(mut record: EncodeTlsData<'_, Data>, flight: &mut Vec<u8>) -> Result<(), Error> {
    let begin = flight.len();
    if let Err(EncodeError::InsufficientSize(insufficient)) = record.encode(&mut []) {
        flight.resize(begin + insufficient.required_size, 0);
    }
    let place = flight.get_mut(begin..).unwrap_or_default();
    record.encode(place).map(drop).map_err(|error| Error::General(error.to_string()))
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
    fn finish(self) -> Result<Extracted, Error> {
        self.dangerous_into_kernel_connection().map(boxed)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }
    fn finish(self) -> Result<Extracted, Error> {
        self.dangerous_into_kernel_connection().map(boxed)
    }
}

fn boxed((secrets, schedule): (ExtractedSecrets, impl KeySchedule + 'static)) -> Extracted {
    (secrets, Box::new(schedule))
}

/// Bytes of the peer's that rustls has not used: as large as it lets a message of a handshake be, and the record that completes it.
const MAX_RECEIVED: usize = 64 * 1024 + Chunk::SIZE;
