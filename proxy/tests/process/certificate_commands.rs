//! Certificates ordered and revoked by command, of the internal issuer.

use crate::fixture::{Instance, Manager, Place, Said, tell};

#[test]
fn a_command_orders_what_is_allowed_and_says_what_it_did() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(
        "[worker]\nthreads = 1\n[domains]\ndefault_target = \"http://10.0.0.1\"\n\
         [[domains.static]]\nname = \"shop.example\"",
    );
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    let first = serial(&tell(&place, "certificate obtain shop.example"), "shop.example: certificate ");
    let again = tell(&place, "certificate obtain shop.example");
    assert!(
        again.out.starts_with(&format!("shop.example: nothing was ordered; certificate {first} ends ")),
        "{again:?}"
    );
    let renewed = tell(&place, "certificate renew shop.example --json");
    let renewed: serde_json::Value = serde_json::from_str(&renewed.out).unwrap();
    assert_eq!(
        (&renewed["is_new"], &renewed["replaced"]),
        (&true.into(), &first.clone().into()),
        "{renewed}"
    );
    instance.has_logged("certificate ordered on request");
    let shown = tell(&place, "certificate show shop.example");
    assert!(shown.out.contains(renewed["serial"].as_str().unwrap()), "{shown:?}");

    for (line, told) in [
        ("certificate obtain other.example", "`gatehouse domain add other.example` allows it"),
        (
            "certificate revoke shop.example",
            "`gatehouse-internal`, which no issuer of the settings can revoke",
        ),
        ("certificate revoke other.example", "there is no certificate of its own"),
    ] {
        let said = place.run(line);
        assert!(said.code == Some(1) && said.err.contains(told), "{line}: {said:?}");
    }
}

fn serial(said: &Said, before: &str) -> String {
    said.out.strip_prefix(before).unwrap().split(' ').next().unwrap().to_owned()
}
