//! From the bytes of a connection to the server name its ClientHello asks for, as a machine that stops where the bytes
//! stop and goes on where more are: a hello may be cut into segments and TLS records at any byte.
//! Not here: whether the name is allowed (`decide`), handshakes (`gatehouse::tls`).
//! Invariants: never panics (`any_bytes_are_walked_without_a_panic`); answers the same however the input is cut
//! (`the_answer_does_not_depend_on_the_cut`); a name it says is the name rustls says, or rustls refuses the hello
//! (`a_mutated_hello_has_the_name_rustls_sees_or_is_refused`).

mod sealed;

use core::ops::ControlFlow::{self, Break, Continue};

use crate::name_hash::{MAX_NAME_BYTES, NameBuffer};
use crate::source::ByteSource;

/// What is known after a piece of input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum HelloProgress {
    /// Nothing yet: feed what follows.
    #[default]
    Incomplete,
    /// It does not start with a ClientHello.
    NotHello,
    /// A ClientHello without `server_name`.
    NoName,
    /// It contradicts itself, or its name is none.
    Malformed,
    /// It has more records or extensions than are walked, or is longer than any hello.
    TooLong,
    /// The name is in the buffer, [`ParserState::name_bytes`] long. What follows it in the hello has not been looked at.
    Name,
}

/// Where the walk stands. The default is before the first byte.
///
/// Small, without pointers and with a fixed layout, so that a map can hold it between the segments of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ParserState {
    /// The part read so far of the field that `phase` waits for.
    field: u64,
    /// The part read so far of a record's header.
    record_header: u64,
    /// Position in the piece that is being fed.
    at: u32,
    /// What is waited for.
    phase: HelloField,
    /// Bytes of `field` that have been read.
    field_read: u32,
    /// Bytes of `record_header` that have been read.
    record_header_read: u32,
    /// Bytes of the handshake message to pass over before the field.
    skip: u32,
    /// Bytes left in the current record.
    record_left: u32,
    /// Bytes of the message that neither `skip` nor the field waited for has claimed.
    message_left: u32,
    /// Length of the name, once known.
    name_bytes: u32,
    /// Bytes of the name in the buffer.
    name_read: u32,
    /// Length of the `server_name` extension, once known.
    name_extension_bytes: u32,
    /// Records begun.
    records: u16,
    /// Extensions seen.
    extensions: u16,
    /// What is known.
    progress: HelloProgress,
}

const _: () = assert!(size_of::<ParserState>() == 64);

/// The field that is read next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
enum HelloField {
    /// Type and length of the handshake message.
    #[default]
    MessageHeader,
    /// Length of `legacy_session_id`.
    SessionId,
    /// Length of `cipher_suites`.
    CipherSuites,
    /// Length of `legacy_compression_methods`.
    Compression,
    /// Length of `extensions`.
    Extensions,
    /// Type and length of an extension.
    ExtensionHeader,
    /// Length of the list of names; type and length of the first.
    NameHeader,
    /// The name itself.
    Name,
}

/// Feeds the next piece of a connection, `source`, to the walk; `name` must be the same for all pieces.
///
/// Once anything but [`HelloProgress::Incomplete`] has been said, the state is spent.
#[inline]
pub fn feed<S: ByteSource + ?Sized>(
    state: &mut ParserState,
    source: &S,
    name: &mut NameBuffer,
) -> HelloProgress {
    state.at = 0;
    state.progress = HelloProgress::TooLong;
    // What a turn found is left in the state, which is map memory in the kernel, and so any value to its verifier. Handed
    // over on the stack each answer was followed apart: 93,000 instructions on Linux 6.18 instead of 33,000.
    source.repeat(MAX_STEPS, || match state.step(source, name) {
        Continue(()) => Continue(()),
        Break(progress) => {
            state.progress = progress;
            Break(())
        }
    });
    state.progress
}

impl ParserState {
    /// Length of the name once it has been seen: 1 to [`MAX_NAME_BYTES`].
    #[must_use]
    #[inline]
    pub const fn name_bytes(&self) -> u32 {
        self.name_bytes
    }

    /// Reads one thing: the header of a record, a field, the name; or passes over the rest of a record.
    ///
    /// Inlined into the turn: as a call of its own it made a browser's hello cost 1,620 ns instead of 1,400 (the
    /// least of 15 rounds).
    #[inline]
    fn step<S: ByteSource + ?Sized>(
        &mut self,
        source: &S,
        name: &mut NameBuffer,
    ) -> ControlFlow<HelloProgress> {
        let mut available = source.size().saturating_sub(self.at);
        if available == 0 {
            return Break(HelloProgress::Incomplete);
        }
        if self.record_left == 0 {
            return self.read_record_header(source, available);
        }
        let skipped = self.skip.min(self.record_left).min(available);
        self.skip -= skipped;
        self.record_left -= skipped;
        self.at += skipped;
        available = (available - skipped).min(self.record_left);
        if available == 0 {
            return Continue(());
        }
        if self.phase == HelloField::Name {
            return self.read_name(source, available, name);
        }
        self.read_field(source, available)
    }

