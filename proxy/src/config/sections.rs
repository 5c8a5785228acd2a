//! Every setting, declared once.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    api::ApiConfig,
    compression::CompressionConfig,
    control::ControlConfig,
    enums::{
        Attach, Balance, Endpoint, GuardMode, Io, LogFormat, MetadataEndpoint, TlsVersion, UpstreamHost,
    },
    error_pages::ErrorPagesConfig,
    header_rule::HeaderRule,
    issuer::IssuerConfig,
    key_encryption::KeyEncryption,
    listen::ListenConfig,
    loop_id::LoopId,
    network::Network,
    parameter_name::ParameterName,
    quantity::{ByteSize, Span},
    request_rate::RequestRate,
    socket_prefix::SocketPrefix,
    static_domain::StaticDomain,
    tenant_quota::TenantQuota,
    upstream_tls::UpstreamTls,
    verification::VerificationConfig,
    webhook::EventsConfig,
    wildcard_certificate::WildcardCertificate,
};
use crate::{
    name::{Pattern, ServerName},
    target::{Target, TlsName},
};

section! {
    /// Gatehouse's settings. Durations are written `10s`, sizes `32KiB`.
    pub struct Config {
        /// Directory of the embedded store, the internal issuer's keys and the control socket.
        state_directory: PathBuf = PathBuf::from("gatehouse-state"),
        /// Name or ARN of a parameter of AWS Systems Manager. Its value is TOML like a file's and overrides all files: one place for
        /// the settings of a fleet.
        settings_parameter: Option<ParameterName> = None => "\"/gatehouse/fleet\"",
    }
    sections {
        listen: ListenConfig,
        worker: WorkerConfig,
        tls: TlsConfig,
        domains: DomainsConfig,
        verification: VerificationConfig,
        certificates: CertificatesConfig,
        events: EventsConfig,
        store: StoreConfig,
        instance: InstanceConfig,
        guard: GuardConfig,
        upstream: UpstreamConfig,
        headers: HeadersConfig,
        compression: CompressionConfig,
        error_pages: ErrorPagesConfig,
        limits: LimitsConfig,
        control: ControlConfig,
        api: ApiConfig,
        log: LogConfig,
    }
}

section! {
    /// The data plane's threads.
    pub struct WorkerConfig {
        /// Number of workers; 0 means one for each core this process may run on.
        threads: usize = 0,
        /// How workers do network I/O: `epoll`; `uring`, which fails where the kernel refuses `io_uring`; or `auto`, which is the one that
        /// was measured to take less time for the same work, now `epoll`.
        io: Io = Io::Auto,
        /// How long requests in flight may continue after SIGTERM; then they are cut off. New connections are accepted until no client
        /// has come for two seconds, for two thirds of this time at most; an instance without connections ends at once.
        drain_deadline: Span = Span::secs(30),
    }
}

section! {
    /// TLS with clients.
    pub struct TlsConfig {
        /// Oldest version of TLS that clients may speak, `1.2` or `1.3`; below it, alert 70.
        minimum_version: TlsVersion = TlsVersion::Tls12,
        /// The name that clients are taken to ask for that send none, as monitors and old devices do that connect to an address; it must be
        /// allowed like any other, and a `Host` that is an address stands for it. Absent, they get alert 112.
        default_name: Option<ServerName> = None => "\"www.example.com\"",
        /// Whether instances share the keys of session tickets through the state table, so that sessions resume at every instance and
        /// after a restart; else each process has keys of its own.
        share_tickets: bool = true,
        /// How long one key seals session tickets, from `10m` to `84h`. A ticket is valid for one to two such periods, and a key is
        /// in the table for three.
        ticket_key_period: Span = Span::secs(12 * 3600),
    }
}

