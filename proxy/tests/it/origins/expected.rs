//! What an origin must have read of a request, given what its client meant.

use std::{borrow::Cow, collections::BTreeMap};

use anyhow::{Context, ensure};
use testbed::{
    network::CLIENT,
    origin::{Reading, Server, sha256},
};

use super::{differences, message::Message, reference::options};

/// Where a request was sent: by which name, and to which origin.
pub(super) struct Route {
    pub(super) server: Server,
    pub(super) host: String,
    /// The origin's address, as Host has it.
    pub(super) authority: String,
}

/// Fails with what differs from what `message` means.
pub(super) fn check(message: &Message, reading: &Reading, route: &Route) -> anyhow::Result<()> {
    ensure!(reading.method == message.method, "method {:?} for {:?}", reading.method, message.method);
    let meant = encoded(&message.target);
    let target = differences::told_target(route.server, &meant);
    ensure!(reading.target == target, "target {:?} for {target:?}", reading.target);
    let length = message.body.len() as u64;
    ensure!(
        (reading.bytes, &reading.sha256) == (length, &sha256(&message.body)),
        "{} bytes for {length}",
        reading.bytes
    );
    let (mut expected, mut read) =
        (differences::told(route.server, forwarded(message, route)), read(reading));
    check_loop_mark(&mut read, route.server)?;
    check_request_id(&mut read, route.server)?;
    if route.server.fields_are_variables() {
        (expected, read) = (as_variables(expected), as_variables(read));
    }
    ensure!(read == expected, "{}", difference(&expected, &read));
    Ok(())
}

/// The target as it is written for the origin: what has no place in one is encoded, where the library that reads it refuses it.
fn encoded(target: &str) -> Cow<'_, str> {
    if target.parse::<http::Uri>().is_ok() {
        return target.into();
    }
    let codes = [('"', "%22"), ('<', "%3C"), ('>', "%3E"), ('`', "%60")];
    codes.into_iter().fold(target.to_owned(), |target, (letter, code)| target.replace(letter, code)).into()
}

type Fields = BTreeMap<String, Vec<String>>;

/// The fields that reach an origin: without those of one connection (RFC 9110 §7.6.1) and a client's claims, and with ours.
fn forwarded(message: &Message, route: &Route) -> Fields {
    let nominated: Vec<String> = options(&message.fields).map(str::to_ascii_lowercase).collect();
    let mut fields = Fields::new();
    for (name, value) in &message.fields {
        if !HOP_BY_HOP.contains(&name.as_str()) && !nominated.contains(name) && !is_claim(name) {
            fields.entry(name.clone()).or_default().push(value.clone());
        }
    }
    let mut codings = message.values("te").flat_map(|value| value.split(','));
    if codings.any(|coding| coding.trim_matches([' ', '\t']).eq_ignore_ascii_case("trailers")) {
        // RFC 9110 §10.1.4.
        fields.insert("te".to_owned(), vec!["trailers".to_owned()]);
        fields.insert("connection".to_owned(), vec!["te".to_owned()]);
    }
    if let Some(cookies) = fields.get_mut("cookie") {
        // RFC 9113 §8.2.3.
        *cookies = vec![cookies.join("; ")];
    }
    let port = message.values("host").find_map(|host| host.split_once(':'));
    let port = port.map(|(_, port)| port.trim_start_matches('0')).filter(|port| !["", "443"].contains(port));
    let forwarded_host = port.map_or_else(|| route.host.clone(), |port| format!("{}:{port}", route.host));
    for (name, value) in [
        ("host", route.authority.clone()),
        ("user-custom-domain", route.host.clone()),
        ("x-forwarded-for", CLIENT.to_string()),
        ("x-forwarded-proto", "https".to_owned()),
        ("x-forwarded-host", forwarded_host),
        ("x-forwarded-port", "443".to_owned()),
    ] {
        fields.insert(name.to_owned(), vec![value]);
    }
    fields
}

/// The fields that were read, without those that tell how long the body is, since the body itself tells better, and without Expect: it goes on
/// only if nothing of the body came with the header section.
fn read(reading: &Reading) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in &reading.fields {
        let name = name.to_ascii_lowercase();
        if !["content-length", "content_length", "transfer-encoding", "transfer_encoding", "expect"]
            .contains(&name.as_str())
        {
            fields.entry(name).or_default().push(value.clone());
        }
    }
    fields
}

/// Takes our own mark, behind what was there before (RFC 8586 §2), out of what was read.
fn check_loop_mark(fields: &mut Fields, server: Server) -> anyhow::Result<()> {
    let name = if server.fields_are_variables() { "cdn_loop" } else { "cdn-loop" };
    let values = fields.get_mut(name).context("no CDN-Loop")?;
    let last = values.pop().context("an empty CDN-Loop")?;
    let (before, mark) =
        last.rsplit_once(',').map_or((None, last.as_str()), |(before, mark)| (Some(before), mark));
    ensure!(mark.trim_start().starts_with("gatehouse;process="), "CDN-Loop ends with {mark:?}");
    values.extend(before.map(str::to_owned));
    if values.is_empty() {
        fields.remove(name);
    }
    Ok(())
}

/// Takes the id that we gave the request out of what was read.
fn check_request_id(fields: &mut Fields, server: Server) -> anyhow::Result<()> {
    let name = if server.fields_are_variables() { "x_request_id" } else { "x-request-id" };
    let values = fields.remove(name).context("no X-Request-Id")?;
    let [id] = values.as_slice() else { anyhow::bail!("X-Request-Id is {values:?}") };
    let is_ours = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_ours, "X-Request-Id is {id:?}");
    Ok(())
}

/// RFC 3875 §4.1.18, and lists as one line (RFC 9110 §5.3).
fn as_variables(fields: Fields) -> Fields {
    let mut variables = Fields::new();
    for (name, values) in fields {
        let name: String = name.chars().map(|letter| if letter == '-' { '_' } else { letter }).collect();
        variables.entry(name).or_default().extend(values);
    }
    for values in variables.values_mut() {
        let elements: Vec<_> = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(|element| element.trim_matches([' ', '\t']))
            .collect();
        *values = vec![elements.join(",")];
    }
    variables
}

fn difference(expected: &Fields, read: &Fields) -> String {
    let only = |these: &Fields, others: &Fields| {
        let missing = these.iter().filter(|(name, values)| others.get(*name) != Some(values));
        missing.map(|(name, values)| format!("{name}: {values:?}")).collect::<Vec<_>>().join("; ")
    };
    format!("fields expected [{}], read [{}]", only(expected, read), only(read, expected))
}

fn is_claim(name: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.starts_with("xforwarded")
        || ["forwarded", "usercustomdomain", "xrealip", "xrequestid"].contains(&letters.as_str())
}

const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];
