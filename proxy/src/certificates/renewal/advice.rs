//! The CA's advice when to renew (RFC 9773): read when a certificate was issued and again as often as the CA asks, each by the instance
//! that claims it; a window that the CA moves moves the date of the renewal in the table.
//! Not here: how the CA is asked (`acme`), what is renewed at its date (`renewal`).
//! Invariants: a CA is asked for a certificate once an hour at most and once a day at least, by one instance
//! (`the_ca_is_asked_again_within_an_hour_and_a_day`); a CA that says nothing, or nothing that can be read, changes no date
//! (`what_cannot_be_read_changes_no_date`); none is asked about a name that is not allowed (`no_ca_is_asked_about_a_name_that_is_not_allowed`);
//! no advice has a certificate renewed within an hour of its order, nor the first one within
//! a twentieth of its life, nor keeps it until it ends
//! (`no_window_makes_a_date_outside_of_its_bounds`).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use super::{Allowance, DueWork, PAGE, Round};
use crate::{
    certificates::{
        CertificatesInner,
        acme::{Acme, CaAdvice, CaAdviceError, brief},
        failure,
        issue::warn_of,
        issuer::Issuer,
        metrics::{Advised, Claimed},
    },
    clock,
    domains::Permission,
    random,
    store::{
        StoreError,
        instant::Micros,
        state_table::{
            self, Due, DuePage, DueStart, RenewalInfo, RenewalInfoClaim, RenewalWindow, Rescheduled,
            claim_renewal_info, due_renewal_info, end_renewal_info, settle_renewal_info,
        },
    },
    telemetry::{admit_line, error_chain},
};

