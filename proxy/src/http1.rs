//! HTTP/1.1 as bytes (RFC 9112), in both roles: requests are read and responses written for clients, requests written and responses read
//! for upstreams.
//! Not here: sockets and clocks (`client_stream`, `forward` and `worker` have them), which requests are served and which fields a message
//! gets (`forward`).
//! Invariants: the same bytes mean the same however they are cut (`a_mutated_corpus_means_the_same_however_it_is_cut`); nothing that is read takes
//! memory or time without a bound (`what_never_ends_is_refused`); a message whose end is in doubt has no body that could be read
//! (`framing_in_doubt_is_refused`).

mod body;
mod chunked;
mod fields;
mod framing;
mod message_writer;
mod request_reader;
mod request_writer;
mod response_reader;
mod response_writer;

pub(crate) use self::{
    body::{BodyEnd, BodyPart, BodyReader},
    framing::{BodyFraming, has_no_body},
    message_writer::{MessageWriter, OutgoingFraming, WrongLength},
    request_reader::{RequestHead, RequestLimits, RequestParts, RequestReader},
    request_writer::request_head,
    response_reader::{InterimResponse, ResponseHead, ResponsePart, ResponseReader},
    response_writer::{ResponseFraming, put_interim, response_head},
};

/// How a message breaks the rules, or goes beyond our bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageViolation {
    /// RFC 9112 §3.
    #[error("it does not begin with a request line")]
    RequestLine,
    /// RFC 9110 §15.5.15.
    #[error("its request line is too long")]
    RequestLineSize,
    /// RFC 9112 §2.3.
    #[error("its version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// RFC 9112 §4.
    #[error("it does not begin with a status line of HTTP/1")]
    StatusLine,
    /// RFC 9112 §5.
    #[error("its header section is malformed")]
    HeaderSection,
    /// More bytes or fields than may be.
    #[error("its header section is too large")]
    HeaderSectionSize,
    /// RFC 9110 §15.2.
    #[error("it has too many interim responses")]
    InterimResponses,
    /// RFC 9110 §8.6.
    #[error("its Content-Length is not one number")]
    ContentLength,
    /// RFC 9112 §6.1.
    #[error("its Transfer-Encoding is not `chunked`, or stands beside Content-Length or in HTTP/1.0")]
    TransferEncoding,
    /// RFC 9112 §7.1.
    #[error("a chunk of its body is malformed")]
    Chunk,
    /// RFC 9112 §7.1.1, §7.1.2: what a chunk may say beside its data.
    #[error("its chunk extensions or trailer section are too large")]
    ChunkExtras,
    /// RFC 9112 §7.1.2.
    #[error("its trailer section is malformed")]
    TrailerSection,
}

#[cfg(test)]
mod tests;
