//! The cleartext port: health for load balancers, answers to http-01 validations, the name of the edge, redirects to HTTPS.
//! Not here: connections and their limits (`worker`); the form of our own responses (`forward`).
//! Invariant: nothing is forwarded (`only_health_validations_and_the_edges_name_are_not_redirected`).

mod plan;

use std::{rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, uri::Scheme};
use hyper::body::Body as _;

use self::plan::Plan;
pub(crate) use self::plan::is_health;
use crate::{
    certificates::{Certificates, ChallengeToken},
    config::Reloadable,
    domains::{Caller, Domains, Permission},
    forward::{
        Answer, Authority, Downstream, ErrorPages, RequestLog, RequestOutcome, RequestRecord, RequestRefusal,
        TrustedProxies, fitting, own_response, permanent_redirect,
    },
    http1::RequestParts,
    name::ServerName,
    phase::{Phase, PhaseWatch},
};

/// What all workers share; one per process.
pub struct CleartextService {
    /// Permission.
    pub domains: Domains,
    /// Answers to http-01 validations.
    pub certificates: Certificates,
    /// The state that `/health` reports.
    pub phase: PhaseWatch,
    /// What the edge is called, if it has a name.
    pub edge: Option<ServerName>,
    /// What clients see where a request is refused.
    pub error_pages: Reloadable<ErrorPages>,
    /// Where redirects point.
    pub public_https_port: u16,
    /// Whose word is taken for who a request's client is.
    pub trusted_proxies: TrustedProxies,
}

/// One worker's; cheap to clone.
#[derive(Clone)]
pub struct Cleartext {
    service: Arc<CleartextService>,
    request_log: Rc<RequestLog>,
}

/// A response, and the outcome it is counted as.
type Counted = Result<(RequestOutcome, Answer), RequestRefusal>;

impl Cleartext {
    /// For one worker.
    #[must_use]
    pub fn new(service: Arc<CleartextService>, request_log: Rc<RequestLog>) -> Self {
        Self { service, request_log }
    }

    /// Answers a request; `at` is when its header section was complete.
    pub async fn serve(&self, head: Box<RequestParts>, downstream: &Downstream, at: Instant) -> Answer {
        let downstream = &*self.service.trusted_proxies.see(downstream, &head.fields);
        let mut record = self.request_log.record(&head, downstream, &Scheme::HTTP, at);
        let answer = match plan::plan(&head) {
            Ok(plan) => self.answer(plan, &head, downstream, &mut record).await,
            Err(violation) => Err(violation.into()),
        };
        match answer {
            Ok((outcome, answer)) => {
                let answer = fitting(answer, &head.method);
                record.ours(outcome, answer.status, answer.body.size_hint().lower());
                answer
            }
            Err(refusal) => record.refuse(&refusal, &self.service.error_pages.load()),
        }
    }

    async fn answer(
        &self,
        plan: Plan,
        head: &RequestParts,
        downstream: &Downstream,
        record: &mut RequestRecord,
    ) -> Counted {
        match plan {
            Plan::Health => Ok((RequestOutcome::Health, health(*self.service.phase.borrow()))),
            Plan::Edge => Ok((RequestOutcome::NameEdge, self.edge())),
            Plan::Challenge { name, token } => {
                let permission = self.admit(&name, downstream, record).await?;
                Ok(self.challenge(&name, &permission, token, downstream).await)
            }
            Plan::Redirect { host } => {
                let permission = self.admit(&host.name, downstream, record).await?;
                let host = straight(host, &permission);
                let location = plan::location(head, &host, self.service.public_https_port)?;
                Ok((RequestOutcome::Redirect, permanent_redirect(location)))
            }
        }
    }

    fn edge(&self) -> Answer {
        match &self.service.edge {
            Some(name) => plain(StatusCode::OK, format!("{name}\n").into()),
            None => plain(StatusCode::NOT_FOUND, "this edge has no name\n".into()),
        }
    }

    /// Permission comes first: a made-up name or token must not cost a look-up in the table.
    async fn admit(
        &self,
        name: &ServerName,
        downstream: &Downstream,
        record: &mut RequestRecord,
    ) -> Result<Permission, RequestRefusal> {
        record.server_name = Some(name.clone());
        let caller = Caller::Client(downstream.peer.ip());
        match self.service.domains.permission(name, caller).await {
            Permission::Deny(_) => Err(RequestRefusal::UnknownName),
            permission @ (Permission::Allow(_) | Permission::Unknown(_)) => Ok(permission),
        }
    }