/// Asks CAs about the certificates for which that is due, each few periods.
pub(in crate::certificates) async fn ask(inner: Arc<CertificatesInner>) {
    if inner.issuers.iter().all(|issuer| issuer.acme().is_none()) {
        return;
    }
    let mut ticks = tokio::time::interval(*inner.config.renewal_period * PERIODS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round = Round::new(Arc::new(Advice(inner)));
    loop {
        ticks.tick().await;
        if let Err(error) = round.work_off().await
            && let Some(left_out) = admit_line("renewal_info_unread", "")
        {
            // Whoever looks for due renewals warns of a table that does not answer.
            let error = &error as &dyn std::error::Error;
            info!(
                error,
                left_out,
                "the table does not say for which certificates CAs are to be asked when to renew them; tried again"
            );
        }
    }
}

/// The work of asking.
struct Advice(Arc<CertificatesInner>);

impl DueWork for Advice {
    type Claim = RenewalInfoClaim;

    async fn due(&self, shard: u8, now: SystemTime, start: Option<&DueStart>) -> Result<DuePage, StoreError> {
        due_renewal_info(&self.0.store, shard, now, start, PAGE).await
    }

    async fn claim(
        &self,
        due: &Due,
        until: SystemTime,
    ) -> Result<Option<(RenewalInfoClaim, u32)>, StoreError> {
        let claim = claim_renewal_info(&self.0.store, due, until).await?;
        Ok(claim.map(|claim| (claim, 0)))
    }

    /// As long as the CA usually wants, so that asking it usually costs this one write.
    fn claim_life(&self) -> Duration {
        USUAL
    }

    /// Asking costs no order.
    async fn allow(&self, count: u64, now: SystemTime) -> Result<Allowance, StoreError> {
        let is_closing = *self.0.closing.borrow();
        Ok(if is_closing { Allowance::Until(now) } else { Allowance::Unpaid { count } })
    }

    async fn give_back(&self, _: usize, _: u64) {}

    /// How asking ends is counted alone.
    fn count(&self, _: Claimed) {}

    async fn carry_out(self: Arc<Self>, claim: RenewalInfoClaim, _: Option<usize>) {
        match self.0.follow_advice(&claim).await {
            Ok(advised) => self.0.metrics.renewals.advised.bump(advised),
            Err(error) => warn_of(
                &claim.info.name,
                &error,
                "the CA's advice when to renew a certificate could not be written; it is asked again",
            ),
        }
    }
}

impl CertificatesInner {
    async fn follow_advice(&self, claim: &RenewalInfoClaim) -> Result<Advised, StoreError> {
        let (info, now) = (&claim.info, clock::wall());
        let asked = self.ask_about(claim, now).await;
        let decision = decide(info, asked, now, random::fraction());
        if let Decision { advised: Advised::Fail, problem: Some(problem), .. } = &decision
            && let Some(left_out) = admit_line("renewal_info_failed", "")
        {
            warn!(server_name = %info.name, directory = %info.directory, problem, left_out, "the CA did not say when a certificate is to be renewed; its date stays");
        }
        let decision = match decision.renew_at {
            None => decision,
            Some(renew_at) => {
                let rescheduled =
                    state_table::reschedule(&self.store, &info.name, &info.serial, renew_at).await?;
                if rescheduled == Rescheduled::Moved {
                    info!(server_name = %info.name, renew_at = %Micros::of(renew_at), why = decision.explanation, "the CA has set the time of a renewal");
                }
                decision.met_by(rescheduled)
            }
        };
        match decision.ask_at {
            Some(at) if decision.window.is_none() && is_near(at, claim.until.at()) => {}
            Some(at) => settle_renewal_info(&self.store, claim, at, decision.window).await?,
            None => end_renewal_info(&self.store, claim).await?,
        }
        Ok(decision.advised)
    }
}

impl CertificatesInner {
    async fn ask_about(&self, claim: &RenewalInfoClaim, now: SystemTime) -> Asked {
        let info = &claim.info;
        if info.not_after <= now {
            return Asked::Never;
        }
        let acme = self.issuers.iter().find_map(|issuer| of_directory(issuer, &info.directory));
        // Settings may be about to change on all instances.
        let Some(acme) = acme else { return Asked::Later(now + LONGEST) };
        if let Some(until) = acme.paused_until().filter(|until| failure::is_ahead(*until, now)) {
            return Asked::Later(ask_again(Some(until), now));
        }
        match self.permission(&info.name).await {
            Permission::Allow(_) => Asked::Now(acme.advice(&info.certificate).await),
            // Its renewal would not be ordered. Once its certificate has ended, it is out of the renewals.
            Permission::Deny(_) => Asked::Later(now + LONGEST),
            Permission::Unknown(_) => Asked::Later(claim.until.at()),
        }
    }
}

fn is_near(at: SystemTime, other: SystemTime) -> bool {
    let apart = at.duration_since(other).unwrap_or_else(|earlier| earlier.duration());
    apart <= LEEWAY
}

fn of_directory<'a>(issuer: &'a Issuer, directory: &str) -> Option<&'a Arc<Acme>> {
    issuer.acme().filter(|acme| acme.directory == directory)
}

/// The outcome of asking.
#[derive(Debug)]
enum Asked {
    Now(Result<CaAdvice, CaAdviceError>),
    Later(SystemTime),
    Never,
}

/// What to do with it.
#[derive(Debug, PartialEq, Eq)]
struct Decision {
    advised: Advised,
    /// The renewal's new date.
    renew_at: Option<SystemTime>,
    /// When the CA is asked next, if ever.
    ask_at: Option<SystemTime>,
    /// To be remembered, if it is new.
    window: Option<RenewalWindow>,
    explanation: Option<String>,
    problem: Option<String>,
}

impl Decision {
    fn unchanged(advised: Advised, ask_at: Option<SystemTime>) -> Self {
        Self { advised, renew_at: None, ask_at, window: None, explanation: None, problem: None }
    }

    /// What is left of it where the date could not be set as it says.
    fn met_by(self, rescheduled: Rescheduled) -> Self {
        match rescheduled {
            Rescheduled::Moved => self,
            // The window may move into the past yet, before a revocation: the CA is asked on.
            Rescheduled::Kept => Self { advised: Advised::Keep, ..self },
            Rescheduled::Gone => Self::unchanged(Advised::End, None),
        }
    }
}

