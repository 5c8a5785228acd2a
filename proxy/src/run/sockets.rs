//! The sockets an instance listens on: one of each address for each worker.

use std::{
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use super::RunError;
use crate::{
    config,
    transport::socket::{Awaits, BindError, bind_listener},
    worker::{Sockets, own_core_count},
};

/// Bound sockets, worker by worker.
pub(super) struct Listeners {
    sockets: Vec<Sockets>,
    /// As bound: port 0 has become one.
    pub(super) bound: config::Listen,
}

impl Listeners {
    /// Binds every address once per worker. An IPv6 address on a machine without IPv6 is left out.
    pub(super) fn bind(listen: &config::Listen, workers: usize) -> Result<Self, RunError> {
        let mut listeners = Self {
            sockets: std::iter::repeat_with(Sockets::default).take(workers).collect(),
            bound: config::Listen { https: Vec::new(), http: Vec::new(), ..listen.clone() },
        };
        for address in &listen.https {
            let bound = listeners.bind_one(*address, |sockets| &mut sockets.https)?;
            listeners.bound.https.extend(bound);
        }
        for address in &listen.http {
            let bound = listeners.bind_one(*address, |sockets| &mut sockets.http)?;
            listeners.bound.http.extend(bound);
        }
        Ok(listeners)
    }

    pub(super) fn workers(&self) -> usize {
        self.sockets.len()
    }

    /// The port that redirects name.
    pub(super) fn public_https_port(&self) -> u16 {
        let first = self.bound.https.first().map_or(HTTPS, SocketAddr::port);
        self.bound.public_https_port.unwrap_or(first)
    }

    pub(super) fn into_sockets(self) -> Vec<Sockets> {
        self.sockets
    }

    fn bind_one(
        &mut self,
        wanted: SocketAddr,
        kind: impl Fn(&mut Sockets) -> &mut Vec<TcpListener>,
    ) -> Result<Option<SocketAddr>, BindError> {
        let mut bound = None;
        for sockets in &mut self.sockets {
            match bind_listener(bound.unwrap_or(wanted), Awaits::Data) {
                Ok(listener) => {
                    bound = bound.or_else(|| listener.local_addr().ok());
                    kind(sockets).push(listener);
                }
                Err(error) if lacks_family(&error) => {
                    warn!(address = %wanted, "this machine has no IPv6; the address is left out");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bound)
    }
}

/// How many workers to run.
pub(super) fn worker_count(worker: &config::Worker) -> Result<usize, RunError> {
    match worker.threads {
        0 => own_core_count().map_err(RunError::Spawn),
        threads => Ok(threads),
    }
}

/// Lets the process hold as many descriptors as it may, and says when that is fewer than the settings ask for.
pub(super) fn raise_descriptor_limit(connections: usize) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard) } else { Ok(soft) }
    });
    // One connection to the client and one to the target each.
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2);
    match raised {
        Ok(limit) if limit < wanted => warn!(
            limit,
            connections,
            "limits.connections: more than the descriptors this process may hold; raise LimitNOFILE, or lower it"
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
}

fn lacks_family(error: &BindError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.raw_os_error() == Some(libc::EAFNOSUPPORT))
}

const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(https: &str, http: &str) -> config::Listen {
        config::Listen {
            https: vec![https.parse().unwrap()],
            http: vec![http.parse().unwrap()],
            public_https_port: None,
        }
    }

    #[test]
    fn all_workers_share_each_address_also_a_free_port() {
        let listeners = Listeners::bind(&listen("127.0.0.1:0", "[::1]:0"), 3).unwrap();
        let (https, http) = (listeners.bound.https[0], listeners.bound.http[0]);
        assert_eq!(listeners.public_https_port(), https.port());
        for sockets in listeners.into_sockets() {
            assert_eq!(sockets.https[0].local_addr().unwrap(), https);
            assert_eq!(sockets.http[0].local_addr().unwrap(), http);
        }
    }

    #[test]
    fn an_address_that_is_not_ours_ends_the_start() {
        let refused = Listeners::bind(&listen("192.0.2.1:0", "127.0.0.1:0"), 1).err().unwrap().to_string();
        assert!(refused.contains("`192.0.2.1:0` cannot be bound"), "{refused}");
    }
}
