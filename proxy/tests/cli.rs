//! The command line as a process: what it prints where, and how it ends. No case needs a network or root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests unwrap, and fixtures are tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// A place with its own state directory and settings.
struct Place(TempDir);

impl Place {
    fn new(settings: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("gatehouse.toml"), settings).unwrap();
        Self(directory)
    }

    /// One with an embedded store.
    fn with_store(settings: &str) -> Self {
        let place = Self::new(settings);
        assert_eq!(place.run("tables create").code, Some(0));
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs `gatehouse` with the arguments of `line` here.
    fn run(&self, line: &str) -> Said {
        self.run_with(line, &[])
    }

    fn run_with(&self, line: &str, environment: &[(&str, &str)]) -> Said {
        // A start that should have failed would go on for ever; 124 tells it.
        let output = Command::new("/usr/bin/timeout")
            .args(["20", env!("CARGO_BIN_EXE_gatehouse")])
            .args(["--config", "gatehouse.toml"])
            .args(line.split_whitespace())
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(self.path())
            .output()
            .unwrap();
        Said::of(&output)
    }
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

#[test]
fn help_teaches_every_command() {
    let place = Place::new("");
    for (line, taught) in [
        ("--help", "gatehouse domain add www.example.com --target"),
        ("run --help", "SIGTERM"),
        ("domain --help", "gatehouse domain add '*.customers.example'"),
        ("domain add --help", "--target <URL>"),
        ("guard detach --help", "--pin-path"),
        ("tables create --help", "waits until they are active"),
        ("doctor --help", "any error ends it with 1"),
        ("cache clear --help", "take store.local_copy out of the settings"),
        ("reload --help", "SIGHUP does the same"),
        ("help", "gatehouse domain add www.example.com --target"),
        ("help doctor", "any error ends it with 1"),
        ("help domain add", "--target <URL>"),
        ("--help", "completion"),
        ("import caddy --help", "gatehouse import caddy /var/lib/caddy"),
        ("export caddy --help", "Caddy should not run meanwhile"),
        ("certificate import --help", "gatehouse certificate import --cert fullchain.pem --key privkey.pem"),
        ("help man", "gatehouse man | man --local-file -"),
    ] {
        let said = place.run(line);
        assert!(said.code == Some(0) && said.out.contains(taught), "{line}: {said:?}");
    }
}

#[test]
fn valid_settings_are_said_to_be_so_with_their_places() {
    let said =
        Place::new("[worker]\nthreads = 1\n").run_with("validate", &[("GATEHOUSE_LIMITS_IDLE", "90s")]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "settings are valid (gatehouse.toml, GATEHOUSE_LIMITS_IDLE)\n"),
        "{said:?}"
    );
}

#[test]
fn wrong_settings_end_with_2_and_start_nothing() {
    for (settings, environment, wanted) in [
        (
            "[limits]\nidel = \"1s\"\n",
            None,
            "gatehouse.toml:2: `limits.idel`: no such setting; did you mean `limits.idle`?",
        ),
        ("[limits]\nidle = 3\n", None, "gatehouse.toml:2: limits.idle = 3"),
        ("", Some(("GATEHOUSE_LIMIT_IDLE", "1s")), "did you mean `GATEHOUSE_LIMITS_IDLE`?"),
        ("[limits]\nconnections = 0\n", None, "limits.connections: `0`"),
    ] {
        let place = Place::new(settings);
        for command in ["run", "validate", "status", "domain list"] {
            let said = place.run_with(command, environment.as_slice());
            assert_eq!(said.code, Some(2), "{command} {settings}: {said:?}");
            assert!(said.err.contains(wanted) && said.out.is_empty(), "{command} {settings}: {said:?}");
        }
        assert!(!place.path().join("gatehouse-state").exists(), "{settings}: something was started");
    }
}