section! {
    /// Which names may be served, and where their requests go.
    pub struct DomainsConfig {
        /// Target of domains that have no target of their own; absent, their requests are answered with 503.
        default_target: Option<Target> = None => "\"https://origin.example.com\"",
        /// Names served by these settings, each also as `[[domains.static]]` with `name` and optionally
        /// `target`, `host`, `maintenance`, `minimum_tls`, `redirect`, `www`, `request_rate` and `client_request_rate`.
        r#static: Vec<StaticDomain> = Vec::new()
            => "[{ name = \"www.example.com\", target = \"http://10.0.0.5:8080\" }]",
        /// Names of the operator that no entry of the table may have or share, beside `verification.edge_names`; what is there already stays.
        reserved: Vec<Pattern> = Vec::new() => "[\"console.example.com\", \"*.internal.example.com\"]",
        /// How long it is kept in the state table who changed which entry.
        audit_kept: Span = Span::secs(90 * 24 * 3600),
        /// Entries of the table that each tenant may have, `default` among them; absent, as many as it likes. What is there already stays.
        entries_per_tenant: Option<u32> = None => "100",
        /// The same for single tenants, each also as `[[domains.quotas]]`.
        quotas: Vec<TenantQuota> = Vec::new() => "[{ tenant = \"default\", entries = 100000 }]",
        /// Whether names in the domains table are served.
        table: bool = true,
        /// URL of the ask endpoint, for names in neither the static list nor the table: GET with `?domain=NAME`, 2xx allows. Absent,
        /// such names are denied.
        ask: Option<String> = None => "\"http://127.0.0.1:9000/check\"",
        /// How long the ask endpoint may take to answer; beyond it, the answer is unknown.
        ask_timeout: Span = Span::secs(2),
        /// Time between two reads of the domains table's changes while clients connect; each read is four calls.
        poll: Span = Span::secs(1),
        /// Time between two reads of the domains table's changes when no client has connected for twice as long; the first client, even one that the
        /// guard rejects, starts `domains.poll` again.
        idle_poll: Span = Span::secs(30),
        /// How long a permission from the ask endpoint, or from a table entry outside the feed, is used before its source is asked
        /// again.
        allow_ttl: Span = Span::secs(60),
        /// How long after `domains.allow_ttl` such a permission is still used while its source is asked again in the background.
        stale_ttl: Span = Span::secs(24 * 3600),
        /// How long a denial is used before the sources are asked again.
        deny_ttl: Span = Span::secs(10),
        /// Look-ups per second of names that are not in memory; twice as many may come at once. Beyond it, the answer for such names is
        /// unknown.
        lookups_per_second: u32 = 50,
        /// Look-ups per second that one client address (IPv4 /32, IPv6 /64) may cause; beyond it, the answer is unknown.
        lookups_per_source_per_second: u32 = 10,
    }
}

