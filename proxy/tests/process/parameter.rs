//! Settings of a fleet, from a parameter of the Systems Manager.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
    mpsc,
};

use aws_policy::{Role, record};
use nix::sys::signal::Signal;

use crate::{
    fixture::{Instance, Manager, Place, Said},
    server::{Answer, Metadata, Parameters, Server},
};

/// A machine whose user data name a parameter, and nothing else.
struct Machine {
    place: Place,
    manager: Manager,
    metadata: Metadata,
    parameters: Parameters,
}

impl Machine {
    fn new(value: &str) -> Self {
        let (place, metadata) = (Place::new(), Metadata::start());
        place.write(&format!(
            "[worker]\nthreads = 1\n[instance]\nmetadata = \"{}\"\n[domains]\ndefault_target = \"http://10.0.0.1\"",
            metadata.url()
        ));
        place.write_fragment("50-fleet.toml", "settings_parameter = \"/gatehouse/fleet\"\n");
        Self { place, manager: Manager::new(), metadata, parameters: Parameters::start(value) }
    }

    fn start(&self) -> Instance {
        self.start_at(&self.parameters.url())
    }

    fn start_at(&self, parameters: &str) -> Instance {
        let variables = variables(parameters, Role::Instance.access_key());
        Instance::start(&self.place, &self.manager, Vec::new(), &variables)
    }

    fn run(&self, line: &str) -> Said {
        self.place.run_with("gatehouse.toml", line, &variables(&self.parameters.url(), record::OPERATOR))
    }
}

fn variables<'a>(parameters: &'a str, access_key: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("AWS_ENDPOINT_URL_SSM", parameters),
        ("AWS_ACCESS_KEY_ID", access_key),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ]
}