    #[inline]
    fn read_record_header<S: ByteSource + ?Sized>(
        &mut self,
        source: &S,
        available: u32,
    ) -> ControlFlow<HelloProgress> {
        let bytes = available.min(RECORD_HEADER_BYTES.saturating_sub(self.record_header_read));
        let Some(number) = source.load_number(self.at, bytes) else { return Break(HelloProgress::Malformed) };
        self.at += bytes;
        self.record_header = self.record_header << (8 * bytes) | number;
        self.record_header_read += bytes;
        let unread = RECORD_HEADER_BYTES.saturating_sub(self.record_header_read);
        if unread > 0 {
            // The first byte tells that it is no hello, however little follows it.
            let content = self.record_header >> (8 * (self.record_header_read.saturating_sub(1) % 8));
            return if content == u64::from(HANDSHAKE) { Continue(()) } else { Break(self.no_record()) };
        }
        self.enter_record()
    }

    #[inline]
    fn enter_record(&mut self) -> ControlFlow<HelloProgress> {
        let [_, _, _, content, version, _, length_high, length_low] = self.record_header.to_be_bytes();
        let length = u32::from(u16::from_be_bytes([length_high, length_low]));
        // RFC 8446 §5.1: handshake messages are not interleaved with other types and have no empty fragments; a
        // fragment has at most 2^14 bytes. The version is to be ignored; its major part tells TLS from anything else.
        if content != HANDSHAKE || version != 3 || length == 0 || length > MAX_RECORD_BYTES {
            return Break(self.no_record());
        }
        self.records += 1;
        if u32::from(self.records) > MAX_RECORDS {
            return Break(HelloProgress::TooLong);
        }
        self.record_header = 0;
        self.record_header_read = 0;
        self.record_left = length;
        Continue(())
    }

    #[inline]
    const fn no_record(&self) -> HelloProgress {
        if self.records == 0 { HelloProgress::NotHello } else { HelloProgress::Malformed }
    }

    #[inline]
    fn read_field<S: ByteSource + ?Sized>(
        &mut self,
        source: &S,
        available: u32,
    ) -> ControlFlow<HelloProgress> {
        let width = self.phase.width();
        let bytes = available.min(width.saturating_sub(self.field_read));
        let Some(number) = source.load_number(self.at, bytes) else { return Break(HelloProgress::Malformed) };
        self.at += bytes;
        self.record_left -= bytes;
        self.field = self.field << (8 * bytes) | number;
        self.field_read += bytes;
        if self.field_read < width {
            return Continue(());
        }
        let field = self.field;
        self.field = 0;
        self.field_read = 0;
        self.interpret(field)
    }

    #[inline]
    fn interpret(&mut self, field: u64) -> ControlFlow<HelloProgress> {
        match self.phase {
            HelloField::MessageHeader => self.enter_message(field),
            // RFC 8446 §4.1.2: legacy_session_id<0..32>
            HelloField::SessionId if field <= 32 => self.skip_to(field, HelloField::CipherSuites),
            // RFC 8446 §4.1.2: cipher_suites<2..2^16-2>, two bytes each
            HelloField::CipherSuites if field >= 2 && field.is_multiple_of(2) => {
                self.skip_to(field, HelloField::Compression)
            }
            // RFC 8446 §4.1.2: legacy_compression_methods<1..2^8-1>
            HelloField::Compression if field >= 1 => self.leave_compression(field),
            HelloField::Extensions => self.enter_extensions(field),
            HelloField::ExtensionHeader => self.enter_extension(field),
            HelloField::NameHeader => self.enter_name(field),
            HelloField::SessionId | HelloField::CipherSuites | HelloField::Compression | HelloField::Name => {
                Break(HelloProgress::Malformed)
            }
        }
    }

    /// RFC 8446 §4: the first message of a client is a ClientHello.
    #[inline]
    fn enter_message(&mut self, field: u64) -> ControlFlow<HelloProgress> {
        let (kind, bytes) = (field >> 24, low_bits(field, 24));
        if kind != CLIENT_HELLO {
            return Break(HelloProgress::NotHello);
        }
        if bytes > MAX_MESSAGE_BYTES {
            return Break(HelloProgress::TooLong);
        }
        self.message_left = bytes;
        self.skip_to(VERSION_AND_RANDOM_BYTES, HelloField::SessionId)
    }

    #[inline]
    fn leave_compression(&mut self, methods: u64) -> ControlFlow<HelloProgress> {
        // RFC 8446 §4.1.2: versions before TLS 1.3 may end here, without extensions.
        if u64::from(self.message_left) == methods {
            return Break(HelloProgress::NoName);
        }
        self.skip_to(methods, HelloField::Extensions)
    }

