mod corpus;

use std::{ffi::OsString, fs, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::config::{Endpoint, GuardMode, Io, Network};

struct Files(TempDir);

impl Files {
    fn new(main: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("gatehouse.toml"), main).unwrap();
        Self(directory)
    }

    fn with(self, name: &str, text: &str) -> Self {
        let path = self.0.path().join("conf.d").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("gatehouse.toml")
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        gather(Some(&self.main()), environment(variables))?.settings()
    }

    fn load_with(&self, parameter: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        let mut gathered = gather(Some(&self.main()), environment(variables))?;
        let wanted = gathered.wanted()?.expect("no parameter is named");
        gathered.lay(&wanted.name, parameter.to_owned())?;
        gathered.settings()
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn read(main: &str, variables: &[(&str, &str)]) -> Config {
    Files::new(main).load(variables).unwrap_or_else(|error| panic!("{main} {variables:?}: {error}")).config
}

#[test]
fn the_sample_says_nothing_but_defaults() {
    let config = read(&crate::config::sample(), &[]);
    assert_eq!(Table::try_from(config).unwrap(), Table::try_from(Config::default()).unwrap());
}

#[test]
fn more_denied_networks_than_the_kernel_can_exchange_are_refused() {
    let mut config = Config::default();
    config.guard.deny = vec![Network::try_from("192.0.2.0/24".to_owned()).unwrap(); 131_072];
    assert_eq!(validate(&config), []);
    config.guard.deny.extend_from_within(..1);
    let fields =
        |config: &Config| validate(config).into_iter().map(|problem| problem.field).collect::<Vec<_>>();
    assert_eq!(fields(&config), ["guard.deny"]);
    config.guard.deny.truncate(131_071);
    config.guard.exempt = vec![Network::try_from("192.0.2.0/28".to_owned()).unwrap()];
    assert_eq!(validate(&config), []);
    config.guard.exempt = vec![Network::try_from("192.0.2.0/24".to_owned()).unwrap()];
    assert_eq!(fields(&config), ["guard.exempt[0]"], "one network has one rule");
}

#[test]
fn fragments_are_merged_in_the_order_of_their_names() {
    let files = Files::new("[listen]\nhttps = [\"127.0.0.1:1443\"]\n[[domains.static]]\nname = \"a.example\"\ntarget = \"http://10.0.0.1\"\n")
        .with("20.toml", "[worker]\nthreads = 2\n[[domains.static]]\nname = \"c.example\"\ntarget = \"http://10.0.0.1\"\n")
        .with("10.toml", "[worker]\nthreads = 1\nio = \"epoll\"\n[[domains.static]]\nname = \"b.example\"\ntarget = \"http://10.0.0.1\"\n")
        .with("note.txt", "this is not read");
    let Loaded { config, places } = files.load(&[("GATEHOUSE_WORKER_THREADS", "3")]).unwrap();
    let names: Vec<_> = config.domains.r#static.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["a.example", "b.example", "c.example"]);
    assert_eq!((config.worker.threads, config.worker.io), (3, Io::Epoll));
    assert_eq!(config.listen.https, ["127.0.0.1:1443".parse().unwrap()], "a list of values is replaced");
    assert_eq!(places.len(), 4);
}

#[test]
fn variables_are_read_as_toml_and_else_as_text() {
    let config = read(
        "",
        &[
            ("GATEHOUSE_STATE_DIRECTORY", "/var/lib/gatehouse"),
            ("GATEHOUSE_LISTEN_HTTPS", "[\"127.0.0.1:0\"]"),
            ("GATEHOUSE_LIMITS_IDLE", "90s"),
            ("GATEHOUSE_GUARD_MODE", "observe"),
            ("GATEHOUSE_STORE_DOMAINS_TABLE", "20261124"),
            ("GATEHOUSE_DOMAINS_STATIC", "[{ name = \"a.example\", target = \"http://10.0.0.1\" }]"),
            ("GATEHOUSE_STORE_REGION", ""),
            // As in a pod of Kubernetes beside a service of this name.
            ("GATEHOUSE_SERVICE_HOST", "10.0.0.1"),
            ("GATEHOUSE_SERVICE_PORT_HTTPS", "443"),
            ("GATEHOUSE_PORT", "tcp://10.0.0.1:443"),
            ("GATEHOUSE_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("GATEHOUSE_CONFIG", "read by the command line"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(config.state_directory, PathBuf::from("/var/lib/gatehouse"));
    assert_eq!(config.limits.idle.as_secs(), 90);
    assert_eq!(config.guard.mode, GuardMode::Observe);
    assert_eq!(config.store.domains_table, "20261124", "digits that name a table are text");
    assert_eq!(config.domains.r#static.len(), 1);
    assert_eq!(config.store.region, None, "an empty variable is none");
}

#[test]
fn the_older_deployments_variables_are_understood() {
    let variables = [
        ("TABLE_REGION", "us-east-1"),
        ("TABLE_NAME", "CertificatesTable"),
        ("DOMAIN_SERVICE_ENDPOINT", "https://abc.lambda-url.us-east-1.on.aws/"),
        ("LETSENCRYPT_EMAIL_ADDRESS", "operator@example.com"),
        ("TARGET_DOMAIN", "app.example.com"),
    ];
    let config = read("", &variables);
    assert_eq!((&config.store.endpoint, config.store.region.as_deref()), (&Endpoint::Aws, Some("us-east-1")));
    assert_eq!(config.store.certificates_table, "CertificatesTable");
    assert_eq!(config.domains.ask.as_deref(), Some("https://abc.lambda-url.us-east-1.on.aws/"));
    assert_eq!(config.domains.default_target.unwrap().to_string(), "https://app.example.com");
    let issuers: Vec<_> = config.certificates.issuers.iter().map(|issuer| issuer.email.as_str()).collect();
    assert_eq!(issuers, ["operator@example.com"]);
    assert_eq!(config.certificates.also_read, ["https://acme.zerossl.com/v2/DV90"], "Caddy's second issuer");

    let elsewhere = read("[store]\nendpoint = \"http://127.0.0.1:8000\"", &variables);
    assert_eq!(
        elsewhere.store.endpoint,
        Endpoint::Url("http://127.0.0.1:8000".into()),
        "a file says where the store is"
    );
    let own = read(
        "",
        &[("TARGET_DOMAIN", "app.example.com"), ("GATEHOUSE_DOMAINS_DEFAULT_TARGET", "http://10.0.0.9")],
    );
    assert_eq!(own.domains.default_target.unwrap().to_string(), "http://10.0.0.9");
}

#[test]
fn tables_named_beside_the_embedded_store_end_the_start() {
    let embedded = "[store]\nendpoint = \"embedded\"";
    let (region, table) = (("TABLE_REGION", "us-east-1"), ("TABLE_NAME", "CertificatesTable"));
    for (main, variables, at_fault) in [
        (embedded, &[region, table][..], &["TABLE_REGION", "TABLE_NAME"][..]),
        (embedded, &[region], &["TABLE_REGION"]),
        ("", &[table], &["TABLE_NAME"]),
        ("", &[region, table, ("GATEHOUSE_STORE_ENDPOINT", "embedded")], &["TABLE_REGION", "TABLE_NAME"]),
        (embedded, &[region, table, ("GATEHOUSE_STORE_ENDPOINT", "aws")], &[]),
        ("", &[region, table], &[]),
        (embedded, &[("TABLE_REGION", "")], &[]),
    ] {
        let refused =
            Files::new(main).load(variables).err().map_or_else(String::new, |error| error.to_string());
        let named: Vec<_> = ["TABLE_REGION", "TABLE_NAME"]
            .into_iter()
            .filter(|name| refused.contains(&format!("yet {name} = ")))
            .collect();
        assert_eq!(named, at_fault, "{main:?} {variables:?}: {refused}");
        assert_eq!(refused.contains("write `store.endpoint = \"aws\"`"), !at_fault.is_empty(), "{refused}");
    }
}

const NAMED: &str = "settings_parameter = \"/gatehouse/fleet\"\n";

#[test]
fn a_parameter_comes_after_files_and_before_variables() {
    let files = Files::new("[worker]\nthreads = 1\n[limits]\nidle = \"1s\"\n[[domains.static]]\nname = \"a.example\"\ntarget = \"http://10.0.0.1\"\n")
        .with("50-fleet.toml", NAMED);
    let parameter = "[worker]\nthreads = 2\nio = \"epoll\"\n[limits]\nidle = \"2s\"\n[[domains.static]]\nname = \"b.example\"\ntarget = \"http://10.0.0.1\"\n";
    let loaded = files.load_with(parameter, &[("GATEHOUSE_WORKER_THREADS", "3")]).unwrap();
    let config = loaded.config;
    assert_eq!((config.worker.threads, config.worker.io, config.limits.idle.as_secs()), (3, Io::Epoll, 2));
    assert_eq!(config.domains.r#static.len(), 2, "its tables are appended to those of the files");
    let places: Vec<_> = loaded.places.iter().map(ToString::to_string).collect();
    assert_eq!(places[2..], ["/gatehouse/fleet", "GATEHOUSE_WORKER_THREADS"]);
}

#[test]
fn what_leads_to_a_parameter_is_said_by_files_and_variables() {
    let wanted = |main: &str, variables: &[(&str, &str)]| {
        let gathered = gather(Some(&Files::new(main).main()), environment(variables)).unwrap();
        gathered.wanted().unwrap().map(|wanted| (wanted.name.to_string(), wanted.region))
    };
    let fleet = |region: Option<&str>| Some(("/gatehouse/fleet".to_owned(), region.map(str::to_owned)));
    assert_eq!(wanted("", &[]), None);
    assert_eq!(wanted(NAMED, &[]), fleet(None));
    assert_eq!(wanted(&format!("{NAMED}[store]\nregion = \"eu-south-2\""), &[]), fleet(Some("eu-south-2")));
    let variables =
        [("GATEHOUSE_SETTINGS_PARAMETER", "/gatehouse/fleet"), ("GATEHOUSE_STORE_REGION", "us-west-1")];
    assert_eq!(wanted("settings_parameter = \"other\"", &variables), fleet(Some("us-west-1")));
}

#[test]
fn what_is_wrong_in_a_parameter_is_named_with_its_line() {
    for (parameter, told) in [
        ("[limits]\nidle = 7s", "/gatehouse/fleet:2: not TOML"),
        (
            "[limits]\nidel = \"7s\"",
            "/gatehouse/fleet:2: `limits.idel`: no such setting; did you mean `limits.idle`?",
        ),
        ("[limits]\n\nidle = 7", "/gatehouse/fleet:3: limits.idle = 7"),
        ("[limits]\nconnections = 0", "/gatehouse/fleet:2: limits.connections: `0`"),
        (
            "\nsettings_parameter = \"other\"",
            "/gatehouse/fleet:2: settings_parameter: a parameter cannot lead to another",
        ),
    ] {
        let error = Files::new(NAMED).load_with(parameter, &[]).unwrap_err().to_string();
        assert!(error.contains(told), "{parameter}: {error}");
    }
}

#[test]
fn a_parameter_that_cannot_be_read_is_told_with_the_place_that_names_it() {
    let gathered = gather(Some(&Files::new(&format!("\n{NAMED}")).main()), environment(&[])).unwrap();
    let error = gathered.wanted().unwrap().unwrap().unreadable(io::Error::other("access is denied"));
    let told = crate::telemetry::error_chain(&error);
    assert!(
        told.ends_with(
            "gatehouse.toml:2: settings_parameter: `/gatehouse/fleet` cannot be read: access is denied"
        ),
        "{told}"
    );
}

/// The file, the variables, and what the error must say, separated by `|`.
type Wrong = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[test]
fn whatever_is_wrong_is_named_with_a_remedy() {
    let long = format!("[control]\nsocket = \"/{}\"", "x".repeat(120));
    for (main, variables, wanted) in WRONG {
        check(main, variables, wanted);
    }
    check(&long, &[], "control.socket: `/xxx|is longer than the 107 bytes|shorter");
}

fn check(main: &str, variables: &[(&str, &str)], wanted: &str) {
    let error = Files::new(main).load(variables).expect_err(main).to_string();
    for part in wanted.split('|') {
        assert!(error.contains(part), "{main} {variables:?}: `{part}` is not in `{error}`");
    }
}

#[test]
fn a_named_file_must_be_there_and_a_fragment_is_blamed_by_its_own_name() {
    let files = Files::new("").with("a.toml", "\n[worker]\nthread = 1\n");
    let error = files.load(&[]).unwrap_err().to_string();
    assert!(error.contains("conf.d/a.toml:3: `worker.thread`"), "{error}");
    let missing =
        gather(Some(&files.main().with_extension("json")), environment(&[])).unwrap_err().to_string();
    assert!(missing.contains("gatehouse.json: no such file") && missing.contains("--config"), "{missing}");
}

#[test]
fn every_problem_is_told_at_once() {
    let error =
        Files::new("[limits]\nconnections = 0\nheader_fields = 0\n[worker]\nthreads = 5000").load(&[]);
    assert_eq!(error.unwrap_err().to_string().lines().count(), 3);
}

const WRONG: &[Wrong] = &[
    (
        "[api]\nlisten = \"192.0.2.1:9466\"",
        &[],
        "gatehouse.toml:2|api.listen|`192.0.2.1:9466` without `api.name`|cleartext|`127.0.0.1:9466`",
    ),
    (
        "[control]\nmetrics = \"127.0.0.1:9466\"\n[api]\nlisten = \"127.0.0.1:9466\"",
        &[],
        "api.listen|`127.0.0.1:9466` is taken by control.metrics",
    ),
    (
        "[domains]\ntable = false\nask = \"http://127.0.0.1:9000/\"\ndefault_target = \"http://10.0.0.1\"\n[api]\nlisten = \"127.0.0.1:9466\"",
        &[],
        "api.listen|there are no entries to manage",
    ),
    ("[api]\nconsole = true", &[], "gatehouse.toml:2|api.console|without `api.listen`|`127.0.0.1:9466`"),
    (
        "[api]\nsetup_url = \"http://www.example.com\"",
        &[],
        "gatehouse.toml:2|api.setup_url|`http://www.example.com` is not an https URL|`https://www.example.com`",
    ),
    (
        "[api]\nsetup_url = \"https://a:b@c.example\"",
        &[],
        "gatehouse.toml:2|api.setup_url|is not an https URL",
    ),
    ("[api]\nbody_size = \"1B\"", &[], "gatehouse.toml:2|api.body_size|`1B`"),
    ("[api]\nrequests_burst = 0", &[], "api.requests_burst|would let nothing through"),
    (
        "[certificates]\nshared_with_caddy = false",
        &[],
        "gatehouse.toml:2|certificates.shared_with_caddy|`false`|keys are not encrypted|store.key_encryption",
    ),
    (
        "[store]\nlocal_copy = \"/var/lib/gatehouse/copy\"",
        &[],
        "gatehouse.toml:2|store.local_copy|`/var/lib/gatehouse/copy`|no key to encrypt them by|set `store.key_encryption`",
    ),
    (
        "[store]\nlocal_copy = \"copy\"\nkey_encryption = \"file:/keys\"\n[certificates]\nshared_with_caddy = false",
        &[],
        "gatehouse.toml:2|store.local_copy|`copy` is no absolute path|write it from the root",
    ),
    (
        "[store]\nlocal_copy_size = \"2GiB\"",
        &[],
        "gatehouse.toml:2|store.local_copy_size|`2GiB` is out of bounds|write 65536B to 1073741824B",
    ),
    (
        "[guard]\ndenial_ttl = \"11s\"",
        &[],
        "gatehouse.toml:2|guard.denial_ttl|`11s` is longer than `domains.deny_ttl`|write at most `10s`",
    ),
    (
        "[guard]\ndeny = [\"192.0.2.7\"]",
        &[],
        "guard.deny[0] = \"192.0.2.7\"|write this one address as `192.0.2.7/32`",
    ),
    ("[limits]\nidel = \"1s\"", &[], "gatehouse.toml:2|`limits.idel`|did you mean `limits.idle`?"),
    ("[limts]\nidle = \"1s\"", &[], "gatehouse.toml:1|`limts`|no such setting"),
    ("[listen]\nidle = \"1s\"", &[], "`listen.idle`|did you mean `"),
    ("threads = 3", &[], "`threads`|did you mean `worker.threads`?"),
    ("listen = 3", &[], "gatehouse.toml:1: listen = 3"),
    ("[limits]\n\nidle = 10", &[], "gatehouse.toml:3: limits.idle = 10|write it like `idle = \"1m\"`"),
    ("[limits]\nidle = \"10\"", &[], "limits.idle = \"10\"|not a duration"),
    ("[worker]\nio = \"ring\"", &[], "worker.io = \"ring\"|expected one of `auto`, `uring`, `epoll`"),
    (
        "[listen]\nhttps = [\"443\"]",
        &[],
        "listen.https[0] = \"443\"|write it like `https = [\"0.0.0.0:8443\"",
    ),
    ("[guard]\nnames = -1", &[], "guard.names = -1|write it like `names = 1000000`"),
    ("[[domains.static]]\nname = \"a b\"", &[], "domains.static[0].name = \"a b\"|not a domain name"),
    (
        "[[domains.static]]\nname = \"a.example\"\nminimum_tls = \"1.1\"",
        &[],
        "domains.static[0].minimum_tls = \"1.1\"|write `1.2` or `1.3`",
    ),
    (
        "[headers]\nresponse = [\"remove Server\", \"set Content-Length: 1\"]",
        &[],
        "headers.response[1] = \"set Content-Length: 1\"|`content-length` is of one connection|write a rule for another field",
    ),
    (
        "",
        &[("GATEHOUSE_HEADERS_REQUEST", "[\"set X-A: {port}\"]")],
        "GATEHOUSE_HEADERS_REQUEST: headers.request[0]|`{port}` says nothing of a request; write one of `{host}`",
    ),
    (
        "[[domains.static]]\nname = \"a.example\"\nmaintenance = \"on\"",
        &[],
        "domains.static[0].maintenance = \"on\"",
    ),
    ("[[domains.static]]\nnam = \"a.example\"", &[], "domains.static[0]|unknown field `nam`"),
    (
        "[upstream]\npermitted_networks = [\"10.0.0.0/99\"]",
        &[],
        "upstream.permitted_networks[0] = \"10.0.0.0/99\"",
    ),
    (
        "[upstream]\npermitted_sockets = [\"run/apps/\"]",
        &[],
        "upstream.permitted_sockets[0] = \"run/apps/\"|no absolute path|write it like `/run/apps/`",
    ),
    (
        "[domains]\ndefault_target = \"unix:/run/../app.sock\"",
        &[],
        "gatehouse.toml:2: domains.default_target|behind `unix:` there must be the absolute path of a socket",
    ),
    (
        "state_directory = \"/var/lib/gatehouse\"\n[domains]\ndefault_target = \"unix:/var/lib/gatehouse/control.sock\"",
        &[],
        "domains.default_target|this proxy's own control socket|give the socket of the server behind it",
    ),
    (
        "[upstream.tls.inside]\nkey = \"/etc/hostname\"",
        &[],
        "upstream.tls.inside.certificate: absent, although there is a `key`; give both, or neither",
    ),
    (
        "[upstream.tls.inside]\nroots = \"/no/such/file\"",
        &[],
        "gatehouse.toml:2: upstream.tls.inside.roots: `/no/such/file` is not a file; give the path of a PEM file",
    ),
    ("[upstream.tls.\"a.b\"]\nentries = true", &[], "upstream.tls|`a.b` is no name of TLS settings"),
    (
        "[upstream.tls.inside]\nserver = \"a.example\"",
        &[],
        "upstream.tls.inside.server|unknown field `server`",
    ),
    (
        // The variable gives all of the setting, as with lists.
        "[domains]\ndefault_target = \"https://a.example;tls=inside\"\n[upstream.tls.inside]\nentries = true",
        &[("GATEHOUSE_UPSTREAM_TLS", "{ outside = { entries = true } }")],
        "gatehouse.toml:2: domains.default_target|wants `upstream.tls.inside`, which is not there|write a table `[upstream.tls.inside]`",
    ),
    ("[store]\nendpoint = \"sqlite\"", &[], "store.endpoint = \"sqlite\"|write `embedded`, `aws` or a URL"),
    (
        "settings_parameter = \"a b\"",
        &[],
        "settings_parameter = \"a b\"|cannot name a parameter|/gatehouse/fleet",
    ),
    ("[instance]\nmetadata = \"ec2\"", &[], "instance.metadata = \"ec2\"|write `auto`, `off` or a URL"),
    ("[instance]\nlifecycle_poll = \"0s\"", &[], "instance.lifecycle_poll: `0ms`"),
    ("[listen\n", &[], "gatehouse.toml:1: not TOML"),
    ("", &[("GATEHOUSE_LIMITS_IDEL", "1s")], "GATEHOUSE_LIMITS_IDEL|did you mean `GATEHOUSE_LIMITS_IDLE`?"),
    (
        "",
        &[("GATEHOUSE_LIMITS_IDLE", "soon")],
        "GATEHOUSE_LIMITS_IDLE: limits.idle = \"soon\"|not a duration",
    ),
    ("", &[("GATEHOUSE_WORKER_THREADS", "many")], "GATEHOUSE_WORKER_THREADS: worker.threads = \"many\""),
    ("", &[("TARGET_DOMAIN", "a b")], "TARGET_DOMAIN: domains.default_target = \"https://a b\""),
    (
        "",
        &[("LETSENCRYPT_EMAIL_ADDRESS", "me")],
        "LETSENCRYPT_EMAIL_ADDRESS|certificates.issuers[0].email: `me`",
    ),
    ("[listen]\nhttps = []", &[], "gatehouse.toml:2: listen.https: `[]`|give at least one"),
    ("[listen]\nhttp = [\"127.0.0.1:8443\"]", &[], "listen.http: `127.0.0.1:8443` is taken by listen.https"),
    ("[control]\nmetrics = \"0.0.0.0:8080\"", &[], "control.metrics: `0.0.0.0:8080` is taken by listen.http"),
    ("[domains]\ntable = false", &[], "domains.table: `false`|give `domains.static` or `domains.ask`"),
    ("[domains]\nask = \"http://127.0.0.1:9/\"", &[], "domains.default_target: absent"),
    ("[domains]\nask = \"127.0.0.1\"\ndefault_target = \"http://10.0.0.1\"", &[], "domains.ask: `127.0.0.1`"),
    ("[[domains.static]]\nname = \"a.example\"", &[], "domains.static[0].target: `a.example` has no target"),
    (
        "[domains]\ndefault_target = \"http://10.0.0.1\"\nstatic = [{ name = \"a.example\" }, { name = \"A.example.\" }]",
        &[],
        "domains.static[1].name: `a.example` is listed twice",
    ),
    (
        "[domains]\ndefault_target = \"http://10.0.0.1\"\nstatic = [{ name = \"*.a.example\", www = \"serve\" }]",
        &[],
        "domains.static[0].www: `serve` needs a pair of names, and `*.a.example` makes none|leave it out",
    ),
    (
        "[domains]\ndefault_target = \"http://10.0.0.1\"\nstatic = [{ name = \"a.example\", www = \"redirect\", redirect = \"www\" }]",
        &[],
        "domains.static[0].www: `redirect` leads requests to `a.example`|set one of the two to `off`",
    ),
    (
        "[domains]\ndefault_target = \"https://127.0.0.1:8443\"",
        &[],
        "`https://127.0.0.1:8443` is this proxy's own",
    ),
    ("[domains]\ndefault_target = \"http://localhost:8080\"", &[], "is this proxy's own listener"),
    ("[store]\nendpoint = \"aws\"\nregion = \"\"", &[], "gatehouse.toml:3: store.region: ``|eu-central-1"),
    ("limits = 3", &[], "limits = 3|expected a table of settings|write it like `[limits]`"),
    ("[limits]\nmemory = 400", &[], "limits.memory = 400|expected a text in quotes|memory = \"384MiB\""),
    ("[limits]\nconnections = 0", &[], "limits.connections: `0`|write a limit"),
    ("[certificates]\nwait = \"0s\"", &[], "certificates.wait: `0ms`"),
    ("[guard]\nhello_ports = [0]", &[], "guard.hello_ports: `[0]`"),
    ("[limits]\nheader_size = \"1KiB\"", &[], "limits.header_size: `1KiB` is out of bounds|write 8192B"),
    (
        "[listen]\nproxy_protocol = { from = [\"10.0.0.1/8\"] }",
        &[],
        "listen.proxy_protocol.from[0] = \"10.0.0.1/8\"|has host bits set; write the network that it lies in, `10.0.0.0/8`",
    ),
    (
        "[listen]\nproxy_protocol = { from = [] }",
        &[],
        "listen.proxy_protocol.from: `[]` names no load balancer",
    ),
    (
        "[listen]\nproxy_protocol = { from = [\"10.0.0.0/8\", \"::/0\"] }",
        &[],
        "listen.proxy_protocol.from[1]: `::/0` would let every client choose its own address|`10.0.0.0/8`",
    ),
    (
        "[listen]\ntrusted_proxies = [\"0.0.0.0/0\"]",
        &[],
        "listen.trusted_proxies[0]: `0.0.0.0/0` would let every client choose its own address|`10.0.0.0/8`",
    ),
    (
        "[listen]\ntrusted_proxies = [\"198.51.100.7\"]",
        &[],
        "listen.trusted_proxies[0] = \"198.51.100.7\"|write this one address as `198.51.100.7/32`",
    ),
    ("[listen]\nproxy_protocol = true", &[], "listen.proxy_protocol = true"),
    ("[tls]\nminimum_version = \"1.1\"", &[], "tls.minimum_version = \"1.1\"|write `1.2` or `1.3`"),
    ("[tls]\nticket_key_period = \"5m\"", &[], "tls.ticket_key_period: `5m` is out of bounds|`10m` to `84h`"),
    ("[tls]\nticket_key_period = \"4d\"", &[], "tls.ticket_key_period: `4d` is out of bounds"),
    ("[limits]\nhttp2_stream_window = \"2MiB\"", &[], "limits.http2_connection_window: `1MiB` is less than"),
    ("[worker]\nthreads = 5000", &[], "worker.threads: `5000`"),
    (
        "[[certificates.issuers]]\ndirectory = \"http://ca.example/\"\nemail = \"a@b.example\"",
        &[],
        "certificates.issuers[0].directory: `http://ca.example/` is not an https URL",
    ),
    (
        "[[certificates.issuers]]\ndirectory = \"https://ca.example/\"\nemail = \"a@b.example\"\nroots = \"/nowhere.pem\"",
        &[],
        "gatehouse.toml:4: certificates.issuers[0].roots: `/nowhere.pem` is not a file",
    ),
    ("[upstream]\nroots = \"/nowhere.pem\"", &[], "upstream.roots: `/nowhere.pem` is not a file"),
    (
        "[[certificates.issuers]]\ndirectory = \"https://ca.example/\"\nemail = \"a@b.example\"\neab = { key_id = \"k\" }",
        &[],
        "certificates.issuers[0].eab: there is no HMAC key|`hmac_key_file`",
    ),
    (
        "[[certificates.issuers]]\ndirectory = \"https://ca.example/\"\nemail = \"a@b.example\"\neab = { key_id = \"\", hmac_key_variable = \"X\" }",
        &[],
        "certificates.issuers[0].eab.key_id: `` is no identifier",
    ),
    (
        "[[certificates.issuers]]\ndirectory = \"https://ca.example/\"\nemail = \"a@b.example\"\nprofile = \"\"",
        &[],
        "certificates.issuers[0].profile: `` is no name|leave it out",
    ),
    (
        "[[certificates.issuers]]\ndirectory = \"https://ca.example/\"\nemail = \"a@b.example\"\neab = { key_id = \"k\", hmac_key_variable = \"GATEHOUSE_KEY\" }",
        &[],
        "certificates.issuers[0].eab.hmac_key_variable: variables that begin with",
    ),
    (
        "[[certificates.issuers]]\ndirectory = \"https://ca.example/\"\nemail = \"a@b.example\"\neab = { key_id = \"k\", hmac_key_file = \"/nowhere.key\" }",
        &[],
        "certificates.issuers[0].eab.hmac_key_file: `/nowhere.key` is not a file",
    ),
    (
        "[certificates]\nwildcards = [{ name = \"app.example\", zone = \"Z1\" }]",
        &[],
        "certificates.wildcards[0].name: `app.example` is no wildcard|write it like `*.app.example`",
    ),
    (
        "[certificates]\nwildcards = [{ name = \"*.app.example\", zone = \"Z1\" }, { name = \"*.app.example\", zone = \"Z2\" }]",
        &[],
        "certificates.wildcards[1].name: `*.app.example` is listed twice|keep one",
    ),
    (
        "[certificates]\norder_deadline = \"30s\"\nwildcards = [{ name = \"*.app.example\", zone = \"Z1\" }]",
        &[],
        "certificates.order_deadline: `30s` ends before Route 53 has a wildcard's record|write at least `1m`",
    ),
    (
        "[certificates]\nwildcards = [{ name = \"*.app.example\", zone = \"/hostedzone/Z1\" }]",
        &[],
        "certificates.wildcards[0].zone|`/hostedzone/Z1` is no hosted zone's id|list-hosted-zones",
    ),
    (
        "[[events.webhooks]]\nname = \"CRM\"\nurl = \"https://a.example/\"\nsecret_variable = \"S\"",
        &[],
        "events.webhooks[0].name|`CRM` cannot name a webhook|like `crm`",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"a.example\"\nsecret_variable = \"S\"",
        &[],
        "events.webhooks[0].url: `a.example` is not an https URL|write it like `https://",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"http://10.0.0.1/hook?key=1\"\nsecret_variable = \"S\"",
        &[],
        "events.webhooks[0].url: `http://10.0.0.1/hook` sends events in the clear|write an https URL",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://me:you@a.example/\"\nsecret_variable = \"S\"",
        &[],
        "events.webhooks[0].url: a user and password in a URL are not sent",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://a.example/\"\nsecret_variable = \"S\"\n[[events.webhooks]]\nname = \"crm\"\nurl = \"https://a.example/\"\nsecret_variable = \"S\"",
        &[],
        "events.webhooks[1].name: `crm` is listed twice|keep one",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://a.example/\"",
        &[],
        "events.webhooks[0]: there is no secret|write either `secret_file`",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://a.example/\"\nsecret_variable = \"GATEHOUSE_S\"",
        &[],
        "events.webhooks[0].secret_variable: variables that begin with",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://a.example/\"\nsecret_file = \"/nowhere\"",
        &[],
        "events.webhooks[0].secret_file: `/nowhere` is not a file",
    ),
    (
        "[[events.webhooks]]\nname = \"crm\"\nurl = \"https://a.example/\"\nsecret_variable = \"S\"\nevents = [\"domain.sold\"]",
        &[],
        "events.webhooks[0].events|`domain.sold` is no kind of event; there are `domain.created`",
    ),
    ("[certificates]\nlease = \"10s\"", &[], "certificates.lease: `10s`|at least 15 s"),
    ("[certificates]\ninternal_life = \"1m\"", &[], "certificates.internal_life: `1m`"),
    ("[store]\nstate_table = \"a b\"", &[], "store.state_table: `a b` cannot name a table"),
    (
        "[store]\nstate_table = \"gatehouse-domains\"",
        &[],
        "store.state_table: `gatehouse-domains` is another",
    ),
    (
        "[domains]\ntable = false\nask = \"http://127.0.0.1:9/\"\ndefault_target = \"http://10.0.0.1\"\n[guard]\nmode = \"strict\"",
        &[],
        "guard.mode: `strict` with `domains.ask` and no list|set `adaptive`",
    ),
    (
        "[guard]\ninterfaces = [\"an-interface-too-long\"]",
        &[],
        "guard.interfaces[0]: `an-interface-too-long`",
    ),
    ("[guard]\ninterfaces = [\"eth0\", \"eth0\"]", &[], "guard.interfaces[1]: `eth0` is listed twice"),
    ("[log]\nfilter = \"gatehouse=loud\"", &[], "log.filter: `gatehouse=loud` is not a filter"),
    ("state_directory = \"\"", &[], "state_directory: `` is no path"),
];
