//! What becomes of a challenge, against a Route 53 that counts what it is asked.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::{
    certificates::{
        challenges::{DNS, DnsChallenges},
        metrics::Sought,
    },
    config::{CertificatesConfig, HostedZoneId, IssuerConfig, StoreConfig, WildcardCertificate},
    name::ServerName,
    store::{Engine, certificate_table::challenge_for_tests, tables},
    telemetry::metrics::Counters,
};

/// One CA and one wildcard.
struct Fixture {
    acme: Arc<Acme>,
    challenges: Challenges,
    wildcard: Pattern,
    /// What the CA asks for.
    validated: ServerName,
    asked: Arc<AtomicUsize>,
}

/// What Route 53 says to whatever it is asked.
#[derive(Clone, Copy)]
enum Says {
    ThereIsNoRecord,
    Nothing,
}

async fn fixture(says: Says) -> Fixture {
    let wildcard = Pattern::parse("*.app.example").unwrap();
    let zone = HostedZoneId::try_from("Z1".to_owned()).unwrap();
    let wildcards = vec![WildcardCertificate { name: wildcard.clone(), zone, record: None }];
    let config = CertificatesConfig { wildcards, ..CertificatesConfig::default() };
    let store = Store::on(Engine::in_memory().unwrap(), &StoreConfig::default());
    tables::create(&store).await.unwrap();
    let acme = Acme::new(&IssuerConfig::of("https://ca.example/dir", ""), &config, &store).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dns = DnsChallenges::at(&config, format!("http://{}", listener.local_addr().unwrap()));
    let asked = Arc::default();
    tokio::spawn(answer_all(listener, says, Arc::clone(&asked)));
    let reads: Counters<Sought> =
        Counters::register(&prometheus::Registry::new(), "reads_total", "Reads.").unwrap();
    let challenges = Challenges::new(&store, std::iter::once(acme.issuer.clone()), reads, dns);
    let validated = ServerName::parse("_acme-challenge.app.example").unwrap();
    Fixture { acme, challenges, wildcard, validated, asked }
}

