//! Who may see and change what by pages.

use testbed::gatehouse::Gatehouse;

use super::visitor::{Visitor, settings};
use crate::{
    api::client::{ALL, Client, token},
    fixture::{SHOP, edge, start},
};

/// Each page, with the scope it wants and the status for who is of another tenant.
fn pages() -> Vec<(String, &'static str, u16)> {
    vec![
        (format!("domains/{SHOP}"), "domains:read", 404),
        (format!("domains/{SHOP}/removal"), "domains:write", 404),
        ("domains?tenant=acme".to_owned(), "domains:read", 403),
        ("audit?tenant=acme".to_owned(), "audit:read", 403),
        ("overview".to_owned(), "domains:read", 403),
        ("fleet".to_owned(), "domains:read", 403),
        ("import".to_owned(), "domains:write", 200),
    ]
}

type FormFields = Vec<(&'static str, &'static str)>;

/// Each form, with the status for who is of another tenant.
fn forms() -> Vec<(String, FormFields, u16)> {
    let act = |action: &str| format!("domains/{SHOP}/{action}");
    let version = || vec![("version", "1")];
    vec![
        (act("change"), vec![("version", "1"), ("target", "http://192.0.2.66")], 404),
        (act("suspend"), version(), 404),
        (act("resume"), version(), 404),
        (act("begin-maintenance"), version(), 404),
        (act("end-maintenance"), version(), 404),
        (act("remove"), version(), 404),
        (act("retry"), version(), 404),
        (act("link"), version(), 404),
        ("domains".to_owned(), vec![("domain", SHOP), ("target", "http://192.0.2.66")], 409),
        ("domains".to_owned(), vec![("domain", "b.customer.test"), ("tenant", "acme")], 403),
        ("import".to_owned(), vec![("rows", "domain,tenant\nb.customer.test,acme"), ("step", "write")], 200),
    ]
}

fn state(gatehouse: &Gatehouse) -> String {
    gatehouse.command(&["domain", "list", "--json"]).unwrap()
}

#[test]
fn nobody_gets_beyond_a_token() {
    let edge = edge();
    let a = start(&edge, settings(&edge));
    let target = "http://192.0.2.77";
    let (_, operator) = token(&a, &ALL, None);
    let added = serde_json::json!({ "domain": SHOP, "tenant": "acme", "target": target });
    Client::new(&edge, &operator).expect(201, "POST", "domains", &added);
    let before = state(&a);

    let nobody = Visitor::nobody(&edge);
    for reply in pages().iter().map(|(path, ..)| nobody.get(path)) {
        assert_eq!(
            (reply.status, reply.header("location").as_deref()),
            (303, Some("/console/sign-in")),
            "{reply:?}"
        );
    }
    for reply in forms().iter().map(|(path, fields, _)| nobody.post(path, fields)) {
        assert_eq!(
            (reply.status, reply.header("location").as_deref()),
            (303, Some("/console/sign-in")),
            "{reply:?}"
        );
    }
    for wrong in ["", "gatehouse_", &format!("gatehouse_{}_{}", "0".repeat(12), "0".repeat(72))] {
        let reply = nobody.post("sign-in", &[("token", wrong)]);
        assert!(reply.status == 401 && reply.header("set-cookie").is_none(), "{reply:?}");
        assert!(wrong.is_empty() || !reply.body.contains(&format!("{wrong}\"")), "{reply:?}");
    }

    let other = Visitor::sign_in(&edge, &token(&a, &ALL, Some("zeta")).1);
    for (path, _, status) in pages() {
        assert!(!other.page(status, &path).contains(target));
    }
    for (path, fields, status) in forms() {
        other.expect(status, &path, &fields);
    }
    for tenant in [Some("acme"), None] {
        for scope in ALL {
            let others: Vec<_> = ALL.into_iter().filter(|other| *other != scope).collect();
            let visitor = Visitor::sign_in(&edge, &token(&a, &others, tenant).1);
            for (path, _, _) in pages().into_iter().filter(|(_, needed, _)| *needed == scope) {
                assert!(!visitor.page(403, &path).contains(target), "{path}");
            }
            if scope == "domains:write" {
                for (path, fields, _) in forms() {
                    visitor.expect(403, &path, &fields);
                }
            }
        }
    }
    assert_eq!(state(&a), before);
}

#[test]
fn only_our_own_forms_change_anything() {
    let edge = edge();
    let a = start(&edge, settings(&edge));
    let [text, second] = [(); 2].map(|()| token(&a, &ALL, None).1);
    let (visitor, other) = (Visitor::sign_in(&edge, &text), Visitor::sign_in(&edge, &second));
    visitor.expect(303, "domains", &[("domain", SHOP)]);
    let before = state(&a);
    let with = |from: &[(&'static str, &str)], csrf_token: &str| Visitor {
        edge: &edge,
        cookie: visitor.cookie.clone(),
        csrf_token: csrf_token.to_owned(),
        from: from.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    let (origin, csrf_token) = (visitor.from[0].1.as_str(), visitor.csrf_token.as_str());
    for (what, visitor) in [
        ("no CSRF token", with(&[("Origin", origin)], "")),
        ("the CSRF token of another session", with(&[("Origin", origin)], &other.csrf_token)),
        ("its cookie", with(&[("Origin", origin)], &visitor.cookie)),
        ("nowhere", with(&[], csrf_token)),
        ("another origin", with(&[("Origin", "https://evil.example")], csrf_token)),
        ("an origin that is hidden", with(&[("Origin", "null")], csrf_token)),
        ("another port", with(&[("Origin", "https://api.edge.test:443")], csrf_token)),
        ("another site", with(&[("Origin", origin), ("Sec-Fetch-Site", "cross-site")], csrf_token)),
        ("a sibling", with(&[("Origin", origin), ("Sec-Fetch-Site", "same-site")], csrf_token)),
    ] {
        for (path, fields, _) in forms() {
            let reply = visitor.post(&path, &fields);
            assert_eq!(reply.status, 403, "{what}: {path}: {reply:?}");
        }
    }
    assert_eq!(state(&a), before);
    let sign_in = with(&[("Origin", "https://evil.example")], "").post("sign-in", &[("token", &text)]);
    assert!(sign_in.status == 403 && sign_in.header("set-cookie").is_none(), "{sign_in:?}");
}
