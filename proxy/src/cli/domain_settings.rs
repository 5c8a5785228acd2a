//! Options of `domain add` for what an entry sets for its name.

use clap::Args;

use crate::config::{DomainSettings, RequestRate, SiteRedirect, TlsVersion, UpstreamHost, WwwPair};

/// What is set for a name; what is absent is as in the existing entry.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DomainSettingsArguments {
    /// Oldest version of TLS that its clients may speak, `1.2` or `1.3`, if newer than `tls.minimum_version`; absent, as in the existing
    /// entry.
    #[arg(long, value_name = "VERSION")]
    minimum_tls: Option<TlsVersion>,
    /// Whose name and port its target reads in `Host`, `target` or `client`; absent, as in the existing entry, or `upstream.host`.
    #[arg(long, value_name = "WHOSE")]
    host: Option<UpstreamHost>,
    /// Where its requests are led with 308: `www`, to its name with `www.` in front; `apex`, to its name without; `off`, nowhere. Absent, as
    /// in the existing entry, or nowhere.
    #[arg(long, value_name = "WHERE")]
    redirect: Option<SiteRedirect>,
    /// What its name with `www.` in front gets, or, where it has that, the one without: `redirect`, its requests are led to this one with
    /// 308; `serve`, they are forwarded alike; `off`, it is not part of the entry. Absent, as in the existing entry, or `off`.
    #[arg(long, value_name = "WHAT")]
    www: Option<WwwPair>,
    /// How many of its requests an instance answers, like `100/s`, `100/s burst 500` or `off`; others get 429. Absent, as in the existing
    /// entry, or `limits.request_rate`.
    #[arg(long, value_name = "RATE")]
    request_rate: Option<RequestRate>,
    /// The same for the requests of one client (IPv4 /32, IPv6 /64). Absent, as in the existing entry, or `limits.client_request_rate`.
    #[arg(long, value_name = "RATE")]
    client_request_rate: Option<RequestRate>,
}

impl From<DomainSettingsArguments> for DomainSettings {
    fn from(arguments: DomainSettingsArguments) -> Self {
        let DomainSettingsArguments { minimum_tls, host, redirect, www, request_rate, client_request_rate } =
            arguments;
        Self { minimum_tls, host, maintenance: None, redirect, www, request_rate, client_request_rate }
    }
}
