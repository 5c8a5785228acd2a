//! Relays an admitted request: rewritten, sent to its upstream, and the response streamed back.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};

use super::{
    Answer, Body, RelaySettings, Then,
    admit::RequestViolation,
    cdn_loop::CdnLoop,
    compression::{Encoder, Preference, Streams, Treatment},
    domain_route::Admitted,
    error_pages::ErrorPages,
    header_rules::{self, TemplateValues},
    metrics::{CompressionResult, RequestOutcome},
    min_rate::MinRate,
    refusal::RequestRefusal,
    request_log::{RequestLog, RequestRecord},
    rewrite::{self, ForwardContext},
    tunnel::Tunnel,
    upload::Upload,
    upstream::{
        ExchangeTerms, RequestWriter, UpstreamBody, UpstreamFailure, UpstreamFault, UpstreamResponse,
        UpstreamTunnel, Upstreams,
    },
    websocket_accept::websocket_accept,
};
use crate::{
    client_stream::RequestBody,
    config::{self, Reloadable},
    field_name::FieldName,
    fields::Fields,
    http1::{RequestParts, has_no_body},
    target::may_step_up,
    telemetry::{RequestId, admit_line, metrics::Label},
    transport::Transport,
};

/// What an upstream has answered.
enum Fetched {
    Response(UpstreamResponse),
    /// It speaks another protocol from now on; the fields for the client.
    Switched(Fields, UpstreamTunnel),
}

/// One worker's upstreams, and what every request needs.
pub(super) struct Relay<T: Transport> {
    upstreams: Upstreams<T>,
    limits: Reloadable<config::LimitsConfig>,
    headers: Reloadable<config::HeadersConfig>,
    compression: Reloadable<config::CompressionConfig>,
    compressed: Streams,
    error_pages: Reloadable<ErrorPages>,
    pub(super) request_log: Rc<RequestLog>,
    public_port: HeaderValue,
    cdn_loop: CdnLoop,
}

impl<T: Transport> Relay<T> {
    pub(super) fn new(transport: T, settings: &RelaySettings, request_log: &Rc<RequestLog>) -> Self {
        let RelaySettings {
            limits,
            headers,
            compression,
            compressed,
            error_pages,
            upstream,
            control,
            public_https_port,
            ..
        } = settings.clone();
        let cdn_loop = upstream.cdn_loop.clone();
        let upstreams = Upstreams::new(transport, upstream, request_log.metrics.clone(), control);
        let (request_log, public_port) = (Rc::clone(request_log), public_https_port.into());
        Self {
            upstreams,
            limits,
            headers,
            compression,
            compressed,
            error_pages,
            request_log,
            public_port,
            cdn_loop,
        }
    }

    /// Answers a request that was `admitted` with what its target says, or else with why it was not.
    pub(super) async fn answer(
        &self,
        head: Box<RequestParts>,
        body: RequestBody,
        admitted: Result<Admitted, RequestRefusal>,
        record: Box<RequestRecord>,
    ) -> Answer {
        let id = record.id().value();
        let facts = (!self.headers.load().response.is_empty()).then(|| record.facts());
        let mut answer = match &admitted {
            Ok(admitted) => self.pass(head, body, admitted, record).await,
            Err(refusal) => record.refuse(refusal, &self.error_pages.load()),
        };
        if let Some(facts) = facts {
            let values = TemplateValues::of(&facts, admitted.as_ref().ok());
            header_rules::apply(&self.headers.load().response, &mut answer.fields, &values);
        }
        // In place of a target's own: the id by which operators find the request, as error pages show it.
        answer.fields.set(FieldName::XRequestId, id);
        answer
    }

    /// Sends an admitted request along its route and answers with what comes back.
    async fn pass(
        &self,
        head: Box<RequestParts>,
        body: RequestBody,
        admitted: &Admitted,
        mut record: Box<RequestRecord>,
    ) -> Answer {
        if let Some(location) = admitted.redirect(&head.uri) {
            return record.redirect(&location);
        }
        let preference = Preference::of(&head.fields, &self.compression.load());
        let fetched = if admitted.route.upstream.target.has_base_path() && may_step_up(head.uri.path()) {
            Err(RequestViolation::StepUp.into())
        } else {
            self.fetch(head, body, admitted, &mut record).await
        };
        match fetched {
            Ok(Fetched::Response(response)) => self.pass_back(response, preference, record),
            Ok(Fetched::Switched(fields, upstream)) => self.switch(fields, upstream, record),
            Err(refusal) => {
                log(&refusal, admitted, record.id());
                record.refuse(&refusal, &self.error_pages.load())
            }
        }
    }

