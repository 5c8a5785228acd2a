//! One line per request, written by a thread of its own so that no worker waits for stderr.

use std::{
    fmt::{self, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{Lines, RequestId};
use crate::{config::LogFormat, target::EndpointAddress};

/// What is said of a request.
#[derive(Debug)]
pub struct AccessEntry<'a> {
    /// By which it is known elsewhere.
    pub id: &'a RequestId,
    /// When its header section was read.
    pub at: SystemTime,
    /// Who sent it.
    pub client: SocketAddr,
    /// The host it was for; untrusted text, escaped when written.
    pub server_name: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'static str,
    /// Its method.
    pub method: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// The status answered.
    pub status: u16,
    /// Body bytes received.
    pub received_bytes: u64,
    /// Body bytes sent.
    pub sent_bytes: u64,
    /// From the request's header section to the last byte of the response.
    pub duration: Duration,
    /// From the request's header section to the upstream's, if there was one.
    pub upstream_duration: Option<Duration>,
    /// What ended it, as the metric of requests names it.
    pub outcome: &'static str,
    /// `TLSv1.3` and so on; none in cleartext.
    pub tls: Option<&'static str>,
    /// Where the upstream that answered is.
    pub upstream: Option<&'a EndpointAddress>,
    /// What the client calls itself (RFC 9110 §10.1.5), as far as it is kept.
    pub user_agent: Option<&'a str>,
}

/// Where entries go; cheap to clone.
#[derive(Clone)]
pub struct AccessLog(Option<Arc<Writer>>);

struct Writer {
    lines: Lines,
    format: LogFormat,
    wanted: AtomicBool,
}

/// Whether entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogging {
    /// They are.
    Yes,
    /// They are not.
    No,
}

impl AccessLog {
    /// Writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Writes one line of `format` per entry.
    #[must_use]
    pub fn start(lines: Lines, format: LogFormat) -> Self {
        Self(Some(Arc::new(Writer { lines, format, wanted: AtomicBool::new(true) })))
    }

    /// Writes entries from now on, or none.
    pub fn want(&self, wanted: AccessLogging) {
        if let Some(writer) = &self.0 {
            writer.wanted.store(wanted == AccessLogging::Yes, Ordering::Relaxed);
        }
    }

    /// Whether there is a log that lines are for.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.as_deref().is_some_and(|writer| writer.wanted.load(Ordering::Relaxed))
    }

    /// Queues the line; when the writer lags behind, the line is dropped and counted.
    pub fn record(&self, entry: &AccessEntry<'_>) {
        let Some(writer) = self.0.as_deref().filter(|writer| writer.wanted.load(Ordering::Relaxed)) else {
            return;
        };
        let line = match writer.format {
            LogFormat::Text => entry.text(),
            LogFormat::Json => entry.json(),
        };
        writer.lines.push(line.into_bytes());
    }
}

impl AccessEntry<'_> {
    fn text(&self) -> String {
        let mut line = format!(
            "{at} request {client} \"{method} {scheme}://{server_name}{path} {protocol}\" {status} {outcome} id={id} received={received} sent={sent} seconds={seconds:.6}",
            at = instant(self.at),
            client = self.client,
            method = Stranger(self.method),
            scheme = self.scheme,
            server_name = Stranger(self.server_name),
            path = Stranger(self.path),
            protocol = self.protocol,
            status = self.status,
            outcome = self.outcome,
            id = self.id,
            received = self.received_bytes,
            sent = self.sent_bytes,
            seconds = self.duration.as_secs_f64(),
        );
        if let Some(upstream) = self.upstream_duration {
            let _ = write!(line, " upstream_seconds={:.6}", upstream.as_secs_f64());
        }
        if let Some(upstream) = self.upstream {
            let _ = write!(line, " upstream={upstream}");
        }
        if let Some(tls) = self.tls {
            let _ = write!(line, " tls={tls}");
        }
        if let Some(user_agent) = self.user_agent {
            let _ = write!(line, " user_agent=\"{}\"", Stranger(user_agent));
        }
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let line = serde_json::json!({
            "timestamp": instant(self.at),
            "level": "INFO",
            "message": "request",
            "id": self.id.to_string(),
            "client": self.client,
            "server_name": Stranger(self.server_name).to_string(),
            "scheme": self.scheme,
            "protocol": self.protocol,
            "method": Stranger(self.method).to_string(),
            "path": Stranger(self.path).to_string(),
            "status": self.status,
            "outcome": self.outcome,
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
            "seconds": self.duration.as_secs_f64(),
            "upstream_seconds": self.upstream_duration.map(|upstream| upstream.as_secs_f64()),
            "upstream": self.upstream.map(ToString::to_string),
            "tls": self.tls,
            "user_agent": self.user_agent.map(|user_agent| Stranger(user_agent).to_string()),
        });
        format!("{line}\n")
    }
}

