//! Every setting, declared once.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    enums::{Attach, Endpoint, GuardMode, Io, LogFormat, MetadataEndpoint},
    network::Network,
    parameter::ParameterName,
    quantity::{ByteSize, Span},
};
use crate::{name::Pattern, target::Target};

section! {
    /// Gatehouse's settings. Durations are written `10s`, sizes `32KiB`.
    pub struct Config {
        /// Where the embedded store, the internal issuer and the control socket live.
        state_directory: PathBuf = PathBuf::from("gatehouse-state"),
        /// Name or ARN of a parameter of AWS Systems Manager whose value, TOML as in a file, comes after all files: one for a fleet.
        settings_parameter: Option<ParameterName> = None => "\"/gatehouse/fleet\"",
    }
    sections {
        listen: ListenConfig,
        worker: WorkerConfig,
        domains: DomainsConfig,
        certificates: CertificatesConfig,
        store: StoreConfig,
        instance: InstanceConfig,
        guard: GuardConfig,
        upstream: UpstreamConfig,
        limits: LimitsConfig,
        control: ControlConfig,
        log: LogConfig,
    }
}

section! {
    /// Sockets.
    pub struct ListenConfig {
        /// Addresses that speak TLS.
        https: Vec<SocketAddr> = both_families(8443),
        /// Addresses that speak cleartext HTTP: redirects, ACME challenges and `/health`.
        http: Vec<SocketAddr> = both_families(8080),
        /// The port that redirects to HTTPS name; absent, the port of the first `https` address.
        public_https_port: Option<u16> = None => "443",
    }
}

section! {
    /// The data plane's threads.
    pub struct WorkerConfig {
        /// How many workers; 0 is one for each core this process may run on.
        threads: usize = 0,
        /// How workers reach the kernel: `auto` proves `io_uring` and else takes epoll, `uring` insists, `epoll` does not try.
        io: Io = Io::Auto,
        /// How long requests in flight may take after SIGTERM. New connections are taken until no client came for two seconds, for two
        /// thirds of this at most; where nobody is connected, it ends at once.
        drain_deadline: Span = Span::secs(30),
    }
}

section! {
    /// Which names may be served, and where they go.
    pub struct DomainsConfig {
        /// Where requests go whose domain names no target of its own.
        default_target: Option<Target> = None => "\"https://origin.example.com\"",
        /// Names given here, each also as `[[domains.static]]` with `name` and optionally `target`.
        r#static: Vec<StaticDomain> = Vec::new()
            => "[{ name = \"www.example.com\", target = \"http://10.0.0.5:8080\" }]",
        /// Whether names in the domains table are served.
        table: bool = true,
        /// Asked for names that neither the list nor the table knows: GET with `?domain=NAME`, 2xx allows.
        ask: Option<String> = None => "\"http://127.0.0.1:9000/check\"",
        /// How long the ask endpoint may take; after that the answer is unknown.
        ask_timeout: Span = Span::secs(2),
        /// How often the table's feed of changes is read.
        poll: Span = Span::secs(1),
        /// How long an answer of the ask endpoint, or a name found in the table only, is believed.
        allow_ttl: Span = Span::secs(60),
        /// How much longer such a name is served by that answer while its source is asked again in the background.
        stale_ttl: Span = Span::secs(24 * 3600),
        /// How long a denial is believed.
        deny_ttl: Span = Span::secs(10),
        /// Look-ups of names not in memory, per second in total; the burst is twice that.
        lookups_per_second: u32 = 50,
        /// Such look-ups per second for one client address (IPv4 /32, IPv6 /64).
        lookups_per_source_per_second: u32 = 10,
    }
}

