//! Checks endpoints whose targets ask for it, as long as a worker sends requests there.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{StatusCode, uri::PathAndQuery};

use super::{
    checks::{Checked, HealthChange},
    connector::{Connector, NewConnection},
    destination::Destination,
    destinations::Destinations,
    failure::UpstreamFailure,
    http2::Http2Connection,
    request_writer::RequestWriter,
    settings::UpstreamSettings,
};
use crate::{
    clock::now, forward::metrics::CheckResult, target::UpstreamProtocol, telemetry::metrics::Counters,
    transport::Transport,
};

/// One worker's.
pub(super) struct Prober<T: Transport> {
    pub(super) connector: Rc<Connector<T>>,
    pub(super) destinations: Rc<Destinations>,
    pub(super) settings: Arc<UpstreamSettings>,
    pub(super) checks: Counters<CheckResult>,
}

impl<T: Transport> Prober<T> {
    /// Checks for ever what is due.
    pub(super) async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            for destination in self.destinations.checked() {
                let (Some(checked), Some(path)) = (&destination.checked, &destination.endpoint.health) else {
                    continue;
                };
                if checked.begin(now(), *self.settings.limits.check_interval) {
                    let (prober, checked, path) = (Rc::clone(&self), Arc::clone(checked), path.clone());
                    let destination = Rc::clone(&destination);
                    tokio::task::spawn_local(
                        async move { prober.check(&destination, &checked, &path).await },
                    );
                }
            }
        }
    }

    async fn check(&self, destination: &Destination, checked: &Checked, path: &PathAndQuery) {
        let limit = *self.settings.limits.check_timeout;
        let answer = tokio::time::timeout(limit, self.ask(destination, path, limit)).await;
        let answer = answer.unwrap_or(Err(UpstreamFailure::ResponseTimeout));
        let passed = answer.as_ref().is_ok_and(|status| status.is_success() || status.is_redirection());
        self.checks.bump(if passed { CheckResult::Passed } else { CheckResult::Failed });
        let (endpoint, address) = (&destination.endpoint, &destination.address);
        match checked.end(passed) {
            Some(HealthChange::Fails) => {
                let reason = answer.map_or_else(|failure| failure.to_string(), |status| status.to_string());
                tracing::warn!(%endpoint, %address, %path, reason, "an endpoint fails its checks; others get its requests");
            }
            Some(HealthChange::PassesAgain) => {
                tracing::info!(%endpoint, %address, %path, "an endpoint passes its checks again");
            }
            None => {}
        }
    }

    /// Asks over a connection of its own: that there are no further ones is part of what is to be seen.
    async fn ask(
        &self,
        destination: &Destination,
        path: &PathAndQuery,
        limit: Duration,
    ) -> Result<StatusCode, UpstreamFailure> {
        let (mut request, endpoint) = (RequestWriter::check(path), &destination.endpoint);
        let connection = match endpoint.protocol {
            // For nobody but us.
            UpstreamProtocol::Http1 => NewConnection::Http1(self.connector.http1(destination, None).await?),
            UpstreamProtocol::Http2 => NewConnection::Http2(self.connector.http2(destination).await?),
            UpstreamProtocol::Auto => self.connector.auto(destination).await?,
        };
        match connection {
            NewConnection::Http1(mut connection) => {
                request.address(endpoint);
                Ok(connection.exchange(&mut request, limit).await?.status)
            }
            NewConnection::Http2(connection) => {
                let stream = Http2Connection::stream(&connection);
                Ok(stream.exchange(&mut request, endpoint, limit).await?.status())
            }
        }
    }
}

/// How often it is looked for what is due.
const TICK: Duration = Duration::from_secs(1);