#[test]
fn a_store_at_aws_without_a_region_is_refused_with_the_places_to_say_it() {
    let place = Place::new(
        "[store]\nendpoint = \"aws\"\n[instance]\nmetadata = \"off\"\n[control]\nmetrics = \"127.0.0.1:0\"\n",
    );
    let wanted = "store.region: not set, and neither AWS_REGION, the AWS profile nor the instance gives it; write it like `eu-central-1`";
    for command in ["run", "tables create"] {
        let said = place.run(command);
        assert!(said.code == Some(2) && said.err.contains(wanted), "{command}: {said:?}");
    }
    assert!(!place.path().join("gatehouse-state").exists());
}

#[test]
fn a_start_that_fails_names_the_remedy_and_leaves_nothing_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap();
    let listen = |https: &str, metrics: &str| {
        format!("[listen]\nhttps = [\"{https}\"]\nhttp = []\n[control]\nmetrics = \"{metrics}\"\n")
    };
    let here = listen("127.0.0.1:0", "127.0.0.1:0");
    let busy = format!("listen.https: `{taken_at}` is listened on already by ");
    let busy_metrics =
        format!("control.metrics: `{taken_at}` cannot be bound; free the port, or choose another");
    let url = "https://ca.example.com/directory";
    let roots = format!(
        "{here}[[certificates.issuers]]\ndirectory = \"{url}\"\nemail = \"a@b.example\"\nroots = \"gatehouse.toml\"\n"
    );
    let socket = here.replace("[control]\n", "[control]\nsocket = \"gatehouse.toml\"\n");
    for (settings, code, told) in [
        (
            listen("192.0.2.77:8443", "127.0.0.1:0"),
            2,
            "listen: `192.0.2.77:8443` cannot be bound; 192.0.2.77 is not an address of this machine; `ip address`",
        ),
        (
            listen("127.0.0.1:0", "192.0.2.77:9464"),
            2,
            "control.metrics: `192.0.2.77:9464` cannot be bound; 192.0.2.77 is not an address of this machine",
        ),
        (listen(&taken_at.to_string(), "127.0.0.1:0"), 1, &busy),
        (listen("127.0.0.1:0", &taken_at.to_string()), 1, &busy_metrics),
        (
            format!("{here}[guard]\ninterfaces = [\"nosuch0\"]\n"),
            2,
            "guard.interfaces: `nosuch0` is not an interface",
        ),
        (format!("{here}[upstream]\nroots = \"gatehouse.toml\"\n"), 2, "upstream.roots"),
        (roots, 2, "certificates.issuers.roots: `gatehouse.toml` contains no certificates in PEM"),
        (socket, 2, "control.socket: `gatehouse.toml` exists and is not a socket"),
        (format!("state_directory = \"gatehouse.toml/state\"\n{here}"), 2, "gatehouse.toml/state"),
    ] {
        let place = Place::new(&settings);
        let said = place.run("run");
        assert_eq!(said.code, Some(code), "{settings}: {said:?}");
        assert!(said.err.contains(told) && said.out.is_empty(), "{settings}: {said:?}");
        let left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["gatehouse.toml"], "{settings}");
    }
    let place = Place::new(&here);
    let said = place.run_with("run", &[("GATEHOUSE_STORE_FAULTS", "rain=5")]);
    assert!(said.code == Some(2) && said.err.contains("`rain=5` is not a fault"), "{said:?}");
}

#[test]
fn a_network_is_refused_with_what_is_wrong_in_it() {
    for (network, told) in [
        ("127.0.0.0/33", "`33` is not the length of a prefix; write 0 to 32 for an IPv4 address"),
        ("10.1.2.3/8", "`10.1.2.3/8` has host bits set; write the network that it lies in, `10.0.0.0/8`"),
    ] {
        let said = Place::new(&format!("[upstream]\npermitted_networks = [\"{network}\"]\n")).run("validate");
        assert!(said.code == Some(2) && said.err.contains(told), "{network}: {said:?}");
    }
}

