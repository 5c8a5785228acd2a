//! gunicorn at a Unix socket as a target: of the settings, and of entries of the table.

use testbed::{
    gatehouse::Place,
    origin::{Readings, gunicorn_at},
};

use crate::fixture::{SHOP, assert_served, edge, get, on_both_back_ends, start};

on_both_back_ends!(a_target_may_be_a_unix_socket);

fn a_target_may_be_a_unix_socket(io: &str) {
    let edge = edge();
    let socket = edge.folder().join("gunicorn.sock");
    let server = gunicorn_at(&edge.network.edge, &socket, edge.folder()).unwrap();
    let target = format!("unix:{}", socket.display());
    let mut settings = edge.settings(Place::A, io);
    settings.domain_to(SHOP, &target);
    let mut gatehouse = start(&edge, settings);
    assert_eq!(assert_served(&edge, SHOP).body, "ok\n", "{}", server.output());
    let post = edge.curl(&format!("https://{SHOP}/form?a=b")).with(&["--data", "x=1"]).run().unwrap();
    assert_eq!((post.status, post.body.as_str()), (200, "ok\n"));
    let sentinel = edge.curl(&format!("https://{SHOP}/sentinel?1")).run().unwrap();
    let Readings { readings, .. } = serde_json::from_str(&sentinel.body).unwrap();
    let posted = &readings[1];
    assert_eq!((posted.method.as_str(), posted.target.as_str(), posted.bytes), ("POST", "/form?a=b", 3));
    assert!(posted.fields.contains(&("HOST".to_owned(), SHOP.to_owned())), "{posted:?}");
    let metrics = gatehouse.metrics().unwrap();
    assert!(metrics.sum("gatehouse_upstream_requests_total", &["connection=\"reused\""]) > 0.5, "{metrics}");
    assert!(gatehouse.process.output().contains(&format!("upstream={target}")));

    // An entry of the table leads there only if the settings say so.
    let of_table = "app.customer.test";
    let add = ["domain", "add", of_table, "--target", &target];
    let refused = gatehouse.command(&add).unwrap_err().to_string();
    assert!(refused.contains("upstream.permitted_sockets"), "{refused}");
    gatehouse.stop().unwrap();
    let permitted = format!("[\"{}/\"]", edge.folder().display());
    gatehouse.settings().raw("upstream", "permitted_sockets", &permitted);
    gatehouse.start_again().unwrap();
    gatehouse.command(&add).unwrap();
    assert_eq!(get(&edge, of_table).body, "ok\n");
}
