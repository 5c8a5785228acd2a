//! Alerts (RFC 8446 §6, RFC 5246 §7.2).

/// Those that we send ourselves; rustls chooses those of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The sender sends nothing more.
    CloseNotify = 0,
    /// A message that has no place here.
    UnexpectedMessage = 10,
    /// A record that was not sealed with the connection's keys.
    BadRecordMac = 20,
    /// A record that holds more than it may.
    RecordOverflow = 22,
    /// A field with a value that it cannot have.
    IllegalParameter = 47,
    /// A message that breaks its format.
    DecodeError = 50,
    /// The certificate could not be obtained in time, or the cryptographic library has failed.
    InternalError = 80,
    /// There is no second handshake on a connection (RFC 5246 §7.2.2).
    NoRenegotiation = 100,
    /// The name is not served here (RFC 6066 §3).
    UnrecognizedName = 112,
}

impl Alert {
    /// Its two bytes: the level and the description.
    pub(super) fn bytes(self) -> [u8; 2] {
        let level = if matches!(self, Self::CloseNotify | Self::NoRenegotiation) { WARNING } else { FATAL };
        [level, self as u8]
    }
}

/// RFC 5246 §7.2.2: in TLS 1.2, a peer that is warned may go on.
pub(super) const WARNING: u8 = 1;
const FATAL: u8 = 2;
