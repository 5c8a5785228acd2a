//! The API against its own description, by programs of others.

use std::process::Command;

use testbed::{edge, gatehouse::Place, namespace};

use super::client::{ALL, token};
use crate::fixture::{edge as start_edge, report, start};

#[test]
fn whatever_is_asked_the_answers_are_those_of_the_description() {
    let edge = start_edge();
    let mut settings = edge.settings(Place::A, "auto");
    settings.text("api", "listen", "127.0.0.1:9470").raw("verification", "edge_names", "[\"edge.test\"]");
    settings.raw("verification", "edge_addresses", "[\"192.0.2.1\"]");
    settings.raw("api", "requests_per_second", "100000").raw("api", "requests_burst", "100000");
    settings.text("log", "filter", "warn");
    let gatehouse = start(&edge, settings);
    let (_, token) = token(&gatehouse, &ALL, None);
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(edge::root().join("target/schemathesis/bin").join(program));
        command.args(arguments).current_dir(edge.folder());
        edge.network.edge.await_inside(move || namespace::run(&mut command)).unwrap().unwrap()
    };

    let url = "http://127.0.0.1:9470/api/v1/openapi.json";
    let served = edge.network.edge.run("curl", &["-sS", "--fail", url]).unwrap();
    let file = edge.folder().join("openapi.json");
    std::fs::write(&file, &served).unwrap();
    run("openapi-spec-validator", &[&file.display().to_string()]);

    std::fs::write(edge.folder().join("schemathesis.toml"), REFUSALS).unwrap();
    let field = format!("Authorization: Bearer {token}");
    let said = run(
        "schemathesis",
        &[
            "run",
            url,
            "--header",
            &field,
            "--seed",
            "1",
            "--max-time",
            "60",
            "--request-timeout",
            "20",
            "--continue-on-failure",
            "--warnings",
            "off",
            "--exclude-checks",
            LEFT_OUT,
        ],
    );
    assert!(!said.contains(&token));
    let cases = said.lines().find(|line| line.contains("generated")).unwrap_or_default();
    report(&format!("schemathesis: {}", cases.trim()));
    let metrics = gatehouse.metrics().unwrap();
    let answers =
        |answer: &str| metrics.sum("gatehouse_api_requests_total", &[&format!("answer=\"{answer}\"")]);
    assert!(answers("done") > 100.0 && answers("refused") > 100.0, "{metrics}");
    assert!(answers("failed") < 0.5 && answers("too_many") < 0.5, "{metrics}");
}

/// `positive_data_acceptance`: no pattern of JSON Schema says which texts are names. `missing_required_header`: 428 is not among the
/// statuses that it knows. `use_after_free`, `ensure_resource_availability`: records are of names that are no entries, too, and what is
/// tried by `dry_run` is not there.
const LEFT_OUT: &str =
    "positive_data_acceptance,missing_required_header,use_after_free,ensure_resource_availability";
/// A body that breaks the description may be too large as well, and is refused for that first: what is 413 is not read.
const REFUSALS: &str = "[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, '5xx']
";
