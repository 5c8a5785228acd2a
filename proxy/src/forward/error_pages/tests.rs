use std::{
    fs,
    future::Future,
    path::Path,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::*;
use crate::{
    forward::{RequestRefusal, RequestViolation, upstream::UpstreamFailure},
    telemetry::metrics::Label as _,
};

const NOTICE: Notice = Notice { what: "The site did not answer correctly", advice: "Please try again." };

/// What `pages` answer to a request for shop.example that ends with `status`.
fn told(pages: &ErrorPages, status: StatusCode, is_maintenance: bool, form: ProblemForm) -> (Fields, String) {
    let host = ServerName::parse("shop.example").unwrap();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_487_294);
    let reference = Reference { id: &RequestId::numbered(0xab), at };
    let problem = Problem { status, notice: NOTICE, is_maintenance, host: Some(&host), reference };
    let answer = pages.answer(&problem, form);
    assert_eq!(answer.status, status);
    let body = pin!(answer.body.collect()).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(body)) = body else { panic!("a page is there at once") };
    (answer.fields, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

fn page(pages: &ErrorPages, status: StatusCode) -> String {
    told(pages, status, false, ProblemForm::Page).1
}

fn pages(files: &[(&str, &[u8])]) -> Result<ErrorPages, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    read(directory.path()).map_err(|error| {
        crate::telemetry::error_chain(&error).replace(&format!("{}/", directory.path().display()), "")
    })
}

fn read(path: &Path) -> Result<ErrorPages, ErrorPagesError> {
    let directory = Some(path.to_owned());
    ErrorPages::read(&config::ErrorPagesConfig { directory, ..config::ErrorPagesConfig::default() })
}

#[test]
fn the_page_says_what_happened_who_can_act_and_how_to_ask() {
    assert!(PageTemplate::parse(OWN_PAGE).is_ok());
    let text = page(&ErrorPages::default(), StatusCode::BAD_GATEWAY);
    for part in [
        "502 Bad Gateway",
        "<h1>The site did not answer correctly</h1>",
        "<p>Please try again.</p>",
        "<code>00000000000000ab</code> at 2026-11-24 02:28:14 UTC",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_page_loads_nothing() {
    let text = page(&ErrorPages::default(), StatusCode::BAD_GATEWAY);
    for reference in ["src=", "href=", "url(", "@import", "<script"] {
        assert!(!text.contains(reference), "{reference} in {text}");
    }
}

#[test]
fn who_asks_for_json_gets_a_problem() {
    let (fields, text) = told(&ErrorPages::default(), StatusCode::BAD_GATEWAY, false, ProblemForm::Json);
    assert_eq!(fields.named(&header::CONTENT_TYPE), Some(&b"application/problem+json"[..]));
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "type": "about:blank",
        "title": "Bad Gateway",
        "status": 502,
        "detail": "The site did not answer correctly. Please try again.",
        "reference": "00000000000000ab",
        "time": "2026-11-24 02:28:14 UTC",
    });
    assert_eq!(told, expected);
}

#[test]
fn json_is_for_those_who_name_it_and_not_html() {
    for (accept, form) in [
        (None, ProblemForm::Page),
        (Some("*/*"), ProblemForm::Page),
        (Some("application/json"), ProblemForm::Json),
        (Some("application/json, text/plain, */*"), ProblemForm::Json),
        (Some("Application/Problem+JSON; q=0.9"), ProblemForm::Json),
        (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), ProblemForm::Page),
        (Some("application/json, text/html;q=0.1"), ProblemForm::Page),
        (Some("application/jsonp"), ProblemForm::Page),
        (Some(",;,"), ProblemForm::Page),
    ] {
        let mut fields = Fields::default();
        if let Some(accept) = accept {
            fields.push_named(&header::ACCEPT, &HeaderValue::from_static(accept));
        }
        assert_eq!(ProblemForm::wanted(&fields), form, "{accept:?}");
    }
}

#[test]
fn the_page_that_fits_best_is_taken() {
    let all: [(&str, &[u8]); 5] = [
        ("503.html", b"503"),
        ("4xx.html", b"4xx"),
        ("5xx.html", b"5xx"),
        ("maintenance.html", b"maintenance"),
        ("readme.txt", b"{{"),
    ];
    let all = pages(&all).unwrap();
    for (status, is_maintenance, expected) in [
        (StatusCode::SERVICE_UNAVAILABLE, false, "503"),
        (StatusCode::SERVICE_UNAVAILABLE, true, "maintenance"),
        (StatusCode::BAD_GATEWAY, false, "5xx"),
        (StatusCode::TOO_MANY_REQUESTS, false, "4xx"),
    ] {
        assert_eq!(told(&all, status, is_maintenance, ProblemForm::Page).1, expected, "{status}");
    }
    let one = pages(&[("502.html", b"502")]).unwrap();
    assert!(
        page(&one, StatusCode::GATEWAY_TIMEOUT).contains("504 Gateway Timeout"),
        "ours, for lack of theirs"
    );
}