/// Untrusted text: printable ASCII stays, all else is escaped, and it is cut after [`LONGEST`] characters.
struct Stranger<'a>(&'a str);

impl fmt::Display for Stranger<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(LONGEST) {
            match c {
                '"' | '\\' => write!(f, "{}", c.escape_default())?,
                c if c.is_ascii_graphic() => f.write_char(c)?,
                c => write!(f, "{}", c.escape_unicode())?,
            }
        }
        if self.0.chars().nth(LONGEST).is_some() { f.write_str("...") } else { Ok(()) }
    }
}

fn instant(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(INSTANT).unwrap_or_default()
}

const INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::telemetry::lines::tests::Kept;

    const UPSTREAM: EndpointAddress =
        EndpointAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 8080));

    fn entry<'a>(id: &'a RequestId, method: &'a str, path: &'a str) -> AccessEntry<'a> {
        AccessEntry {
            id,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_487_294_123),
            client: "[2001:db8::1]:5123".parse().unwrap(),
            server_name: "www.example.com",
            scheme: "https",
            protocol: "HTTP/2.0",
            method,
            path,
            status: 200,
            received_bytes: 0,
            sent_bytes: 1234,
            duration: Duration::from_micros(12_345),
            upstream_duration: Some(Duration::from_millis(10)),
            outcome: "served",
            tls: Some("TLSv1.3"),
            upstream: Some(&UPSTREAM),
            user_agent: Some("curl/8 \"x\"\n"),
        }
    }

    fn recorded(format: LogFormat, entry: &AccessEntry<'_>) -> String {
        let kept = Kept::default();
        let lines = Lines::start(kept.clone()).unwrap();
        AccessLog::start(lines.clone(), format).record(entry);
        lines.flush(Duration::from_secs(10));
        kept.text()
    }

    #[test]
    fn a_request_is_one_line() {
        assert_eq!(
            recorded(LogFormat::Text, &entry(&RequestId::numbered(0xab), "GET", "/a")),
            "2026-11-24T02:28:14.123000Z request [2001:db8::1]:5123 \"GET https://www.example.com/a HTTP/2.0\" 200 served \
             id=00000000000000ab received=0 sent=1234 seconds=0.012345 upstream_seconds=0.010000 \
             upstream=10.0.0.5:8080 tls=TLSv1.3 user_agent=\"curl/8\\u{20}\\\"x\\\"\\u{a}\"\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&recorded(LogFormat::Json, &entry(&RequestId::numbered(0xab), "GET", "/a")))
                .unwrap();
        assert_eq!(
            (&json["path"], &json["status"], &json["outcome"], &json["id"]),
            (&"/a".into(), &200.into(), &"served".into(), &"00000000000000ab".into())
        );
        assert_eq!((&json["tls"], &json["upstream"]), (&"TLSv1.3".into(), &"10.0.0.5:8080".into()));
        assert_eq!(json["user_agent"], r#"curl/8\u{20}\"x\"\u{a}"#);
    }

    #[test]
    fn what_a_stranger_writes_stays_inside_its_field() {
        for (path, kept) in [
            ("/a\n2026-11-24 forged", r"/a\u{a}2026-11-24\u{20}forged"),
            ("/\u{1b}[31mred", r"/\u{1b}[31mred"),
            ("/\" 200 \"", r#"/\"\u{20}200\u{20}\""#),
            ("/\u{202e}gnp", r"/\u{202e}gnp"),
            ("/\\n", r"/\\n"),
        ] {
            let line = recorded(LogFormat::Text, &entry(&RequestId::numbered(0xab), "GET", path));
            assert!(line.contains(&format!("https://www.example.com{kept} HTTP/2.0")), "{path:?}: {line}");
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            let json: serde_json::Value = serde_json::from_str(&recorded(
                LogFormat::Json,
                &entry(&RequestId::numbered(0xab), "GET", path),
            ))
            .unwrap();
            assert_eq!(json["path"], kept, "{path:?}");
        }
        let long = recorded(LogFormat::Text, &entry(&RequestId::numbered(0xab), "GET", &"/x".repeat(50_000)));
        assert!(long.len() < 2 * LONGEST, "{} bytes", long.len());
    }
}