    async fn fetch(
        &self,
        mut head: Box<RequestParts>,
        body: RequestBody,
        admitted: &Admitted,
        record: &mut RequestRecord,
    ) -> Result<Fetched, RequestRefusal> {
        let Admitted { host, route } = admitted;
        let limits = self.limits.load_full();
        let is_call = route.upstream.takes_calls() && rewrite::is_grpc(&head.fields);
        let min_rate =
            if is_call { call_rate(&limits) } else { MinRate::new(*limits.idle, limits.minimum_rate) };
        let goes_over_http2 = self.upstreams.goes_over_http2(&route.upstream, is_call);
        let upload = self.begin_upload(&head.fields, body, min_rate, (goes_over_http2, record)).await?;
        let (client, through, cdn_loop) = (record.client_address(), record.through(), &self.cdn_loop);
        // Behind it: a body may have turned out to have no data (RFC 9113 §8.1).
        let (framing, awaits_continue) = (upload.framing(), upload.awaits_continue());
        let public_port = &self.public_port;
        let upgrade = rewrite::upgrade(&head, framing);
        // RFC 8441 §5: to an HTTP/2 client success says that the switch was made, so that the proof of it is looked at here.
        let is_http2 = record.version() == Version::HTTP_2;
        let key = head.fields.named(&header::SEC_WEBSOCKET_KEY).filter(|_| is_http2);
        let proof = key.map(websocket_accept);
        let forward_context = ForwardContext {
            host,
            client,
            through,
            public_port,
            framing,
            awaits_continue,
            upgrade: upgrade.as_deref(),
            cdn_loop,
            request_id: record.id(),
        };
        rewrite::request(&mut head, &forward_context);
        self.apply_request_rules(&mut head.fields, admitted, record);
        let host = rewrite::host(route.host, host).map_err(|_| RequestViolation::HostMalformed)?;
        let wants_client = route.upstream.target.wants_proxy_header();
        let terms = ExchangeTerms {
            client: wants_client.then(|| Rc::new(record.proxied_client())),
            is_multiplexed: record.version() == Version::HTTP_2,
            // Most servers send a call's header section with its first message.
            response_limit: is_call.then_some(*limits.tunnel_idle),
            wants_switch: upgrade.is_some(),
        };
        let request = RequestWriter::new(head, framing, upload, host, terms);
        // Boxed, so that a request that waits for its body, and a response that waits for its client, take no memory for it.
        let response = Box::pin(self.upstreams.fetch(&route.upstream, request, client)).await?;
        match (response.status, upgrade) {
            (StatusCode::SWITCHING_PROTOCOLS, Some(offered)) => {
                let given = response.fields.named(&header::SEC_WEBSOCKET_ACCEPT);
                if proof.is_some_and(|proof| given != Some(proof.as_bytes())) {
                    return Err(UpstreamFailure::ProtocolSwitch.into());
                }
                let switched = rewrite::switched(response.fields, &offered).zip(response.body.into_tunnel());
                let (fields, upstream) = switched.ok_or(UpstreamFailure::ProtocolSwitch)?;
                Ok(Fetched::Switched(fields, upstream))
            }
            (StatusCode::SWITCHING_PROTOCOLS, None) => Err(UpstreamFailure::ProtocolSwitch.into()),
            (status, Some(_)) if is_http2 && status.is_success() => {
                Err(UpstreamFailure::ProtocolSwitch.into())
            }
            _ => Ok(Fetched::Response(response)),
        }
    }

    /// The body of a request that has not passed here before, once some of it is there.
    async fn begin_upload(
        &self,
        fields: &Fields,
        body: RequestBody,
        min_rate: MinRate,
        (goes_over_http2, record): (bool, &mut RequestRecord),
    ) -> Result<Upload, RequestRefusal> {
        // RFC 9110 §6.6.2: some servers refuse trailers, and a client that needs them announces them.
        let passes_trailers = fields.has(FieldName::Trailer);
        let mut upload = Upload::new(body, passes_trailers, min_rate);
        record.received = Some(upload.progress());
        if self.cdn_loop.has_seen(fields) {
            return Err(RequestRefusal::Loop);
        }
        // Over HTTP/2 it costs a stream, and a gRPC client may want the response's header section before it sends anything.
        if !goes_over_http2 {
            self.upstreams.await_body(&mut upload, record.client_address()).await?;
        }
        Ok(upload)
    }

