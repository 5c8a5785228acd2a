//! A connection's records after its handshake, both ways: what was received becomes plaintext where it lies, what is written becomes
//! records in buffers that are sent as they are. rustls keeps the key schedule.
//! Not here: sockets (`stream`), the handshake (`handshake`), one record (`record`).

use std::{io::IoSlice, mem::MaybeUninit};

use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite,
    client::ClientConnectionData, kernel::KernelConnection, server::ServerConnectionData,
};
use tokio::io::ReadBuf;

use super::{
    alert::{Alert, WARNING},
    record::{ContentType, Opened, Protection, RecordFault, whole},
};
use crate::transport::Chunk;

/// Derives keys, and keeps what the peer says behind the handshake.
pub(super) trait KeySchedule {
    /// The peer's next keys (RFC 8446 §7.2).
    fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
    /// Our next keys.
    fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error>;
    /// A session ticket of a server, without its header (RFC 8446 §4.6.1).
    fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), rustls::Error>;
}

/// Both directions of a connection.
pub(super) struct RecordLayer {
    opening: Protection,
    sealing: Protection,
    schedule: Box<dyn KeySchedule>,
    /// Records that may be sealed with one key.
    limit: u64,
    /// Ciphertext, behind what is left of an opened record.
    received: Option<Chunk>,
    /// The beginning of a record whose rest is waited for, in place of `received`: most are a few bytes, and a peer may never send more.
    beginning: Vec<u8>,
    /// Bytes of an opened record's content, at the beginning of `received`.
    plaintext: usize,
    /// Bytes of the same record behind its content.
    behind: usize,
    /// The beginning of a handshake message whose rest is to come.
    message: Vec<u8>,
    /// Records in a row that held no data.
    dataless: u8,
    has_ended: bool,
    /// What the peer has to be told.
    outgoing: Vec<Chunk>,
    /// Whether the peer has asked for new keys of ours, and nothing was sealed since.
    owes_update: bool,
    /// How often the peer has asked for another handshake.
    renegotiations: u8,
}