#[test]
fn a_variable_that_sets_two_settings_is_named_once() {
    let said =
        Place::new("").run_with("validate", &[("TABLE_REGION", "eu-south-2"), ("TABLE_NAME", "caddy")]);
    let mut told = said.out.split(['(', ')', ',']).map(str::trim);
    assert_eq!(told.clone().filter(|place| *place == "TABLE_REGION").count(), 1, "{said:?}");
    assert!(said.code == Some(0) && told.any(|place| place == "TABLE_NAME"), "{said:?}");
}

#[test]
fn doctor_tells_one_line_a_check_and_ends_by_the_worst() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = |port: u16| {
        format!(
            "[listen]\nhttps = [\"127.0.0.1:{port}\"]\nhttp = [\"127.0.0.1:0\"]\n[control]\nmetrics = \"127.0.0.1:0\""
        )
    };
    let place = Place::new(&settings(0));
    let said = place.run("doctor");
    assert_eq!(said.code, Some(0), "{said:?}");
    for check in ["kernel", "btf", "io_uring", "clock", "state", "port 127.0.0.1:0", "tables"] {
        assert!(said.out.lines().any(|line| line.contains(check)), "{check} in {said:?}");
    }
    assert!(!place.path().join("gatehouse-state").exists(), "it makes nothing");
    let said = Place::new(&settings(taken.local_addr().unwrap().port())).run("doctor --json");
    assert_eq!(said.code, Some(1), "{said:?}");
    let findings: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let failed: Vec<_> =
        findings.as_array().unwrap().iter().filter(|one| one["severity"] == "error").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let holder = format!("(process {})", std::process::id());
    let found = failed[0]["found"].as_str().unwrap();
    assert!(found.starts_with("taken by ") && found.contains(&holder), "{found}");
}

#[test]
fn doctor_names_tables_and_cas_that_do_not_answer() {
    let place = Place::new(
        "[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n\
         [store]\nendpoint = \"http://127.0.0.1:9\"\nregion = \"eu-central-1\"\ntimeout = \"1s\"\n\
         [[certificates.issuers]]\ndirectory = \"https://127.0.0.1:9/dir\"\nemail = \"operator@example.com\"\n",
    );
    let credentials = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "a")];
    let said = place.run_with("doctor", &credentials);
    assert_eq!(said.code, Some(1), "{said:?}");
    for what in ["table gatehouse-domains", "ca https://127.0.0.1:9/dir"] {
        let line = said.out.lines().find(|line| line.contains(what)).unwrap();
        assert!(line.starts_with("error"), "{line}");
    }
}

#[test]
fn a_local_copy_is_cleared_where_it_is_named_and_its_absence_is_told() {
    let place = Place::new("");
    let unset = place.run("cache clear --json");
    assert_eq!((unset.code, unset.out.as_str()), (Some(1), ""), "{unset:?}");
    assert!(unset.err.contains("store.local_copy") && unset.err.contains("`--directory`"), "{unset:?}");
    let copy = place.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["served", "served.new", "other"] {
        fs::write(copy.join(name), "12345").unwrap();
    }
    for told in ["the local copy in copy is removed, 5 bytes\n", "there is no local copy in copy\n"] {
        let said = place.run("cache clear --directory copy");
        assert_eq!((said.code, said.out.as_str()), (Some(0), told), "{said:?}");
    }
    let left: Vec<_> = fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["other"], "nothing else is touched");
}

#[test]
fn json_may_be_asked_for_before_the_command_as_behind_it() {
    let place =
        Place::new("[listen]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[control]\nmetrics = \"127.0.0.1:0\"");
    for line in ["--json doctor", "doctor --json", "--json doctor --json"] {
        let said = place.run(line);
        let findings: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
        let findings = findings.as_array().unwrap_or_else(|| panic!("{line}: {said:?}"));
        assert!(findings.iter().all(|one| one["severity"].is_string()), "{line}: {findings:?}");
    }
    for line in ["--json validate", "validate --json", "--json guard detach"] {
        let said = place.run(line);
        assert!(
            said.code == Some(2) && said.err.contains("unexpected argument '--json'"),
            "{line}: {said:?}"
        );
    }
}