    fn apply_request_rules(&self, fields: &mut Fields, admitted: &Admitted, record: &RequestRecord) {
        let rules = self.headers.load();
        if !rules.request.is_empty() {
            let facts = record.facts();
            header_rules::apply(&rules.request, fields, &TemplateValues::of(&facts, Some(admitted)));
        }
    }

    fn switch(&self, fields: Fields, upstream: UpstreamTunnel, mut record: Box<RequestRecord>) -> Answer {
        // RFC 8441 §5: over HTTP/2 the client reads 200.
        let is_http2 = record.version() == Version::HTTP_2;
        let told = if is_http2 { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        record.answered(told, upstream.peer.clone());
        let tunnel = Tunnel::new(upstream, record, *self.limits.load().tunnel_idle);
        let (status, body) = (StatusCode::SWITCHING_PROTOCOLS, Body::whole(Bytes::new()));
        Answer { status, fields, body, then: Then::Tunnel(Box::new(tunnel)) }
    }

    fn pass_back(
        &self,
        upstream: UpstreamResponse,
        preference: Preference,
        mut record: Box<RequestRecord>,
    ) -> Answer {
        let UpstreamResponse { status, fields, peer, body } = upstream;
        record.answered(status, peer);
        let limits = self.limits.load();
        let min_rate =
            if rewrite::is_grpc(&fields) { call_rate(&limits) } else { MinRate::new(*limits.idle, 0) };
        let mut fields = rewrite::response(status, fields, (record.method(), record.version()));
        let encoder = self.treat(&mut fields, status, &body, preference, &record);
        // Over HTTP/2 the end may come in a frame of its own all the same.
        let body = if has_no_body(record.method(), status) && !body.is_over() {
            body.end_apart();
            record.outcome = RequestOutcome::Forward;
            Body::whole(Bytes::new())
        } else {
            Body::relay(body, encoder, min_rate, record)
        };
        Answer { status, fields, body, then: Then::KeepAlive }
    }

    /// Changes the `fields` of a response that is to be compressed, if it is; what compresses its body, if it has one.
    fn treat(
        &self,
        fields: &mut Fields,
        status: StatusCode,
        body: &UpstreamBody,
        preference: Preference,
        record: &RequestRecord,
    ) -> Option<Box<Encoder>> {
        let settings = self.compression.load();
        let is_head = *record.method() == Method::HEAD;
        let length = if is_head { length_told(fields) } else { body.left() };
        let mut treatment = Treatment::of(&settings, preference, (status, fields), length);
        let mut encoder = None;
        // The fields of an answer to HEAD are those of one to GET (RFC 9110 §9.3.2).
        if let Treatment::Compress(coding) = treatment
            && !is_head
        {
            encoder =
                self.compressed.begin(settings.streams).map(|stream| Box::new(Encoder::new(coding, stream)));
            let result = if encoder.is_some() {
                CompressionResult::Compressed
            } else {
                treatment = Treatment::Vary;
                CompressionResult::NoRoom
            };
            record.count_compression(result);
        }
        treatment.apply(fields);
        encoder
    }
}

/// By Content-Length, which tells it in answer to HEAD.
fn length_told(fields: &Fields) -> Option<u64> {
    std::str::from_utf8(fields.only(FieldName::ContentLength)?).ok()?.parse().ok()
}

/// A gRPC call may be silent in either direction as long as a tunnel: it has a deadline of its own, which its client keeps.
fn call_rate(limits: &config::LimitsConfig) -> MinRate {
    MinRate::new(*limits.tunnel_idle, 0)
}

/// A target that is down fails every request to it: one line for each target and kind of failure a minute.
fn log(refusal: &RequestRefusal, admitted: &Admitted, id: &RequestId) {
    let RequestRefusal::Failure(failure) = refusal else { return };
    // Not `target`: that is where a line comes from, in every line of the log.
    let (server_name, upstream, fault) =
        (&admitted.host.name, &admitted.route.upstream.target, failure.fault());
    let error: &dyn std::error::Error = failure;
    let cause = error.source().map(tracing::field::display);
    if let UpstreamFailure::Full(_) = failure {
        // A flood must not flood the log, too; it is counted by its outcome.
        return tracing::debug!(%id, %server_name, %upstream, %error, "request refused");
    }
    match fault {
        UpstreamFault::Client => {
            tracing::debug!(%id, %server_name, %upstream, %error, cause, "request ended early");
        }
        UpstreamFault::Upstream | UpstreamFault::Operator => {
            let admitted = admit_line(refusal.outcome().as_str(), &upstream.to_string());
            let Some(left_out) = admitted else { return };
            tracing::warn!(%id, %server_name, %upstream, ?fault, %error, cause, left_out, "request failed at its target");
        }
    }
}
