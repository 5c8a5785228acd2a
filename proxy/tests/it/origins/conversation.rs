//! One client beside one origin: each case, and the sentinel that follows it over the same upstream connection.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::{Context, anyhow, ensure};
use rustls::ClientConfig;
use testbed::{
    namespace::Namespace,
    origin::{self, Readings},
};

use super::{
    client::{Answer, Author, Client},
    differences::{BREAKS, Met},
    draft::Draft,
    expected::{self, Route},
    generate::{Case, Made},
    http2::Http2,
    message::{Message, Tail, latin1},
    reference::{self, Reading},
};

/// Where it takes place.
pub(super) struct Conversation<'a> {
    pub(super) route: Route,
    pub(super) namespace: &'a Namespace,
    pub(super) to: SocketAddr,
    pub(super) config: Arc<ClientConfig>,
    pub(super) met: &'a Met,
    pub(super) client: Option<Client>,
    pub(super) http2: Http2,
    /// The upstream connection of the last request.
    pub(super) connection: Option<String>,
    pub(super) tally: Tally,
}

/// What came of the cases of a conversation.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) cases: u64,
    /// Requests that the origin's program read.
    pub(super) read: u64,
    /// Requests that the origin refused or answered without its program.
    pub(super) answered_by_server: u64,
    /// Requests that Gatehouse answered.
    pub(super) answered_by_us: u64,
    /// Cases that ended within a request, of which a server may have answered the beginning.
    pub(super) unfinished: u64,
    pub(super) sentinels: u64,
    /// Sentinels that came over the upstream connection of what was before them.
    pub(super) on_same_connection: u64,
}

/// The answers to a case's requests, in order.
struct Answered<'a> {
    message: &'a Message,
    answer: Answer,
    author: Author,
}

