//! `gatehouse guard explain` and `guard top`.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use serde::Serialize;

use super::{
    arguments::{ExplainArguments, Form},
    columns::Columns,
    error::CommandError,
    print,
};
use crate::{
    config::Config,
    control::ControlClient,
    guard::{
        GuardStatus, RejectedRow, RejectingRow, TopRejected,
        explain::{
            self, Capture, CaptureReport, Connection, ConnectionReport, FlowReport, GuardQuestion,
            GuardRules, Judgement, Knowledge, KnowledgeOrigin, NameFacts, SourceFacts,
        },
    },
    name::ServerName,
    whole_file,
};

/// The answer for one connection.
#[derive(Serialize)]
struct Explained<'a> {
    known_from: KnowledgeOrigin,
    rules: &'a GuardRules,
    name: Option<&'a NameFacts>,
    source: Option<&'a SourceFacts>,
    #[serde(flatten)]
    connection: ConnectionReport,
}

/// The answer for a capture.
#[derive(Serialize)]
struct ExplainedCapture<'a> {
    known_from: KnowledgeOrigin,
    rules: &'a GuardRules,
    #[serde(flatten)]
    capture: CaptureReport,
}

/// Says what the guard does with what is `wanted`.
pub(super) async fn explain(config: &Config, wanted: &ExplainArguments) -> Result<(), CommandError> {
    let inquiry = Inquiry { config, client: ControlClient::find(&config.control_socket()).await? };
    match (&wanted.name, &wanted.pcap) {
        (Some(name), _) => {
            let ExplainArguments { source, port, form, .. } = wanted;
            let connection = Connection { name: name.clone(), source: *source, port: *port };
            inquiry.explain_connection(&connection, *form).await
        }
        (None, Some(path)) => inquiry.explain_capture(path, wanted.form).await,
        // The command line has one of them.
        (None, None) => Ok(()),
    }
}

/// Who knows the guard.
struct Inquiry<'a> {
    config: &'a Config,
    /// The instance here, if one runs.
    client: Option<ControlClient>,
}

impl Inquiry<'_> {
    async fn explain_connection(&self, connection: &Connection, form: Form) -> Result<(), CommandError> {
        let mut knowledge = self.rules().await?;
        let names = BTreeSet::from([connection.name.clone()]);
        self.ask(&mut knowledge, &names, &connection.source.into_iter().collect()).await?;
        let answer = Explained {
            known_from: knowledge.origin,
            rules: &knowledge.rules,
            name: knowledge.name(&connection.name),
            source: connection.source.and_then(|source| knowledge.source(source)),
            connection: explain::explain(&knowledge, connection),
        };
        print(form, &answer, |answer| shown(answer, &connection.name))
    }

    async fn explain_capture(&self, path: &Path, form: Form) -> Result<(), CommandError> {
        let bytes = whole_file::read(path, LONGEST_CAPTURE).map_err(|source| CommandError::CaptureFile {
            path: path.to_owned(),
            most: LONGEST_CAPTURE,
            source,
        })?;
        let failed = |source| CommandError::Capture { path: path.to_owned(), source };
        let capture = Capture::read(&bytes).map_err(failed)?;
        let mut knowledge = self.rules().await?;
        let mut report = explain::judge(&capture, &knowledge).map_err(failed)?;
        // What is learned of names and sources may bring others to light: another hello behind one that passes.
        for _ in 0..MOST_ROUNDS {
            if !self.ask(&mut knowledge, &report.names, &report.sources).await? {
                break;
            }
            report = explain::judge(&capture, &knowledge).map_err(failed)?;
        }
        let (known_from, rules) = (knowledge.origin, &knowledge.rules);
        print(form, &ExplainedCapture { known_from, rules, capture: report }, shown_capture)
    }

    /// What the guard decides by.
    async fn rules(&self) -> Result<Knowledge, CommandError> {
        let of_settings = GuardRules::of_settings(self.config);
        let Some(client) = &self.client else {
            return Ok(Knowledge::new(KnowledgeOrigin::Settings, of_settings));
        };
        Ok(match client.guard_facts(&GuardQuestion::default()).await?.rules {
            Some(rules) => Knowledge::new(KnowledgeOrigin::Kernel, rules),
            None => Knowledge::new(KnowledgeOrigin::GuardOff, of_settings),
        })
    }

    /// Learns what is not known yet; whether there was anything.
    async fn ask(
        &self,
        knowledge: &mut Knowledge,
        names: &BTreeSet<ServerName>,
        sources: &BTreeSet<std::net::IpAddr>,
    ) -> Result<bool, CommandError> {
        let questions = knowledge.unasked(names, sources);
        for question in &questions {
            match &self.client {
                None => knowledge.learn_from(self.config, question),
                Some(client) => knowledge.learn(client.guard_facts(question).await?, self.config, question),
            }
        }
        Ok(!questions.is_empty())
    }
}

