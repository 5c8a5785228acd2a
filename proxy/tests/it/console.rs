//! People who manage domains by the pages of the console.

mod authority;
mod browser;
mod setup_links;
mod visitor;

use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::{gatehouse::Place, wait};

use self::visitor::{Visitor, settings};
use crate::{
    api::client::{ALL, token},
    fixture::{FLEET_DELAY, SHOP, assert_served, edge, get, start},
};

#[test]
fn a_person_adds_changes_and_removes_a_domain_by_forms() {
    let edge = edge();
    let a = start(&edge, settings(&edge));
    let (id, text) = token(&a, &ALL, None);
    let visitor = Visitor::sign_in(&edge, &text);
    assert!(!visitor.cookie.contains(&text), "a session does not hold its token");

    let entry = format!("domains/{SHOP}");
    visitor.expect(303, "domains", &[("domain", SHOP)]);
    assert_served(&edge, SHOP);
    let page = visitor.page(200, &entry);
    assert!(page.contains(SHOP) && page.contains("status active"), "{page}");
    wait::until("the index to have it", FLEET_DELAY, || {
        ensure!(visitor.page(200, "domains?prefix=shop").contains(SHOP));
        Ok(())
    })
    .unwrap();
    assert!(!visitor.page(200, "domains?prefix=other").contains(SHOP));
    assert!(
        visitor.page(200, "overview").contains("Packets by verdict")
            || visitor.page(200, "overview").contains("It is off")
    );

    let wrong = visitor.post("domains", &[("domain", "192.0.2.1"), ("target", "http://10.0.0.5")]);
    assert_eq!(wrong.status, 422, "{wrong:?}");
    assert!(wrong.body.contains("value=\"192.0.2.1\"") && wrong.body.contains("10.0.0.5"), "{wrong:?}");

    visitor.expect(303, &format!("{entry}/begin-maintenance"), &[("version", "1")]);
    assert_eq!(get(&edge, SHOP).status, 503);
    visitor.expect(412, &format!("{entry}/end-maintenance"), &[("version", "1")]);
    visitor.expect(303, &format!("{entry}/end-maintenance"), &[("version", "2")]);
    visitor.expect(303, &format!("{entry}/suspend"), &[("version", "3")]);
    assert_ne!(get(&edge, SHOP).status, 200);
    visitor.expect(303, &format!("{entry}/resume"), &[("version", "4")]);
    let change = [
        ("version", "5"),
        ("host", "client"),
        ("target", ""),
        ("minimum_tls", ""),
        ("redirect", ""),
        ("request_rate", "20/s burst 200"),
        ("client_request_rate", ""),
    ];
    visitor.expect(303, &format!("{entry}/change"), &change);
    let page = visitor.page(200, &entry);
    assert!(page.contains("value=\"client\" selected") && page.contains("<dd>20/s burst 200</dd>"), "{page}");
    let wrong = [("version", "6"), ("request_rate", "20")];
    visitor.expect(422, &format!("{entry}/change"), &wrong);
    visitor.expect(303, &format!("{entry}/retry"), &[("version", "6")]);
    assert!(visitor.page(200, &format!("{entry}/removal")).contains("name=\"version\" value=\"6\""));
    visitor.expect(303, &format!("{entry}/remove"), &[("version", "6")]);
    visitor.page(404, &entry);
    let audit = visitor.page(200, "audit");
    assert!(audit.contains(&format!("token {id}")) && audit.contains("resume"), "{audit}");

    let out = visitor.post("sign-out", &[]);
    let cookie = out.header("set-cookie").unwrap_or_default();
    assert!(out.status == 303 && cookie.contains("Max-Age=0"), "{out:?}");
}

#[test]
fn rows_that_are_pasted_are_checked_and_then_written() {
    let edge = edge();
    let a = start(&edge, settings(&edge));
    let visitor = Visitor::sign_in(&edge, &token(&a, &ALL, None).1);
    let rows = format!("domain,target\n{SHOP},\nb.customer.test,http://192.0.2.77\n");
    let send = |status: u16, rows: &str, step: &str| {
        let reply = visitor.post("import", &[("rows", rows), ("step", step)]);
        assert_eq!(reply.status, status, "{reply:?}");
        reply.body
    };
    let checked = send(200, &rows, "check");
    assert!(
        checked.contains("nothing was written; it would be 2 added") && checked.contains("value=\"write\""),
        "{checked}"
    );
    assert!(
        checked.contains("b.customer.test,http://192.0.2.77"),
        "what was pasted is still there: {checked}"
    );
    visitor.page(404, "domains/b.customer.test");
    assert!(send(200, &rows, "write").contains("2 added, 0 changed, 0 unchanged, 0 refused"));
    visitor.page(200, "domains/b.customer.test");
    assert_served(&edge, SHOP);
    assert!(send(200, "domain,target\nb.customer.test,http://192.0.2.78", "check").contains("status failed"));
    let unread = send(422, "domain\nok.customer.test\n192.0.2.1\n", "write");
    assert!(unread.contains("Nothing was written") && unread.contains("row 2: domain"), "{unread}");
    visitor.page(404, "domains/ok.customer.test");
}

#[test]
fn a_session_ends_within_ten_seconds_of_its_token() {
    let edge = edge();
    let a = start(&edge, settings(&edge));
    let (id, text) = token(&a, &["domains:read"], None);
    let visitor = Visitor::sign_in(&edge, &text);
    visitor.page(200, "domains");
    a.command(&["token", "revoke", &id]).unwrap();
    let at = Instant::now();
    wait::until("to be signed out", Duration::from_secs(10).saturating_sub(at.elapsed()), || {
        let reply = visitor.get("domains");
        ensure!(
            reply.status == 303 && reply.header("location").as_deref() == Some("/console/sign-in"),
            "{reply:?}"
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn nothing_of_the_console_is_there_unless_it_is_wanted() {
    let edge = edge();
    let mut settings = crate::api::client::settings(&edge, Place::A);
    settings.raw("api", "requests_burst", "100");
    let _a = start(&edge, settings);
    let nobody = Visitor::nobody(&edge);
    assert_eq!(nobody.get("sign-in").status, 404);
}
