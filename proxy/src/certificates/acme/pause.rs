//! Pauses of a CA: one that is down, overloaded or limits the account is not asked by any instance for a while.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use tracing::{debug, info, warn};

use super::{Acme, OrderError, brief};
use crate::{
    certificates::failure::{NamedDate, is_ahead, paused_until},
    store::{StoreError, instant::epoch_millis, state_table::pause::Pause},
};

impl Acme {
    /// Until when the CA is paused, as far as this process knows; that may be past.
    pub(in crate::certificates) fn paused_until(&self) -> Option<SystemTime> {
        let millis = self.paused_until_millis.load(Ordering::Relaxed);
        (millis != NO_PAUSE).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }

    /// The fleet's pause, which may have ended.
    pub(in crate::certificates) async fn find_pause(&self) -> Result<Option<Pause>, StoreError> {
        let pause = Pause::find(&self.store, self.issuer.as_str()).await?;
        self.remember(pause.as_ref().map(|pause| pause.until));
        Ok(pause)
    }

    /// Reads the pause again that is in memory, once a minute: another instance may have ended it, or an operator who has deleted its item.
    pub(in crate::certificates) async fn look_at_pause(&self, now: SystemTime) {
        let is_paused = self.paused_until().is_some_and(|until| is_ahead(until, now));
        let (read_at, now) = (self.pause_read_at_millis.load(Ordering::Relaxed), epoch_millis(now));
        if !is_paused || now.abs_diff(read_at) < READ_EVERY_MILLIS {
            return;
        }
        self.pause_read_at_millis.store(now, Ordering::Relaxed);
        if let Err(error) = self.find_pause().await {
            let error: &dyn std::error::Error = &error;
            debug!(directory = %self.directory, error, "the table does not say whether the CA is still paused");
        }
    }

    /// Whether the caller is the one that tries the CA after `ended`; the others wait for its result.
    pub(in crate::certificates) async fn try_after(
        &self,
        ended: &Pause,
        now: SystemTime,
    ) -> Result<Option<Pause>, StoreError> {
        let trial = Pause { until: now + self.deadline, ..ended.clone() };
        let is_ours = trial.begin(&self.store, self.issuer.as_str(), Some(ended)).await?;
        Ok(is_ours.then_some(trial))
    }

    /// Pauses the CA for the fleet after `error`; returns until when. `before` is the pause in which it was tried.
    pub(in crate::certificates) async fn begin_pause(
        &self,
        before: Option<Pause>,
        error: &OrderError,
        now: SystemTime,
    ) -> SystemTime {
        let failures = before.as_ref().map_or(0, |pause| pause.failures).saturating_add(1);
        let date = |at| if error.is_limit() { NamedDate::Limit(at) } else { NamedDate::Fault(at) };
        let until = paused_until(now, failures, error.retry_after().map(date));
        let pause = Pause { failures, until, problem: brief(&error.to_string()) };
        self.remember(Some(until));
        self.pause_read_at_millis.store(epoch_millis(now), Ordering::Relaxed);
        match self.keep_later(pause, before).await {
            Ok(until) => {
                self.remember(Some(until));
                let for_seconds = until.duration_since(now).unwrap_or_default().as_secs();
                warn!(directory = %self.directory, problem = %error, for_seconds, failures, "this CA is paused");
                until
            }
            Err(failed) => {
                warn!(directory = %self.directory, error = %failed, "the pause of the CA is not recorded; only this instance knows it");
                until
            }
        }
    }

    /// Failures at one moment count once, with the latest of their dates.
    async fn keep_later(&self, pause: Pause, before: Option<Pause>) -> Result<SystemTime, StoreError> {
        let subject = self.issuer.as_str();
        let mut before = before;
        for _ in 0..ATTEMPTS {
            if pause.begin(&self.store, subject, before.as_ref()).await? {
                return Ok(pause.until);
            }
            before = Pause::find(&self.store, subject).await?;
            if let Some(other) = before.as_ref().filter(|other| other.until >= pause.until) {
                return Ok(other.until);
            }
        }
        Ok(pause.until)
    }

    /// The CA answers again.
    pub(in crate::certificates) async fn end_pause(&self) {
        self.remember(None);
        match Pause::end(&self.store, self.issuer.as_str()).await {
            Ok(()) => info!(directory = %self.directory, "the CA answers again"),
            Err(error) => {
                warn!(directory = %self.directory, %error, "the pause of the CA was not ended; it ends by itself");
            }
        }
    }

    fn remember(&self, until: Option<SystemTime>) {
        self.paused_until_millis.store(until.map_or(NO_PAUSE, epoch_millis), Ordering::Relaxed);
    }
}

