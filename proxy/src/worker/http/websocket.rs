//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT goes on as the GET that asks for the same over HTTP/1.1 (RFC 6455 §4.1), whose
//! handshake is ours then.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::{Request, body::Incoming, ext::Protocol, upgrade::OnUpgrade};

use crate::{
    client_stream::ClientStream,
    field_name::FieldName,
    forward::{Answer, Then, Tunnel},
    http2_upgraded::UpgradedStream,
    phase::PhaseWatch,
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
        tunnel.pass(&ClientStream::new(UpgradedStream::new(upgraded)), phase).await;
    }
}