#[test]
fn an_error_under_json_is_json_of_one_shape() {
    let place = Place::new("[domains]\ndefault_target = \"http://10.0.0.1\"\n");
    let broken = Place::new("[limits]\nidel = \"1s\"\n");
    let wrong = Place::new("[limits]\nidle = 3\n");
    let refused = Place::new("[limits]\nconnections = 0\n");
    for (place, line, code, field, value, remedy) in [
        (&place, "domain list --json", 1, None, None, Some("gatehouse run")),
        (&place, "status --json", 1, None, None, Some("gatehouse run")),
        (&place, "domain list --limit 0 --json", 2, Some("--limit"), Some("0"), Some("gatehouse help")),
        (&place, "domain add a.example --target ftp://b --json", 2, Some("--target"), Some("ftp://b"), None),
        (&place, "domain lsit --json", 2, Some("lsit"), None, Some("did you mean `list`?")),
        (&place, "domain list --jsn --json", 2, Some("--jsn"), None, Some("did you mean `--json`?")),
        (&broken, "status --json", 2, Some("limits.idel"), None, Some("did you mean `limits.idle`?")),
        (&wrong, "status --json", 2, Some("limits.idle"), Some("3"), Some("write it like")),
        (&refused, "domain list --json", 2, Some("limits.connections"), None, Some("write a limit")),
    ] {
        let said = place.run(line);
        assert!(said.code == Some(code) && said.out.is_empty(), "{line}: {said:?}");
        let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
        let body = error["error"].as_object().unwrap();
        assert!(error.as_object().unwrap().len() == 1 && body["causes"].is_array(), "{line}: {error}");
        assert!(body["message"].as_str().is_some_and(|message| !message.starts_with("error")), "{error}");
        let text = |key: &str| body.get(key).map(|value| value.as_str().unwrap());
        assert_eq!((text("field"), text("value")), (field, value), "{line}: {error}");
        assert!(remedy.is_none_or(|part| text("remedy").unwrap().contains(part)), "{line}: {error}");
        let strange = body.keys().find(|key| !SHAPE.contains(&key.as_str()));
        assert_eq!(strange, None, "{line}: {error}");
    }
    let stored = Place::with_store("");
    let said = stored.run("domain add co.uk --target http://10.0.0.1 --json");
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((&error["error"]["field"], &error["error"]["value"]), (&"domain".into(), &"co.uk".into()));
    assert_eq!(stored.run("domain list --json").err, "", "people alone are told that no instance runs");
}

const SHAPE: [&str; 5] = ["message", "field", "value", "remedy", "causes"];

#[test]
fn manual_pages_are_written_for_every_command() {
    let place = Place::new("");
    assert_eq!(place.run("man pages").code, Some(0));
    for (page, said) in [
        ("gatehouse.1", "doctor"),
        ("gatehouse-domain-add.1", "default_target"),
        ("gatehouse-token-create.1", "domains:write"),
        ("gatehouse-completion.1", "bash_completion"),
    ] {
        let text = fs::read_to_string(place.path().join("pages").join(page)).unwrap();
        assert!(text.contains(said), "{said} in {page}");
    }
    assert!(!place.path().join("pages/gatehouse-help.1").exists());
    let page = place.run("man");
    assert!(page.code == Some(0) && page.out.contains(".TH gatehouse 1"), "{page:?}");
}

#[test]
fn completions_are_printed_for_each_shell() {
    let place = Place::new("");
    for (shell, said) in
        [("bash", "complete -F"), ("zsh", "#compdef gatehouse"), ("fish", "complete -c gatehouse")]
    {
        let script = place.run(&format!("completion {shell}"));
        assert!(script.code == Some(0) && script.out.contains(said), "{shell}: {script:?}");
        assert!(script.out.contains("tenant") && script.out.contains("token"), "{shell}: {script:?}");
    }
    assert_eq!(place.run("completion tcsh").code, Some(2));
}