/// `fraction`, from 0 to less than 1, is the place within the window.
fn decide(info: &RenewalInfo, asked: Asked, now: SystemTime, fraction: f64) -> Decision {
    let advice = match asked {
        Asked::Never | Asked::Now(Err(CaAdviceError::Unsupported)) => {
            return Decision::unchanged(Advised::End, None);
        }
        Asked::Later(at) => return Decision::unchanged(Advised::Postpone, Some(at)),
        Asked::Now(Err(error)) => {
            let unchanged = Decision::unchanged(Advised::Fail, Some(ask_again(error.retry_after(), now)));
            let cause = brief(&error_chain(&error));
            return Decision { problem: Some(cause), ..unchanged };
        }
        Asked::Now(Ok(advice)) => advice,
    };
    let ask_at = Some(ask_again(advice.retry_after, now));
    match advice.window {
        None => {
            let problem = Some("the window that it names ends before it begins".to_owned());
            Decision { problem, ..Decision::unchanged(Advised::Fail, ask_at) }
        }
        // A new place in the same window would move the date each time.
        Some(window) if info.window == Some(window) => Decision::unchanged(Advised::Keep, ask_at),
        Some(window) => Decision {
            advised: Advised::Move,
            renew_at: Some(date(info, window, fraction)),
            ask_at,
            window: Some(window),
            explanation: advice.explanation,
            problem: None,
        },
    }
}

/// RFC 9773 §4.2: a time by chance within the window. One that is past is due at once where the CA has moved it; a CA that names a past one for
/// whatever it has just issued would have each certificate renewed again and again.
fn date(info: &RenewalInfo, window: RenewalWindow, fraction: f64) -> SystemTime {
    let at = window.start.at() + window.end.since(window.start).mul_f64(fraction);
    let life = info.not_after.duration_since(info.renew_from).unwrap_or_default();
    let unmoved = if info.window.is_none() { life / UNMOVED_PART } else { Duration::ZERO };
    at.max(info.renew_from + unmoved).min(info.renew_until)
}

/// Of its life, a part that a certificate is kept for whatever the CA's first window is.
const UNMOVED_PART: u32 = 20;

/// RFC 9773 §4.3.2: the server's `Retry-After` within limits, or six hours. The limits are an hour, since a fleet has many certificates,
/// and a day, so that a revocation to come is heard of in time.
fn ask_again(retry_after: Option<SystemTime>, now: SystemTime) -> SystemTime {
    retry_after.unwrap_or(now + USUAL).clamp(now + SHORTEST, now + LONGEST)
}

