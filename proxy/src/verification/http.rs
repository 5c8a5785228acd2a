//! A question over HTTP, for names behind another server, such as a CDN's, that passes requests on to the edge: what answers there in the end.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::EDGE_PATH;
use crate::{domains::admin::Permits, name::ServerName, target::EndpointAddress};

/// Which edge says that it answers for `name` at the first of `addresses` that may be asked; `None` where none says so.
pub(super) async fn edge_behind(
    name: &ServerName,
    addresses: impl IntoIterator<Item = IpAddr>,
    permits: &Permits,
) -> Option<String> {
    let mut places = addresses.into_iter().map(|address| SocketAddr::new(address, HTTP));
    let place = places.find(|place| permits(&EndpointAddress::Tcp(*place)))?;
    timeout(DEADLINE, ask(name, place)).await.ok()?
}

async fn ask(name: &ServerName, place: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect(place).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // It ends with the answer.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::get(EDGE_PATH).header(HOST, name.as_str()).body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    if response.status() != StatusCode::OK {
        return None;
    }
    let body = Limited::new(response.into_body(), LONGEST).collect().await.ok()?.to_bytes();
    Some(std::str::from_utf8(&body).ok()?.trim().to_owned())
}

const HTTP: u16 = 80;
const DEADLINE: Duration = Duration::from_secs(5);
/// A name and a line's end.
const LONGEST: usize = 300;
