//! A program that uses the API, by curl.

use std::net::IpAddr;

use serde_json::Value;
use testbed::{
    curl::Reply,
    edge::Edge,
    gatehouse::{Gatehouse, Place, Settings},
};

/// Settings of an instance at `place` with an API, over TLS.
pub(crate) fn settings(edge: &Edge, place: Place) -> Settings {
    let mut settings = edge.shared_settings(place, "auto");
    settings.domain(API).text("api", "listen", &format!("{}:{PORT}", place.v4())).text("api", "name", API);
    settings
}

/// Makes a token at `gatehouse`: its id and itself.
pub(crate) fn token(gatehouse: &Gatehouse, scopes: &[&str], tenant: Option<&str>) -> (String, String) {
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
pub(crate) struct Client<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) place: Place,
    /// `Authorization`, or none.
    pub(crate) authorization: Option<String>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(edge: &'a Edge, token: &str) -> Self {
        Self { edge, place: Place::A, authorization: Some(format!("Bearer {token}")) }
    }

    pub(crate) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Sends `body`, if it is not null, to a path below `/api/v1`.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.call_for(method, path, body, None)
    }

    /// The same for the version `tag`.
    pub(crate) fn call_for(&self, method: &str, path: &str, body: &Value, tag: Option<&str>) -> Reply {
        let fields: Vec<_> = tag.into_iter().map(|tag| ("If-Match", tag)).collect();
        self.call_with(&fields, method, path, body)
    }

    /// The same with `fields` in its header section.
    pub(crate) fn call_with(&self, fields: &[(&str, &str)], method: &str, path: &str, body: &Value) -> Reply {
        let mut arguments = vec!["-X".to_owned(), method.to_owned()];
        let mut field = |field: String| arguments.extend(["-H".to_owned(), field]);
        self.authorization.iter().for_each(|value| field(format!("Authorization: {value}")));
        for (name, value) in fields {
            field(format!("{name}: {value}"));
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
    pub(crate) fn expect(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.call(method, path, body);
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        reply.json().unwrap()
    }
}

pub(crate) const API: &str = "api.edge.test";
pub(crate) const PORT: u16 = 9443;
pub(crate) const ALL: [&str; 3] = ["domains:read", "domains:write", "audit:read"];
