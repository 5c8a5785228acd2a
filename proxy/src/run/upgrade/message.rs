//! What predecessor and successor tell each other: JSON, one message a datagram. A later release may add fields; those it does not know it
//! passes over.

use serde::{Deserialize, Serialize};

use crate::control::wire::PhaseWord;

/// The predecessor's side, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// A listening socket comes with this message.
    Socket {
        /// What it serves.
        name: String,
    },
    /// There is no further socket.
    EndOfSockets,
    /// The successor may accept.
    TakeOver,
    /// The successor is the instance.
    Released,
}

/// The successor's side, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    /// Nothing is left to do but to accept.
    Prepared {
        /// In which phase it would be.
        phase: PhaseWord,
        /// How many names and wildcards its lists allow; releases before do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        names: Option<usize>,
    },
    /// It accepts.
    Ready {
        /// Its release.
        version: String,
        /// What it has done with the predecessor's control socket.
        control_socket: SocketUse,
    },
}

/// Whether a socket that was handed over is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::run) enum SocketUse {
    /// The successor accepts at it.
    Taken,
    /// Its settings name another address, or none.
    Unused,
}

/// More than any message has.
pub(super) const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_by_releases_that_know_less_of_it() {
        for (message, text) in [
            (
                FromPredecessor::Socket { name: "https.[--]-443".into() },
                r#"{"socket":{"name":"https.[--]-443"}}"#,
            ),
            (FromPredecessor::EndOfSockets, r#""end_of_sockets""#),
            (FromPredecessor::TakeOver, r#""take_over""#),
            (FromPredecessor::Released, r#""released""#),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
            assert_eq!(serde_json::from_str::<FromPredecessor>(text).unwrap(), message);
        }
        let later = r#"{"ready":{"version":"0.9.0","control_socket":"taken","queue":7}}"#;
        let ready = FromSuccessor::Ready { version: "0.9.0".into(), control_socket: SocketUse::Taken };
        assert_eq!(serde_json::from_str::<FromSuccessor>(later).unwrap(), ready);
        let prepared = |names| FromSuccessor::Prepared { phase: PhaseWord::Serving, names };
        for (text, message) in [
            (r#"{"prepared":{"phase":"serving"}}"#, prepared(None)),
            (r#"{"prepared":{"phase":"serving","names":7}}"#, prepared(Some(7))),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
            assert_eq!(serde_json::from_str::<FromSuccessor>(text).unwrap(), message);
        }
    }
}
