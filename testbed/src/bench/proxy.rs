//! CPU per request and per new connection of both back ends, beside nginx, in one interleaved run.
//!
//! CPU time is what is compared, not throughput: load, subject and upstream share the machine's cores, and what the
//! kernel charges a subject does not depend on who else had to wait.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

use super::report::{Report, Row, first_line};

/// Measures and publishes; `binary` is a release build of Gatehouse.
pub fn run(root: &Path, binary: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let upstream = Subject::nginx(folder.path(), "upstream", &upstream_config())?;
    let subjects = [
        Subject::gatehouse(folder.path(), binary, "uring", upstream.port)?,
        Subject::gatehouse(folder.path(), binary, "epoll", upstream.port)?,
        Subject::nginx(folder.path(), "nginx", &peer_config(folder.path(), upstream.port)?)?,
    ];
    let mut report = Report::new("proxy", versions(binary));
    for work in [KEPT_ALIVE, NEW_CONNECTION] {
        let mut samples = vec![Vec::new(); subjects.len()];
        for round in 0..ROUNDS {
            for (subject, samples) in subjects.iter().zip(&mut samples) {
                let cost = subject.cost(work).with_context(|| format!("{}, {}", work.name, subject.name))?;
                println!("round {} of {ROUNDS}: {}, {}: {cost:.1} us", round + 1, work.name, subject.name);
                samples.push(cost);
            }
        }
        publish_rows(&mut report, work, &subjects, samples)?;
    }
    report.publish(root)
}

#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    field: Option<&'static str>,
}

struct Subject {
    name: String,
    port: u16,
    child: Child,
}

impl Subject {
    fn gatehouse(folder: &Path, binary: &Path, io: &str, upstream: u16) -> anyhow::Result<Self> {
        let [https, http, metrics] = [free_port()?, free_port()?, free_port()?];
        let state = folder.join(io);
        let config = folder.join(io).with_extension("toml");
        fs::write(
            &config,
            format!(
                "state_directory = \"{}\"\n\
                 [listen]\nhttps = [\"127.0.0.1:{https}\"]\nhttp = [\"127.0.0.1:{http}\"]\n\
                 [worker]\nthreads = 1\nio = \"{io}\"\n\
                 [[domains.static]]\nname = \"localhost\"\ntarget = \"http://127.0.0.1:{upstream}\"\n\
                 [upstream]\npermitted_networks = [\"127.0.0.0/8\"]\n\
                 [control]\nmetrics = \"127.0.0.1:{metrics}\"\n\
                 [log]\naccess = false\nfilter = \"warn\"\n",
                state.display()
            ),
        )?;
        let mut command = Command::new(binary);
        command.arg("--config").arg(&config).arg("run");
        Self::start(&format!("gatehouse {io}"), https, command, &state.with_extension("log"))
    }

    fn nginx(folder: &Path, name: &str, config: &NginxConfig) -> anyhow::Result<Self> {
        let file = folder.join(name).with_extension("conf");
        fs::write(&file, &config.text)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(folder).args(["-g", "daemon off;"]);
        Self::start(name, config.port, command, &file.with_extension("log"))
    }

