//! Waiting for a condition with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

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
                return Err(seen.context(format!("waited {within:?} for {what}, and saw last")));
            }
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}

const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
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