impl RecordLayer {
    /// From the end of a handshake on; of the peer, some has been `received` already, no more than a buffer holds.
    pub(super) fn new(
        suite: SupportedCipherSuite,
        secrets: ExtractedSecrets,
        schedule: Box<dyn KeySchedule>,
        received: &Received<'_>,
    ) -> Result<Self, RecordFault> {
        let mut chunk = Chunk::empty();
        let (plaintext, ciphertext) = (chunk.fill(received.plaintext), chunk.fill(received.ciphertext));
        if (plaintext, ciphertext) != (received.plaintext.len(), received.ciphertext.len()) {
            return Err(RecordFault::Overflow);
        }
        let version = suite.version().version;
        let limit = match suite {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        Ok(Self {
            opening: Protection::new(version, secrets.rx)?,
            sealing: Protection::new(version, secrets.tx)?,
            schedule,
            limit,
            received: Some(chunk).filter(|chunk| !chunk.is_empty()),
            beginning: Vec::new(),
            plaintext,
            behind: 0,
            message: Vec::new(),
            dataless: 0,
            has_ended: received.has_ended,
            outgoing: Vec::new(),
            owes_update: false,
            renegotiations: 0,
        })
    }

    /// What of the peer's data is there, into `place`; 0 is its orderly end. `None` asks for more ciphertext.
    pub(super) fn read(&mut self, place: &mut [MaybeUninit<u8>]) -> Result<Option<usize>, RecordFault> {
        loop {
            if self.plaintext > 0 {
                return Ok(Some(self.take(place)));
            }
            if self.has_ended {
                return Ok(Some(0));
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
    }

    /// Whether neither data nor a part of a record is there.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_none() && self.beginning.is_empty() && !self.has_ended
    }

    /// Where the next ciphertext goes: behind the beginning of a record, if there is one.
    pub(super) fn incomplete(&mut self) -> Option<&mut Chunk> {
        if !self.beginning.is_empty() {
            self.received = Some(Chunk::copy_of(&std::mem::take(&mut self.beginning)));
        }
        let chunk = self.received.as_mut()?;
        chunk.compact();
        Some(chunk)
    }

    /// The rest of a record is waited for: a small beginning needs no buffer until it comes.
    pub(super) fn wait(&mut self) {
        if self.received.as_ref().is_some_and(|chunk| chunk.len() <= SMALL) {
            self.beginning = self.received.take().map(|chunk| chunk.to_vec()).unwrap_or_default();
        }
    }

    /// Takes over ciphertext, where there is no beginning of a record.
    pub(super) fn receive(&mut self, chunk: Chunk) {
        self.received = Some(chunk);
    }

    /// What the peer has to be told at once.
    pub(super) fn outgoing(&mut self) -> impl Iterator<Item = Chunk> {
        self.outgoing.drain(..)
    }

    /// A record with some of `slices` behind the first `skipped` bytes, and how many bytes that were. Keys that have sealed as many records as
    /// they may are replaced, and those that the peer asked to have replaced; it is told before.
    pub(super) fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        skipped: usize,
    ) -> Result<(usize, Chunk), RecordFault> {
        if self.owes_update {
            self.update_sealing()?;
        }
        if self.sealing.sequence() >= self.limit {
            if !self.sealing.is_tls13() {
                return Err(RecordFault::KeysUsedUp);
            }
            self.update_sealing()?;
        }
        self.sealing.seal(ContentType::ApplicationData, slices, skipped)
    }

    /// Tells the peer.
    pub(super) fn say(&mut self, alert: Alert) -> Result<(), RecordFault> {
        self.put(ContentType::Alert, &alert.bytes())
    }

    fn put(&mut self, content_type: ContentType, message: &[u8]) -> Result<(), RecordFault> {
        let (_, record) = self.sealing.seal(content_type, &[IoSlice::new(message)], 0)?;
        self.outgoing.push(record);
        Ok(())
    }

    fn take(&mut self, place: &mut [MaybeUninit<u8>]) -> usize {
        let Some(chunk) = &mut self.received else { return 0 };
        let count = self.plaintext.min(place.len());
        ReadBuf::uninit(place).put_slice(chunk.get(..count).unwrap_or_default());
        chunk.advance(count);
        self.plaintext -= count;
        if self.plaintext == 0 {
            self.skip(self.behind);
        }
        count
    }

    fn skip(&mut self, count: usize) {
        self.behind = 0;
        if let Some(chunk) = &mut self.received {
            chunk.advance(count);
        }
        self.received = self.received.take().filter(|chunk| !chunk.is_empty());
    }

    /// Whether there was a further record.
    fn open_next(&mut self) -> Result<bool, RecordFault> {
        let Some(chunk) = &mut self.received else { return Ok(false) };
        let Some(length) = whole(chunk, self.opening.is_tls13())? else { return Ok(false) };
        let Opened { content_type, content } =
            self.opening.open(chunk.get_mut(..length).unwrap_or_default())?;
        if content_type == ContentType::ApplicationData && !content.is_empty() {
            chunk.advance(content.start);
            (self.plaintext, self.behind) = (content.len(), length - content.end);
            self.dataless = 0;
            return self.within_a_message(false).map(|()| true);
        }
        let message = chunk.get(content).unwrap_or_default().to_vec();
        self.skip(length);
        self.dataless += 1;
        if self.dataless > MAX_DATALESS {
            return Err(RecordFault::Dataless);
        }
        self.within_a_message(content_type == ContentType::Handshake)?;
        match content_type {
            ContentType::ApplicationData => {}
            ContentType::Alert => self.alerted(&message)?,
            ContentType::Handshake => self.told(&message)?,
        }
        Ok(true)
    }

    /// RFC 8446 §5.1: no other record stands between the parts of a handshake message.
    fn within_a_message(&self, is_handshake: bool) -> Result<(), RecordFault> {
        if is_handshake || self.message.is_empty() { Ok(()) } else { Err(RecordFault::Unexpected) }
    }

    fn alerted(&mut self, alert: &[u8]) -> Result<(), RecordFault> {
        let [level, description] = alert.try_into().map_err(|_| RecordFault::Malformed)?;
        match description {
            _ if description == Alert::CloseNotify as u8 => self.has_ended = true,
            // RFC 8446 §6.1: close_notify follows.
            USER_CANCELED => {}
            // RFC 8446 §6.2: all others are fatal, whatever their level says.
            _ if level == WARNING && !self.opening.is_tls13() => {}
            _ => return Err(RecordFault::Alerted(description)),
        }
        Ok(())
    }

    /// Handshake messages behind the handshake.
    fn told(&mut self, fragment: &[u8]) -> Result<(), RecordFault> {
        if !self.opening.is_tls13() {
            // RFC 5246 §7.4.1.1, §7.4.1.2: the peer wants another handshake.
            self.renegotiations += 1;
            if self.renegotiations > MAX_RENEGOTIATIONS {
                return Err(RecordFault::Unexpected);
            }
            return self.say(Alert::NoRenegotiation);
        }
        if fragment.is_empty() {
            // RFC 8446 §5.1.
            return Err(RecordFault::Unexpected);
        }
        self.message.extend_from_slice(fragment);
        while let Some((kind, length)) = message_header(&self.message) {
            if length > MAX_MESSAGE {
                return Err(RecordFault::Unexpected);
            }
            let end = MESSAGE_HEADER + length;
            if self.message.len() < end {
                break;
            }
            let mut message = std::mem::take(&mut self.message);
            self.message = message.split_off(end);
            self.keep(kind, message.get(MESSAGE_HEADER..).unwrap_or_default())?;
        }
        Ok(())
    }

    fn keep(&mut self, kind: u8, body: &[u8]) -> Result<(), RecordFault> {
        match (kind, body) {
            // RFC 8446 §5.1: what follows in the same record would be of the old keys.
            (KEY_UPDATE, _) if !self.message.is_empty() => Err(RecordFault::Unexpected),
            (KEY_UPDATE, [request @ 0..=1]) => {
                let keys = self.schedule.next_opening().map_err(|_| RecordFault::Keys)?;
                self.opening = Protection::new(ProtocolVersion::TLSv1_3, keys)?;
                // RFC 8446 §4.6.3: due before our next data. An answer to each, at once, would be held for a peer that does not read.
                self.owes_update |= *request == 1;
                Ok(())
            }
            // RFC 8446 §4.6.3: any other value MUST end the connection by `illegal_parameter`.
            (KEY_UPDATE, [_]) => Err(RecordFault::Illegal),
            (KEY_UPDATE, _) => Err(RecordFault::Malformed),
            (NEW_SESSION_TICKET, ticket) => {
                self.schedule.keep_ticket(ticket).map_err(|_| RecordFault::Unexpected)
            }
            _ => Err(RecordFault::Unexpected),
        }
    }

    /// RFC 8446 §4.6.3.
    fn update_sealing(&mut self) -> Result<(), RecordFault> {
        self.owes_update = false;
        self.put(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0])?;
        self.renew_sealing()
    }

