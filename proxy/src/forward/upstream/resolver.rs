//! Addresses of targets' names, resolved on the control plane's runtime: getaddrinfo(3) blocks a thread.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout_at,
};

use crate::{clock, name::ServerName};

/// One worker's resolver. Answers are cached for [`FRESH`], failures for [`FAILED`]; while a name cannot be resolved, or not within
/// [`SHORT`], its last answer is used.
///
/// Invariants: a name is asked for once at a time, whoever waits for it or gives up (`a_name_is_asked_for_once_at_a_time`): a thread of the
/// control plane is blocked by each, as long as there are threads for it, and others are left
/// (`names_of_servers_that_say_nothing_leave_threads_for_others`). There are at most [`NAMES`], and one more takes the place of the one
/// that was not used for longest, but never of one that is being asked for
/// (`one_name_more_than_there_is_room_for_costs_no_other_its_question_or_its_answer`). Those that were never resolved leave room for the
/// others (`names_of_servers_that_say_nothing_leave_room_for_those_that_are_known`).
pub(super) struct Resolver {
    control: Handle,
    threads: Arc<LookupThreads>,
    answers: RefCell<HashMap<ServerName, Resolution>>,
}

/// Threads that names of targets may block in getaddrinfo(3); one per process, whose other work needs threads of the same pool.
pub(super) struct LookupThreads {
    answered: Semaphore,
    /// Names whose server has said nothing, never or when it was asked last, block none but these.
    unanswered: Semaphore,
}

impl Default for LookupThreads {
    fn default() -> Self {
        let [answered, unanswered] = [Semaphore::new(THREADS), Semaphore::new(THREADS)];
        Self { answered, unanswered }
    }
}

/// How a name was answered when it was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LastAnswer {
    /// Within [`SHORT`], whatever it was.
    Soon,
    /// Late, or it was never asked for.
    LateOrNone,
}

type Addresses = Arc<[IpAddr]>;

/// Why a name has no addresses, for each that has asked.
type Failure = Arc<io::Error>;

/// How long somebody waits for a name that was never resolved.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// For [`SHORT`] from when it was asked for.
    Short,
    /// Until then.
    Until(Instant),
}

/// Why there are no addresses.
#[derive(Debug)]
pub(super) enum ResolveError {
    /// There is no answer yet.
    Late,
    /// It cannot be resolved.
    Failed(io::Error),
}

#[derive(Clone)]
struct Resolution {
    since: Instant,
    used: Instant,
    answer: watch::Receiver<Option<Answer>>,
    former: Option<Addresses>,
}

/// As many names as may be are being asked for.
#[derive(Debug, thiserror::Error)]
#[error("too many names of targets are being asked for already; check that the resolver answers")]
struct Full;

#[derive(Clone)]
struct Answer {
    /// When a thread was free for the question.
    begun: Instant,
    at: Instant,
    found: Result<Addresses, Failure>,
}

impl Resolver {
    pub(super) fn new(control: Handle, threads: Arc<LookupThreads>) -> Self {
        Self { control, threads, answers: RefCell::default() }
    }

    /// Asks for `name` where that is needed, and does not wait.
    pub(super) fn begin(&self, name: &ServerName, now: Instant) {
        // Where there is no room, `resolve` says so.
        let _ = self.resolution(name, now);
    }

    /// The addresses of `name`, at least one.
    ///
    /// # Cancel safety
    /// The name is asked for all the same.
    pub(super) async fn resolve(
        &self,
        name: &ServerName,
        now: Instant,
        wait: Wait,
    ) -> Result<Addresses, ResolveError> {
        let resolution = self.resolution(name, now);
        let Resolution { since, mut answer, former, .. } =
            resolution.map_err(|full| ResolveError::Failed(io::Error::other(full)))?;
        let until = match wait {
            Wait::Until(until) if former.is_none() => until,
            Wait::Short | Wait::Until(_) => since + SHORT,
        };
        let answered = timeout_at(until.into(), answer.wait_for(Option::is_some)).await;
        let found = match answered {
            Ok(Ok(answer)) => answer.as_ref().map(|answer| answer.found.clone()),
            // The control plane has ended.
            Ok(Err(_)) => Some(Err(Arc::new(io::Error::other("nobody answers any more")))),
            Err(_) => None,
        };
        match (found, former) {
            (Some(Ok(addresses)), _) | (Some(Err(_)) | None, Some(addresses)) => Ok(addresses),
            (Some(Err(error)), None) => {
                Err(ResolveError::Failed(io::Error::new(error.kind(), error.to_string())))
            }
            (None, None) => Err(ResolveError::Late),
        }
    }

    fn resolution(&self, name: &ServerName, now: Instant) -> Result<Resolution, Full> {
        self.resolution_by(name, now, |name, last| self.ask(name, last))
    }