    async fn challenge(
        &self,
        name: &ServerName,
        permission: &Permission,
        token: Option<ChallengeToken>,
        downstream: &Downstream,
    ) -> (RequestOutcome, Answer) {
        let (certificates, from) = (&self.service.certificates, downstream.peer.ip());
        let answer = match token {
            Some(token) => certificates.http_answer(name, permission, &token, from).await,
            None => None,
        };
        match answer {
            // RFC 8555 §8.3: the key authorization and nothing else.
            Some(answer) => (RequestOutcome::AnswerChallenge, plain(StatusCode::OK, answer.into())),
            None => (RequestOutcome::RefuseChallenge, plain(StatusCode::NOT_FOUND, UNKNOWN_CHALLENGE.into())),
        }
    }
}

/// The response to a load balancer. Global Accelerator takes an instance out of service on anything but 200; a degraded one stays, since
/// all instances would leave it together for a table that is down.
fn health(phase: Phase) -> Answer {
    match phase {
        Phase::Serving | Phase::Replaced => plain(StatusCode::OK, "ok\n".into()),
        Phase::Degraded => {
            plain(StatusCode::OK, "degraded: names that are not in memory cannot be looked up\n".into())
        }
        Phase::Restored => plain(
            StatusCode::OK,
            "restored: the tables do not answer, names of the local copy are served\n".into(),
        ),
        Phase::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n".into()),
        Phase::Unable => plain(StatusCode::SERVICE_UNAVAILABLE, "unable\n".into()),
        Phase::Overloaded => plain(StatusCode::SERVICE_UNAVAILABLE, "overloaded\n".into()),
        Phase::Leaving => plain(StatusCode::SERVICE_UNAVAILABLE, "leaving\n".into()),
        Phase::Draining => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into()),
    }
}

/// Where a client gets to in one step: the other name of a pair only leads to the entry's own.
fn straight(host: Authority, permission: &Permission) -> Authority {
    match permission {
        Permission::Allow(entry) => {
            let name = entry.leads_pair(&host.name).unwrap_or(&host.name).clone();
            Authority { name, ..host }
        }
        Permission::Deny(_) | Permission::Unknown(_) => host,
    }
}

/// RFC 9110 §15.4.9: permanent, and the method stays.
fn plain(status: StatusCode, text: Bytes) -> Answer {
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    own_response(status, text, &[(header::CONTENT_TYPE, content_type)])
}

const UNKNOWN_CHALLENGE: &str = "no such challenge\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DomainSettings, WwwPair},
        domains::{DomainEntry, UnknownReason},
        name::Pattern,
    };

    #[test]
    fn the_other_name_of_a_pair_leads_to_the_entrys_own_at_once() {
        let entry = |www| {
            let entry = DomainEntry::for_tests(Pattern::parse("shop.example").unwrap());
            let settings = DomainSettings { www: Some(www), ..entry.settings };
            Permission::Allow(Arc::new(DomainEntry { settings, ..entry }))
        };
        for (permission, asked, led) in [
            (entry(WwwPair::Redirect), "www.shop.example", "shop.example"),
            (entry(WwwPair::Redirect), "shop.example", "shop.example"),
            (entry(WwwPair::Serve), "www.shop.example", "www.shop.example"),
            (Permission::Unknown(UnknownReason::SourceDown), "www.shop.example", "www.shop.example"),
        ] {
            let host = Authority::parse(asked.as_bytes(), 80).unwrap();
            assert_eq!(straight(host, &permission).name.as_str(), led, "{asked}: {permission:?}");
        }
    }

    #[test]
    fn health_says_200_in_every_phase_that_is_healthy_and_in_no_other() {
        for phase in [
            Phase::Starting,
            Phase::Serving,
            Phase::Degraded,
            Phase::Restored,
            Phase::Unable,
            Phase::Overloaded,
            Phase::Leaving,
            Phase::Draining,
            Phase::Replaced,
        ] {
            let status = health(phase).status;
            assert_eq!(status == StatusCode::OK, phase.is_healthy(), "{phase:?}: {status}");
        }
        assert!(
            Phase::Replaced.is_healthy(),
            "a load balancer that has a connection left means the successor"
        );
    }
}