section! {
    /// Where certificates come from.
    pub struct CertificatesConfig {
        /// ACME issuers in order of preference, each also as `[[certificates.issuers]]` with `directory`, `email` and optionally
        /// `roots`, `eab`, `profile` and `preferred_chain`. Empty means the internal issuer, for trials.
        issuers: Vec<IssuerConfig> = Vec::new()
            => "[{ directory = \"https://acme-v02.api.letsencrypt.org/directory\", email = \"operator@example.com\" }]",
        /// URLs of ACME directories whose certificates in the table are presented, and from which nothing is ordered: those that
        /// another program of the fleet orders from. Variables of a Caddy fleet add `ZeroSSL`, Caddy's second issuer.
        also_read: Vec<String> = Vec::new() => "[\"https://acme.zerossl.com/v2/DV90\"]",
        /// Wildcards for which one certificate is ordered, by a TXT record in Route 53 (dns-01), and served to every allowed name below
        /// them; each also as `[[certificates.wildcards]]` with `name`, `zone` (the hosted zone's id) and, where `_acme-challenge.NAME` is a
        /// CNAME into that zone, `record` (where it leads to). For names below other wildcards each has a certificate of its own.
        wildcards: Vec<WildcardCertificate> = Vec::new()
            => "[{ name = \"*.app.example.com\", zone = \"Z0123456789ABCDEFGHIJ\" }]",
        /// How long a handshake waits for a certificate that is being obtained; beyond it, alert 80.
        wait: Span = Span::secs(25),
        /// Handshakes that may wait for the certificate of one name; beyond it, alert 80.
        waiters_per_name: usize = 256,
        /// Handshakes that may wait for certificates in total; beyond it, alert 80.
        waiters: usize = 4096,
        /// Orders for new names that an instance has under way at once; a tenant, or a registered domain without one, may have as many as
        /// are left for others. Beyond it, they wait, as many as `certificates.waiters`.
        concurrent_orders: usize = 64,
        /// Certificates kept in memory; beyond it, the least used are dropped and read from the table when needed.
        cached: u64 = 100_000,
        /// How long an instance may order for a name before it must renew its lease. After a crash, other instances wait at most this
        /// long.
        lease: Span = Span::secs(60),
        /// How long an order may take at once; beyond it, the name backs off, and an order that the CA is still validating or issuing is gone
        /// on with then.
        order_deadline: Span = Span::secs(90),
        /// Orders that the fleet may place with one ACME issuer in three hours, those that it exempts apart (Let's Encrypt: 300, except
        /// for renewals that say which certificate they replace). A sixth is kept for renewals, half of it from them. Beyond it, they
        /// wait.
        orders_per_three_hours: u64 = 300,
        /// Renewals that the fleet may order from one ACME issuer in an hour, exempted or not. Beyond it, they wait.
        renewals_per_hour: u64 = 1000,
        /// Orders that the fleet may place in an hour for names whose last order failed, so that names that are set up wrongly leave the
        /// rest to others; beyond it, they wait.
        retries_per_hour: u64 = 25,
        /// Orders that the fleet may place in three hours for the new names of one tenant, except the tenant `default`; beyond it, they
        /// wait.
        orders_per_tenant: u64 = 100,
        /// Orders that the fleet may place in an hour for names under one wildcard entry; beyond it, they wait.
        orders_per_wildcard: u64 = 20,
        /// Orders for names under wildcard entries that one client address (IPv4 /32, IPv6 /64) may cause in the fleet in an hour;
        /// beyond it, they wait.
        orders_per_source: u64 = 10,
        /// Orders that the fleet may place for the names of one registered domain in seven days, those that fail apart (Let's Encrypt: 50).
        /// Beyond it, they wait.
        orders_per_registered_domain: u64 = 50,
        /// Orders of one name that may fail at the CA in an hour, whatever `gatehouse certificate retry` is asked to forget (Let's
        /// Encrypt: 5).
        failures_per_hour: u32 = 5,
        /// Time between two searches for certificates that are due for renewal.
        renewal_period: Span = Span::secs(60),
        /// Lifetime of certificates from the internal issuer.
        internal_life: Span = Span::secs(7 * 24 * 3600),
        /// Whether Caddy may use the certificate table too: then private keys must be stored as Caddy stores them, in clear. `false` goes
        /// with `store.key_encryption`.
        shared_with_caddy: bool = true,
    }
}

section! {
    /// Where the state of the fleet is stored.
    pub struct StoreConfig {
        /// `embedded` (for one instance, in the state directory), `aws`, or the URL of a DynamoDB-compatible endpoint.
        endpoint: Endpoint = Endpoint::Embedded,
        /// AWS region of the tables; absent, that of `AWS_REGION`, of the AWS profile, or of the EC2 instance, in this order.
        region: Option<String> = None => "\"eu-central-1\"",
        /// Name of the table of certificates, ACME accounts, challenges and locks, in Caddy's format.
        certificates_table: String = "gatehouse-certificates".into(),
        /// Name of the table of domain entries.
        domains_table: String = "gatehouse-domains".into(),
        /// Name of the table of Gatehouse's own state: records of names, budgets, pauses.
        state_table: String = "gatehouse-state".into(),
        /// Which key encrypts private keys and keys of session tickets and setup links in the tables: `off` (none), `file:PATH` (a file of keys, each the
        /// base64 of 32 bytes on a line), or `kms:KEY` (ARN or alias of an AWS KMS key). With a key, Caddy cannot use the table.
        key_encryption: KeyEncryption = KeyEncryption::Off => "\"kms:alias/gatehouse\"",
        /// Directory of an encrypted copy of what the instance has served lately, which it serves by when it starts while the tables do not answer;
        /// absent, there is none. It is encrypted by the key of `store.key_encryption`.
        local_copy: Option<PathBuf> = None => "\"/var/lib/gatehouse/copy\"",
        /// The most that is copied, about; names that were used last are, as far as it goes.
        local_copy_size: ByteSize = ByteSize::kib(64 << 10),
        /// How long one call to a table may take, retries included; beyond it, it fails.
        timeout: Span = Span::secs(5),
    }
}

section! {
    /// The EC2 instance this runs on: its identity, its region, and whether its Auto Scaling group is terminating it.
    pub struct InstanceConfig {
        /// Where the metadata service (`IMDSv2`) is: `auto` (EC2's, if the firmware says that this is an EC2 machine), `off`, or the
        /// URL of another endpoint. To take credentials from that endpoint too, set `AWS_EC2_METADATA_SERVICE_ENDPOINT` instead.
        metadata: MetadataEndpoint = MetadataEndpoint::Auto,
        /// Time between two questions to the metadata service whether the Auto Scaling group is terminating this instance.
        lifecycle_poll: Span = Span::secs(5),
    }
}