    fn resolution_by(
        &self,
        name: &ServerName,
        now: Instant,
        ask: impl FnOnce(ServerName, LastAnswer) -> watch::Receiver<Option<Answer>>,
    ) -> Result<Resolution, Full> {
        let mut answers = self.answers.borrow_mut();
        if let Some(resolution) = answers.get_mut(name).filter(|resolution| resolution.is_current(now)) {
            resolution.used = now;
            return Ok(resolution.clone());
        }
        let last = answers.remove(name);
        let last_answer = last.as_ref().map_or(LastAnswer::LateOrNone, Resolution::last_answer);
        let former = last.and_then(Resolution::last);
        if former.is_none() && answers.values().filter(|other| other.is_unanswered()).count() >= UNANSWERED {
            return Err(Full);
        }
        if answers.len() >= NAMES {
            let least_used = least_lately_used(&answers).ok_or(Full)?;
            answers.remove(&least_used);
        }
        let resolution = Resolution { since: now, used: now, answer: ask(name.clone(), last_answer), former };
        answers.insert(name.clone(), resolution.clone());
        Ok(resolution)
    }

    /// As if `name` had been answered with `addresses` at `now`.
    #[cfg(test)]
    pub(super) fn answer_for_tests(&self, name: &ServerName, addresses: &[IpAddr], now: Instant) {
        self.answers.borrow_mut().remove(name);
        let answer = Answer { begun: now, at: now, found: Ok(addresses.into()) };
        let _ = self.resolution_by(name, now, |_, _| watch::channel(Some(answer)).1);
    }

    fn ask(&self, name: ServerName, last: LastAnswer) -> watch::Receiver<Option<Answer>> {
        let (sender, receiver) = watch::channel(None);
        let threads = Arc::clone(&self.threads);
        self.control.spawn(async move {
            let free = match last {
                LastAnswer::Soon => &threads.answered,
                LastAnswer::LateOrNone => &threads.unanswered,
            };
            // It is never closed.
            let _thread = free.acquire().await;
            let begun = clock::now();
            let found = look_up(&name).await.map_err(Arc::new);
            sender.send_replace(Some(Answer { begun, at: clock::now(), found }));
        });
        receiver
    }
}

/// Of those that are not being asked for.
fn least_lately_used(answers: &HashMap<ServerName, Resolution>) -> Option<ServerName> {
    let answered = answers.iter().filter(|(_, resolution)| !resolution.is_open());
    answered.min_by_key(|(_, resolution)| resolution.used).map(|(name, _)| name.clone())
}

async fn look_up(name: &ServerName) -> io::Result<Addresses> {
    let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
    let addresses: Addresses = found.map(|address| address.ip()).take(ADDRESSES).collect();
    if addresses.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(addresses) }
}

impl Resolution {
    /// Whether it is still waited for, or was answered a short time ago.
    fn is_current(&self, now: Instant) -> bool {
        match &*self.answer.borrow() {
            Some(Answer { at, found: Ok(_), .. }) => now < *at + FRESH,
            Some(Answer { at, found: Err(_), .. }) => now < *at + FAILED,
            None => self.answer.has_changed().is_ok(),
        }
    }

    /// Whether it is still waited for: a thread of the control plane is blocked by it, or about to be.
    fn is_open(&self) -> bool {
        self.answer.borrow().is_none() && self.answer.has_changed().is_ok()
    }

    /// Whether it is still waited for, and was never resolved.
    fn is_unanswered(&self) -> bool {
        self.former.is_none() && self.is_open()
    }

    fn last_answer(&self) -> LastAnswer {
        match &*self.answer.borrow() {
            Some(answer) if answer.at <= answer.begun + SHORT => LastAnswer::Soon,
            Some(_) | None => LastAnswer::LateOrNone,
        }
    }

    /// The last addresses that were known.
    fn last(self) -> Option<Addresses> {
        let found = self.answer.borrow().as_ref().and_then(|answer| answer.found.clone().ok());
        found.or(self.former)
    }
}

