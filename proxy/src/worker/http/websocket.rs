//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT goes on as the GET that asks for the same over HTTP/1.1 (RFC 6455 §4.1), whose
//! handshake is ours then.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::{
    Request,
    body::Incoming,
    ext::Protocol,
    rt::{Read as _, ReadBuf, Write as _},
    upgrade::{OnUpgrade, Upgraded},
};

use crate::{
    client_stream::ClientStream,
    field_name::FieldName,
    forward::{Answer, Then, Tunnel},
    phase::PhaseWatch,
    transport::{ByteStream, Outgoing},
    worker::activity::Activity,
};

/// A client that waits for a WebSocket.
pub(super) struct WebSocketOffer(OnUpgrade);

impl WebSocketOffer {
    /// What `request` offers, if it does; it is made a GET. Another protocol's stays a CONNECT, which nobody answers here.
    pub(super) fn take(request: &mut Request<Incoming>) -> Option<Self> {
        let protocol = request.extensions().get::<Protocol>()?;
        if request.method() != Method::CONNECT || protocol.as_str() != "websocket" {
            return None;
        }
        let mut key = [0; 16];
        aws_lc_rs::rand::fill(&mut key).ok()?;
        let key = HeaderValue::try_from(BASE64.encode(key)).ok()?;
        let upgrade = hyper::upgrade::on(&mut *request);
        *request.method_mut() = Method::GET;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
        Some(Self(upgrade))
    }

    /// Makes `answer` one of HTTP/2. Where the upstream has switched, a task passes what follows.
    pub(super) fn answer(self, answer: Answer, activity: Activity, phase: PhaseWatch) -> Answer {
        let Answer { mut fields, body, then, .. } = answer;
        let tunnel = match then {
            Then::Tunnel(tunnel) => tunnel,
            then @ (Then::KeepAlive | Then::Close) => {
                return Answer { status: answer.status, fields, body, then };
            }
        };
        fields.remove(FieldName::Upgrade);
        fields.remove_named(&header::SEC_WEBSOCKET_ACCEPT);
        tokio::task::spawn_local(pass(self.0, tunnel, activity, phase));
        Answer { status: StatusCode::OK, fields, body, then: Then::KeepAlive }
    }
}

async fn pass(upgrade: OnUpgrade, tunnel: Box<Tunnel>, activity: Activity, phase: PhaseWatch) {
    let _in_progress = activity.begin();
    // An error is a client that went away before its response was sent.
    if let Ok(upgraded) = upgrade.await {
        tunnel.pass(&ClientStream::new(UpgradedStream(upgraded)), phase).await;
    }
}

/// A stream of HTTP/2 as a stream of bytes. What is written waits for the client's window (RFC 9113 §5.2).
struct UpgradedStream(Upgraded);

impl ByteStream for UpgradedStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, place: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::uninit(place);
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer.unfilled()))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    /// Its connection's transport is watched instead.
    fn outgoing(&self) -> Outgoing {
        Outgoing { given: 0, acknowledged: 0 }
    }

    fn is_silent(&mut self) -> bool {
        false
    }

    /// A stream of HTTP/2 is none of its connection's.
    fn reset_on_drop(&self) {}
}