section! {
    /// The XDP program that rejects unknown names in the kernel.
    pub struct GuardConfig {
        /// Network interfaces to guard; empty means the guard is off.
        interfaces: Vec<String> = Vec::new() => "[\"eth0\"]",
        /// XDP mode: `native` needs a driver with XDP; `generic` works with any driver, but is slower.
        attach: Attach = Attach::Native,
        /// What happens to names that are neither allowed nor denied: `observe` passes and counts them, `adaptive` passes them within
        /// `guard.unknown_per_second`, `strict` rejects them.
        mode: GuardMode = GuardMode::Adaptive,
        /// Directory in which maps and links are pinned; if it has no bpffs, one is mounted.
        pin_path: PathBuf = PathBuf::from("/run/gatehouse/bpf"),
        /// TCP ports whose ClientHellos are judged, whatever their address, as behind a translation of addresses; empty means the ports of
        /// `listen.https`, at its addresses. With one that is not among those, packets to port 80 are judged by their source, too.
        hello_ports: Vec<u16> = Vec::new() => "[443]",
        /// Networks whose packets to the guarded ports are dropped, at most 131,072; in `observe` mode they are counted and pass.
        deny: Vec<Network> = Vec::new() => "[\"198.51.100.0/24\", \"2001:db8:bad::/48\"]",
        /// Networks whose packets are not dropped for their source: parts of a network of `guard.deny`, and those whose one address stands
        /// for many clients and would use up `guard.syns_per_source_per_second` and `guard.unknown_per_source_per_second`, as of a CDN or a
        /// load balancer.
        exempt: Vec<Network> = Vec::new() => "[\"203.0.113.0/24\"]",
        /// New connections (SYNs) to the guarded ports that one source may ask for per second, an IPv4 address or an IPv6 /64; beyond it,
        /// they are dropped in the kernel, and in `observe` mode counted. Absent, there is no limit.
        syns_per_source_per_second: Option<u32> = None => "50",
        /// New connections that one source may ask for at once, after a time without any.
        syns_per_source_burst: u32 = 200,
        /// Names that the kernel's map can hold; with more, nothing is rejected any more.
        names: u32 = 1_000_000,
        /// ClientHellos with unknown names that pass to user space per second in `adaptive` mode; beyond it, they are rejected.
        unknown_per_second: u32 = 50,
        /// ClientHellos with unknown names that may pass at once in `adaptive` mode, after a time without any.
        unknown_burst: u32 = 200,
        /// How many of these one source may cause per second, an IPv4 address or an IPv6 /64: so that one client with names of its own spends no
        /// other's. `guard.exempt` names those whose one address stands for many clients.
        unknown_per_source_per_second: u32 = 10,
        /// How many of these one source may cause at once, after a time without any.
        unknown_per_source_burst: u32 = 50,
        /// TCP resets that each CPU sends to clients per second; beyond it, their segments are dropped.
        resets_per_second: u32 = 10_000,
        /// Rejected ClientHellos per second of which the kernel tells name and source, for `gatehouse guard top` and the log, at most 1000; 0
        /// tells of none.
        sampled_rejections: u32 = 10,
        /// How long the guard rejects a name that user space has denied, at most `domains.deny_ttl`; absent, as long as that.
        denial_ttl: Option<Span> = None => "\"5s\"",
    }
}