async fn answer_all(listener: TcpListener, says: Says, asked: Arc<AtomicUsize>) {
    let mut silent = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        asked.fetch_add(1, Ordering::Relaxed);
        match says {
            Says::Nothing => silent.push(stream),
            Says::ThereIsNoRecord => {
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                let body = "<L><ResourceRecordSets></ResourceRecordSets></L>";
                let head =
                    format!("HTTP/1.1 200 -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_record_stays_as_long_as_its_order_can_be_gone_on_with() {
    let refused = |status| {
        OrderError::Refused(error::AcmeProblem {
            problem: String::new(),
            kind: None,
            status: Some(status),
            retry_after: None,
            subject: RefusalSubject::Untold,
        })
    };
    for (issued, is_removed) in [
        (Ok(()), true),
        (Err(OrderError::Invalid { problem: String::new(), kind: None }), true),
        (Err(OrderError::Unusable { problem: String::new() }), true),
        (Err(refused(403)), true),
        (Err(OrderError::Slow { awaiting: Awaited::Ca }), true),
        (Err(OrderError::Slow { awaiting: Awaited::Issuance }), false),
        (Err(OrderError::Slow { awaiting: Awaited::Challenge }), false),
        (Err(OrderError::Slow { awaiting: Awaited::Validation }), false),
        (Err(refused(429)), false),
        (Err(refused(503)), false),
        (Err(OrderError::BadNonce), false),
        (Err(instant_acme::Error::Timeout(None).into()), false),
    ] {
        let Fixture { acme, challenges, wildcard, validated, asked } = fixture(Says::ThereIsNoRecord).await;
        let challenge = challenge_for_tests(&validated, DNS);
        challenges.open(&acme.issuer, &validated, challenge).await.unwrap();
        acme.end_challenge(&wildcard, &issued, &challenges).await;
        assert_eq!(asked.load(Ordering::Relaxed) > 0, is_removed, "{issued:?}");
        // What was kept goes with the order that is gone on with; the rest once.
        let before = asked.load(Ordering::Relaxed);
        acme.end_challenge(&wildcard, &Ok(()), &challenges).await;
        assert_eq!(asked.load(Ordering::Relaxed) > before, !is_removed, "{issued:?}");
    }
}

#[tokio::test]
async fn a_record_that_another_instance_has_left_is_removed_with_its_order() {
    let Fixture { acme, challenges, wildcard, validated, asked } = fixture(Says::ThereIsNoRecord).await;
    challenges.open(&acme.issuer, &validated, challenge_for_tests(&validated, DNS)).await.unwrap();
    challenges.leave(&validated);
    challenges.clear(&acme.issuer, &wildcard).await;
    let before = asked.load(Ordering::Relaxed);
    assert!(before > 0, "Route 53 was asked for the record");
    challenges.clear(&acme.issuer, &wildcard).await;
    assert_eq!(asked.load(Ordering::Relaxed), before, "the challenge is gone, too");
}

#[tokio::test]
async fn a_route_53_that_says_nothing_is_not_the_cas_fault_and_ends_no_order() {
    let Fixture { acme, challenges, wildcard, validated, asked } = fixture(Says::Nothing).await;
    let shown = acme.show(&wildcard, challenge_for_tests(&validated, DNS), &challenges);
    let error = Box::pin(within(Duration::from_millis(300), shown)).await.unwrap_err();
    assert_eq!(asked.load(Ordering::Relaxed), 1, "Route 53 was waited for");
    assert_eq!((error.fault("app.example"), error.ends_order()), (AcmeFault::Ours, false), "{error}");
    assert!(error.to_string().contains("raise `certificates.order_deadline`"), "{error}");
}

/// A directory's and an order's, both at once and by a name server's, too: whatever it says is one line.
#[test]
fn of_what_a_ca_says_no_more_than_a_line_is_told() {
    let long = format!("\u{1b}[2J\n{}", "x".repeat(200_000));
    let problem = serde_json::json!({ "type": "urn:ietf:params:acme:error:unheardOf", "detail": long });
    let api = instant_acme::Error::Api(serde_json::from_value(problem).unwrap());
    let error = OrderError::from(api).to_string();
    assert!(error.len() < 600 && !error.contains(char::is_control), "{} bytes", error.len());
}

/// RFC 9457 §3.1.2: the member `status` is advisory; some CAs leave it out.
#[tokio::test]
async fn the_status_of_an_answer_counts_whether_or_not_the_problem_repeats_it() {
    let json = || serde_json::from_str::<()>("<html>").unwrap_err();
    let api = |status: Option<u16>| {
        let problem = serde_json::json!({ "type": "urn:ietf:params:acme:error:malformed", "status": status });
        instant_acme::Error::Api(serde_json::from_value(problem).unwrap())
    };
    for (answered, error, denies, ends, fault) in [
        (Some(404), api(None), true, true, AcmeFault::Name),
        (Some(404), api(Some(500)), true, true, AcmeFault::Name),
        (Some(503), api(None), false, false, AcmeFault::Issuer),
        (Some(429), api(None), false, false, AcmeFault::Issuer),
        // What an order says of itself comes with success.
        (Some(200), api(Some(403)), true, true, AcmeFault::Name),
        (Some(404), json().into(), true, false, AcmeFault::Issuer),
        (Some(403), json().into(), false, false, AcmeFault::Issuer),
        (Some(200), json().into(), false, false, AcmeFault::Issuer),
        (None, instant_acme::Error::Timeout(None), false, false, AcmeFault::Issuer),
    ] {
        let error = http::within_order(async {
            http::answered_for_tests(answered);
            OrderError::from(error)
        })
        .await;
        let found = (error.denies_the_resource(), error.ends_order(), error.fault("app.example"));
        assert_eq!(found, (denies, ends, fault), "{answered:?} {error:?}");
        assert_eq!(
            matches!(error, OrderError::Unreachable { .. }),
            answered.is_none(),
            "what has answered is reached: {error}"
        );
    }
}