    #[inline]
    fn enter_extensions(&mut self, bytes: u64) -> ControlFlow<HelloProgress> {
        // RFC 8446 §4: nothing follows the extensions in a ClientHello.
        if u64::from(self.message_left) != bytes {
            return Break(HelloProgress::Malformed);
        }
        self.next_extension(0)
    }

    #[inline]
    fn enter_extension(&mut self, field: u64) -> ControlFlow<HelloProgress> {
        let (kind, bytes) = (field >> 16, low_bits(field, 16));
        self.extensions += 1;
        if u32::from(self.extensions) > MAX_EXTENSIONS {
            return Break(HelloProgress::TooLong);
        }
        if kind != SERVER_NAME {
            return self.next_extension(bytes);
        }
        if bytes < HelloField::NameHeader.width() || bytes > self.message_left {
            return Break(HelloProgress::Malformed);
        }
        self.name_extension_bytes = bytes;
        self.phase = HelloField::NameHeader;
        Continue(())
    }

    /// Passes over `bytes`, the rest of this extension, to the next one, if there is one.
    #[inline]
    fn next_extension(&mut self, bytes: u32) -> ControlFlow<HelloProgress> {
        if self.message_left == bytes {
            return Break(HelloProgress::NoName);
        }
        self.skip_to(u64::from(bytes), HelloField::ExtensionHeader)
    }

    #[inline]
    fn enter_name(&mut self, field: u64) -> ControlFlow<HelloProgress> {
        let (list_bytes, kind, bytes) =
            (low_bits(field >> 24, 16), low_bits(field >> 16, 8), low_bits(field, 16));
        // RFC 6066 §3: host_name is the one type there is, and at most one name of a type: a second one is malformed,
        // and the verdict is user space's.
        let one_name =
            list_bytes + 2 == self.name_extension_bytes && bytes + 3 == list_bytes && kind == HOST_NAME;
        if !one_name || bytes == 0 || bytes > MAX_NAME_BYTES {
            return Break(HelloProgress::Malformed);
        }
        self.name_bytes = bytes;
        self.phase = HelloField::Name;
        Continue(())
    }

    #[inline]
    fn read_name<S: ByteSource + ?Sized>(
        &mut self,
        source: &S,
        available: u32,
        name: &mut NameBuffer,
    ) -> ControlFlow<HelloProgress> {
        let bytes = available.min(self.name_bytes.saturating_sub(self.name_read));
        if source.load_name(self.at, bytes, name, self.name_read).is_none() {
            return Break(HelloProgress::Malformed);
        }
        self.at += bytes;
        self.record_left -= bytes;
        self.name_read += bytes;
        if self.name_read < self.name_bytes {
            return Continue(());
        }
        // RFC 6066 §3: literal addresses are not permitted.
        let address = name.is_address(self.name_bytes);
        Break(if address { HelloProgress::Malformed } else { HelloProgress::Name })
    }

    /// Claims `skip` bytes to pass over and the field behind them from what is left of the message.
    #[inline]
    fn skip_to(&mut self, skip: u64, phase: HelloField) -> ControlFlow<HelloProgress> {
        let Some(left) = u64::from(self.message_left).checked_sub(skip + u64::from(phase.width())) else {
            return Break(HelloProgress::Malformed);
        };
        self.message_left = low_bits(left, 32);
        self.skip = low_bits(skip, 32);
        self.phase = phase;
        Continue(())
    }
}

impl HelloField {
    /// Bytes of the field.
    #[inline]
    const fn width(self) -> u32 {
        match self {
            Self::SessionId | Self::Compression => 1,
            Self::CipherSuites | Self::Extensions => 2,
            Self::MessageHeader | Self::ExtensionHeader => 4,
            Self::NameHeader => 5,
            Self::Name => 0,
        }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the mask leaves at most 32 bits")]
const fn low_bits(number: u64, bits: u32) -> u32 {
    (number & ((1 << bits) - 1)) as u32
}

/// Most TLS records a hello is followed through. One does for all known clients; two after a deliberate split.
pub const MAX_RECORDS: u32 = 8;
/// Most extensions that are looked at; browsers send 16 to 18.
pub const MAX_EXTENSIONS: u32 = 48;

/// Each step reads a record's header, completes a field, or ends a record: five fields before the extensions, each
/// extension, the name and its header, and one step more that finds the end of the input.
const MAX_STEPS: u32 = 2 * MAX_RECORDS + MAX_EXTENSIONS + 8;
const RECORD_HEADER_BYTES: u32 = 5;
const MAX_RECORD_BYTES: u32 = 1 << 14;
/// What rustls accepts too.
const MAX_MESSAGE_BYTES: u32 = 0xffff;
const VERSION_AND_RANDOM_BYTES: u64 = 2 + 32;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u64 = 1;
const SERVER_NAME: u64 = 0;
const HOST_NAME: u32 = 0;

#[cfg(test)]
mod tests;
