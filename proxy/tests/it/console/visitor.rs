//! A browser without a screen or a script, by curl.

use std::net::IpAddr;

use testbed::{
    curl::Reply,
    edge::Edge,
    gatehouse::{Place, Settings},
};

use crate::api::client::{self, API, PORT};

/// Settings of an instance with a console.
pub(super) fn settings(edge: &Edge) -> Settings {
    let mut settings = client::settings(edge, Place::A);
    settings.raw("api", "console", "true").raw("api", "requests_burst", "1000");
    settings
}

/// Who has a session, or none.
pub(super) struct Visitor<'a> {
    pub(super) edge: &'a Edge,
    /// What the browser keeps.
    pub(super) cookie: String,
    /// What each form of the session sends back.
    pub(super) csrf_token: String,
    /// What the browser says of where a form was.
    pub(super) from: Vec<(&'static str, String)>,
}

impl<'a> Visitor<'a> {
    /// Without a session.
    pub(super) fn nobody(edge: &'a Edge) -> Self {
        let from =
            vec![("Origin", format!("https://{API}:{PORT}")), ("Sec-Fetch-Site", "same-origin".to_owned())];
        Self { edge, cookie: String::new(), csrf_token: String::new(), from }
    }

    /// With a session of `token`.
    pub(super) fn sign_in(edge: &'a Edge, token: &str) -> Self {
        let nobody = Self::nobody(edge);
        let reply = nobody.post("sign-in", &[("token", token)]);
        assert_eq!(reply.status, 303, "{reply:?}");
        let cookie = reply.header("set-cookie").expect("a cookie");
        let attributes = ["Secure", "HttpOnly", "SameSite=Strict", "Path=/;"];
        assert!(attributes.iter().all(|attribute| cookie.contains(attribute)), "{cookie}");
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        let visitor = Self { cookie, ..nobody };
        let page = visitor.get("").status;
        assert_eq!(page, 303);
        // Whatever it may see, each page has the CSRF token.
        let pages = ["domains", "audit", "domains/new"].map(|path| visitor.get(path).body);
        let found = pages.iter().find_map(|page| page.split_once("name=\"csrf_token\" value=\""));
        let csrf_token = found.and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default().to_owned();
        Self { csrf_token, ..visitor }
    }

    /// A page below `/console`.
    pub(super) fn get(&self, path: &str) -> Reply {
        self.send(path, &[])
    }

    /// Its text, with `status` and the policy.
    #[track_caller]
    pub(super) fn page(&self, status: u16, path: &str) -> String {
        let reply = self.get(path);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{reply:?}"
        );
        assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"), "{reply:?}");
        reply.body
    }

    /// Sends a form with `fields` and the CSRF token of the session.
    pub(super) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let fields: Vec<_> =
            fields.iter().copied().chain([("csrf_token", self.csrf_token.as_str())]).collect();
        self.send(path, &fields)
    }

    #[track_caller]
    pub(super) fn expect(&self, status: u16, path: &str, fields: &[(&str, &str)]) {
        let reply = self.post(path, fields);
        assert_eq!(reply.status, status, "{path} {fields:?}: {reply:?}");
    }

    fn send(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let mut arguments = Vec::new();
        if !self.cookie.is_empty() {
            arguments.extend(["-H".to_owned(), format!("Cookie: {}", self.cookie)]);
        }
        if !fields.is_empty() {
            let from =
                self.from.iter().flat_map(|(name, value)| ["-H".to_owned(), format!("{name}: {value}")]);
            arguments.extend(from);
        }
        for (name, value) in fields {
            arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        let url = format!("https://{API}:{PORT}/console{path}");
        self.edge.curl(&url).at(IpAddr::V4(Place::A.v4())).with(&arguments).run().unwrap()
    }
}