impl Conversation<'_> {
    /// Sends a case and its sentinel, and checks what the origin read.
    pub(super) fn hold(&mut self, case: &Case) -> anyhow::Result<()> {
        self.tally.cases += 1;
        let (outcome, sent) = match case {
            Case::Bytes { made, bytes, cuts, waits_at } => {
                let shown = bytes.get(..MOST_SHOWN).unwrap_or(bytes).escape_ascii();
                (self.bytes(*made, bytes, cuts, *waits_at), format!("{made:?} b\"{shown}\""))
            }
            Case::Http2(draft) => {
                let message = draft_message(draft, &self.route.host);
                (self.http2(draft, &message), format!("HTTP/2 {message:?}"))
            }
        };
        outcome.map_err(|error| anyhow!("{error:#}\n    in {sent}"))
    }

    fn bytes(
        &mut self,
        made: Made,
        bytes: &[u8],
        cuts: &[usize],
        waits_at: Option<usize>,
    ) -> anyhow::Result<()> {
        let Reading { messages, tail, rest } = reference::read(bytes, &self.route.host);
        match made {
            Made::Meant => {
                ensure!(matches!(tail, Tail::Clean | Tail::Closed), "the generator's own is {tail:?}");
            }
            Made::Smuggled => {
                let is_refused = matches!(tail, Tail::Invalid | Tail::InvalidBody);
                ensure!(messages.is_empty() && is_refused, "no smuggling: {tail:?} {messages:?}");
            }
            Made::Mutated => {}
        }
        let mut client = self.client()?;
        let early = send(&mut client, bytes, cuts, waits_at)?;
        let answered = answers(&mut client, early, &messages)?;
        let is_open =
            !answered.last().is_some_and(|last| last.answer.is_last) && answered.len() == messages.len();
        self.check_authors(&answered, &messages)?;
        if is_open && matches!(tail, Tail::Invalid | Tail::InvalidBody) {
            self.check_refusal(&mut client, rest, tail)?;
        }
        // A server that answers early may not take the rest of the body: then the connection ends, and nothing has announced it.
        let is_early = answered.len() < messages.len() || answered.iter().any(Answered::is_early);
        if is_open && tail == Tail::Clean && !is_early {
            self.client = Some(client);
        }
        self.tally.unfinished += u64::from(is_open && matches!(tail, Tail::Incomplete | Tail::InvalidBody));
        let read: Vec<_> = answered.iter().filter_map(|one| read_by_program(one)).collect();
        let is_quiet = !is_early && !matches!(tail, Tail::Incomplete | Tail::InvalidBody);
        self.sentinel(&read, is_quiet)
    }

    /// Whoever answered a request must be one who may, and each must be answered.
    fn check_authors(&mut self, answered: &[Answered<'_>], messages: &[Message]) -> anyhow::Result<()> {
        for one in answered {
            self.check_author(one)?;
        }
        // Behind an early answer to a body, the connection may end.
        let is_ended = answered.last().is_some_and(|last| last.answer.is_last || last.is_early());
        let unanswered = messages.get(answered.len()).filter(|_| !is_ended);
        if let Some(message) = unanswered {
            ensure!(self.met.allow(self.route.server, message, BREAKS), "no answer to {message:?}");
        }
        Ok(())
    }

    fn check_author(&mut self, Answered { message, answer, author }: &Answered<'_>) -> anyhow::Result<()> {
        let server = self.route.server;
        let status = if answer.is_cut { BREAKS } else { answer.status };
        match author {
            Author::Program { .. } => {
                self.tally.read += 1;
                // lighttpd cuts a program's answer to the range that its client wants.
                ensure!([200, 206].contains(&status), "{answer:?}");
                ensure!(!message.is_misdirected, "it is for another host");
                ensure!(
                    !Met::must(server, message),
                    "it is in the table of differences, and was read: {message:?}"
                );
            }
            Author::Server => {
                self.tally.answered_by_server += u64::from(!answer.is_cut);
                ensure!(
                    self.met.allow(server, message, status),
                    "{status} by the server: {message:?}: {answer:?}"
                );
            }
            Author::Gatehouse => {
                self.tally.answered_by_us += 1;
                let may =
                    message.is_misdirected || !message.is_plain || self.met.allow(server, message, status);
                ensure!(may, "{status} by Gatehouse: {message:?}");
                ensure!(message.is_misdirected || status != 421, "421, though it is not misdirected");
            }
        }
        Ok(())
    }

    /// What must be refused is; or its connection ends, if that is seen only in its body.
    fn check_refusal(&mut self, client: &mut Client, request: &[u8], tail: Tail) -> anyhow::Result<()> {
        let Some(answer) = client.answer(request.starts_with(b"HEAD "))? else {
            ensure!(tail == Tail::InvalidBody, "it was not answered");
            return Ok(());
        };
        let author = answer.author()?;
        ensure!(
            author == Author::Gatehouse && (400..506).contains(&answer.status) && answer.is_last,
            "{author:?}: {answer:?}"
        );
        self.tally.answered_by_us += 1;
        Ok(())
    }

    fn http2(&mut self, draft: &Draft, message: &Message) -> anyhow::Result<()> {
        let answer = self.http2.request(draft, &self.route.host, self.namespace, self.to, &self.config)?;
        let author = answer.author()?;
        let answered = [Answered { message, answer, author }];
        self.check_authors(&answered, std::slice::from_ref(message))?;
        let read: Vec<_> = answered.iter().filter_map(|one| read_by_program(one)).collect();
        self.sentinel(&read, !answered[0].is_early())
    }

    /// Sends a request of which all is known, and checks that the origin read `expected` and nothing else before it; where nothing ended
    /// its connection meanwhile (`is_quiet`), over the same one.
    fn sentinel(&mut self, expected: &[(&Message, u64)], is_quiet: bool) -> anyhow::Result<()> {
        self.tally.sentinels += 1;
        let mut client = self.client()?;
        let target = format!("/sentinel?{}", self.tally.sentinels);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.route.host).as_bytes(), &[]);
        let answer = client.answer(false)?.context("the sentinel was not answered")?;
        let Readings { own, readings } = serde_json::from_slice(&answer.body)
            .with_context(|| format!("the sentinel: {} {}", answer.status, latin1(&answer.body)))?;
        ensure!((own.method.as_str(), &own.target) == ("GET", &target), "another's answer: {own:?}");
        if !answer.is_last {
            self.client = Some(client);
        }
        let serials: Vec<u64> = readings.iter().map(|reading| reading.serial).collect();
        let wanted: Vec<u64> = expected.iter().map(|(_, serial)| *serial).collect();
        ensure!(serials == wanted, "requests {wanted:?} were answered, and read was {}", Listed(&readings));
        for ((message, _), reading) in expected.iter().zip(&readings) {
            expected::check(message, reading, &self.route)?;
        }
        let before = readings.last().map(|reading| reading.connection.clone()).or(self.connection.take());
        let is_same = before.as_ref() == Some(&own.connection);
        ensure!(is_same || before.is_none() || !is_quiet, "the sentinel came over another connection");
        self.tally.on_same_connection += u64::from(is_same);
        self.connection = Some(own.connection);
        Ok(())
    }

    /// Begins anew behind a failure: what the origin has read so far is taken and not looked at.
    pub(super) fn forget(&mut self) -> anyhow::Result<()> {
        self.tally.sentinels += 1;
        let mut client = self.client()?;
        client.send(format!("GET /sentinel?0 HTTP/1.1\r\nHost: {}\r\n\r\n", self.route.host).as_bytes(), &[]);
        let answer = client.answer(false)?.context("no answer")?;
        let Readings { own, .. } = serde_json::from_slice(&answer.body)?;
        (self.client, self.connection) = (Some(client), Some(own.connection));
        Ok(())
    }

    fn client(&mut self) -> anyhow::Result<Client> {
        match self.client.take() {
            Some(client) => Ok(client),
            None => Client::connect(self.namespace, self.to, &self.route.host, &self.config),
        }
    }
}

