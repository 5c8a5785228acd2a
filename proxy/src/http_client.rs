//! A client for servers that the settings name by their URL, on tokio's own sockets: for the control plane alone.
//! Not here: connections to targets (`forward`), a CA's own roots (`certificates`), AWS (`aws`).
//! Invariant: it follows no redirect, since where one leads was not chosen by the operator.

use std::{sync::Arc, time::Duration};

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Sends requests with bodies of this type; cheap to clone, and connections are shared.
pub(crate) type PooledClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// HTTP/1.1, in cleartext where the URL says `http`; a connection that nobody uses is closed after `idle`.
pub(crate) fn client_of_urls<B>(idle: Duration) -> Result<PooledClient<B>, rustls::Error>
where
    B: Body + Send,
    B::Data: Send,
{
    let connector = HttpsConnectorBuilder::new().with_tls_config(system_tls()?);
    Ok(pooled(connector.https_or_http().enable_http1().build(), idle))
}

/// A client over `connector`, whose unused connections are closed after `idle`.
pub(crate) fn pooled<B>(connector: HttpsConnector<HttpConnector>, idle: Duration) -> PooledClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).pool_idle_timeout(idle).build(connector)
}

/// TLS with servers whose certificates are verified with the system's roots.
pub(crate) fn system_tls() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}
