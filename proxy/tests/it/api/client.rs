//! A program that uses the API, by curl.

use std::net::IpAddr;

use serde_json::Value;
use testbed::{
    curl::Reply,
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
};

/// Settings of an instance at `place` with an API, over TLS.
pub(super) fn settings(edge: &Edge, place: Place) -> Settings {
    let mut settings = edge.shared_settings(place, "auto");
    settings.domain(API).text("api", "listen", &format!("{}:{PORT}", place.v4())).text("api", "name", API);
    settings
}

/// Makes a token at `gatehouse`: its id and itself.
pub(super) fn token(gatehouse: &Gatehouse, scopes: &[&str], tenant: Option<&str>) -> (String, String) {
    let mut arguments = vec!["token", "create", "--name", "test", "--json"];
    arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    match &tenant {
        Some(tenant) => arguments.extend(["--tenant", tenant]),
        None => arguments.push("--all-tenants"),
    }
    let made: Value = serde_json::from_str(&gatehouse.command(&arguments).unwrap()).unwrap();
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

/// Who asks, and where.
pub(super) struct Client<'a> {
    pub(super) edge: &'a Edge,
    pub(super) place: Place,
    /// `Authorization`, or none.
    pub(super) authorization: Option<String>,
}

impl<'a> Client<'a> {
    pub(super) fn new(edge: &'a Edge, token: &str) -> Self {
        Self { edge, place: Place::A, authorization: Some(format!("Bearer {token}")) }
    }

    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Sends `body`, if it is not null, to a path below `/api/v1`.
    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.call_for(method, path, body, None)
    }

    /// The same for the version `tag`.
    pub(super) fn call_for(&self, method: &str, path: &str, body: &Value, tag: Option<&str>) -> Reply {
        let mut arguments = vec!["-X".to_owned(), method.to_owned()];
        let mut field = |field: String| arguments.extend(["-H".to_owned(), field]);
        self.authorization.iter().for_each(|value| field(format!("Authorization: {value}")));
        if let Some(tag) = tag {
            field(format!("If-Match: {tag}"));
        }
        if !body.is_null() {
            field("Content-Type: application/json".to_owned());
            arguments.extend(["--data".to_owned(), body.to_string()]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let url = format!("https://{API}:{PORT}/api/v1/{path}");
        self.edge.curl(&url).at(IpAddr::V4(self.place.v4())).with(&arguments).run().unwrap()
    }

    /// An answer with `status`, as JSON.
    #[track_caller]
    pub(super) fn expect(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.call(method, path, body);
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        reply.json().unwrap()
    }
}

pub(super) const API: &str = "api.edge.test";
pub(super) const PORT: u16 = 9443;
pub(super) const ALL: [&str; 3] = ["domains:read", "domains:write", "audit:read"];
