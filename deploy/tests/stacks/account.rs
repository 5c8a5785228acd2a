//! An account of its own for each case, and the program in a folder with a fleet's description.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use aws_policy::{Role, Signed, role::SERVICE_ROLE};
use serde_json::Value;
use tempfile::TempDir;

/// AWS's double; ends with the value.
pub(crate) struct Account {
    folder: TempDir,
    server: Child,
    url: String,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A call that the double has written down.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) region: String,
    /// As policies name it.
    pub(crate) action: String,
    pub(crate) parameters: Value,
    /// As IAM is asked; several where rights to something else are needed as well.
    pub(crate) judged: Vec<aws_policy::Call>,
}

impl Account {
    /// With images of three versions; of the third no instance becomes healthy.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = root().join("deploy/tests/stacks/aws.py");
        let errors = fs::File::create(folder.path().join("aws.log")).unwrap();
        let mut server = Command::new(root().join("target/moto/bin/python"))
            .args([script.as_path(), &folder.path().join("calls")])
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("moto is not there: `cargo xtask setup` installs it");
        let mut url = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let account = Self { folder, server, url: url.trim().to_owned() };
        assert!(account.url.starts_with("http://"), "{}", account.log());
        account.write("settings.toml", "[verification]\nedge_names = [\"edge.example.net\"]\n");
        account.write("function-0123456789abcdef.zip", "PK");
        account.write("domain-functions-0123456789abcdef.zip", "PK");
        account
    }

    /// Writes the description of a fleet in these regions.
    pub(crate) fn describe(&self, version: &str, regions: &[&str]) {
        self.describe_with(version, regions, "");
    }

    /// The same with further tables of the file.
    pub(crate) fn describe_with(&self, version: &str, regions: &[&str], more: &str) {
        let tables: Vec<_> = regions.iter().map(|region| format!("[regions.{region}]\n")).collect();
        let tables = tables.concat();
        let text = format!(
            "home_region = \"eu-central-1\"\nimage_version = \"{version}\"\nsettings = \"settings.toml\"\n\
             function = \"function-0123456789abcdef.zip\"\ninstance_count = 1\nservice_role = \"{SERVICE_ROLE}\"\n\
             [domain_functions]\npackage = \"domain-functions-0123456789abcdef.zip\"\nverifier = \"public\"\nchecker = true\n{more}{tables}"
        );
        self.write("fleet-tst.toml", &text);
    }

    /// `gatehouse-deploy` with these words, in stage `tst`.
    pub(crate) fn run(&self, words: &str) -> Outcome {
        let mut command = self.command();
        command.env("AWS_ACCESS_KEY_ID", Role::Deployer.access_key());
        command.env("AWS_SECRET_ACCESS_KEY", "testing");
        outcome(command.args(words.split(' ')).args(["--stage", "tst", "--pause", "50"]))
    }

    /// Without any credentials, and without a stage.
    pub(crate) fn run_bare(&self, words: &str) -> Outcome {
        outcome(self.command().args(words.split(' ')))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse-deploy"));
        command.current_dir(&self.folder).env_clear().env("AWS_ENDPOINT_URL", &self.url);
        // No file of whoever runs the tests.
        command.env("HOME", self.folder.path()).env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// All calls so far, each of which the deployer's policy has to grant; from now on none of them.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let path = self.folder.path().join("calls");
        let text = fs::read_to_string(&path).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        let calls: Vec<_> = text.lines().map(|line| Call::of(&serde_json::from_str(line).unwrap())).collect();
        let policy = Role::Deployer.policy().unwrap();
        for call in calls.iter().flat_map(|call| &call.judged) {
            assert!(!policy.judge(call).unwrap().is_empty(), "infra/deployer.yaml does not grant {call}");
        }
        calls
    }

    /// Of all regions this one alone is in trouble from now on: `silent`, or `failing`.
    pub(crate) fn trouble(&self, kind: &str, region: &str) {
        self.get(&format!("/trouble/{kind}/{region}"));
    }

    /// What there is in the account, of what costs something: number by kind, without what is none.
    pub(crate) fn left(&self) -> Vec<(String, u64)> {
        let counts: serde_json::Map<String, Value> = serde_json::from_str(&self.get("/left")).unwrap();
        let counts = counts.into_iter().map(|(kind, count)| (kind, count.as_u64().unwrap()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// The bodies of all dashboards, by name.
    pub(crate) fn dashboards(&self) -> Value {
        serde_json::from_str(&self.get("/dashboards")).unwrap()
    }

    /// The id of a zone of `example.net` in which the name `taken` has a record.
    pub(crate) fn zone(&self) -> String {
        self.get("/zone")
    }

    /// What the double itself answers.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{path}: {answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("aws.log")).unwrap_or_default()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.calls();
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Outcome {
    #[track_caller]
    pub(crate) fn succeeded(&self, account: &Account) {
        assert_eq!(self.code, Some(0), "{self:#?}\n{}", account.log());
    }
}

impl Call {
    fn of(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let (service, action) = (text("service"), text("action"));
        let action = match (service.as_str(), action.as_str()) {
            ("s3", "HEAD") => "s3:GetObject".to_owned(),
            ("s3", "PUT") => "s3:PutObject".to_owned(),
            ("s3", "GETVersions") => "s3:ListBucketVersions".to_owned(),
            ("s3", "DELETE") => "s3:DeleteObjectVersion".to_owned(),
            ("route53", "GET") => "route53:GetHostedZone".to_owned(),
            ("tagging", action) => format!("tag:{action}"),
            ("monitoring", action) => format!("cloudwatch:{action}"),
            (service, action) => format!("{service}:{action}"),
        };
        let (parameters, judged) = (value["parameters"].clone(), judged(&value["request"]));
        Self { region: text("region"), action, parameters, judged }
    }

    /// Whether it only looks.
    pub(crate) fn looks(&self) -> bool {
        let name = self.action.split(':').nth(1).unwrap();
        ["Get", "Describe", "List"].iter().any(|prefix| name.starts_with(prefix))
    }
}

/// A request that the double has written down. Keys have the stage's tag, by which the program has found them: moto does not hand it on.
fn judged(request: &Value) -> Vec<aws_policy::Call> {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let signed = Signed::of(text("authorization")).unwrap();
    assert_eq!(Role::of(signed.access_key), Some(Role::Deployer));
    let made = aws_policy::Request {
        method: text("method"),
        target: text("target"),
        authorization: text("authorization"),
        operation: request["operation"].as_str(),
        body: text("body").as_bytes(),
    };
    let tagged = |call: aws_policy::Call| {
        if call.action.starts_with("kms:") {
            call.with("aws:ResourceTag/gatehouse-stage", ["tst"])
        } else {
            call
        }
    };
    made.calls(&signed).unwrap().into_iter().map(tagged).collect()
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
