//! Waiting for a condition with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Error;

/// Probes until `probe` succeeds; when `within` has passed, the error says what the last probe saw.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() >= within => {
                return Err(given_up(what, within, seen));
            }
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}

/// The same inside a runtime, which runs on meanwhile; the time is tokio's, so that it may be paused.
pub async fn until_async<T, P: Future<Output = anyhow::Result<T>>>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> P,
) -> anyhow::Result<T> {
    let started = tokio::time::Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() >= within => return Err(given_up(what, within, seen)),
            Err(_) => tokio::time::sleep(PAUSE_ASYNC).await,
        }
    }
}

fn given_up(what: &str, within: Duration, seen: Error) -> Error {
    seen.context(format!("waited {within:?} for {what}, and saw last"))
}

/// Conditions inside a process are cheap to look at, and come about sooner.
const PAUSE_ASYNC: Duration = Duration::from_millis(1);
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_wait_that_fails_says_what_it_saw() {
        let mut probes = 0;
        let outcome: anyhow::Result<()> = until("rain", Duration::from_millis(30), || {
            probes += 1;
            anyhow::bail!("sunshine {probes}")
        });
        let text = format!("{:#}", outcome.unwrap_err());
        assert!(text.contains("rain") && text.contains(&format!("sunshine {probes}")), "{text}");
    }

    #[tokio::test]
    async fn a_wait_inside_a_runtime_ends_with_the_first_success_or_says_what_it_saw() {
        let probes = Cell::new(0);
        let look = async |enough: u32| {
            probes.set(probes.get() + 1);
            anyhow::ensure!(probes.get() >= enough, "only {}", probes.get());
            Ok(probes.get())
        };
        assert_eq!(until_async("three", Duration::from_secs(5), async || look(3).await).await.unwrap(), 3);
        let outcome = until_async("many", Duration::from_millis(5), async || look(u32::MAX).await).await;
        let text = format!("{:#}", outcome.unwrap_err());
        assert!(text.contains("for many, and saw last: only "), "{text}");
    }

    #[test]
    fn a_wait_ends_with_the_first_success() {
        let mut probes = 0;
        let seen = until("the third probe", Duration::from_secs(5), || {
            probes += 1;
            anyhow::ensure!(probes == 3, "{probes}");
            Ok(probes)
        });
        assert_eq!(seen.unwrap(), 3);
    }
}
