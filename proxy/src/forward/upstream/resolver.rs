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

/// One worker's resolver. Answers are cached for [`FRESH`]; while a name cannot be resolved, its last answer is used.
pub(super) struct Resolver {
    control: Handle,
    answers: RefCell<HashMap<ServerName, Resolution>>,
}

type Addresses = Rc<[IpAddr]>;

#[derive(Clone)]
struct Resolution {
    since: Instant,
    addresses: Rc<OnceCell<Addresses>>,
    former: Option<Addresses>,
}

impl Resolver {
    pub(super) fn new(control: Handle) -> Self {
        Self { control, answers: RefCell::default() }
    }

    /// The addresses of `name`, at least one. Who asks for a name already being asked for waits for that answer.
    pub(super) async fn resolve(&self, name: &ServerName, now: Instant) -> io::Result<Addresses> {
        let answer = self.answer(name, now);
        match (answer.addresses.get_or_try_init(|| self.ask(name.clone())).await, answer.former) {
            (Ok(addresses), _) => Ok(Rc::clone(addresses)),
            (Err(_), Some(former)) => Ok(former),
            (Err(error), None) => Err(error),
        }
    }

    fn answer(&self, name: &ServerName, now: Instant) -> Resolution {
        let mut answers = self.answers.borrow_mut();
        if let Some(answer) = answers.get(name).filter(|answer| now < answer.since + FRESH) {
            return answer.clone();
        }
        if answers.len() >= NAMES {
            answers.retain(|_, answer| now < answer.since + FRESH);
        }
        if answers.len() >= NAMES {
            answers.clear();
        }
        let before = answers.remove(name);
        let former = before.and_then(|before| before.addresses.get().cloned().or(before.former));
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

/// getaddrinfo(3) returns no time to live; long enough to spare the resolver, short enough to follow a failover.
const FRESH: Duration = Duration::from_secs(10);
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
        resolver.answer(&name, start).addresses.set(Rc::clone(&known)).unwrap();
        let fresh = resolver.answer(&name, start + FRESH / 2);
        assert_eq!(fresh.addresses.get(), Some(&known));
        let (once, twice) =
            (resolver.answer(&name, start + FRESH), resolver.answer(&name, start + FRESH * 2));
        assert_eq!((once.addresses.get(), once.former), (None, Some(Rc::clone(&known))));
        assert_eq!(twice.former, Some(known), "an answer that never came does not push out the former");
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