section! {
    /// Where certificates come from.
    pub struct CertificatesConfig {
        /// ACME issuers in order of preference, each also as `[[certificates.issuers]]` with `directory`, `email` and optionally
        /// `roots`; none means the internal issuer.
        issuers: Vec<IssuerConfig> = Vec::new()
            => "[{ directory = \"https://acme-v02.api.letsencrypt.org/directory\", email = \"operator@example.com\" }]",
        /// How long a handshake waits for a certificate that is being obtained.
        wait: Span = Span::secs(25),
        /// Handshakes that may wait for one name.
        waiters_per_name: usize = 256,
        /// Handshakes that may wait in total.
        waiters: usize = 4096,
        /// Certificates kept in memory.
        cached: u64 = 100_000,
        /// The fleet's lease on a name's order.
        lease: Span = Span::secs(60),
        /// The longest an order may take.
        order_deadline: Span = Span::secs(90),
        /// Orders, renewals apart, that the fleet may place with one ACME issuer in an hour (Let's Encrypt: 300 in three hours).
        orders_per_hour: u64 = 100,
        /// Renewals the fleet may order from one ACME issuer in an hour; they draw on nothing else (Let's Encrypt exempts orders that say
        /// which certificate they replace from its limits).
        renewals_per_hour: u64 = 1000,
        /// Orders the fleet may place in an hour for labels that one wildcard entry allows.
        orders_per_wildcard: u64 = 20,
        /// Orders one client address (IPv4 /32, IPv6 /64) may cause in the fleet in an hour by labels that wildcard entries allow.
        orders_per_source: u64 = 10,
        /// Orders the fleet may place for the names of one registered domain in seven days (Let's Encrypt: 50).
        orders_per_registered_domain: u64 = 50,
        /// How often due renewals are looked for.
        renewal_period: Span = Span::secs(60),
        /// Life of certificates of the internal issuer.
        internal_life: Span = Span::secs(7 * 24 * 3600),
        /// Whether Caddy may use the certificate table too: private keys are kept as Caddy keeps them, and there is no other way yet.
        shared_with_caddy: bool = true,
    }
}

section! {
    /// Where fleet state lives.
    pub struct StoreConfig {
        /// `embedded` (one instance, in the state directory), `aws`, or the URL of a DynamoDB-compatible endpoint.
        endpoint: Endpoint = Endpoint::Embedded,
        /// AWS region of the tables; absent, that of `AWS_REGION`, of the profile, or of the instance.
        region: Option<String> = None => "\"eu-central-1\"",
        /// Certificates, accounts, challenges, locks: Caddy's format.
        certificates_table: String = "gatehouse-certificates".into(),
        /// Domains.
        domains_table: String = "gatehouse-domains".into(),
        /// Gatehouse's own state: leases, renewals, budgets.
        state_table: String = "gatehouse-state".into(),
        /// How long one call may take, retries included.
        timeout: Span = Span::secs(5),
    }
}

section! {
    /// The EC2 instance this runs on: its identity, its region, and whether its Auto Scaling group wants it gone.
    pub struct InstanceConfig {
        /// Where the instance's metadata are asked for (`IMDSv2`): `auto` (EC2's endpoint, if the firmware calls this machine Amazon EC2's),
        /// `off`, or the URL of another endpoint. `AWS_EC2_METADATA_SERVICE_ENDPOINT` names one that the role's credentials come from, too.
        metadata: MetadataEndpoint = MetadataEndpoint::Auto,
        /// How often it is asked whether its Auto Scaling group wants it gone.
        lifecycle_poll: Span = Span::secs(5),
    }
}

section! {
    /// The XDP program.
    pub struct GuardConfig {
        /// Interfaces to guard; none means the guard is off.
        interfaces: Vec<String> = Vec::new() => "[\"eth0\"]",
        /// `native` needs a driver with XDP; `generic` is slower and works anywhere.
        attach: Attach = Attach::Native,
        /// What happens to names neither allowed nor denied: `observe`, `adaptive` or `strict`.
        mode: GuardMode = GuardMode::Adaptive,
        /// Where maps and links are pinned; a bpffs is mounted here if there is none.
        pin_path: PathBuf = PathBuf::from("/run/gatehouse/bpf"),
        /// Ports whose ClientHellos are judged; none means the ports of `listen.https`.
        hello_ports: Vec<u16> = Vec::new() => "[443]",
        /// Names the kernel can hold; beyond it enforcement ends.
        names: u32 = 1_000_000,
        /// Unknown names let through to user space per second in `adaptive` mode.
        unknown_per_second: u32 = 50,
        /// And at once.
        unknown_burst: u32 = 200,
        /// Resets sent to clients per second and CPU; beyond it segments are dropped.
        resets_per_second: u32 = 10_000,
        /// How long a name user space has denied is rejected without asking again, at most `domains.deny_ttl`; absent, as long as that.
        denial_ttl: Option<Span> = None => "\"5s\"",
    }
}

