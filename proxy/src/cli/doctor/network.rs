//! Names that must resolve, and CAs that must answer.

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use http::Uri;

use super::finding::Finding;
use crate::{
    certificates::{issuer_directory, probe_challenge_record},
    config::{Config, IssuerConfig, WildcardCertificate, without_query},
    domains::{AskProbed, AskSilence, probe_ask},
    target::{Endpoint, Target, TargetHost},
    telemetry::error_chain,
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
    let of_targets = targets.chain(&config.domains.default_target).flat_map(named);
    of_urls.chain(of_targets).take(MOST_NAMES).collect()
}

fn named(target: &Target) -> impl Iterator<Item = String> {
    target.endpoints().iter().filter_map(Endpoint::host).filter_map(|host| match host {
        TargetHost::Name(name) => Some(name.to_string()),
        TargetHost::Address(_) => None,
    })
}

fn judge_name(name: &str, resolved: io::Result<Option<SocketAddr>>) -> Finding {
    let what = format!("dns {name}");
    match resolved {
        Ok(Some(address)) => Finding::ok(what, address.ip().to_string()),
        Ok(None) => Finding::error(what, "no address", "correct the name, or its records"),
        Err(error) => {
            Finding::error(what, error.to_string(), "check /etc/resolv.conf, and the name's records")
        }
    }
}

/// Whether the record by which a CA validates a wildcard can be read, which is as far as can be seen without a change.
pub(super) async fn challenge_record(wildcard: WildcardCertificate) -> Vec<Finding> {
    let what = format!("wildcard {}", wildcard.name);
    vec![match probe_challenge_record(&wildcard).await {
        Ok(()) => Finding::ok(what, format!("its record can be read in hosted zone {}", wildcard.zone)),
        Err(error) => {
            Finding::error(what, error_chain(&error), "correct `certificates.wildcards`, or the role")
        }
    }]
}

/// Whether the ask endpoint says of a name that nobody has whether it may be served. The URL's query may hold a secret.
pub(super) async fn ask(url: String, timeout: Duration) -> Vec<Finding> {
    let what = format!("ask {}", without_query(&url));
    let found = match probe_ask(&url, timeout).await {
        Ok(probed) => judge_ask(what, probed, timeout),
        Err(error) => Finding::error(what, error_chain(&error), "correct domains.ask"),
    };
    vec![found]
}

fn judge_ask(what: String, probed: AskProbed, timeout: Duration) -> Finding {
    match probed {
        AskProbed::Denies => Finding::ok(what, "denies a name that does not exist"),
        AskProbed::Allows => Finding::warning(
            what,
            "allows a name that does not exist: anybody who points a name here gets a certificate",
            "make it answer 404 for names that are not customers'",
        ),
        AskProbed::Silent { why: AskSilence::Redirected, said } => Finding::error(
            what,
            format!("redirects ({said}); redirects are not followed, and say nothing of the name"),
            "set domains.ask to the URL that answers without a redirect or a login",
        ),
        AskProbed::Silent { why: AskSilence::Unavailable, said } => {
            Finding::error(what, format!("fails ({said})"), "read the log of the endpoint")
        }
        AskProbed::Silent { why: AskSilence::TimedOut, .. } => Finding::error(
            what,
            format!("no answer within {} ms", timeout.as_millis()),
            "make the endpoint faster, or raise domains.ask_timeout",
        ),
        AskProbed::Silent { why: AskSilence::Unreachable, said } => {
            Finding::error(what, said, "check the URL, that the endpoint runs, and its certificate")
        }
    }
}

/// Whether an issuer's directory (RFC 8555 §7.1.1) is there.
pub(super) async fn directory(issuer: IssuerConfig) -> Vec<Finding> {
    let what = format!("ca {}", issuer.directory);
    vec![match issuer_directory(&issuer).await {
        Ok(_) => Finding::ok(what, "its directory offers accounts and orders"),
        Err(error) => {
            let remedy = "check that outgoing connections to its port are allowed, the URL, and `roots` for a CA of your own";
            Finding::error(what, error_chain(&error), remedy)
        }
    }]
}

/// More than these take longer than a person waits.
const MOST_NAMES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::doctor::finding::Severity,
        config::{DomainSettings, StaticDomain},
        name::Pattern,
    };

    #[test]
    fn every_host_that_the_settings_name_is_looked_up_once() {
        let mut config = Config::default();
        config.domains.ask = Some("https://ask.example/check".to_owned());
        config.domains.default_target = Some(Target::parse("https://origin.example").unwrap());
        for (name, target) in [("a.example", "http://10.0.0.1"), ("b.example", "https://origin.example")] {
            let (name, target) = (Pattern::parse(name).unwrap(), Target::parse(target).ok());
            config.domains.r#static.push(StaticDomain { name, target, settings: DomainSettings::default() });
        }
        assert_eq!(hosts(&config).into_iter().collect::<Vec<_>>(), ["ask.example", "origin.example"]);
    }

    /// Answers each connection the same; what is `None` never answers.
    async fn endpoint(answer: Option<&'static str>) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/check?key=secret", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                if let Some(status) = answer {
                    let text = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = stream.write_all(text.as_bytes()).await;
                }
                open.push(stream);
            }
        });
        url
    }

    #[tokio::test]
    async fn an_ask_endpoint_that_says_nothing_of_a_name_fails_with_its_way_to_be_silent() {
        for (answer, severity, words) in [
            (Some("404 Not Found"), Severity::Ok, "denies"),
            (Some("403 Forbidden"), Severity::Ok, "denies"),
            (Some("200 OK"), Severity::Warning, "allows a name that does not exist"),
            (Some("302 Found\r\nlocation: /login"), Severity::Error, "redirects (302 Found)"),
            (Some("503 Service Unavailable"), Severity::Error, "fails (503 Service Unavailable)"),
            (None, Severity::Error, "no answer within 300 ms"),
        ] {
            let found = ask(endpoint(answer).await, Duration::from_millis(300)).await.remove(0);
            assert_eq!(found.severity, severity, "{found:?}");
            assert!(found.found.contains(words), "{found:?}");
            assert!(!found.what.contains("secret"), "{found:?}");
        }
        let nobody = ask("http://127.0.0.1:9/".to_owned(), Duration::from_secs(1)).await.remove(0);
        assert_eq!(nobody.severity, Severity::Error, "{nobody:?}");
        assert!(nobody.found.contains("refused"), "{nobody:?}");
    }

    #[test]
    fn a_name_without_an_address_fails() {
        assert_eq!(judge_name("a.example", Ok(None)).severity, Severity::Error);
        assert_eq!(judge_name("a.example", Ok(Some(([192, 0, 2, 1], 443).into()))).found, "192.0.2.1");
    }
}