#[test]
fn wrong_usage_ends_with_2() {
    let place = Place::new("");
    for line in [
        "",
        "dance",
        "domain add 10.0.0.1",
        "domain add a.example --target nowhere",
        "--config missing.toml validate",
    ] {
        assert_eq!(place.run(line).code, Some(2), "{line}");
    }
}

#[test]
fn the_sample_is_valid_and_the_reference_names_every_setting() {
    let sample = Place::new("").run("config example").out;
    let said = Place::new(&sample).run("validate");
    assert_eq!(said.code, Some(0), "{said:?}");
    let reference = Place::new("").run("config reference").out;
    assert!(reference.contains("| `limits.idle` | `\"1m\"` |"), "{reference}");
    let schema: serde_json::Value = serde_json::from_str(&Place::new("").run("config schema").out).unwrap();
    assert_eq!(schema["properties"]["limits"]["properties"]["idle"]["default"], "1m");
}

#[test]
fn without_an_instance_status_fails_and_names_the_remedy() {
    let said = Place::new("").run("status");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no instance runs here") && said.err.contains("gatehouse run"), "{said:?}");
}

#[test]
fn without_an_instance_domains_are_changed_in_the_table_itself() {
    let place = Place::with_store(
        "[domains]\ndefault_target = \"http://10.0.0.1\"\nstatic = [{ name = \"fixed.example\" }]\n",
    );
    let added = place.run("domain add A.Example. --target http://10.0.0.2:80");
    assert_eq!(
        (added.code, added.out.as_str()),
        (
            Some(0),
            "a.example: added with target http://10.0.0.2, tenant default\n\
             the table is changed; instances elsewhere follow within seconds\n"
        )
    );
    assert!(added.err.contains("no instance runs here"), "{added:?}");
    place.run("domain add *.b.example");
    let listed = place.run("domain list");
    for part in ["fixed.example", "static", "*.b.example", "(default)", "a.example", "http://10.0.0.2"] {
        assert!(listed.out.contains(part), "{part} in {listed:?}");
    }
    let page: serde_json::Value =
        serde_json::from_str(&place.run("domain list --json --limit 1").out).unwrap();
    assert_eq!(page["next"], "*.b.example", "{page}");
    let page: serde_json::Value =
        serde_json::from_str(&place.run("domain list --json --tenant nobody").out).unwrap();
    assert_eq!((&page["items"], &page["next"]), (&serde_json::json!([]), &serde_json::Value::Null));
    let shown: serde_json::Value =
        serde_json::from_str(&place.run("domain show a.example --json").out).unwrap();
    assert_eq!((&shown["target"], &shown["status"]), (&"http://10.0.0.2".into(), &"active".into()));
    assert_eq!(place.run("domain remove a.example").code, Some(0));
    for line in ["domain show a.example", "domain remove a.example", "domain remove never.example"] {
        let said = place.run(line);
        assert!(said.code == Some(1) && said.err.contains("`gatehouse domain list`"), "{line}: {said:?}");
    }
    assert!(!place.run("domain list").out.contains("a.example  "), "a tombstone is listed");
    assert_eq!(place.run("domain reindex").out, "0 repaired\n");
}

#[test]
fn a_token_is_printed_once_and_listed_without_its_secret_until_it_is_revoked() {
    let place = Place::with_store("");
    let made =
        place.run("token create --name ci --scope domains:read,audit:read --tenant acme --expires 90d");
    let token = made.out.lines().next().unwrap().to_owned();
    assert!(made.code == Some(0) && token.starts_with("gatehouse_") && token.len() == 95, "{made:?}");
    let id = token.split('_').nth(1).unwrap();
    let listed = place.run("token list");
    assert!(listed.out.contains(id) && listed.out.contains("domains:read,audit:read  acme"), "{listed:?}");
    assert!(listed.out.contains("valid") && !listed.out.contains(&token[24..60]), "{listed:?}");
    let json: serde_json::Value = serde_json::from_str(&place.run("token list --json").out).unwrap();
    assert_eq!(json["tokens"][0]["reach"], serde_json::json!({ "tenant": "acme" }));
    // Who gives the token itself gets no copy of it in an error.
    let wrong = place.run(&format!("token revoke {token}"));
    assert!(wrong.code == Some(2) && wrong.err.contains("not the token itself"), "{wrong:?}");
    assert_eq!(place.run(&format!("token revoke {id}")).code, Some(0));
    assert!(place.run("token list").out.contains("revoked"));
    let absent = place.run("token revoke 0123456789ab --json");
    assert!(absent.code == Some(1) && absent.err.contains("gatehouse token list"), "{absent:?}");
}

