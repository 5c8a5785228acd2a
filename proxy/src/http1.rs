//! HTTP/1.1 as bytes (RFC 9112), in the client's role: request header sections and bodies are written, responses are read.
//! Not here: sockets and clocks (`forward` has them), which fields a message gets (`forward` rewrites them).
//! Invariants: the same bytes mean the same however they are cut (`a_response_means_the_same_however_it_is_cut`); nothing that is read
//! takes memory or time without a bound (`what_never_ends_is_refused`); a response whose end is in doubt is refused
//! (`framing_in_doubt_is_refused`).

mod body;
mod chunked;
mod framing;
mod request;
mod response;

pub(crate) use self::{
    body::{BodyEnd, BodyPart, BodyReader},
    framing::BodyFraming,
    request::{BodyWriter, request_head},
    response::{ResponseHead, ResponseReader},
};

/// How a response breaks the rules, or goes beyond our bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseViolation {
    /// RFC 9112 §4.
    #[error("it does not begin with a status line of HTTP/1")]
    StatusLine,
    /// RFC 9112 §5.
    #[error("its header section is malformed")]
    HeaderSection,
    /// Beyond [`response::MAX_HEADER_SECTION`], or too many fields.
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
}

#[cfg(test)]
mod tests;