impl Answered<'_> {
    /// Whether its upstream connection may have ended with it.
    fn is_early(&self) -> bool {
        self.author == Author::Server || self.answer.status >= 500 || self.answer.is_cut
    }
}

/// Sends `bytes`; a client that waits for an interim response may get a final one instead, and keeps the body then.
fn send(
    client: &mut Client,
    bytes: &[u8],
    cuts: &[usize],
    waits_at: Option<usize>,
) -> anyhow::Result<Option<Answer>> {
    let Some(at) = waits_at else {
        client.send(bytes, cuts);
        return Ok(None);
    };
    client.send(&bytes[..at], &[]);
    // RFC 9112 §2.2: empty lines before it are no part of it.
    let answer = client.any_answer(bytes.trim_ascii_start().starts_with(b"HEAD"))?;
    if answer.as_ref().is_some_and(|answer| answer.status == 100) {
        client.send(&bytes[at..], &[]);
        return Ok(None);
    }
    Ok(answer)
}

/// The answers to `messages`, as far as there are any.
fn answers<'a>(
    client: &mut Client,
    mut early: Option<Answer>,
    messages: &'a [Message],
) -> anyhow::Result<Vec<Answered<'a>>> {
    let mut answered = Vec::new();
    for message in messages {
        let answer = match early.take() {
            Some(answer) => Some(answer),
            None => client.answer(message.method == "HEAD")?,
        };
        let Some(answer) = answer else { break };
        let is_last = answer.is_last;
        answered.push(Answered { message, author: answer.author()?, answer });
        if is_last {
            break;
        }
    }
    Ok(answered)
}

fn read_by_program<'a>(one: &Answered<'a>) -> Option<(&'a Message, u64)> {
    match one.author {
        Author::Program { serial } => Some((one.message, serial)),
        Author::Server | Author::Gatehouse => None,
    }
}

fn draft_message(draft: &Draft, host: &str) -> Message {
    let field = |(name, value): &(&str, Vec<u8>)| ((*name).to_owned(), latin1(value));
    let own = ("host".to_owned(), host.to_owned());
    Message {
        method: draft.method.to_owned(),
        target: latin1(draft.target.as_bytes()),
        fields: [own].into_iter().chain(draft.fields.iter().map(field)).collect(),
        body: draft.body.clone(),
        is_misdirected: false,
        is_plain: reference::is_plain_target(draft.target.as_bytes()),
    }
}

struct Listed<'a>(&'a [origin::Reading]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for origin::Reading { serial, method, target, bytes, .. } in self.0 {
            write!(f, "{serial}: {method} {target} with {bytes} bytes; ")?;
        }
        Ok(())
    }
}

const MOST_SHOWN: usize = 1_000;