#[test]
fn a_file_of_domains_is_tried_and_then_written_row_by_row() {
    let place = Place::with_store("[domains]\ndefault_target = \"http://10.0.0.1\"\n");
    let write = |text: &str| fs::write(place.path().join("domains.csv"), text).unwrap();
    write("domain,target,tenant\na.example,http://10.0.0.2,acme\n*.b.example,,\nc.example,\n");
    let said = place.run("domain import domains.csv");
    assert!(
        said.code == Some(1) && said.err.contains("nothing was written") && said.err.contains("row 3"),
        "{said:?}"
    );
    assert!(!place.run("domain list").out.contains("a.example"));

    write("domain,target,tenant\na.example,http://10.0.0.2,acme\n*.b.example,,\nco.uk,,\n");
    let said = place.run("domain import domains.csv --dry-run");
    assert!(
        said.code == Some(1)
            && said.out.contains("row 3: refused: domain `co.uk`: `co.uk` is a public suffix"),
        "{said:?}"
    );
    assert!(
        said.out.ends_with("nothing was written; it would be 2 added, 0 changed, 0 unchanged, 1 refused\n"),
        "{said:?}"
    );
    assert!(!place.run("domain list").out.contains("a.example"));
    let said = place.run("domain import domains.csv");
    assert!(said.out.ends_with("2 added, 0 changed, 0 unchanged, 1 refused\n"), "{said:?}");
    assert!(place.run("domain list").out.contains("http://10.0.0.2"));

    write("domain,target,tenant\na.example,http://10.0.0.3,acme\n*.b.example,,\n");
    let said = place.run("domain import domains.csv");
    assert!(
        said.out.contains("row 1: refused: ") && said.out.contains("0 changed, 1 unchanged, 1 refused"),
        "{said:?}"
    );
    let said = place.run("domain import domains.csv --replace --json");
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (said.code, &report["changed"], &report["unchanged"]),
        (Some(0), &1.into(), &1.into()),
        "{said:?}"
    );
    assert_eq!(report["rows"][0]["done"]["changes"][0]["to"], "http://10.0.0.3", "{report}");
}

#[test]
fn without_an_instance_certificates_are_read_from_the_table_itself() {
    let place = Place::with_store("");
    let listed = place.run("certificate list");
    assert_eq!(
        (listed.code, listed.out.as_str()),
        (Some(0), "NAME  EXPIRES  RENEWED FROM  ISSUER\n"),
        "{listed:?}"
    );
    let said = place.run("certificate show a.example");
    assert!(said.code == Some(1) && said.err.contains("in its first handshake"), "{said:?}");
}

