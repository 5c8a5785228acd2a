//! Hellos by hand: cut where a case wants them cut, sent over plain TCP, and what became of the connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};

use crate::namespace::Namespace;

/// A `ClientHello` in its TLS record.
#[derive(Debug, Clone)]
pub struct Hello {
    bytes: Vec<u8>,
    name: Range<usize>,
}

/// How large a hello is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyShare {
    /// X25519 alone: about 230 bytes.
    Classic,
    /// With ML-KEM-768: more than a segment.
    PostQuantum,
}

/// How a connection ended, or what it was answered first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A TLS alert of this description (RFC 8446 §6).
    Alert(u8),
    /// A handshake record: the hello was taken.
    Answered,
    /// Other bytes.
    Bytes(Vec<u8>),
    /// FIN without a byte.
    Closed,
    /// RST.
    Reset,
    /// Nothing within the time limit.
    Silence,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// How it ended.
    pub ending: Ending,
    /// After how long, from the first byte sent.
    pub after: Duration,
}

impl Hello {
    /// A hello for `name`; rustls orders extensions at random, so `accept` picks one by where the name lies.
    pub fn new(name: &str, share: KeyShare, accept: impl Fn(&Range<usize>) -> bool) -> anyhow::Result<Self> {
        Self::offering(name, share, &[], accept)
    }

    /// The same with ALPN protocols.
    pub fn offering(
        name: &str,
        share: KeyShare,
        protocols: &[&str],
        accept: impl Fn(&Range<usize>) -> bool,
    ) -> anyhow::Result<Self> {
        for _ in 0..MAX_DRAWS {
            let bytes = draw(name, share, protocols)?;
            let at = bytes.windows(name.len()).position(|window| window == name.as_bytes());
            let start = at.context("the hello does not hold the name")?;
            let hello = Self { bytes, name: start..start + name.len() };
            if accept(&hello.name) {
                return Ok(hello);
            }
        }
        anyhow::bail!("no hello of {MAX_DRAWS} has the name where it is wanted")
    }

    /// A hello without `server_name`, as for an IP address.
    pub fn nameless() -> anyhow::Result<Vec<u8>> {
        draw("192.0.2.1", KeyShare::Classic, &[])
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same with the name overwritten by another of the same length: upper case, a trailing dot.
    pub fn renamed(mut self, name: &str) -> anyhow::Result<Self> {
        ensure!(name.len() == self.name.len(), "{name} differs in length");
        self.bytes.get_mut(self.name.clone()).context("no name")?.copy_from_slice(name.as_bytes());
        Ok(self)
    }

    /// Two segments, cut so many bytes behind the start of the name.
    #[must_use]
    pub fn cut(&self, behind: usize) -> Vec<Vec<u8>> {
        let (first, second) = self.bytes.split_at((self.name.start + behind).min(self.bytes.len()));
        vec![first.to_vec(), second.to_vec()]
    }

    /// Two segments, the name in the first.
    #[must_use]
    pub fn cut_behind_name(&self) -> Vec<Vec<u8>> {
        self.cut(self.name.len())
    }

    /// One segment, if it fits.
    #[must_use]
    pub fn whole(&self) -> Vec<Vec<u8>> {
        vec![self.bytes.clone()]
    }
}

/// Sends `segments` from inside `namespace`, each in a segment of its own, and waits for what comes; nothing within
/// `patience` is [`Ending::Silence`].
pub fn attempt(
    namespace: &Namespace,
    to: SocketAddr,
    segments: Vec<Vec<u8>>,
    patience: Duration,
) -> anyhow::Result<Attempt> {
    namespace.await_inside(move || exchange(to, &segments, patience))?
}

/// The same from the namespace of the calling thread.
pub fn exchange(to: SocketAddr, segments: &[Vec<u8>], patience: Duration) -> anyhow::Result<Attempt> {
    let mut stream =
        TcpStream::connect_timeout(&to, CONNECT).with_context(|| format!("cannot reach {to}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    let started = Instant::now();
    let written = segments.iter().try_for_each(|segment| stream.write_all(segment));
    let ending = match written {
        Ok(()) => first_answer(&mut stream)?,
        Err(error) if is_reset(error.kind()) => Ending::Reset,
        Err(error) => return Err(error.into()),
    };
    Ok(Attempt { ending, after: started.elapsed() })
}

fn first_answer(stream: &mut TcpStream) -> anyhow::Result<Ending> {
    let mut buffer = [0; 4096];
    let read = match stream.read(&mut buffer) {
        Ok(read) => buffer.get(..read).unwrap_or_default(),
        Err(error) if is_reset(error.kind()) => return Ok(Ending::Reset),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Ok(Ending::Silence);
        }
        Err(error) => return Err(error.into()),
    };
    // RFC 8446 §5.1: content type, version, length; an alert is level and description.
    Ok(match read {
        [] => Ending::Closed,
        [21, _, _, _, _, _, description, ..] => Ending::Alert(*description),
        [22, ..] => Ending::Answered,
        other => Ending::Bytes(other.to_vec()),
    })
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

fn draw(name: &str, share: KeyShare, protocols: &[&str]) -> anyhow::Result<Vec<u8>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = match share {
        KeyShare::Classic => vec![aws_lc_rs::kx_group::X25519],
        KeyShare::PostQuantum => vec![aws_lc_rs::kx_group::X25519MLKEM768],
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?;
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

const MAX_DRAWS: usize = 1_000;
const CONNECT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_hello_is_the_same_hello() {
        for (share, least) in [(KeyShare::Classic, 150), (KeyShare::PostQuantum, 1_300)] {
            let hello = Hello::new("shop.example.com", share, |name| name.end < 1_000).unwrap();
            let segments = hello.cut_behind_name();
            assert_eq!(segments.concat(), hello.bytes(), "{share:?}");
            assert!(segments[0].ends_with(b"shop.example.com"), "{share:?}");
            assert!(hello.bytes().len() > least, "{share:?}: {}", hello.bytes().len());
        }
    }

    #[test]
    fn a_renamed_hello_differs_in_the_name_only() {
        let hello = Hello::new("shop.example.com", KeyShare::Classic, |_| true).unwrap();
        let renamed = hello.clone().renamed("SHOP.Example.com").unwrap();
        let different = hello.bytes().iter().zip(renamed.bytes()).filter(|(a, b)| a != b).count();
        assert_eq!(different, 5);
        assert!(hello.renamed("shop.example.com.").is_err());
    }
}