/// getaddrinfo(3) returns no time to live; long enough to spare the resolver, short enough to follow a failover.
const FRESH: Duration = Duration::from_secs(10);
/// A resolver that is down is asked once a second and name.
const FAILED: Duration = Duration::from_secs(1);
/// Most answers come within milliseconds; a resolver that says nothing takes ten seconds and more.
const SHORT: Duration = Duration::from_millis(500);
/// Names of targets that are remembered or being asked for: what domains' entries name is not bounded otherwise.
const NAMES: usize = 1024;
/// Names that are being asked for and were never resolved: whoever can name servers that say nothing pushes out no more than the others.
const UNANSWERED: usize = NAMES / 2;
const ADDRESSES: usize = 8;
/// For each kind of name: as many as tokio's pool has by itself together, so that other work has what is beyond it.
const THREADS: usize = LOOKUP_THREADS / 2;
/// Threads that may be blocked by names of targets at a time.
pub const LOOKUP_THREADS: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    type Sender = watch::Sender<Option<Answer>>;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    fn known() -> Addresses {
        Arc::new(["192.0.2.1".parse().unwrap()])
    }

    /// Asks as `resolve` does, with the other end of what is asked for; nothing where nobody is asked.
    fn asked(resolver: &Resolver, name: &ServerName, now: Instant) -> Option<Sender> {
        let mut asked = None;
        // Refused where there is no room, and then nobody is asked.
        let _ = resolver.resolution_by(name, now, |_, _| {
            let (sender, receiver) = watch::channel(None);
            asked = Some(sender);
            receiver
        });
        asked
    }

    fn many(count: usize) -> Vec<ServerName> {
        (0..count).map(|n| name(&format!("n{n}.example"))).collect()
    }

    fn tell(sender: &Sender, at: Instant, found: Result<Addresses, Failure>) {
        sender.send_replace(Some(Answer { begun: at, at, found }));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_and_outlive_a_resolver_that_is_down_or_silent() {
        let (resolver, name, start) =
            (Resolver::new(Handle::current(), Arc::default()), name("shop.example"), clock::now());
        tell(&asked(&resolver, &name, start).unwrap(), start, Ok(known()));
        assert!(asked(&resolver, &name, start + FRESH / 2).is_none(), "it is fresh");
        let silent = asked(&resolver, &name, start + FRESH).unwrap();
        tokio::time::advance(FRESH).await;
        for wait in [Wait::Short, Wait::Until(clock::now() + FRESH)] {
            let before = clock::now();
            assert_eq!(resolver.resolve(&name, clock::now(), wait).await.unwrap(), known());
            assert!(clock::now() - before <= SHORT + Duration::from_millis(1), "{wait:?}");
        }
        tell(&silent, clock::now(), Err(Arc::new(io::Error::other("no"))));
        let found = resolver.resolve(&name, clock::now(), Wait::Short).await;
        assert_eq!(found.unwrap(), known(), "a failure does not push it out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_once_at_a_time() {
        let (resolver, name, start) =
            (Resolver::new(Handle::current(), Arc::default()), name("shop.example"), clock::now());
        let sender = asked(&resolver, &name, start).unwrap();
        for _ in 0..100 {
            let given_up = resolver.resolve(&name, clock::now(), Wait::Until(clock::now() + SHORT)).await;
            assert!(matches!(given_up, Err(ResolveError::Late)), "{given_up:?}");
        }
        assert!(asked(&resolver, &name, clock::now()).is_none(), "the first question is still open");
        tell(&sender, clock::now(), Ok(known()));
        assert_eq!(resolver.resolve(&name, clock::now(), Wait::Short).await.unwrap(), known());
        drop(sender);
        assert!(asked(&resolver, &name, clock::now() + FRESH).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_and_forgotten_soon() {
        let (resolver, name, start) =
            (Resolver::new(Handle::current(), Arc::default()), name("shop.invalid"), clock::now());
        let sender = asked(&resolver, &name, start).unwrap();
        tell(&sender, start, Err(Arc::new(io::Error::other("no"))));
        let failed = resolver.resolve(&name, start + FAILED / 2, Wait::Short).await;
        assert!(matches!(failed, Err(ResolveError::Failed(error)) if error.to_string() == "no"));
        assert!(asked(&resolver, &name, start + FAILED).is_some());
    }

    #[tokio::test]
    async fn who_asks_and_is_gone_is_asked_no_more() {
        let (resolver, name, start) =
            (Resolver::new(Handle::current(), Arc::default()), name("shop.example"), clock::now());
        drop(asked(&resolver, &name, start));
        assert!(asked(&resolver, &name, start).is_some());
    }

    #[tokio::test]
    async fn what_strangers_make_us_resolve_is_bounded() {
        let (resolver, start) = (Resolver::new(Handle::current(), Arc::default()), clock::now());
        let senders: Vec<_> = many(3 * NAMES).iter().map(|name| asked(&resolver, name, start)).collect();
        assert!(resolver.answers.borrow().len() <= NAMES);
        drop(senders);
    }

    #[tokio::test(start_paused = true)]
    async fn names_of_servers_that_say_nothing_leave_room_for_those_that_are_known() {
        let (resolver, start) = (Resolver::new(Handle::current(), Arc::default()), clock::now());
        let names = many(3 * NAMES);
        let (known_names, silent) = names.split_at(NAMES - UNANSWERED);
        for name in known_names {
            tell(&asked(&resolver, name, start).unwrap(), start, Ok(known()));
        }
        let later = start + FRESH / 2;
        let open: Vec<_> = silent.iter().filter_map(|name| asked(&resolver, name, later)).collect();
        assert_eq!(open.len(), UNANSWERED);
        for name in known_names {
            assert!(asked(&resolver, name, later).is_none(), "{name} is fresh");
            assert!(asked(&resolver, name, start + FRESH).is_some(), "{name} is asked for again");
        }
        tell(&open[0], later, Ok(known()));
        assert!(asked(&resolver, &silent[UNANSWERED], start + FRESH).is_some(), "there is room for one");
    }

    #[tokio::test]
    async fn names_of_servers_that_say_nothing_leave_threads_for_others() {
        let resolver = Resolver::new(Handle::current(), Arc::default());
        let threads = Arc::clone(&resolver.threads);
        // As if each were blocked by a name that is not answered.
        let blocked = threads.unanswered.acquire_many(THREADS.try_into().unwrap()).await.unwrap();
        let (host, start) = (name("localhost"), clock::now());
        resolver.begin(&host, start);
        // One that is known is asked for again all the same.
        let known = Resolver::new(Handle::current(), Arc::clone(&threads));
        known.answer_for_tests(&host, &["192.0.2.1".parse().unwrap()], start);
        known.begin(&host, start + FRESH);
        let mut answer = known.answers.borrow()[&host].answer.clone();
        timeout_at((start + PATIENCE).into(), answer.wait_for(Option::is_some)).await.unwrap().unwrap();
        assert!(resolver.answers.borrow()[&host].is_open(), "it waits for a thread");
        drop(blocked);
        let found = resolver.resolve(&host, start, Wait::Until(clock::now() + PATIENCE)).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_was_answered_late_has_the_threads_of_those_that_are_not_answered() {
        let (resolver, name, start) =
            (Resolver::new(Handle::current(), Arc::default()), name("shop.example"), clock::now());
        let failure = || Err(Arc::new(io::Error::other("no")));
        let mut seen = Vec::new();
        let mut asked_at = start;
        for (wait, took, found) in [
            (Duration::ZERO, SHORT, failure()),
            // However long it has waited for a thread.
            (2 * FRESH, Duration::ZERO, Ok(known())),
            (Duration::ZERO, 2 * SHORT, Ok(known())),
            (Duration::ZERO, Duration::ZERO, Ok(known())),
        ] {
            let (begun, at) = (asked_at + wait, asked_at + wait + took);
            let _ = resolver.resolution_by(&name, asked_at, |_, last| {
                seen.push(last);
                watch::channel(Some(Answer { begun, at, found })).1
            });
            asked_at = at + FRESH;
        }
        let [soon, late] = [LastAnswer::Soon, LastAnswer::LateOrNone];
        assert_eq!(seen, [late, soon, soon, late]);
    }

    const PATIENCE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn one_name_more_than_there_is_room_for_costs_no_other_its_question_or_its_answer() {
        let (resolver, start) = (Resolver::new(Handle::current(), Arc::default()), clock::now());
        let names = many(NAMES + 1);
        let (known_names, last) = (&names[..NAMES], &names[NAMES]);
        for name in known_names {
            tell(&asked(&resolver, name, start).unwrap(), start, Ok(known()));
        }
        // The resolver goes silent, and each name is asked for again.
        let silent = start + FRESH;
        let open: Vec<_> = known_names.iter().map(|name| asked(&resolver, name, silent).unwrap()).collect();
        for _ in 0..3 {
            assert!(asked(&resolver, last, silent).is_none(), "there is no room for a question more");
            let refused = resolver.resolve(last, silent, Wait::Short).await;
            assert!(matches!(refused, Err(ResolveError::Failed(_))), "{refused:?}");
            for name in known_names {
                assert!(asked(&resolver, name, silent).is_none(), "{name} is asked for already");
            }
        }
        tokio::time::advance(FRESH + SHORT).await;
        for name in known_names {
            assert_eq!(resolver.resolve(name, silent, Wait::Short).await.unwrap(), known(), "{name}");
        }
        // The resolver is back: whoever has been answered makes room, one at a time, the least lately used first.
        for (sender, name) in open.iter().zip(known_names) {
            tell(sender, silent, Ok(known()));
            assert!(asked(&resolver, name, silent).is_none());
        }
        let later = silent + FRESH / 2;
        for name in known_names.iter().filter(|name| **name != known_names[7]) {
            assert!(asked(&resolver, name, later).is_none());
        }
        assert!(asked(&resolver, last, later).is_some());
        let answers = resolver.answers.borrow();
        assert_eq!(answers.len(), NAMES);
        assert!(!answers.contains_key(&known_names[7]) && answers.contains_key(last));
    }
}