const SHORTEST: Duration = Duration::from_hours(1);
const USUAL: Duration = Duration::from_hours(6);
const LONGEST: Duration = Duration::from_hours(24);
/// By so much the end of a claim may miss the time at which the CA wants to be asked.
const LEEWAY: Duration = Duration::from_mins(10);
/// As many periods of renewals lie between two searches: nothing is due oftener than once an hour.
const PERIODS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Pattern;

    const HOUR: Duration = Duration::from_hours(1);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + HOUR * 500_000
    }

    /// Of a certificate of 90 days, ordered a day ago.
    fn info(window: Option<RenewalWindow>) -> RenewalInfo {
        RenewalInfo {
            name: Pattern::parse("a.example").unwrap(),
            directory: "https://ca.example/dir".to_owned(),
            certificate: "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE".to_owned(),
            serial: "0087654321".to_owned(),
            not_after: now() + HOUR * 24 * 89,
            renew_from: now() - HOUR * 23,
            renew_until: now() + HOUR * 24 * 74,
            window,
        }
    }

    /// From and until so many hours after now.
    fn window(from: u32, until: u32) -> Option<RenewalWindow> {
        RenewalWindow::new(now() + HOUR * from, now() + HOUR * until)
    }

    fn past(from: u32, until: u32) -> Option<RenewalWindow> {
        RenewalWindow::new(now() - HOUR * from, now() - HOUR * until)
    }

    fn said(window: Option<RenewalWindow>) -> Asked {
        Asked::Now(Ok(CaAdvice { window, explanation: None, retry_after: None }))
    }

    fn date_after(info: &RenewalInfo, asked: Asked, fraction: f64) -> Option<SystemTime> {
        decide(info, asked, now(), fraction).renew_at
    }

    #[test]
    fn a_window_that_moves_moves_the_date_and_one_that_stays_does_not() {
        for (known, said_now, fraction, expected) in [
            (None, window(100, 200), 0.0, Some(now() + HOUR * 100)),
            (None, window(100, 200), 0.5, Some(now() + HOUR * 150)),
            (window(100, 200), window(100, 200), 0.9, None),
            (window(100, 200), window(300, 400), 0.5, Some(now() + HOUR * 350)),
            // The CA revokes many: the window is past, and so is the date.
            (window(100, 200), past(12, 10), 0.5, Some(now() - HOUR * 11)),
        ] {
            assert_eq!(date_after(&info(known), said(said_now), fraction), expected, "{said_now:?}");
        }
    }

    /// `renew --all` before a revocation that the CA announces by its window.
    #[test]
    fn a_ca_is_asked_on_whose_window_is_later_than_an_operators_date() {
        for (rescheduled, advised, is_asked) in [
            (Rescheduled::Moved, Advised::Move, true),
            (Rescheduled::Kept, Advised::Keep, true),
            (Rescheduled::Gone, Advised::End, false),
        ] {
            let decision = decide(&info(None), said(window(100, 200)), now(), 0.5).met_by(rescheduled);
            assert_eq!((decision.advised, decision.ask_at.is_some()), (advised, is_asked), "{rescheduled:?}");
            assert_eq!(decision.window.is_some(), is_asked, "one that moves is told from one that stays");
        }
    }

    #[test]
    fn no_window_makes_a_date_outside_of_its_bounds() {
        let (bounded, moved) = (info(None), info(window(24 * 60, 24 * 61)));
        let life = bounded.not_after.duration_since(bounded.renew_from).unwrap();
        let first = bounded.renew_from + life / UNMOVED_PART;
        assert_eq!(date_after(&bounded, said(past(100, 90)), 0.5), Some(first));
        assert_eq!(date_after(&moved, said(past(100, 90)), 0.5), Some(moved.renew_from));
        assert_eq!(date_after(&bounded, said(window(24 * 80, 24 * 90)), 0.5), Some(bounded.renew_until));
        // A certificate shorter than an hour: its end counts.
        let short = RenewalInfo { renew_from: now() + HOUR, renew_until: now() + HOUR / 2, ..info(None) };
        assert_eq!(date_after(&short, said(past(2, 1)), 0.5), Some(short.renew_until));
    }

    #[test]
    fn what_cannot_be_read_changes_no_date() {
        let unavailable = CaAdviceError::Status {
            status: hyper::StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(now() + HOUR * 2),
        };
        let malformed = serde_json::from_str::<u8>("x").map_err(CaAdviceError::from).unwrap_err();
        for (asked, advised, hours) in [
            (Asked::Now(Err(CaAdviceError::Unsupported)), Advised::End, None),
            (Asked::Now(Err(unavailable)), Advised::Fail, Some(2)),
            (Asked::Now(Err(malformed)), Advised::Fail, Some(6)),
            (said(None), Advised::Fail, Some(6)),
            (Asked::Later(now() + HOUR * 3), Advised::Postpone, Some(3)),
            (Asked::Never, Advised::End, None),
        ] {
            let text = format!("{asked:?}");
            let decision = decide(&info(window(100, 200)), asked, now(), 0.5);
            assert_eq!(
                (decision.renew_at, decision.window, decision.advised),
                (None, None, advised),
                "{text}"
            );
            assert_eq!(decision.ask_at, hours.map(|hours| now() + HOUR * hours), "{text}");
        }
    }

    #[test]
    fn the_ca_is_asked_again_within_an_hour_and_a_day() {
        for (retry_after, expected) in [
            (None, HOUR * 6),
            (Some(now() + HOUR * 2), HOUR * 2),
            (Some(now() + Duration::from_secs(1)), HOUR),
            (Some(now() - HOUR), HOUR),
            (Some(now() + HOUR * 24 * 365), HOUR * 24),
        ] {
            assert_eq!(ask_again(retry_after, now()), now() + expected, "{retry_after:?}");
        }
    }
}
