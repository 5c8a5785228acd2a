//! Domains changed while an instance runs: what is answered, what is refused, and what its log keeps of it.

use crate::fixture::{Instance, Manager, Place, tell};

#[test]
fn a_change_says_what_it_changed_and_its_log_who_made_it() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1\n[domains]\ndefault_target = \"http://10.0.0.1\"");
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    let added = "shop.example: added with target http://10.0.0.2, tenant acme\n\
                 it is served, with a certificate from its first handshake on: table and instance have the change; the guard is off\n";
    assert_eq!(tell(&place, "domain add shop.example --target http://10.0.0.2 --tenant acme").out, added);
    let unchanged = tell(&place, "domain add shop.example --target http://10.0.0.2");
    assert!(
        unchanged.out.starts_with("shop.example: unchanged; it has target http://10.0.0.2, tenant acme\n")
    );

    let refused = place.run("domain add shop.example --target http://10.0.0.3");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("`http://10.0.0.2`, not `http://10.0.0.3`; to change it, add `--replace`"),
        "{refused:?}"
    );
    let replaced = tell(&place, "domain add shop.example --target http://10.0.0.3 --replace --json");
    let replaced: serde_json::Value = serde_json::from_str(&replaced.out).unwrap();
    let target =
        serde_json::json!([{ "field": "target", "from": "http://10.0.0.2", "to": "http://10.0.0.3" }]);
    assert_eq!((&replaced["action"], &replaced["changes"]), (&"replace".into(), &target), "{replaced}");

    let suspended = tell(&place, "domain suspend shop.example");
    assert!(suspended.out.starts_with("shop.example: status active -> suspended\nit is not served: "));
    assert!(tell(&place, "domain resume shop.example").out.contains("suspended -> active\nit is served: "));
    let maintained = tell(&place, "domain maintenance shop.example on");
    assert!(maintained.out.starts_with("shop.example: maintenance (default) -> on\nit is served: "));
    assert!(maintained.out.contains("\nwarning: its requests are answered with 503"), "{maintained:?}");
    assert!(tell(&place, "domain maintenance shop.example off").out.contains("maintenance on -> off\n"));
    let removed = tell(&place, "domain remove shop.example");
    assert!(
        removed.out.starts_with(
            "shop.example: removed; it had target http://10.0.0.3, tenant acme, maintenance off\n"
        )
    );

    instance.has_logged("action=\"remove\"");
    let log = instance.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("domain changed")).collect();
    let caller = format!("caller=uid {}", nix::unistd::getuid());
    assert_eq!(lines.len(), 7, "what changed nothing leaves no line: {log}");
    for (line, action, from, to) in [
        (lines[0], "add", "absent", "target http://10.0.0.2, status active, tenant acme"),
        (lines[1], "replace", "target http://10.0.0.2", "target http://10.0.0.3"),
        (lines[2], "suspend", "status active", "status suspended"),
        (lines[3], "resume", "status suspended", "status active"),
        (lines[4], "replace", "maintenance (default)", "maintenance on"),
        (lines[5], "replace", "maintenance on", "maintenance off"),
        (lines[6], "remove", "target http://10.0.0.3, status active, tenant acme, maintenance off", "absent"),
    ] {
        for part in [
            " INFO ",
            "name=shop.example",
            &format!("action=\"{action}\""),
            &format!("from=\"{from}\""),
            &format!("to=\"{to}\""),
            "tenant=\"acme\"",
            &caller,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}

#[test]
fn what_a_wildcard_covers_is_shown_by_its_entry() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(
        "[worker]\nthreads = 1\n[domains]\ndefault_target = \"http://10.0.0.1\"\nstatic = [{ name = \"*.fixed.example\" }]",
    );
    let _instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    tell(&place, "domain add *.shops.example");
    tell(&place, "domain add own.shops.example --target http://10.0.0.2 --minimum-tls 1.3 --host client");
    for (asked, shown) in [
        ("a.shops.example", "domain   *.shops.example (covers a.shops.example)\n"),
        ("own.shops.example", "domain   own.shops.example\n"),
        ("*.shops.example", "domain   *.shops.example\n"),
        ("a.fixed.example", "domain   *.fixed.example (covers a.fixed.example)\n"),
    ] {
        let said = tell(&place, &format!("domain show {asked}"));
        assert!(said.out.starts_with(shown), "{asked}: {said:?}");
    }
    assert_eq!(place.run("domain show a.b.shops.example").code, Some(1), "a wildcard covers one label");
    let listed = tell(&place, "domain list").out;
    let settings_of = |name: &str| {
        let line = listed.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit("  ").next().unwrap().to_owned()
    };
    let settings = ["own.shops.example", "*.shops.example", "DOMAIN"].map(settings_of);
    assert_eq!(settings, ["minimum_tls 1.3, host client", "-", "SETTINGS"], "{listed}");
}

#[test]
fn a_running_instance_refuses_what_it_could_not_serve() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1\n[upstream]\npermitted_networks = [\"127.0.0.0/8\"]");
    let _instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    let own = format!("domain add shop.example --target https://{}", place.https());
    for (line, code, told) in [
        ("domain add shop.example", 2, "`domains.default_target` is not set; give one like"),
        ("domain add shop.example --target http://169.254.169.254", 2, "an address that no target may have"),
        (&own, 2, "is this proxy's own listener; give the address of the server behind it"),
        ("domain add co.uk --target http://10.0.0.1", 2, "`co.uk` is a public suffix"),
        ("domain suspend shop.example", 1, "`gatehouse domain list` shows those that are"),
    ] {
        let said = place.run(line);
        assert!(
            said.code == Some(code) && said.err.contains(told) && said.out.is_empty(),
            "{line}: {said:?}"
        );
    }
    assert_eq!(
        tell(&place, "domain list").out,
        "DOMAIN  TARGET  STATUS  SOURCE  TENANT  CHANGED  SETTINGS\n"
    );
    let warned = tell(&place, "domain add foo_bar.example --target http://127.0.0.1:9");
    assert!(warned.out.contains("\nwarning: its name has a `_`: public CAs will refuse it"), "{warned:?}");
}

#[test]
fn a_guard_that_is_off_is_explained_by_the_instances_names_and_the_settings() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(
        "[worker]\nthreads = 1\n[domains]\ndefault_target = \"http://10.0.0.1\"\n[guard]\nmode = \"strict\"",
    );
    let _instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    tell(&place, "domain add *.customers.example");
    for (name, told) in [
        (
            "a.customers.example",
            "passes (pass_allowed) by step 8, name: the instance serves it by `*.customers.example`",
        ),
        (
            "a.b.customers.example",
            "rejected (reject_foreign_server) by step 12, unknown: `a.b.customers.example` is not among",
        ),
    ] {
        let said = tell(&place, &format!("guard explain --name {name}"));
        assert!(
            said.out.contains("the instance here, whose guard is off") && said.out.contains(told),
            "{said:?}"
        );
    }
    let said = place.run("guard top");
    assert!(
        said.code == Some(1) && said.err.contains("guard.interfaces: `[]`, so the guard is off"),
        "{said:?}"
    );
}