    fn renew_sealing(&mut self) -> Result<(), RecordFault> {
        let keys = self.schedule.next_sealing().map_err(|_| RecordFault::Keys)?;
        self.sealing = Protection::new(ProtocolVersion::TLSv1_3, keys)?;
        Ok(())
    }
}

/// What of the peer came before its records were ours to open.
#[derive(Debug, Default)]
pub(super) struct Received<'a> {
    pub(super) plaintext: &'a [u8],
    pub(super) ciphertext: &'a [u8],
    /// It sends nothing more.
    pub(super) has_ended: bool,
}

/// The type and the length of the message that `bytes` begin with (RFC 8446 §4).
fn message_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let [kind, high, middle, low] = *bytes.first_chunk::<MESSAGE_HEADER>()?;
    Some((kind, usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)))
}

impl<Data> KeySchedule for KernelConnection<Data>
where
    Self: KeepTicket,
{
    fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.update_rx_secret()
    }
    fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), rustls::Error> {
        self.update_tx_secret()
    }
    fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), rustls::Error> {
        self.keep(ticket)
    }
}

/// What a side does with session tickets.
trait KeepTicket {
    fn keep(&mut self, ticket: &[u8]) -> Result<(), rustls::Error>;
}

impl KeepTicket for KernelConnection<ServerConnectionData> {
    fn keep(&mut self, _: &[u8]) -> Result<(), rustls::Error> {
        Err(rustls::Error::General("a client sends no tickets".to_owned()))
    }
}

impl KeepTicket for KernelConnection<ClientConnectionData> {
    fn keep(&mut self, ticket: &[u8]) -> Result<(), rustls::Error> {
        self.handle_new_session_ticket(ticket)
    }
}

/// Bytes of a record's beginning that are kept without a buffer.
const SMALL: usize = 4 * 1024;
/// Records in a row that may hold no data: key updates, warnings, session tickets, empty ones.
const MAX_DATALESS: u8 = 32;
/// Of TLS 1.2: how often a connection may ask for another handshake; each is declined by a record that its peer may never take.
const MAX_RENEGOTIATIONS: u8 = 4;
/// RFC 8446 §4.
const MESSAGE_HEADER: usize = 4;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Bytes of a handshake message behind the handshake: a session ticket is a few hundred.
const MAX_MESSAGE: usize = 16 * 1024;
const USER_CANCELED: u8 = 90;

#[cfg(test)]
mod tests;
