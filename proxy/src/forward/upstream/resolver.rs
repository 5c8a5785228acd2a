//! Addresses of targets' names, resolved on the control plane's runtime: getaddrinfo(3) blocks a thread.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::IpAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::OnceCell};

use crate::name::ServerName;

/// One worker's resolver. Answers are cached for [`FRESH`], failures for [`FAILED`]; while a name cannot be resolved, its last answer is used.
pub(super) struct Resolver {
    control: Handle,
    answers: RefCell<HashMap<ServerName, Resolution>>,
}

type Addresses = Rc<[IpAddr]>;

/// Why a name has no addresses, for each that has asked.
type Failure = Rc<io::Error>;

#[derive(Clone)]
struct Resolution {
    since: Instant,
    addresses: Rc<OnceCell<Result<Addresses, Failure>>>,
    former: Option<Addresses>,
}

impl Resolver {
    pub(super) fn new(control: Handle) -> Self {
        Self { control, answers: RefCell::default() }
    }

    /// The addresses of `name`, at least one. Who asks for a name already being asked for waits for that answer.
    pub(super) async fn resolve(&self, name: &ServerName, now: Instant) -> io::Result<Addresses> {
        let answer = self.answer(name, now);
        let found =
            answer.addresses.get_or_init(async || self.ask(name.clone()).await.map_err(Rc::new)).await;
        match (found, answer.former) {
            (Ok(addresses), _) => Ok(Rc::clone(addresses)),
            (Err(_), Some(former)) => Ok(former),
            (Err(error), None) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }

    fn answer(&self, name: &ServerName, now: Instant) -> Resolution {
        let mut answers = self.answers.borrow_mut();
        if let Some(answer) = answers.get(name).filter(|answer| answer.is_fresh(now)) {
            return answer.clone();
        }
        if answers.len() >= NAMES {
            answers.retain(|_, answer| answer.is_fresh(now));
        }
        if answers.len() >= NAMES {
            answers.clear();
        }
        let former = answers.remove(name).and_then(Resolution::last);
        let answer = Resolution { since: now, addresses: Rc::default(), former };
        answers.insert(name.clone(), answer.clone());
        answer
    }

    async fn ask(&self, name: ServerName) -> io::Result<Addresses> {
        let asked = self.control.spawn(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            io::Result::Ok(found.map(|address| address.ip()).take(ADDRESSES).collect::<Vec<_>>())
        });
        match asked.await.map_err(io::Error::other)?? {
            none if none.is_empty() => Err(io::Error::other("the name has no address")),
            addresses => Ok(addresses.into()),
        }
    }
}

impl Resolution {
    fn is_fresh(&self, now: Instant) -> bool {
        let life = if self.addresses.get().is_some_and(Result::is_err) { FAILED } else { FRESH };
        now < self.since + life
    }

    /// The last addresses that were known.
    fn last(self) -> Option<Addresses> {
        self.addresses.get().and_then(|found| found.as_ref().ok().cloned()).or(self.former)
    }
}

/// getaddrinfo(3) returns no time to live; long enough to spare the resolver, short enough to follow a failover.
const FRESH: Duration = Duration::from_secs(10);
/// A resolver that is down is asked once a second and name, by whomever it makes wait.
const FAILED: Duration = Duration::from_secs(1);
/// Targets are the operator's, but the cache is bounded all the same.
const NAMES: usize = 1024;
const ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_kept_and_outlive_a_resolver_that_is_down() {
        let resolver = Resolver::new(Handle::current());
        let (name, start) = (ServerName::parse("shop.example").unwrap(), Instant::now());
        let known: Addresses = ["192.0.2.1".parse().unwrap()].into();
        resolver.answer(&name, start).addresses.set(Ok(Rc::clone(&known))).unwrap();
        let fresh = resolver.answer(&name, start + FRESH / 2);
        assert_eq!(fresh.last(), Some(Rc::clone(&known)));
        let (once, twice) =
            (resolver.answer(&name, start + FRESH), resolver.answer(&name, start + FRESH * 2));
        assert_eq!((once.addresses.get().is_none(), once.former), (true, Some(Rc::clone(&known))));
        assert_eq!(twice.former, Some(known), "an answer that never came does not push out the former");
    }

    #[tokio::test]
    async fn a_failure_is_shared_and_forgotten_soon() {
        let resolver = Resolver::new(Handle::current());
        let (name, start) = (ServerName::parse("shop.invalid").unwrap(), Instant::now());
        let failure = || Err(Rc::new(io::Error::other("no")));
        resolver.answer(&name, start).addresses.set(failure()).unwrap();
        let error = resolver.resolve(&name, start + FAILED / 2).await.unwrap_err();
        assert_eq!(error.to_string(), "no", "nobody was asked again");
        assert!(resolver.answer(&name, start + FAILED).addresses.get().is_none());
    }

    #[tokio::test]
    async fn what_strangers_make_us_resolve_is_bounded() {
        let resolver = Resolver::new(Handle::current());
        let start = Instant::now();
        for n in 0..3 * NAMES {
            resolver.answer(&ServerName::parse(&format!("n{n}.example")).unwrap(), start);
        }
        assert!(resolver.answers.borrow().len() <= NAMES);
    }
}
