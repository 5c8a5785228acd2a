//! Names that must resolve, and CAs that must answer.

use std::{collections::BTreeSet, error::Error, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use serde::Deserialize;

use super::finding::Finding;
use crate::{
    config::{Config, IssuerConfig},
    control::error_chain,
    target::{Target, TargetHost},
};

/// Whether `name` has an address.
pub(super) async fn resolve(name: String) -> Vec<Finding> {
    let resolved = tokio::net::lookup_host((name.as_str(), 443)).await;
    vec![judge_name(&name, resolved.map(|mut found| found.next()))]
}

/// The names that the settings lead to, each once.
pub(super) fn hosts(config: &Config) -> BTreeSet<String> {
    let urls = config.certificates.issuers.iter().map(|issuer| issuer.directory.as_str());
    let urls = urls.chain(config.domains.ask.as_deref());
    let of_urls = urls.filter_map(|url| url.parse::<Uri>().ok()?.host().map(str::to_owned));
    let targets = config.domains.r#static.iter().filter_map(|entry| entry.target.as_ref());
    let of_targets = targets.chain(&config.domains.default_target).filter_map(named);
    of_urls.chain(of_targets).take(MOST_NAMES).collect()
}

fn named(target: &Target) -> Option<String> {
    match &target.host {
        TargetHost::Name(name) => Some(name.to_string()),
        TargetHost::Address(_) => None,
    }
}

fn judge_name(name: &str, resolved: io::Result<Option<SocketAddr>>) -> Finding {
    let what = format!("dns {name}");
    match resolved {
        Ok(Some(address)) => Finding::ok(what, address.ip().to_string()),
        Ok(None) => Finding::fail(what, "no address", "correct the name, or its records"),
        Err(error) => Finding::fail(what, error.to_string(), "see /etc/resolv.conf, and the name's records"),
    }
}

/// Whether an issuer's directory (RFC 8555 §7.1.1) is there.
pub(super) async fn directory(issuer: IssuerConfig) -> Vec<Finding> {
    let what = format!("ca {}", issuer.directory);
    vec![match fetch(&issuer).await {
        Ok(()) => Finding::ok(what, "its directory offers accounts and orders"),
        Err(error) => {
            let remedy = "see that its port is open outwards, the URL, and `roots` for a CA of your own";
            Finding::fail(what, error_chain(&*error), remedy)
        }
    }]
}

/// What an order needs of a directory.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that they are there is all that is asked")]
struct Directory {
    #[serde(rename = "newNonce")]
    nonce: String,
    #[serde(rename = "newAccount")]
    account: String,
    #[serde(rename = "newOrder")]
    order: String,
}

async fn fetch(issuer: &IssuerConfig) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tls = client_config(issuer)?;
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.get(issuer.directory.parse()?).await?;
    if !response.status().is_success() {
        return Err(format!("it answers {}", response.status()).into());
    }
    let body = Limited::new(response.into_body(), LONGEST_DIRECTORY).collect().await?.to_bytes();
    serde_json::from_slice::<Directory>(&body)
        .map_err(|error| format!("it is no ACME directory: {error}"))?;
    Ok(())
}

fn client_config(issuer: &IssuerConfig) -> Result<ClientConfig, Box<dyn Error + Send + Sync>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots: Vec<_> = match &issuer.roots {
        Some(path) => CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// More than these take longer than a person waits.
const MOST_NAMES: usize = 20;
const LONGEST_DIRECTORY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::doctor::finding::Severity, config::StaticDomain, name::Pattern};

    #[test]
    fn every_host_that_the_settings_name_is_looked_up_once() {
        let mut config = Config::default();
        config.domains.ask = Some("https://ask.example/check".to_owned());
        config.domains.default_target = Some(Target::parse("https://origin.example").unwrap());
        for (name, target) in [("a.example", "http://10.0.0.1"), ("b.example", "https://origin.example")] {
            let (name, target) = (Pattern::parse(name).unwrap(), Target::parse(target).ok());
            config.domains.r#static.push(StaticDomain { name, target });
        }
        assert_eq!(hosts(&config).into_iter().collect::<Vec<_>>(), ["ask.example", "origin.example"]);
    }

    #[test]
    fn a_name_without_an_address_fails() {
        assert_eq!(judge_name("a.example", Ok(None)).verdict, Severity::Fail);
        assert_eq!(judge_name("a.example", Ok(Some(([192, 0, 2, 1], 443).into()))).found, "192.0.2.1");
    }
}