    fn start(name: &str, port: u16, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}; `cargo xtask setup` installs it"))?;
        let subject = Self { name: name.to_owned(), port, child };
        subject.wait_until_listening().with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(subject)
    }

    fn wait_until_listening(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            ensure!(Instant::now() < deadline, "{} does not listen on port {}", self.name, self.port);
            std::thread::yield_now();
        }
        Ok(())
    }

    /// CPU microseconds, user and system, that one unit of `work` cost this subject.
    fn cost(&self, work: Work) -> anyhow::Result<f64> {
        // One request first: a certificate that is still to be made is not what is measured.
        self.load(work, "1s")?;
        let before = cpu_ticks(self.child.id())?;
        let requests = self.load(work, "4s")?;
        let ticks = cpu_ticks(self.child.id())? - before;
        #[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
        let cost = ticks as f64 * MICROSECONDS_PER_TICK / requests as f64;
        Ok(cost)
    }

    fn load(&self, work: Work, duration: &str) -> anyhow::Result<u64> {
        let mut client = Command::new("wrk");
        client.args(["-t1", "-c32", "-d", duration]).arg(format!("https://localhost:{}/", self.port));
        if let Some(field) = work.field {
            client.args(["-H", field]);
        }
        let output = client.output().context("cannot run wrk; `cargo xtask setup` installs it")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk: {text}");
        let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
        match requests.and_then(|(count, _)| count.parse().ok()) {
            Some(count) if count > 0 => Ok(count),
            _ => bail!("wrk made no request: {text}"),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // nginx's master ends its worker on SIGTERM, and would leave it behind on SIGKILL.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        if pid.as_raw() > 0 {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

struct NginxConfig {
    port: u16,
    text: String,
}

fn upstream_config() -> NginxConfig {
    nginx_config(18_080, "listen 127.0.0.1:18080; location / { return 200 'ok'; }", "")
}

fn peer_config(folder: &Path, upstream: u16) -> anyhow::Result<NginxConfig> {
    let (chain, key) = key_pair(folder)?;
    let server = format!(
        "listen 127.0.0.1:18443 ssl http2 backlog=4096; server_name localhost;\n\
         ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n\
         proxy_set_header Host $proxy_host; proxy_set_header User-Custom-Domain $host;\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; }}",
        chain.display(),
        key.display()
    );
    let origin = format!(
        "upstream origin {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}"
    );
    Ok(nginx_config(18_443, &server, &origin))
}

fn nginx_config(port: u16, server: &str, upstream: &str) -> NginxConfig {
    let text = format!(
        "worker_processes 1; pid nginx-{port}.pid; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000; {upstream}\nserver {{ {server} }} }}\n"
    );
    NginxConfig { port, text }
}

/// A P-256 key pair like those Gatehouse serves with, so that both sign with the same algorithm.
fn key_pair(folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    let (chain_file, key_file) = (folder.join("peer.crt"), folder.join("peer.key"));
    fs::write(&chain_file, certificate.pem())?;
    fs::write(&key_file, key.serialize_pem())?;
    Ok((chain_file, key_file))
}

/// User and system ticks of a process and its children (proc(5), `/proc/pid/stat` fields 4, 14 and 15).
fn cpu_ticks(pid: u32) -> anyhow::Result<u64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<u64> = tail.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let own = head.split_whitespace().next() == Some(pid.to_string().as_str());
        if let (Some(parent), Some(user), Some(system)) = (fields.get(1), fields.get(11), fields.get(12))
            && (own || *parent == u64::from(pid))
        {
            ticks += user + system;
        }
    }
    Ok(ticks)
}

fn publish_rows(
    report: &mut Report,
    work: Work,
    subjects: &[Subject],
    samples: Vec<Vec<f64>>,
) -> anyhow::Result<()> {
    let rows = subjects
        .iter()
        .zip(samples)
        .filter_map(|(subject, samples)| Row::of(work.name, &subject.name, "us", samples));
    let rows: Vec<Row> = rows.collect();
    let base = rows.last().context("no subject was measured")?.value;
    for row in rows {
        let goal = (row.subject != "nginx").then_some(1.0);
        report.push(row.against(base, goal));
    }
    Ok(())
}

fn versions(binary: &Path) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("gatehouse".to_owned(), first_line(&binary.to_string_lossy(), &["--version"])),
        ("nginx".to_owned(), first_line("nginx", &["-v"])),
        ("wrk".to_owned(), first_line("wrk", &["-v"])),
    ])
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

const KEPT_ALIVE: Work = Work { name: "kept-alive TLS request", field: None };
const NEW_CONNECTION: Work = Work { name: "new TLS connection", field: Some("Connection: close") };
const ROUNDS: usize = 5;
/// `USER_HZ` is 100 on every Linux this runs on.
const MICROSECONDS_PER_TICK: f64 = 10_000.0;