/// Shows what the guard rejected lately.
pub(super) async fn top(config: &Config, form: Form) -> Result<(), CommandError> {
    let path = config.control_socket();
    let client = ControlClient::find(&path).await?.ok_or(CommandError::NotRunning { path })?;
    let rejected = match client.status().await?.guard {
        GuardStatus::Off => return Err(CommandError::GuardOff),
        GuardStatus::On(report) => report.rejected,
    };
    print(form, &rejected, shown_top)
}

fn shown_top(top: &TopRejected) -> String {
    if top.sampled == 0 {
        return "the guard told of no rejected name within the last hour\n".to_owned();
    }
    let mut names = Columns::new(["NAME", "REJECTED", "DENIED", "SOURCES"]);
    for RejectedRow { name, count, denied, sources } in &top.names {
        names.row([name.clone(), count.to_string(), denied.to_string(), sources.to_string()]);
    }
    let mut sources = Columns::new(["SOURCE", "REJECTED", "NAMES"]);
    for RejectingRow { source, count, names } in &top.sources {
        let network = if source.is_ipv6() { format!("{source}/64") } else { source.to_string() };
        sources.row([network, count.to_string(), names.to_string()]);
    }
    let TopRejected { sampled, since_seconds, .. } = top;
    format!(
        "{sampled} rejections of the last {since_seconds} s, a sample\n\n{}\n{}",
        names.text(),
        sources.text()
    )
}

fn shown(answer: &Explained<'_>, name: &ServerName) -> String {
    let mut text = heading(answer.known_from, answer.rules);
    let _ = writeln!(text, "name         {}", name_line(name, answer));
    if let Some(facts) = answer.source {
        let rule = facts.network.as_ref().map_or_else(
            || "in no network of `guard.deny` or `guard.exempt`".to_owned(),
            |rule| format!("in `{}` of `{}`", rule.network, rule.listed_in.as_str()),
        );
        let _ = writeln!(text, "source       {}, {rule}", facts.source);
    }
    let _ = writeln!(text, "port         {}\n", answer.connection.port);
    let _ = writeln!(text, "SYN          {}", line(&answer.connection.syn));
    let hello = answer.connection.hello.as_ref();
    let _ =
        writeln!(text, "ClientHello  {}", hello.map_or_else(|| "does not come to be sent".to_owned(), line));
    text
}

fn name_line(name: &ServerName, answer: &Explained<'_>) -> String {
    let Some(facts) = answer.name else { return name.to_string() };
    let entry = |entry: &Option<crate::name::Pattern>| {
        entry.as_ref().map_or_else(|| "no entry".to_owned(), |entry| format!("`{entry}`"))
    };
    let listed = entry(&facts.listed);
    match answer.known_from {
        KnowledgeOrigin::Kernel => {
            format!("{name}: the instance has {listed}, the kernel {}", entry(&facts.in_kernel))
        }
        KnowledgeOrigin::GuardOff => format!("{name}: the instance has {listed}"),
        KnowledgeOrigin::Settings => format!("{name}: `domains.static` has {listed}"),
    }
}

/// What the answer is by.
fn heading(known_from: KnowledgeOrigin, rules: &GuardRules) -> String {
    let from = match known_from {
        KnowledgeOrigin::Kernel => "the instance here and its kernel",
        KnowledgeOrigin::GuardOff => {
            "the instance here, whose guard is off (`guard.interfaces` is empty); it would do this if it were on"
        }
        KnowledgeOrigin::Settings => {
            "the settings alone, for no instance runs here; one that enforces them does this"
        }
    };
    let GuardRules { mode, enforcement, .. } = rules;
    format!(
        "known from   {from}\nguard        {mode}, enforcement {enforcement}, hellos at {}\n",
        rules.ports
    )
}

fn line(judgement: &Judgement) -> String {
    let Judgement { verdict, outcome, step, step_number, reason } = judgement;
    format!("{} ({verdict}) by step {step_number}, {}: {reason}", outcome.as_str(), step.as_str())
}

fn shown_capture(answer: &ExplainedCapture<'_>) -> String {
    let CaptureReport { packets, unguarded_packets, flows, flows_left_out, .. } = &answer.capture;
    let mut text = heading(answer.known_from, answer.rules);
    let _ = writeln!(text, "packets      {packets}, of which {unguarded_packets} go to no guarded port\n");
    let mut columns = Columns::new(["SOURCE", "DESTINATION", "NAME", "VERDICT", "STEP", "REASON"]);
    for FlowReport { source, destination, name, judgement, .. } in flows {
        columns.row([
            source.to_string(),
            destination.to_string(),
            name.as_ref().map_or_else(String::new, |name| name.escape_ascii().to_string()),
            format!("{} ({})", judgement.outcome.as_str(), judgement.verdict),
            format!("{} {}", judgement.step_number, judgement.step.as_str()),
            judgement.reason.clone(),
        ]);
    }
    text.push_str(&columns.text());
    if *flows_left_out > 0 {
        let _ = writeln!(text, "\nconnections left out: {flows_left_out}; cut the capture into smaller ones");
    }
    text
}

/// More than enough for a minute of a busy port with `tcpdump`'s filter.
const LONGEST_CAPTURE: usize = 64 << 20;
/// How often a capture is judged anew by what was learned.
const MOST_ROUNDS: usize = 3;
