//! Settings that change while an instance runs.

use std::fs;

use nix::sys::signal::Signal;

use crate::fixture::{Instance, Manager, Place};

const BEFORE: &str =
    "[worker]\nthreads = 1\n[domains]\nstatic = [{ name = \"a.example\", target = \"http://10.0.0.1\" }]";
const AFTER: &str = "[worker]\nthreads = 2\n[limits]\nidle = \"7s\"\n[domains]\n\
    static = [{ name = \"b.example\", target = \"http://10.0.0.2\" }]";

#[test]
fn what_can_change_does_and_the_rest_is_named() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(BEFORE);
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    assert_eq!(place.run("reload").out, "nothing has changed\n");
    place.write(AFTER);
    let wanted = "applied        domains.static\napplied        limits.idle\nneeds restart  worker.threads\n";
    let said = place.run("reload");
    assert_eq!((said.code, said.out.as_str()), (Some(0), wanted), "{said:?}");
    let listed = place.run("domain list").out;
    assert!(listed.contains("b.example") && !listed.contains("a.example"), "{listed}");
    assert_eq!(place.run("reload").out, "needs restart  worker.threads\n", "it waits still");
    manager.hear_until("RELOADING=1\nMONOTONIC_USEC=");
    manager.hear_until("READY=1");
    place.write(BEFORE);
    instance.signal(Signal::SIGHUP);
    for _ in 0..3 {
        // Two for the commands before, one for the signal.
        manager.hear_until("READY=1");
    }
    assert!(place.run("domain list").out.contains("a.example"), "{}", instance.log());
}

#[test]
fn wrong_settings_change_nothing() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(BEFORE);
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    // A file of its own, so that the command finds the instance and only the instance finds its settings wrong.
    fs::copy(place.path().join("gatehouse.toml"), place.path().join("good.toml")).unwrap();
    place.write(&format!("{AFTER}\n[log]\nfilter = \"=\""));
    for (settings, told) in [("gatehouse.toml", "log.filter"), ("good.toml", "nothing was changed")] {
        let said = place.run_by(settings, "reload");
        assert!(said.code == Some(2) && said.out.is_empty(), "{settings}: {said:?}");
        assert!(said.err.contains("log.filter") && said.err.contains(told), "{settings}: {said:?}");
    }
    let listed = place.run_by("good.toml", "domain list").out;
    assert!(listed.contains("a.example") && !listed.contains("b.example"), "{listed}");
    instance.has_logged("the settings are wrong");
}

#[test]
fn without_an_instance_there_is_nothing_to_reload() {
    let place = Place::new();
    place.write(BEFORE);
    let said = place.run("reload");
    assert!(said.code == Some(1) && said.err.contains("no instance runs here"), "{said:?}");
}
