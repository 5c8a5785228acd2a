//! What an operator sees of a running instance when something is wrong.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt as _,
};

use anyhow::{Context, ensure};

use crate::{
    fixture::{Instance, Manager, Place, eventually, health},
    lifecycle::Client,
    server::{Answer, Server},
};

/// One worker, `a.example` served from `target`, and the log in JSON.
fn one_name(target: &str) -> String {
    format!(
        "[worker]\nthreads = 1\n[log]\nformat = \"json\"\n[upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
         [domains]\nstatic = [{{ name = \"a.example\", target = \"{target}\" }}]"
    )
}

/// Waits for `count` such lines: they are written beside what they tell of.
fn logged(instance: &Instance, message: &str, count: usize) {
    eventually(&format!("{count} lines of {message}"), || {
        let lines = lines(&instance.log(), message);
        ensure!(lines.len() >= count, "{lines:?}");
        Ok(())
    });
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
    let (place, _manager, instance) = Instance::serving(&one_name("http://127.0.0.1:9"));
    for _ in 0..50 {
        assert!(Client::ask(&place, "/").answer().starts_with("HTTP/1.1 502"));
    }
    logged(&instance, "request\"", 50);
    let told = lines(&instance.log(), "request failed at its target");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["upstream"], "http://127.0.0.1:9");
    let id = told[0]["id"].as_str().unwrap();
    let log = instance.log();
    let request = log.lines().find(|line| line.contains(id) && line.contains("upstream_unreachable"));
    assert!(request.is_some(), "the request {id} is in the log");
}

/// Settings of an instance whose tables are at `url`.
fn tables_at(url: &str) -> String {
    format!(
        "[worker]\nthreads = 1\n[log]\nformat = \"json\"\n[store]\nendpoint = \"{url}\"\ntimeout = \"500ms\"\n\
         region = \"eu-south-2\"\n[domains]\ndefault_target = \"http://10.0.0.1\"\npoll = \"100ms\""
    )
}

#[test]
fn another_web_server_as_the_store_ends_the_start_and_every_command() {
    let server = Server::start(|_| Answer::of(200, "<html>hello</html>"));
    let place = Place::new();
    place.write(&tables_at(&server.url()));
    let wanted = format!("store.endpoint: `{}` answers HTTP 200", server.url());
    for line in ["run", "tables create", "domain add a.example --target http://10.0.0.1"] {
        let said = place.run(line);
        assert_eq!(said.code, Some(1), "{line}: {said:?}");
        assert!(said.err.contains(&wanted) && said.err.contains("correct the address"), "{line}: {said:?}");
    }
}

#[test]
fn a_file_of_the_settings_that_cannot_be_used_ends_the_start_before_anything_is_made() {
    for (name, text, settings, told) in [
        (
            "secret",
            "whsec_short",
            "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://crm.example.com/\"\nsecret_file = ",
            "events.webhooks `crm`: its secret cannot be used",
        ),
        ("pages/404.html", "{{", "[error_pages]\ndirectory = ", "404.html`, line 1: `{{` is not closed"),
    ] {
        let place = Place::new();
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let named = if name.contains('/') { path.parent().unwrap() } else { &path };
        place.write(&format!("{settings}{:?}", named.to_str().unwrap()));
        let said = place.run("run");
        assert!(said.code == Some(2) && said.err.contains(told), "{said:?}");
        assert!(!place.path().join("state").exists(), "{name}");
    }
}

#[test]
fn missing_credentials_are_told_once_with_their_remedy() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write(&tables_at("https://127.0.0.1:9"));
    let nobody = [("AWS_EC2_METADATA_DISABLED", "true")];
    let instance = Instance::start(&place, &manager, Vec::new(), &nobody);
    manager.hear_until("STATUS=Unable");
    let cause = "no credentials for the store; give the instance a role";
    instance.has_logged(cause);
    // More readings of the feed than could be told of by mistake.
    eventually("ten failed readings", || {
        let page = metrics(&place);
        let failed = page
            .lines()
            .find_map(|line| line.strip_prefix("gatehouse_domains_feed_reads_total{outcome=\"failed\"} "));
        let failed: u64 = failed.context("there is no such metric")?.parse()?;
        ensure!(failed >= 10, "{failed}");
        Ok(())
    });
    let log = instance.log();
    assert_eq!(lines(&log, "the domains table cannot be read").len(), 1, "{log}");
    let warnings: Vec<_> =
        log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert!(warnings.len() <= 3 && warnings.iter().all(|line| line.len() < 500), "{warnings:#?}");
    assert!(!log.contains("network"), "{log}");
}

fn metrics(place: &Place) -> String {
    let address = std::net::SocketAddr::new(place.http().ip(), 9464);
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_second_instance_on_the_same_port_is_refused_by_name_and_the_doctor_sees_it() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 2");
    let _first = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    let settings = fs::read_to_string(place.path().join("gatehouse.toml")).unwrap();
    // Its own state and metrics, so that nothing but the ports is in its way.
    let settings = settings.replace("/state\"", "/other\"").replace(":9464", ":9465");
    fs::write(place.path().join("second.toml"), settings).unwrap();
    let said = place.run_by("second.toml", "run");
    assert_eq!(said.code, Some(1), "{said:?}");
    let wanted = format!("listen.https: `{}` is listened on already by `gatehouse`", place.https());
    assert!(said.err.contains(&wanted) && said.err.contains("choose another port"), "{said:?}");
    let doctor = place.run_by("second.toml", "doctor");
    let line = doctor.out.lines().find(|line| line.contains(&format!("port {}", place.https()))).unwrap();
    assert!(line.starts_with("error") && line.contains("taken by `gatehouse`"), "{line}");
    let own = place.run("doctor");
    let line = own.out.lines().find(|line| line.contains(&format!("port {}", place.https()))).unwrap();
    assert!(line.contains("held by the running instance"), "{line}");
}

#[test]
fn a_name_that_is_refused_is_in_the_log_with_why_and_for_whom() {
    let (place, _manager, instance) = Instance::serving(&one_name("http://127.0.0.1:9"));
    let said = place.run("domain add gone.example --target http://10.0.0.1");
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = place.run("domain remove gone.example");
    assert_eq!(said.code, Some(0), "{said:?}");
    for _ in 0..5 {
        for name in ["b.example", "gone.example"] {
            let answer = ask_cleartext(&place, name);
            assert!(!answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        }
    }
    logged(&instance, "a name was refused", 2);
    let told = lines(&instance.log(), "a name was refused");
    let of = |name: &str| {
        let mut lines = told.iter().filter(|line| line["server_name"] == name);
        let line = lines.next().unwrap();
        assert!(lines.next().is_none(), "one line of {name}: {told:?}");
        assert!(line["client"].as_str().unwrap().starts_with("127."), "{line}");
        assert_eq!(line["level"], "INFO");
        line["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(of("b.example"), "no entry in the settings or the domains table");
    assert_eq!(of("gone.example"), "its entry was removed");
}

/// The answer to a request for `host` on the cleartext port.
fn ask_cleartext(place: &Place, host: &str) -> String {
    let mut stream = std::net::TcpStream::connect(place.http()).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn every_metric_that_is_scraped_is_in_the_reference() {
    let (place, _manager, _instance) = Instance::serving(&one_name("http://127.0.0.1:9"));
    assert!(Client::ask(&place, "/").answer().starts_with("HTTP/1.1 502"));
    let page = eventually("the request on the page", || {
        let page = metrics(&place);
        let counted = "gatehouse_responses_total{class=\"5xx\",method=\"GET\",protocol=\"HTTP/1.1\"} 1\n";
        ensure!(page.contains(counted), "{page}");
        Ok(page)
    });
    let reference = place.run("config metrics");
    assert_eq!(reference.code, Some(0), "{reference:?}");
    let scraped: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(scraped.len() > 40, "{scraped:?}");
    for line in scraped {
        let (name, kind) = line.split_once(' ').unwrap();
        let row = format!("| `{name}` | {kind} | ");
        assert!(reference.out.contains(&row), "{row} is not in the reference");
    }
}

#[test]
fn metrics_can_be_turned_off() {
    let (place, manager) = (Place::new(), Manager::new());
    place.write("[worker]\nthreads = 1");
    let file = place.path().join("gatehouse.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let address = format!("{}:9464", place.http().ip());
    fs::write(&file, settings.replace(&address, "off")).unwrap();
    let _instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("READY=1");
    assert!(std::net::TcpStream::connect(&address).is_err(), "nobody listens there");
    assert!(std::net::TcpStream::connect("127.0.0.1:9464").is_err(), "nor at the default");
    let status = place.run("status").out;
    assert!(status.lines().any(|line| line.split_whitespace().eq(["metrics", "off"])), "{status}");
}

#[test]
fn the_access_log_says_who_asked_over_what_and_who_answered() {
    let (place, manager) = (Place::new(), Manager::new());
    let upstream = Server::start(|_| Answer::of(200, "hello"));
    place.write(&one_name(&upstream.url()));
    let instance = Instance::start(&place, &manager, Vec::new(), &[]);
    manager.hear_until("STATUS=Serving");
    let agent = format!("Robot/1 \"{}", "x".repeat(500));
    let mut client = Client::connect(&place);
    client.send(&format!("GET /a HTTP/1.1\r\nHost: a.example\r\nUser-Agent: {agent}\r\n\r\n"));
    assert!(client.answer().starts_with("HTTP/1.1 200"));
    drop(client);
    let told = eventually("the request's line", || {
        let lines = lines(&instance.log(), "request\"");
        lines.iter().find(|line| line["path"] == "/a").cloned().with_context(|| format!("{lines:?}"))
    });
    assert_eq!(told["tls"], "TLSv1.3");
    assert_eq!(format!("http://{}", told["upstream"].as_str().unwrap()), upstream.url());
    let user_agent = told["user_agent"].as_str().unwrap();
    assert!(user_agent.starts_with(r#"Robot/1\u{20}\"xxx"#) && user_agent.len() < 300, "{user_agent}");

    let mut stream = std::net::TcpStream::connect(place.http()).unwrap();
    stream.write_all(b"this is no HTTP\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let told = eventually("the line of what is no request", || {
        let lines = lines(&instance.log(), "request\"");
        lines.iter().find(|line| line["outcome"] == "unparsed").cloned().with_context(|| format!("{lines:?}"))
    });
    assert_eq!((&told["status"], &told["scheme"]), (&400.into(), &"http".into()));
    assert!(told["client"].as_str().unwrap().starts_with("127."), "{told}");
}

#[test]
fn a_ring_that_may_be_made_and_not_entered_ends_the_start_where_it_is_asked_for() {
    let place = Place::new();
    place.write("[worker]\nthreads = 1\nio = \"uring\"");
    let refused = without_ring_entry(place.command("gatehouse.toml", "run")).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("worker.io: `uring` cannot be used here") && said.contains("io_uring_enter"),
        "{said}"
    );

    place.write("[worker]\nthreads = 1\nio = \"auto\"");
    let log = place.path().join("log");
    let mut command = without_ring_entry(place.command("gatehouse.toml", "run"));
    let mut child = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let status = eventually("the end of the start", || {
        if child.try_wait()?.is_some() {
            return Ok(0);
        }
        let status = health(place.http())?;
        ensure!(status != 503, "{status}");
        Ok(status)
    });
    let _ = child.kill();
    let _ = child.wait();
    let told = text();
    assert_eq!(status, 200, "{told}");
}

/// `command`, to which the kernel refuses `io_uring_enter` and nothing else, as some seccomp profiles do.
#[expect(unsafe_code, reason = "a filter is installed between fork and exec")]
fn without_ring_entry(mut command: std::process::Command) -> std::process::Command {
    use std::os::unix::process::CommandExt;
    let install = || {
        let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
        let number = u32::try_from(libc::SYS_io_uring_enter).unwrap_or(u32::MAX);
        let refusal = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap_or(1);
        // seccomp(2): the number of the call is the first word of what a filter looks at.
        let mut filter = [
            step(0x20, 0, 0, 0),
            step(0x15, number, 0, 1),
            step(0x06, refusal, 0, 0),
            step(0x06, libc::SECCOMP_RET_ALLOW, 0, 0),
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: it takes numbers alone.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the program and its filter live until the call has returned.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
    command
}
