//! What an operator sees of a running instance when something is wrong.

use crate::{
    fixture::{Instance, Manager, Place, eventually},
    lifecycle::Client,
};

/// One worker, `a.example` served from `target`, and the log in JSON.
fn one_name(target: &str) -> String {
    format!(
        "[worker]\nthreads = 1\n[log]\nformat = \"json\"\n[upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
         [domains]\nstatic = [{{ name = \"a.example\", target = \"{target}\" }}]"
    )
}

/// The lines of `log` whose message begins with `message`, each as JSON with every key once.
fn lines(log: &str, message: &str) -> Vec<serde_json::Value> {
    let begins = format!("\"message\":\"{message}");
    let lines = log.lines().filter(|line| line.contains(&begins));
    lines
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            for key in value.as_object().unwrap().keys() {
                assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "`{key}` once in {line}");
            }
            value
        })
        .collect()
}

#[test]
fn an_upstream_that_is_down_is_one_line_that_names_it_and_the_request() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(&one_name("http://127.0.0.1:9"));
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("STATUS=Serving");
    for _ in 0..50 {
        assert!(Client::ask(&place, "/").answer().starts_with("HTTP/1.1 502"));
    }
    eventually("the requests' lines", || (lines(&instance.log(), "request\"").len() >= 50).then_some(()));
    let told = lines(&instance.log(), "request not answered by its target");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["upstream"], "http://127.0.0.1:9");
    let id = told[0]["id"].as_str().unwrap();
    let log = instance.log();
    let request = log.lines().find(|line| line.contains(id) && line.contains("upstream_unreachable"));
    assert!(request.is_some(), "the request {id} is in the log");
}
