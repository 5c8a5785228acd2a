//! Endpoints whose health is checked, on a paused clock.

use std::cell::Cell;

use super::{limits::IDLE, *};
use crate::transport::tests::memory::{Memory, MemoryListener};

/// Two endpoints in memory; each answers `/up` with its status, and all else with 200 and its place.
struct Checked {
    memory: Memory,
    address: SocketAddr,
    statuses: [Rc<Cell<u16>>; 2],
    metrics: RequestMetrics,
}

impl Checked {
    async fn counted(&self, outcome: RequestOutcome, times: u64) {
        counted_all(&self.metrics, outcome, times, times).await;
    }

    /// The places of the endpoints that answer some requests.
    async fn answering(&self) -> Vec<String> {
        let mut client = self.memory.dial(self.address).unwrap();
        let mut places = Vec::new();
        for _ in 0..40 {
            say(&mut client, GET).await;
            head_of(&mut client).await;
            let mut place = [0];
            client.read_exact(&mut place).await.unwrap();
            places.push(String::from_utf8(place.to_vec()).unwrap());
        }
        places.sort();
        places.dedup();
        places
    }
}

async fn serve(mut listener: MemoryListener, place: usize, status: Rc<Cell<u16>>) {
    loop {
        let (stream, status) = (listener.accept().await, Rc::clone(&status));
        tokio::task::spawn_local(answer_each(stream, move |head| {
            let status = if head.starts_with("GET /up ") { status.get() } else { 200 };
            // A status of 0: no answer at all.
            (status != 0).then(|| format!("HTTP/1.1 {status} .\r\nContent-Length: 1\r\n\r\n{place}"))
        }));
    }
}

fn checked<F: Future<Output = ()>>(case: impl FnOnce(Checked) -> F) {
    Memory::run(|memory| async move {
        let (listeners, front_listener) = ([memory.bind(), memory.bind()], memory.bind());
        let address = front_listener.address;
        let endpoints =
            listeners.each_ref().map(|listener| format!("http://{};health=/up", listener.address));
        let statuses = [200, 200].map(|status| Rc::new(Cell::new(status)));
        for (place, (listener, status)) in listeners.into_iter().zip(&statuses).enumerate() {
            tokio::task::spawn_local(serve(listener, place, Rc::clone(status)));
        }
        let (setting, metrics) =
            (Setting::default(), RequestMetrics::register(&prometheus::Registry::new()).unwrap());
        let target = Target::parse(&endpoints.join(", ")).unwrap();
        let limits = config::LimitsConfig { idle: config::Span::secs(IDLE.as_secs()), ..Default::default() };
        let relay = Rc::new(relay_within(memory.clone(), &setting, limits, metrics.clone()));
        let permission = permission(target, &setting);
        let phase = watch::channel(Phase::Serving).1;
        tokio::task::spawn_local(front::<Memory>(
            front_listener,
            relay,
            permission,
            (setting.version, phase),
            None,
        ));
        case(Checked { memory, address, statuses, metrics }).await;
    })
    .unwrap();
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes_again() {
    for failing in [503, 404, 0] {
        checked(async |edge| {
            assert_eq!(edge.answering().await, ["0", "1"]);
            let seconds = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
            edge.statuses[0].set(failing);
            seconds(6).await;
            assert_eq!(edge.answering().await, ["0", "1"], "{failing}: one failure is no reason");
            seconds(14).await;
            assert_eq!(edge.answering().await, ["1"], "{failing}");
            edge.statuses[1].set(failing);
            seconds(20).await;
            assert_eq!(edge.answering().await, ["0", "1"], "{failing}: where nothing else is left");
            edge.statuses.iter().for_each(|status| status.set(302));
            seconds(20).await;
            assert_eq!(edge.answering().await, ["0", "1"]);
            let checks = &edge.metrics.checks;
            let (passed, failed) = (checks.count(CheckResult::Passed), checks.count(CheckResult::Failed));
            assert!(
                (8..=16).contains(&passed) && (9..=14).contains(&failed),
                "{passed} passed, {failed} failed"
            );
            // Nobody but us has seen the checks.
            edge.counted(RequestOutcome::Forward, 200).await;
        });
    }
}

#[test]
fn a_target_that_nobody_asks_for_is_not_checked() {
    checked(async |edge| {
        edge.answering().await;
        tokio::time::sleep(Duration::from_mins(5)).await;
        let passed = edge.metrics.checks.count(CheckResult::Passed);
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert_eq!(edge.metrics.checks.count(CheckResult::Passed), passed);
    });
}
