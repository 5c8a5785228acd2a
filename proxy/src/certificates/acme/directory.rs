//! An issuer's directory (RFC 8555 §7.1.1), asked for outside of any order.

use hyper::{Method, Request, http};
use instant_acme::{BodyWrapper, HttpClient as _};
use serde::Deserialize;

use super::{AcmeError, http::Http};
use crate::config::IssuerConfig;

/// What an issuer says of itself.
#[derive(Debug, Deserialize)]
pub struct IssuerDirectory {
    #[expect(dead_code, reason = "without it there is no order")]
    #[serde(rename = "newNonce")]
    nonce: String,
    #[expect(dead_code, reason = "without it there is no order")]
    #[serde(rename = "newAccount")]
    account: String,
    #[expect(dead_code, reason = "without it there is no order")]
    #[serde(rename = "newOrder")]
    order: String,
    /// RFC 9773 §3.
    #[serde(rename = "renewalInfo", default)]
    pub(super) renewal_info: Option<String>,
    #[serde(default)]
    meta: Meta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    caa_identities: Vec<String>,
}

impl IssuerDirectory {
    /// By which names CAA records (RFC 8659) permit this issuer, as far as it says so.
    pub fn caa_identities(&self) -> impl Iterator<Item = &str> {
        self.meta.caa_identities.iter().map(String::as_str).take(MOST_IDENTITIES)
    }
}

/// No directory.
#[derive(Debug, thiserror::Error)]
pub enum IssuerDirectoryError {
    /// The settings do not lead to one.
    #[error(transparent)]
    Settings(#[from] AcmeError),
    /// Its URL.
    #[error("its URL cannot be asked")]
    Url(#[from] http::Error),
    /// It does not answer, or not with success.
    #[error("it does not answer")]
    Silent(#[from] instant_acme::Error),
    /// It answers something else.
    #[error("it is not an ACME directory: {0}")]
    Misshapen(#[from] serde_json::Error),
}

/// Asks `issuer` for its directory.
pub async fn issuer_directory(issuer: &IssuerConfig) -> Result<IssuerDirectory, IssuerDirectoryError> {
    directory(&Http::new(issuer.roots.as_deref())?, &issuer.directory).await
}

pub(super) async fn directory(http: &Http, url: &str) -> Result<IssuerDirectory, IssuerDirectoryError> {
    let request = Request::builder().method(Method::GET).uri(url).body(BodyWrapper::default())?;
    let mut response = http.request(request).await?;
    let body = response.body.into_bytes().await.map_err(instant_acme::Error::Other)?;
    Ok(serde_json::from_slice(&body)?)
}

const MOST_IDENTITIES: usize = 16;