section! {
    /// Connections to targets.
    pub struct UpstreamConfig {
        /// Establishing a connection, TLS included.
        connect_timeout: Span = Span::secs(5),
        /// From the end of the request to the head of the response.
        response_timeout: Span = Span::secs(60),
        /// A connection unused for so long is closed.
        idle: Span = Span::secs(60),
        /// Requests that may be with targets at once; fewer where descriptors or memory are fewer. Beyond it: 503.
        connections: usize = 20_000,
        /// Requests that may be with one target at once, and never more than are left to others.
        connections_per_target: usize = 4_096,
        /// Requests of one client (IPv4 /32, IPv6 /64) that may be with targets at once, and never more than are left to others.
        connections_per_source: usize = 256,
        /// Unused connections kept per target and worker.
        idle_per_target: usize = 64,
        /// PEM file of further roots for `https://` targets.
        roots: Option<PathBuf> = None => "\"/etc/gatehouse/upstream-roots.pem\"",
        /// Loopback, link-local and metadata networks that targets may lie in all the same.
        permitted_networks: Vec<Network> = Vec::new() => "[\"127.0.0.0/8\"]",
    }
}

section! {
    /// What a client may take.
    pub struct LimitsConfig {
        /// Open connections in total.
        connections: usize = 100_000,
        /// Open connections from one address (IPv4 /32, IPv6 /64).
        connections_per_source: usize = 2_000,
        /// Memory of the process, of which nine tenths end the taking of new connections; absent, the `memory.max` of its cgroup alone.
        memory: Option<ByteSize> = None => "\"384MiB\"",
        /// Answers held in memory for clients that have not taken them; beyond it, 8 KiB for each request.
        response_buffers: ByteSize = ByteSize::kib(64 * 1024),
        /// From the connection to the whole ClientHello.
        hello_timeout: Span = Span::secs(5),
        /// The handshake's flights, without the wait for a certificate.
        handshake_timeout: Span = Span::secs(5),
        /// Reading a request's head.
        header_timeout: Span = Span::secs(10),
        /// A request's head.
        header_size: ByteSize = ByteSize::kib(32),
        /// Fields in a request's head.
        header_fields: usize = 128,
        /// A connection without a request, or a body without progress.
        idle: Span = Span::secs(60),
        /// Slowest body, bytes per second averaged over `idle`.
        minimum_rate: u64 = 240,
        /// Concurrent streams of an HTTP/2 connection.
        http2_streams: u32 = 100,
        /// Resets an HTTP/2 connection may cause before it is closed.
        http2_resets: usize = 500,
        /// HTTP/2 flow-control window of a stream.
        http2_stream_window: ByteSize = ByteSize::kib(64),
        /// HTTP/2 flow-control window of a connection.
        http2_connection_window: ByteSize = ByteSize::kib(1024),
    }
}

section! {
    /// Metrics and the control socket.
    pub struct ControlConfig {
        /// Where Prometheus scrapes `/metrics`; absent, nowhere.
        metrics: Option<SocketAddr> = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
        /// The Unix socket of `gatehouse status` and its kin; absent, `control.sock` in the state directory.
        socket: Option<PathBuf> = None => "\"/run/gatehouse/control.sock\"",
    }
}

section! {
    /// Logs, to stderr.
    pub struct LogConfig {
        /// Filter, like `info` or `info,gatehouse::certificates=debug`. Whatever it says, the AWS SDK writes nothing below `info` and other
        /// libraries nothing below `debug`: bodies and keys are among it.
        filter: String = "info".into(),
        /// `text` or `json`.
        format: LogFormat = LogFormat::Text,
        /// One line per request.
        access: bool = true,
    }
}

/// A name of the static list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticDomain {
    /// The name, or `*.` and a suffix.
    pub name: Pattern,
    /// Its own target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// An ACME certificate authority (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// URL of its directory.
    pub directory: String,
    /// Contact of the account.
    pub email: String,
    /// PEM file of the root that signs the directory's own certificate; absent, the system's roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<PathBuf>,
}

impl Config {
    /// The Unix socket of the control interface.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.control.socket.clone().unwrap_or_else(|| self.state_directory.join("control.sock"))
    }
}

fn both_families(port: u16) -> Vec<SocketAddr> {
    vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}