/// In the atomic, which holds no option.
const NO_PAUSE: u64 = 0;
const ATTEMPTS: u32 = 3;
const READ_EVERY_MILLIS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        certificates::acme::error::{AcmeProblem, RefusalSubject},
        config,
        store::{Engine, Store, tables},
    };

    async fn fleet() -> [Arc<Acme>; 2] {
        let engine = Engine::in_memory().unwrap();
        let store = || Store::on(engine.clone(), &config::StoreConfig::default());
        tables::create(&store()).await.unwrap();
        let issuer = config::IssuerConfig::of("https://ca.example/dir", "");
        let settings = config::CertificatesConfig::default();
        [(); 2].map(|()| Acme::new(&issuer, &settings, &store()).unwrap())
    }

    fn limited(retry_after: SystemTime) -> OrderError {
        let problem = "too many new orders (300) from this account".to_owned();
        let kind = Some("urn:ietf:params:acme:error:rateLimited".to_owned());
        OrderError::Refused(AcmeProblem {
            problem,
            kind,
            status: Some(429),
            retry_after: Some(retry_after),
            subject: RefusalSubject::Untold,
        })
    }

    #[tokio::test]
    async fn a_cas_own_date_is_kept_in_full_by_the_fleet_whatever_else_fails() {
        let ([first, second], now) = (fleet().await, SystemTime::now());
        let until = now + Duration::from_hours(3);
        // Both had orders under way: the one that knows less comes last.
        first.begin_pause(None, &limited(until), now).await;
        let paused = second.begin_pause(None, &OrderError::BadNonce, now).await;
        let found = first.find_pause().await.unwrap().unwrap();
        for at in [found.until, paused, second.paused_until().unwrap()] {
            let missing = until.duration_since(at).unwrap_or_default();
            assert!(missing < Duration::from_millis(2), "{missing:?}");
        }
        assert_eq!(found.failures, 1, "failures of one moment count once");
    }

    /// A page for maintenance, or whoever stands in between.
    #[tokio::test]
    async fn a_server_that_fails_is_not_left_alone_for_days() {
        let ([first, second], now) = (fleet().await, SystemTime::now());
        let unavailable = OrderError::Unavailable {
            resource: "directory",
            status: hyper::StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(now + Duration::from_hours(7 * 24)),
        };
        let until = first.begin_pause(None, &unavailable, now).await;
        assert!(until <= now + Duration::from_hours(1), "{:?}", until.duration_since(now));
        let limited = OrderError::Unavailable {
            resource: "directory",
            status: hyper::StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(now + Duration::from_hours(3)),
        };
        let until = second.begin_pause(None, &limited, now).await;
        assert!(until > now + Duration::from_hours(2), "{:?}", until.duration_since(now));
    }

    #[tokio::test]
    async fn a_pause_that_was_ended_elsewhere_is_over_within_a_minute() {
        let ([first, second], now) = (fleet().await, SystemTime::now());
        let in_seconds = |seconds| now + Duration::from_secs(seconds);
        let limited = limited(in_seconds(3 * 3_600));
        first.begin_pause(None, &limited, now).await;
        second.find_pause().await.unwrap();
        second.look_at_pause(now).await;
        first.end_pause().await;
        second.look_at_pause(in_seconds(59)).await;
        assert!(second.paused_until().is_some(), "the table is not read for each name");
        second.look_at_pause(in_seconds(61)).await;
        assert_eq!(second.paused_until(), None);
    }

    #[tokio::test]
    async fn of_what_a_ca_says_a_pause_keeps_a_line() {
        let ([first, second], now) = (fleet().await, SystemTime::now());
        let long = format!("\u{1b}[2J{}", "x".repeat(200_000));
        let error = OrderError::Malformed { problem: long, status: None, retry_after: None };
        first.begin_pause(None, &error, now).await;
        let problem = second.find_pause().await.unwrap().unwrap().problem;
        assert!(problem.len() <= 500 && !problem.contains('\u{1b}'), "{} bytes", problem.len());
    }

    #[tokio::test]
    async fn after_a_pause_one_instance_tries_and_its_success_ends_it_for_all() {
        let ([first, second], now) = (fleet().await, SystemTime::now());
        let until = first.begin_pause(None, &OrderError::BadNonce, now).await;
        let ended = second.find_pause().await.unwrap().unwrap();
        let tries = [first.try_after(&ended, until).await, second.try_after(&ended, until).await];
        assert_eq!(tries.iter().filter(|tried| tried.as_ref().unwrap().is_some()).count(), 1);
        first.end_pause().await;
        assert_eq!(second.find_pause().await.unwrap(), None);
        assert_eq!(second.paused_until(), None);
    }
}