#[test]
fn without_an_instance_own_certificates_are_kept_in_the_table_itself() {
    let place = Place::with_store("");
    let pair = rcgen::generate_simple_self_signed(["own.example".to_owned()]).unwrap();
    let (cert, key) = (place.path().join("own.pem"), place.path().join("own.key"));
    fs::write(&cert, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let line = "certificate import --cert own.pem --key own.key";
    let said = place.run(line);
    assert!(said.code == Some(1) && said.err.contains("`chmod 600 own.key`"), "{said:?}");
    assert!(!said.err.contains("using the tables"), "nobody is asked before the files are fit: {said:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let said = place.run(line);
    assert!(said.code == Some(0) && said.out.starts_with("own.example: certificate "), "{said:?}");
    assert!(place.run("certificate list").out.contains("(your own)"));
    assert!(place.run("certificate show own.example").out.contains("renew at    never"));
    let said = place.run("certificate remove own.example");
    assert!(said.code == Some(0) && said.out.contains("is removed"), "{said:?}");
    let said = place.run("certificate remove own.example");
    assert!(said.code == Some(1) && said.err.contains("has no certificate of your own"), "{said:?}");
}

#[test]
fn a_folder_that_is_not_caddys_is_refused_and_an_empty_table_is_exported_as_nothing() {
    let place = Place::with_store("");
    let said = place.run("import caddy .");
    assert!(
        said.code == Some(1) && said.err.contains("neither a folder `certificates` nor `acme`"),
        "{said:?}"
    );
    let said = place.run("export caddy exported");
    assert_eq!((said.code, said.out.as_str()), (Some(0), "OUTCOME  WHAT  DETAIL\nnothing is there\n"));
    assert!(!place.path().join("exported").exists());
}

#[test]
fn names_of_the_settings_are_not_changed_in_the_table() {
    let place = Place::new(
        "[domains]\ndefault_target = \"http://10.0.0.1\"\nstatic = [{ name = \"fixed.example\" }]\n",
    );
    for line in ["domain add fixed.example", "domain remove fixed.example"] {
        let said = place.run(line);
        assert!(said.code == Some(1) && said.err.contains("is set in the configuration"), "{line}: {said:?}");
    }
}

#[test]
fn without_an_instance_nothing_is_changed_that_nobody_would_read() {
    let place = Place::with_store(
        "[domains]\ndefault_target = \"http://10.0.0.1\"\ntable = false\nstatic = [{ name = \"fixed.example\" }]\n",
    );
    for command in ["add", "remove", "suspend", "resume"] {
        let said = place.run(&format!("domain {command} a.example"));
        assert!(said.code == Some(2) && said.out.is_empty(), "{command}: {said:?}");
        assert!(
            said.err.contains("domains.table: `false`") && said.err.contains("set it to `true`"),
            "{said:?}"
        );
    }
}

#[test]
fn without_an_instance_no_command_makes_a_store() {
    let place = Place::new("[domains]\ndefault_target = \"http://10.0.0.1\"\n");
    for line in [
        "domain add a.example",
        "domain remove a.example",
        "domain suspend a.example",
        "domain resume a.example",
        "domain list",
        "domain show a.example",
        "domain reindex",
        "certificate list",
        "certificate show a.example",
        "certificate retry a.example",
    ] {
        let said = place.run(line);
        assert!(said.code == Some(1) && said.out.is_empty(), "{line}: {said:?}");
        for part in ["no embedded store in `gatehouse-state`", "`gatehouse run`", "`--config`"] {
            assert!(said.err.contains(part), "{line}: {part} in {said:?}");
        }
        assert!(!place.path().join("gatehouse-state").exists(), "{line} has made a store");
    }
}

/// Without one, nobody would answer the CA's validations.
#[test]
fn a_certificate_is_ordered_and_revoked_by_a_running_instance_alone() {
    let place = Place::with_store("");
    for verb in ["obtain", "renew", "revoke"] {
        let said = place.run(&format!("certificate {verb} a.example"));
        assert!(said.code == Some(1) && said.out.is_empty(), "{verb}: {said:?}");
        assert!(said.err.contains("no instance runs here"), "{verb}: {said:?}");
    }
    let said = place.run("certificate revoke a.example --reason boredom");
    assert!(said.code == Some(2) && said.err.contains("`key-compromise`"), "{said:?}");
}

#[test]
fn without_an_instance_what_cannot_be_served_is_refused_all_the_same() {
    let place = Place::with_store("[listen]\nhttps = [\"0.0.0.0:8443\"]\n");
    for (line, told) in [
        ("domain add a.example", "`domains.default_target` is not set"),
        ("domain add a.example --target http://169.254.169.254", "an address that no target may have"),
        ("domain add a.example --target https://127.0.0.1:8443", "this proxy's own listener"),
        ("domain add *.github.io --target http://10.0.0.1", "`github.io` is a public suffix"),
    ] {
        let said = place.run(line);
        assert!(said.code == Some(2) && said.err.contains(told) && said.out.is_empty(), "{line}: {said:?}");
    }
    let said = place.run("domain add a.example --target https://b.example#top");
    assert!(said.code == Some(2) && said.err.contains("a fragment never leaves the client"), "{said:?}");
}

#[test]
fn tables_are_made_twice_without_harm() {
    let place = Place::new("");
    for _ in 0..2 {
        let said = place.run("tables create");
        assert!(said.code == Some(0) && said.out.starts_with("tables are active at embedded:"), "{said:?}");
    }
}

#[test]
fn the_guard_is_explained_by_the_settings_where_no_instance_runs() {
    let place = Place::new(
        "[guard]\nmode = \"strict\"\ndeny = [\"198.51.100.0/24\"]\n[[domains.static]]\nname = \"*.example.net\"\ntarget = \"http://203.0.113.1\"\n",
    );
    for (line, told) in [
        (
            "--name a.example.net",
            "ClientHello  passes (pass_allowed) by step 8, name: `domains.static` lists it by `*.example.net`",
        ),
        ("--name a.b.example.net", "ClientHello  rejected (reject_foreign_server) by step 12, unknown: "),
        (
            "--name a.example.net --source 198.51.100.7",
            "SYN          dropped (drop_denied_source) by step 3, source: ",
        ),
        ("--name a.example.net --port 22", "by step 2, port: port 22 is not guarded"),
    ] {
        let said = place.run(&format!("guard explain {line}"));
        assert!(said.code == Some(0) && said.out.contains(told), "{line}: {said:?}");
        assert!(
            said.out.starts_with("known from   the settings alone, for no instance runs here"),
            "{said:?}"
        );
    }
    let said = place.run("guard explain --name a.example.net --json");
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&json["known_from"], &json["hello"]["step_number"]),
        (&"settings".into(), &8.into()),
        "{said:?}"
    );
}