section! {
    /// Connections to targets.
    pub struct UpstreamConfig {
        /// How long connecting to a target may take, TLS included; beyond it, 504.
        connect_timeout: Span = Span::secs(5),
        /// Time from the end of a request to the header section of the target's response; beyond it, 504. A request that says
        /// it is a call of gRPC, to an endpoint over HTTP/2, may take `limits.tunnel_idle`.
        response_timeout: Span = Span::secs(60),
        /// How long a connection to a target is kept unused before it is closed.
        idle: Span = Span::secs(60),
        /// How long a connection to a target is used for further requests: a target that moves to other machines gets its requests there.
        connection_life: Span = Span::secs(3600),
        /// Time between two checks of an endpoint that has `;health=/path` behind it, while requests are sent to its target.
        check_interval: Span = Span::secs(5),
        /// How long such a check may take. One that ends with 2xx or 3xx in time has passed; after three that have not, other
        /// endpoints get the requests, until two in a row have passed.
        check_timeout: Span = Span::secs(2),
        /// Which endpoint of a target a request goes to: `least-requests` (of two at random, the one with fewer requests) or
        /// `client-address` (the same for each client address, IPv4 /32, IPv6 /64, while it answers).
        balance: Balance = Balance::LeastRequests,
        /// Whose name and port targets read in `Host`, for domains that say nothing of it: `target` (the endpoint's own) or `client` (those
        /// that the client named, for an origin that tells its sites apart by them).
        host: UpstreamHost = UpstreamHost::Target,
        /// Concurrent requests to all targets; less where file descriptors or memory are fewer. Beyond it, 503.
        connections: usize = 20_000,
        /// Concurrent requests to one target, and never more than are left for all others; beyond it, 503.
        connections_per_target: usize = 4_096,
        /// Concurrent requests to targets from one client address (IPv4 /32, IPv6 /64), and never more than are left for all others;
        /// beyond it, 503.
        connections_per_source: usize = 256,
        /// Requests under way at each endpoint of a target, at each of its addresses, unless it has `;max_requests=N` behind it; absent, as many
        /// as `upstream.connections_per_target` lets. One beyond it goes to another endpoint, or waits until one ends.
        max_requests: Option<u32> = None => "100",
        /// Connections open to each endpoint over HTTP/1.1, unused ones among them, at each of its addresses, unless it has
        /// `;max_connections=N` behind it; absent, as many as there are requests. Each carries one request at a time, and those that check
        /// health are not counted.
        max_connections: Option<u32> = None => "100",
        /// Requests that wait at each endpoint that has as many as it may, unless it has `;max_pending=N` behind it; beyond it, 503. With 0 none
        /// waits.
        max_pending: u32 = 100,
        /// How long a request waits for an endpoint that has as many as it may; beyond it, 503.
        pending_timeout: Span = Span::secs(1),
        /// Unused connections kept open per target and worker; further ones are closed.
        idle_per_target: usize = 64,
        /// PEM file of root certificates for `https://` targets, in addition to the system's.
        roots: Option<PathBuf> = None => "\"/etc/gatehouse/upstream-roots.pem\"",
        /// How `https://` endpoints with `;tls=NAME` are spoken to, each also as `[upstream.tls.NAME]` with `roots` (PEM file of the only
        /// roots trusted), `certificate` and `key` (PEM files that are presented), `server_name` (in place of the endpoint's host) and
        /// `entries` (whether targets of domain entries may use it), all optional.
        tls: BTreeMap<TlsName, UpstreamTls> = BTreeMap::new()
            => "{ inside = { roots = \"/etc/gatehouse/inside.pem\", certificate = \"/etc/gatehouse/proxy.crt\", key = \"/etc/gatehouse/proxy.key\" } }",
        /// Networks that targets may be in although they are loopback, link-local, metadata or forbidden addresses.
        permitted_networks: Vec<Network> = Vec::new() => "[\"127.0.0.0/8\"]",
        /// Unix sockets that targets of domain entries may be at (`unix:/run/apps/shop.sock`): directories with a final `/`, for all below
        /// them, or sockets. Targets of these settings may be at any.
        permitted_sockets: Vec<SocketPrefix> = Vec::new() => "[\"/run/apps/\"]",
        /// Networks that targets of domain entries must not be in, such as your private ones; `upstream.permitted_networks` overrides
        /// it.
        forbidden_networks: Vec<Network> = Vec::new() => "[\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\"]",
        /// Public addresses of the fleet, such as its accelerator's; requests whose target is there are answered with 508.
        edge_addresses: Vec<Network> = Vec::new() => "[\"192.0.2.10/32\", \"192.0.2.20/32\"]",
        /// Names of the fleet to which customers point theirs; requests whose target has such a name are answered with 508.
        edge_names: Vec<Pattern> = Vec::new() => "[\"edge.example.com\"]",
        /// The fleet's name in the `CDN-Loop` field. Requests that already carry it are answered with 508. Absent, each process uses a
        /// name of its own.
        loop_id: Option<LoopId> = None => "\"edge.example.com\"",
    }
}

