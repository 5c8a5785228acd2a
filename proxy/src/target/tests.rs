//! What is a target, and what is not.

use std::num::NonZeroU32;

use http::uri::PathAndQuery;
use proptest::prelude::*;

use super::*;

mod properties {
    use super::*;

    proptest! {
        #[test]
        fn what_is_a_target_parses_to_itself(text in "\\PC{0,60}|((https?://[a-z0-9.:@/\\[\\]-]{0,40}|unix:[a-z0-9./ #-]{0,40})(;weight=[0-9]{1,3})?(;protocol=(h2|auto))?(;tls=[a-z.]{0,3})?(;proxy_protocol=v[0-3])?(;health=/[a-z?=#;]{0,5})?(;max_(connections|requests|pending)=[0-9]{1,7}){0,2},?){1,3}") {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(&target.to_string()).unwrap(), target);
            }
        }
    }
}

#[test]
fn targets_are_origins() {
    for (given, kept, authority) in [
        ("https://origin.example.com", "https://origin.example.com", "origin.example.com"),
        ("https://Origin.example.com:443/", "https://origin.example.com", "origin.example.com"),
        ("http://10.0.0.5:8080", "http://10.0.0.5:8080", "10.0.0.5:8080"),
        ("http://[2001:db8::1]:80", "http://[2001:db8::1]", "[2001:db8::1]"),
    ] {
        let target = Target::parse(given).unwrap();
        let [endpoint] = target.endpoints() else { panic!("one endpoint") };
        assert_eq!(
            (target.to_string().as_str(), endpoint.authority().to_str().unwrap()),
            (kept, authority),
            "{given}"
        );
    }
}

#[test]
fn a_target_may_have_several_endpoints_of_different_weight() {
    let target =
        Target::parse("http://10.0.0.5:8080;weight=3,https://b.example ,http://10.0.0.5;weight=1").unwrap();
    let spelled = "http://10.0.0.5:8080;weight=3, https://b.example, http://10.0.0.5";
    assert_eq!(target.to_string(), spelled);
    let weights = target.endpoints().iter().map(|endpoint| u16::from(endpoint.weight));
    assert_eq!(weights.collect::<Vec<_>>(), [3, 1, 1]);
    let many = |count: usize| (1..=count).map(|n| format!("http://10.0.0.{n}")).collect::<Vec<_>>().join(",");
    assert!(Target::parse(&many(MAX_ENDPOINTS)).is_ok());
    let error = Target::parse(&many(MAX_ENDPOINTS + 1)).unwrap_err().to_string();
    assert!(error.contains("more than 16 endpoints"), "{error}");
}

#[test]
fn an_endpoint_may_speak_another_version_of_http() {
    let target = Target::parse(
        "http://10.0.0.5:50051;protocol=h2, https://b.example; protocol=http/1.1 ,https://c.example;protocol=h2;weight=2",
    );
    let target = target.unwrap();
    let protocols: Vec<_> = target.endpoints().iter().map(|endpoint| endpoint.protocol).collect();
    assert_eq!(protocols, [UpstreamProtocol::Http2, UpstreamProtocol::Http1, UpstreamProtocol::Http2]);
    let spelled =
        "http://10.0.0.5:50051;protocol=h2, https://b.example, https://c.example;weight=2;protocol=h2";
    assert_eq!(target.to_string(), spelled);
}

#[test]
fn an_endpoint_over_tls_may_let_its_server_choose_the_version_of_http() {
    let target = Target::parse("https://b.example;protocol=auto;max_connections=9").unwrap();
    assert_eq!(target.to_string(), "https://b.example;protocol=auto;max_connections=9");
    assert_eq!(target.endpoints()[0].protocol, UpstreamProtocol::Auto);
    for cleartext in ["http://10.0.0.5:8080;protocol=auto", "unix:/run/app.sock;protocol=auto"] {
        let error = Target::parse(cleartext).unwrap_err().to_string();
        assert!(error.contains(cleartext) && error.contains("for `https://` alone"), "{error}");
    }
}

#[test]
fn an_endpoint_may_say_how_its_health_is_checked() {
    let target = Target::parse("http://10.0.0.5;health=/up?full=1;weight=2, http://10.0.0.6").unwrap();
    let paths = target.endpoints().iter().map(|endpoint| endpoint.health.as_ref().map(PathAndQuery::as_str));
    assert_eq!(paths.collect::<Vec<_>>(), [Some("/up?full=1"), None]);
    assert_eq!(target.to_string(), "http://10.0.0.5;weight=2;health=/up?full=1, http://10.0.0.6");
}

#[test]
fn an_endpoint_may_name_settings_for_tls() {
    let target = Target::parse("https://10.0.0.5;health=/up;tls=Inside_2;protocol=h2").unwrap();
    assert_eq!(target.to_string(), "https://10.0.0.5;protocol=h2;tls=Inside_2;health=/up");
    assert_eq!(target.endpoints()[0].tls, TlsName::parse("Inside_2"));
}

#[test]
fn an_endpoint_may_want_a_proxy_header() {
    let target =
        Target::parse("http://10.0.0.5;health=/up;proxy_protocol=v2, unix:/run/app.sock;proxy_protocol=v1");
    let target = target.unwrap();
    let spelled = "http://10.0.0.5;proxy_protocol=v2;health=/up, unix:/run/app.sock;proxy_protocol=v1";
    assert_eq!(target.to_string(), spelled);
    let versions = target.endpoints().iter().map(|endpoint| endpoint.proxy_protocol);
    let (v1, v2) = (Some(ProxyProtocolVersion::V1), Some(ProxyProtocolVersion::V2));
    assert_eq!(versions.collect::<Vec<_>>(), [v2, v1]);
    assert!(target.wants_proxy_header() && !Target::parse("http://10.0.0.5").unwrap().wants_proxy_header());
    for both in
        ["http://10.0.0.5;protocol=h2;proxy_protocol=v2", "https://10.0.0.5;protocol=auto;proxy_protocol=v1"]
    {
        let error = Target::parse(both).unwrap_err().to_string();
        assert!(error.contains(both) && error.contains("leave one of the two out"), "{error}");
    }
}