#[test]
fn a_parameter_is_read_at_the_start_and_at_each_reload() {
    let machine = Machine::new("domains.static = [{ name = \"a.example\" }]");
    let instance = machine.start();
    machine.manager.hear_until("READY=1");
    let listed = machine.run("domain list").out;
    assert!(listed.contains("a.example"), "{listed}");
    {
        let asked = machine.parameters.asked.lock().unwrap();
        let first = asked.first().unwrap();
        assert_eq!(first.body, r#"{"Name":"/gatehouse/fleet","WithDecryption":true}"#);
        assert_eq!(first.field("x-amz-target"), Some("AmazonSSM.GetParameter"));
        let signed = first.field("authorization").unwrap();
        // The region is the instance's: nothing else says one.
        assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIAINSTANCE/"), "{signed}");
        assert!(signed.contains("/eu-south-2/ssm/aws4_request, SignedHeaders="), "{signed}");
    }
    machine.parameters.set(Some("domains.static = [{ name = \"b.example\" }]\nlimits.idle = \"7s\""));
    assert_eq!(machine.run("reload").out, "applied        domains.static\napplied        limits.idle\n");
    machine.parameters.set(Some("domains.static = [{ name = \"c.example\" }]"));
    machine.manager.hear_until("RELOADING=1");
    machine.manager.hear_until("READY=1");
    instance.signal(Signal::SIGHUP);
    machine.manager.hear_until("RELOADING=1");
    machine.manager.hear_until("READY=1");
    let listed = machine.run("domain list").out;
    assert!(listed.contains("c.example") && !listed.contains("b.example"), "{listed}");
}

#[test]
fn a_parameter_that_is_gone_or_wrong_changes_nothing_in_a_running_instance() {
    let machine = Machine::new("domains.static = [{ name = \"a.example\" }]");
    let _instance = machine.start();
    machine.manager.hear_until("READY=1");
    for (value, told) in [
        (None, "it does not exist in eu-south-2"),
        (Some("[limits]\nidel = \"7s\""), "/gatehouse/fleet:2: `limits.idel`: no such setting"),
    ] {
        machine.parameters.set(value);
        let said = machine.run("reload");
        assert!(said.code == Some(2) && said.err.contains(told), "{said:?}");
    }
    machine.parameters.set(None);
    let said = machine.run("status");
    assert!(said.code == Some(0) && said.err.contains("going on without it"), "{said:?}");
    machine.parameters.set(Some("domains.static = [{ name = \"a.example\" }]"));
    assert_eq!(machine.run("reload").out, "nothing has changed\n");
}

#[test]
fn what_is_wrong_with_a_parameter_is_told_before_and_at_a_start() {
    let long = format!("# {}", "x".repeat(8 << 10));
    for (value, told) in [
        (
            None,
            "conf.d/50-fleet.toml:1: settings_parameter: `/gatehouse/fleet` cannot be read: it does not exist in eu-south-2; create it",
        ),
        (Some(long.as_str()), "its value has 8194 bytes; settings have 8192 at most"),
        (Some("[limits]\nidle = 7s"), "/gatehouse/fleet:2: not TOML"),
        (
            Some("settings_parameter = \"other\""),
            "/gatehouse/fleet:1: settings_parameter: a parameter cannot lead to another",
        ),
    ] {
        let machine = Machine::new("");
        machine.parameters.set(value);
        let said = machine.run("validate");
        assert!(said.code == Some(2) && said.err.contains(told), "{said:?}");
        let mut instance = machine.start();
        let heard = machine.manager.hear_until("STATUS=Failed: ");
        assert_eq!(instance.end().code(), Some(2));
        assert!(heard.last().unwrap().text.contains(told), "{}", heard.last().unwrap().text);
    }
}

#[test]
fn doctor_tells_of_the_parameter_and_of_the_rest_without_it() {
    let machine = Machine::new("domains.static = [{ name = \"a.example\" }]");
    let line = |said: &Said| said.out.lines().find(|line| line.contains("parameter")).unwrap().to_owned();
    let said = machine.run("doctor");
    assert!(line(&said).starts_with("ok") && line(&said).contains("parameter /gatehouse/fleet"), "{said:?}");
    machine.parameters.set(None);
    let said = machine.run("doctor");
    assert!(
        line(&said).starts_with("error") && line(&said).contains("it does not exist in eu-south-2"),
        "{said:?}"
    );
    assert!(said.code == Some(1) && said.out.contains("tables"), "{said:?}");
    assert!(machine.run("validate").err.contains("it does not exist in"), "{}", machine.metadata.url());
}

#[test]
fn an_end_does_not_wait_for_a_parameter_that_is_being_read() {
    let machine = Machine::new("");
    let (tell, told) = mpsc::channel();
    let (_hold, held) = mpsc::channel::<()>();
    let (held, first) = (Mutex::new(held), AtomicBool::new(true));
    let slow = Server::start(move |_| {
        if !first.swap(false, Ordering::Relaxed) {
            tell.send(()).unwrap();
            let _ = held.lock().unwrap().recv();
        }
        Answer::of(200, r#"{"Parameter":{"Value":""}}"#)
    });
    let mut instance = machine.start_at(&slow.url());
    machine.manager.hear_until("READY=1");
    instance.signal(Signal::SIGHUP);
    machine.manager.hear_until("RELOADING=1");
    told.recv().unwrap();
    instance.signal(Signal::SIGTERM);
    let heard = machine.manager.hear_until("STOPPING=1");
    assert!(heard.iter().all(|heard| !heard.text.contains("READY=1")), "the reading was awaited");
    assert!(instance.end().success());
}

#[test]
fn user_data_that_name_a_parameter_are_enough_on_an_instance_with_a_role() {
    let (place, manager, metadata) = (Place::new(), Manager::new(), Metadata::start());
    let parameters =
        Parameters::start("domains.static = [{ name = \"a.example\", target = \"http://10.0.0.1\" }]");
    place.write("[worker]\nthreads = 1");
    place.write_fragment("50-fleet.toml", "settings_parameter = \"/gatehouse/fleet\"\n");
    let (parameters_url, metadata_url) = (parameters.url(), metadata.url());
    let environment = [
        ("AWS_ENDPOINT_URL_SSM", parameters_url.as_str()),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata_url.as_str()),
    ];
    let _instance = Instance::start(&place, &manager, Vec::new(), &environment);
    manager.hear_until("READY=1");
    let asked = parameters.asked.lock().unwrap();
    let first = asked.first().unwrap();
    let signed = first.field("authorization").unwrap();
    assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIAINSTANCE/"), "{signed}");
    assert!(signed.contains("/eu-south-2/ssm/"), "{signed}");
    assert_eq!(first.field("x-amz-security-token"), Some("session"));
}