section! {
    /// Rules for header fields, for all domains: `set NAME: VALUE` in place of what is there, `add NAME: VALUE` beside it, `remove NAME`.
    /// In a value stand `{host}`, `{client.address}`, `{tls.version}`, `{server_name}`, `{tenant}` and `{request_id}`; `{{` and `}}` are braces.
    pub struct HeadersConfig {
        /// Rules for requests, applied in their order before a request goes to its target.
        request: Vec<HeaderRule> = Vec::new() => "[\"set X-Tenant: {tenant}\", \"remove Accept-Encoding\"]",
        /// Rules for responses over HTTPS, error pages included, applied in their order before a response goes to its client.
        response: Vec<HeaderRule> = Vec::new() => "[\"set Strict-Transport-Security: max-age=31536000\", \"remove Server\"]",
    }
}

section! {
    /// What clients may use. Limits per source count by client address (IPv4 /32, IPv6 /64).
    pub struct LimitsConfig {
        /// Open connections in total; beyond it, new ones are closed at once.
        connections: usize = 100_000,
        /// Open connections from one client address (IPv4 /32, IPv6 /64); beyond it, new ones are closed at once.
        connections_per_source: usize = 2_000,
        /// Memory that this process may use; absent, `memory.max` of its cgroup alone. From three quarters of it on, streams that hold
        /// most are ended; from nine tenths on, connections are refused.
        memory: Option<ByteSize> = None => "\"384MiB\"",
        /// Memory for response data that clients have not read yet; beyond it, each request may hold 8 KiB.
        response_buffers: ByteSize = ByteSize::kib(64 * 1024),
        /// Time from the start of a connection to its complete ClientHello; beyond it, the connection is closed.
        hello_timeout: Span = Span::secs(5),
        /// How long the rest of the handshake may take, the wait for a certificate not counted; beyond it, the connection is closed.
        handshake_timeout: Span = Span::secs(5),
        /// How long a request's header section may take to arrive; beyond it, the connection is closed.
        header_timeout: Span = Span::secs(10),
        /// Size of a request's header section; beyond it, 431.
        header_size: ByteSize = ByteSize::kib(32),
        /// Number of fields in a request's header section; beyond it, 431.
        header_fields: usize = 128,
        /// How long a connection may have no request; beyond it, it is ended. A body without progress is ended within twice this time.
        idle: Span = Span::secs(60),
        /// How long a connection that carries another protocol, such as WebSocket, may pass nothing, and a gRPC call nothing in one
        /// direction; beyond it, it is ended.
        tunnel_idle: Span = Span::secs(600),
        /// Slowest rate of a body in either direction, in bytes per second averaged over `limits.idle`; a slower request is ended.
        minimum_rate: u64 = 240,
        /// Requests for one domain that an instance answers, like `1000/s burst 5000`, unless its entry says another; beyond it, 429.
        request_rate: Option<RequestRate> = None => "\"1000/s burst 5000\"",
        /// Requests for one domain by one client (IPv4 /32, IPv6 /64) that an instance answers, like `50/s burst 500`, unless its entry says
        /// another; beyond it, 429.
        client_request_rate: Option<RequestRate> = None => "\"50/s burst 500\"",
        /// Concurrent streams of an HTTP/2 connection; beyond it, new streams are refused.
        http2_streams: u32 = 100,
        /// Requests that a client may give up on an HTTP/2 connection, a minute, and other resets that it may cause; beyond it, the connection
        /// is closed. What clients of a trusted proxy give up is not counted.
        http2_resets: usize = 500,
        /// HTTP/2 flow-control window of a stream: body bytes that a client may send ahead.
        http2_stream_window: ByteSize = ByteSize::kib(64),
        /// HTTP/2 flow-control window of a connection: body bytes that a client may send ahead on all its streams.
        http2_connection_window: ByteSize = ByteSize::kib(1024),
    }
}

section! {
    /// Logs, written to stderr.
    pub struct LogConfig {
        /// Log filter, like `info` or `info,gatehouse::certificates=debug`. To keep bodies and keys out of the log, the AWS SDK never
        /// logs below `info`, and other libraries never below `debug`.
        filter: String = "info".into(),
        /// Log format: `text` or `json`.
        format: LogFormat = LogFormat::Text,
        /// Whether to write one line per request.
        access: bool = true,
    }
}

impl Config {
    /// The Unix socket of the control interface.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.control.socket.clone().unwrap_or_else(|| self.state_directory.join("control.sock"))
    }
}