#[test]
fn a_capture_is_explained_and_what_is_none_is_refused() {
    let place = Place::new("[[domains.static]]\nname = \"*.example.net\"\ntarget = \"http://203.0.113.1\"\n");
    // A SYN from 192.0.2.7 to port 8443, without anything before its IP header (link type 101).
    let mut capture = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x65\0\0\0".to_vec();
    capture.extend(b"\0\0\0\0\0\0\0\0\x28\0\0\0\x28\0\0\0");
    capture.extend(b"\x45\0\0\x28\0\0\0\0\x40\x06\0\0\xc0\0\x02\x07\xc0\0\x02\x01");
    capture.extend(b"\x9c\x40\x20\xfb\0\0\0\x01\0\0\0\0\x50\x02\xff\xff\0\0\0\0");
    fs::write(place.path().join("capture.pcap"), capture).unwrap();
    let said = place.run("guard explain --pcap capture.pcap");
    let line = "192.0.2.7:40000  192.0.2.1:8443  -     passes (pass_syn)  4 syn  a SYN; ";
    assert!(said.code == Some(0) && said.out.contains(line), "{said:?}");
    for (file, told) in [
        (
            "gatehouse.toml",
            "`--pcap`: `gatehouse.toml`: it begins neither like pcap nor like pcapng; write one with `tcpdump -w FILE`",
        ),
        ("absent", "`--pcap`: `absent` cannot be read; name a file that this user may read"),
    ] {
        let said = place.run(&format!("guard explain --pcap {file}"));
        assert!(said.code == Some(1) && said.err.contains(told) && said.out.is_empty(), "{said:?}");
        let said = place.run(&format!("guard explain --pcap {file} --json"));
        let json: serde_json::Value = serde_json::from_str(&said.err).unwrap();
        let fault = (&json["error"]["field"], &json["error"]["value"]);
        assert_eq!(fault, (&"--pcap".into(), &file.into()), "{said:?}");
    }
}
