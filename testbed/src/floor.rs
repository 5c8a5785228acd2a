//! The least that a proxy could cost: bytes from one socket to another, without TLS and HTTP. What a proxy takes beyond it is its own.
//!
//! One thread, epoll, and for each client's connection one to the target: a receive and a send each way. With [`Pass::Seal`] the bytes go
//! through AES-GCM once, as TLS would have it, into a record beside them: what is relayed stays readable.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use anyhow::anyhow;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What happens to bytes on their way.
pub enum Pass {
    /// Nothing.
    Plain,
    /// They are sealed, in records of TLS's size.
    Seal(Box<Sealer>),
}

/// A key, and the record that is written with it.
pub struct Sealer {
    key: LessSafeKey,
    record: Vec<u8>,
}

impl Pass {
    /// Seals with a key of zeros: what it costs does not depend on it.
    pub fn seal() -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &[0; 32]).map_err(|_| anyhow!("no key"))?;
        Ok(Self::Seal(Box::new(Sealer {
            key: LessSafeKey::new(key),
            record: Vec::with_capacity(2 * RECORD),
        })))
    }

    fn over(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Self::Seal(sealer) = self else { return Ok(()) };
        let Sealer { key, record } = &mut **sealer;
        for piece in bytes.chunks(RECORD) {
            record.clear();
            record.extend_from_slice(piece);
            let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
            let outcome = key.seal_in_place_append_tag(nonce, Aad::empty(), record);
            outcome.map_err(|_| anyhow!("not sealed"))?;
        }
        Ok(())
    }
}

/// Relays from `listen` to `to`, both on 127.0.0.1, for ever.
pub fn run(listen: u16, to: u16, pass: Pass) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, to));
    let mut relay = Relay { epoll, pairs: Vec::new(), buffer: vec![0; AT_ONCE], pass };
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let count = relay.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(count) {
            if event.data() == LISTENER {
                relay.open(listener.accept()?.0, TcpStream::connect(to)?)?;
            } else {
                relay.advance(*event)?;
            }
        }
    }
}

struct Relay {
    epoll: Epoll,
    /// Of a pair's number, the lowest bit is the end's in events.
    pairs: Vec<Option<Pair>>,
    buffer: Vec<u8>,
    pass: Pass,
}

/// Two connections; what comes from one goes out on the other.
struct Pair {
    client: End,
    target: End,
}

struct End {
    stream: TcpStream,
    token: u64,
    /// What it has not taken yet; until it has, the other end is not read from.
    unsent: Vec<u8>,
}

impl Relay {
    fn open(&mut self, client: TcpStream, target: TcpStream) -> anyhow::Result<()> {
        let free = self.pairs.iter().position(Option::is_none).unwrap_or(self.pairs.len());
        let token = u64::try_from(free)? << 1;
        let pair = Pair { client: self.end(client, token)?, target: self.end(target, token | 1)? };
        match self.pairs.get_mut(free) {
            Some(place) => *place = Some(pair),
            None => self.pairs.push(Some(pair)),
        }
        Ok(())
    }

    fn end(&self, stream: TcpStream, token: u64) -> anyhow::Result<End> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        Ok(End { stream, token, unsent: Vec::new() })
    }

    /// A receive and a send, or the send of what was left. A connection that ends, however it does, takes the other with it.
    fn advance(&mut self, event: EpollEvent) -> anyhow::Result<()> {
        let token = event.data();
        // The pair may have ended by an event before this one.
        let Some(place) = self.pairs.get_mut(usize::try_from(token >> 1)?) else { return Ok(()) };
        let Some(Pair { client, target }) = place else { return Ok(()) };
        let (own, other) = if token & 1 == 0 { (client, target) } else { (target, client) };
        let is_open = if event.events().contains(EpollFlags::EPOLLOUT) {
            own.send_rest().is_ok() && own.set_interest(other, &self.epoll).is_ok()
        } else {
            relay(own, other, &mut self.buffer, &mut self.pass, &self.epoll).unwrap_or(false)
        };
        if !is_open {
            *place = None;
        }
        Ok(())
    }
}

/// Whether the connection goes on.
fn relay(
    from: &mut End,
    to: &mut End,
    buffer: &mut [u8],
    pass: &mut Pass,
    epoll: &Epoll,
) -> anyhow::Result<bool> {
    let count = from.stream.read(buffer)?;
    let received = buffer.get(..count).unwrap_or_default();
    pass.over(received)?;
    let sent = to.send(received)?;
    if sent < count {
        to.unsent.extend_from_slice(received.get(sent..).unwrap_or_default());
        to.set_interest(from, epoll)?;
    }
    Ok(count > 0)
}

impl End {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            outcome => outcome,
        }
    }

    fn send_rest(&mut self) -> std::io::Result<()> {
        let mut unsent = std::mem::take(&mut self.unsent);
        let sent = self.send(&unsent)?;
        unsent.drain(..sent);
        self.unsent = unsent;
        Ok(())
    }

    /// While something is unsent, room for it is waited for, and nothing from the other end.
    fn set_interest(&self, other: &Self, epoll: &Epoll) -> nix::Result<()> {
        let (own, others) = if self.unsent.is_empty() {
            (EpollFlags::EPOLLIN, EpollFlags::EPOLLIN)
        } else {
            (EpollFlags::EPOLLOUT, EpollFlags::empty())
        };
        epoll.modify(&self.stream, &mut EpollEvent::new(own, self.token))?;
        epoll.modify(&other.stream, &mut EpollEvent::new(others, other.token))
    }
}

const LISTENER: u64 = u64::MAX;
/// What is received at once: sixteen of TLS's records.
const AT_ONCE: usize = 16 * RECORD;
/// RFC 8446 §5.1.
const RECORD: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::wait;

    /// A target that returns what it gets; what a client sends has to come back, also when there is more than sockets hold.
    #[test]
    fn what_goes_through_the_floor_comes_out_unchanged() {
        for pass in [Pass::Plain, Pass::seal().unwrap()] {
            let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let to = target.local_addr().unwrap().port();
            thread::spawn(move || {
                let (mut stream, _) = target.accept().unwrap();
                let mut whole = vec![0; BODY];
                stream.read_exact(&mut whole).unwrap();
                stream.write_all(&whole).unwrap();
            });
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            thread::spawn(move || run(free, to, pass));
            let connect = || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, free))?);
            let mut client = wait::until("the floor", std::time::Duration::from_secs(5), connect).unwrap();
            let sent: Vec<u8> = (0..=250).cycle().take(BODY).collect();
            client.write_all(&sent).unwrap();
            let mut received = vec![0; BODY];
            client.read_exact(&mut received).unwrap();
            assert!(received == sent);
            assert_eq!(client.read(&mut received).unwrap(), 0, "the target's end is the client's");
        }
    }

    const BODY: usize = 20 << 20;
}