#[test]
fn an_endpoint_may_bound_what_is_there_at_a_time() {
    let target =
        Target::parse("http://10.0.0.5;max_pending=0;max_requests=20;max_connections=0030;health=/up");
    let target = target.unwrap();
    let spelled = "http://10.0.0.5;health=/up;max_connections=30;max_requests=20;max_pending=0";
    assert_eq!(target.to_string(), spelled);
    let limits = |connections, requests, pending| EndpointLimits {
        connections: NonZeroU32::new(connections),
        requests: NonZeroU32::new(requests),
        pending,
    };
    assert_eq!(target.endpoints()[0].limits, limits(30, 20, Some(0)));
    assert_eq!(limits(1, 0, None).or(limits(7, 8, Some(9))), limits(1, 8, Some(9)));
    let both = "http://10.0.0.5;protocol=h2;max_connections=5";
    let error = Target::parse(both).unwrap_err().to_string();
    assert!(error.contains(both) && error.contains("with `protocol=h2` write `max_requests=`"), "{error}");
}

#[test]
fn an_endpoint_may_be_a_unix_socket() {
    let target = Target::parse("unix:/run/app.sock;protocol=h2;health=/up, http://10.0.0.5").unwrap();
    assert_eq!(target.to_string(), "unix:/run/app.sock;protocol=h2;health=/up, http://10.0.0.5");
    let [socket, _] = target.endpoints() else { panic!("two endpoints") };
    assert_eq!(socket.location, Location::Unix(SocketPath::parse("/run/app.sock").unwrap()));
    assert_eq!((socket.scheme, socket.protocol), (Scheme::Http, UpstreamProtocol::Http2));
    assert_eq!(socket.authority(), "localhost");
    assert!(!target.has_authority() && Target::parse("http://10.0.0.5").unwrap().has_authority());
    let longest = format!("unix:/{}", "x".repeat(106));
    assert_eq!(Target::parse(&longest).unwrap().to_string(), longest);
    assert!(Target::parse(&format!("{longest}x")).is_err());
}

#[test]
fn a_url_may_have_a_base_path() {
    let target =
        Target::parse("http://10.0.0.5:8080/app/;health=/up, https://b.example/a/b, http://10.0.0.5:8080")
            .unwrap();
    let paths =
        target.endpoints().iter().map(|endpoint| endpoint.base_path.as_ref().map(ToString::to_string));
    assert_eq!(paths.collect::<Vec<_>>(), [Some("/app".to_owned()), Some("/a/b".to_owned()), None]);
    assert_eq!(
        target.to_string(),
        "http://10.0.0.5:8080/app;health=/up, https://b.example/a/b, http://10.0.0.5:8080"
    );
    assert!(target.has_base_path() && !Target::parse("https://b.example/").unwrap().has_base_path());
}

#[test]
fn anything_beside_origins_is_refused() {
    for text in [
        "",
        "origin.example.com",
        "ftp://a.example",
        "https://",
        "https://u:p@a.example",
        "https://a.example/?q",
        "https://a.example/x?q",
        "https://a.example//",
        "https://a.example/x//y",
        "https://a.example/x/../y",
        "https://a.example/x%2fy",
        "https://a.example/x, https://a.example/x/",
        "https://a.example#f",
        "https://a.example/#",
        "https://a.example:8443/#/x",
        "https://a.example:0",
        "https://a.example:99999",
        "https://a_-.example-",
        "https://a.example,",
        "https://a.example,,https://b.example",
        "https://a.example, https://A.example:443;weight=2",
        "unix:",
        "unix:/",
        "unix:run/app.sock",
        "unix:/run/",
        "unix://run/app.sock",
        "unix:/run//app.sock",
        "unix:/run/../app.sock",
        "unix:/run/./app.sock",
        "unix:/run/a b.sock",
        "unix:/run/\u{e4}.sock",
        "unix:@app",
        "http://unix:/run/app.sock",
        "unix:/run/app.sock, unix:/run/app.sock;weight=2",
        "https://a.example;tls=",
        "https://a.example;tls=a.b",
        "https://a.example;tls=a;tls=b",
        "http://a.example;tls=a",
        "unix:/run/app.sock;tls=a",
        "https://a.example;tls=a, https://a.example;tls=b",
        "https://a.example;weight=0",
        "https://a.example;weight=257",
        "https://a.example;weight",
        "https://a.example;x=1",
        "https://a.example;protocol=h3",
        "https://a.example;protocol=h2;protocol=h2",
        "https://a.example;weight=2;",
        "https://a.example;max_requests=0",
        "https://a.example;max_requests=1000001",
        "https://a.example;max_requests=+5",
        "https://a.example;max_requests=",
        "https://a.example;max_connections=0",
        "https://a.example;max_pending=-1",
        "https://a.example;max_pending=1;max_pending=1",
        "https://a.example;proxy_protocol=1",
        "https://a.example;proxy_protocol=v3",
        "https://a.example;proxy_protocol=v1;proxy_protocol=v2",
        "https://a.example;health=up",
        "https://a.example;health=",
        "https://a.example;health=/#up",
        "https://a.example;health=/u p",
        "https://a.example;protocol=h2, https://a.example",
    ] {
        assert!(Target::parse(text).is_err(), "{text:?}");
    }
}