#[test]
fn places_of_a_page_are_filled_in() {
    let text = b"{{status}}|{{ reason }}|{{title}}|{{advice}}|{{reference}}|{{time}}|{{host}}|a{b}}";
    let pages = pages(&[("5xx.html", text)]).unwrap();
    assert_eq!(
        page(&pages, StatusCode::BAD_GATEWAY),
        "502|Bad Gateway|The site did not answer correctly|Please try again.|00000000000000ab|\
         2026-11-24 02:28:14 UTC|shop.example|a{b}}"
    );
}

#[test]
fn pages_that_are_being_sent_share_what_is_long() {
    let long = format!("{}{{{{status}}}}{}", "a".repeat(100_000), "b".repeat(100_000));
    let template = PageTemplate::parse(&long).unwrap();
    let fill = || template.fill(|_, page| page.extend_from_slice(b"502"));
    let (one, other) = (fill(), fill());
    assert_eq!(one.iter().map(Bytes::len).collect::<Vec<_>>(), [100_000, 3, 100_000]);
    assert_eq!((one[0].as_ptr(), one[2].as_ptr()), (other[0].as_ptr(), other[2].as_ptr()));
    // What a stream holds is bounded by what it asks for.
    let mut body = Body::parts(one);
    body.request(60_000);
    let mut given = Vec::new();
    while let Poll::Ready(Some(Ok(frame))) =
        pin!(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()))
    {
        given.push(frame.into_data().unwrap().len());
    }
    assert_eq!(given, [60_000, 40_000, 3, 60_000, 40_000]);
}

#[test]
fn an_operators_page_has_the_operators_policy() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("5xx.html"), "ours").unwrap();
    let content_security_policy = "default-src 'self'".parse().unwrap();
    let directory = Some(directory.path().to_owned());
    let pages = ErrorPages::read(&config::ErrorPagesConfig { directory, content_security_policy }).unwrap();
    for (status, policy) in [
        (StatusCode::BAD_GATEWAY, &b"default-src 'self'"[..]),
        (StatusCode::NOT_FOUND, b"default-src 'none'; style-src 'unsafe-inline'"),
    ] {
        let (fields, _) = told(&pages, status, false, ProblemForm::Page);
        assert_eq!(fields.named(&header::CONTENT_SECURITY_POLICY), Some(policy), "{status}");
    }
}

#[test]
fn every_wrong_page_is_named_with_its_remedy() {
    let long = vec![b'a'; 256 * 1024 + 1];
    for (name, text, parts) in [
        ("50x.html", &b""[..], &["`50x.html` is for no status", "`502.html`"][..]),
        ("399.html", b"", &["`399.html` is for no status"]),
        ("502.html", b"\n{{staus}}", &["`502.html`, line 2: `{{staus}}` is no placeholder", "`{{status}}`"]),
        ("502.html", b"{{", &["line 1: `{{` is not closed", "`}}`"]),
        ("502.html", b"{{status\n}}", &["line 1: `{{` is not closed"]),
        ("502.html", b"\xff", &["`502.html` cannot be used", "UTF-8"]),
        ("502.html", &long, &["`502.html` cannot be used", "256 KiB"]),
    ] {
        let error = pages(&[(name, text)]).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
    let error = read(Path::new("/nowhere")).unwrap_err().to_string();
    assert!(error.contains("`/nowhere` cannot be read"), "{error}");
}

#[test]
fn what_pages_show_means_nothing_in_html() {
    let refusals = [
        RequestRefusal::Violation(RequestViolation::HostUnlikeServerName),
        RequestRefusal::UnknownName,
        RequestRefusal::EntryUnknown,
        RequestRefusal::Maintenance,
        RequestRefusal::Loop,
        UpstreamFailure::NoTarget.into(),
        UpstreamFailure::ClientSlow.into(),
        UpstreamFailure::ResponseTimeout.into(),
    ];
    let shown = refusals.iter().flat_map(|refusal| [refusal.notice().what, refusal.notice().advice]);
    for text in shown.chain(["", "shop.example"]) {
        assert!(!text.contains(['<', '>', '&', '"', '\'']), "{text}");
    }
    assert_eq!(
        Placeholder::ALL.len(),
        7,
        "each is ours, or a name or an id that is made of plain characters"
    );
}
