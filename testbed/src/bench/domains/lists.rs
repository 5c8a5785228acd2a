//! How soon lists and searches of the API and the console are answered, with many entries in the embedded engine. Each request is curl's, by a
//! TLS connection of its own, and its time the whole of it. What a search finds may be in a later part of the list: it ends with the first
//! that it finds, as whoever asks for the next part until then.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use dynoxide::Database;

use super::{
    Goal, Statistic, entries,
    operator::{self, Operator, Session},
    push,
};
use crate::{
    bench::report::Report,
    curl::Reply,
    edge::Edge,
    gatehouse::{Gatehouse, Place},
    wait,
};

pub(super) fn measure(report: &mut Report, binary: &Path) -> anyhow::Result<()> {
    let edge = Edge::start()?;
    let gatehouse = start(&edge, binary)?;
    let token = gatehouse.command(&operator::TOKEN)?;
    let operator = Operator::new(&edge.network, edge.ca.roots(), Place::A.v4(), &token)?;
    let session = operator.sign_in()?;
    let mut samples = vec![(Vec::new(), Vec::new()); ASKS.len()];
    for round in 0..ROUNDS {
        for (ask, (times, parts)) in ASKS.iter().zip(&mut samples) {
            // Of each partition of the feed in turn.
            let number = round * (ENTRIES / ROUNDS) + ENTRIES / ROUNDS / 2 + round % 4;
            let found = ask.find(&operator, &session, number).with_context(|| ask.work.to_owned())?;
            times.push(found.millis);
            parts.push(f64::from(found.parts));
        }
        println!("round {} of {ROUNDS}", round + 1);
    }
    for (ask, (times, parts)) in ASKS.iter().zip(samples) {
        let statistics = [Statistic::Median, Statistic::Maximum];
        let goals = statistics.map(|of| Goal { most: ask.goal_millis, of });
        push(report, ask.work, "ms", &times, &statistics, &goals)?;
        if parts.iter().any(|parts| *parts > 1.0) {
            push(report, "- parts until the first that is found", "parts", &parts, &statistics, &[])?;
        }
    }
    Ok(())
}

/// An instance on the embedded engine, which has read its lists.
fn start(edge: &Edge, binary: &Path) -> anyhow::Result<Gatehouse> {
    let mut settings = edge.settings(Place::A, "auto");
    settings.text("log", "filter", "info");
    operator::open(&mut settings, Place::A.v4());
    for command in [&["tables", "create"][..], &["domain", "add", entries::MODEL]] {
        settings.command(&edge.network.edge, binary, command)?;
    }
    let file = edge.folder().join(Place::A.label()).join("state/store.db");
    ensure!(file.exists(), "no store at {}", file.display());
    entries::fill(&Database::new(&file.to_string_lossy())?, ENTRIES)?;
    let gatehouse = Gatehouse::start(&edge.network, binary, settings)?;
    wait::until("the lists", START, || {
        let metrics = gatehouse.metrics()?;
        ensure!(metrics.sum("gatehouse_domains_known", &[]) > f64::from(ENTRIES) * 0.99, "{metrics}");
        Ok(())
    })?;
    Ok(gatehouse)
}

/// What is asked for.
struct Ask {
    work: &'static str,
    goal_millis: f64,
    surface: Surface,
    /// Of a search for entry `number`, what it says.
    query: fn(u32) -> String,
}

enum Surface {
    Api,
    Console,
}

struct Found {
    millis: f64,
    parts: u32,
}

impl Ask {
    fn find(&self, operator: &Operator, session: &Session, number: u32) -> anyhow::Result<Found> {
        let mut query = (self.query)(number);
        let mut found = Found { millis: 0.0, parts: 0 };
        loop {
            let path = format!("domains?{query}");
            let reply = match self.surface {
                Surface::Api => operator.api(&path),
                Surface::Console => operator.page(&path, session),
            }?;
            found.millis += reply.seconds * 1e3;
            found.parts += 1;
            if self.surface.has_entries(&reply) {
                return Ok(found);
            }
            query =
                self.surface.next(&reply, &query).with_context(|| format!("nothing is found: {reply:?}"))?;
        }
    }
}

impl Surface {
    fn has_entries(&self, reply: &Reply) -> bool {
        match self {
            Self::Api => reply.body.contains("\"items\":[{"),
            Self::Console => reply.body.contains("<tbody>"),
        }
    }

    /// The query of the next part.
    fn next(&self, reply: &Reply, query: &str) -> Option<String> {
        match self {
            Self::Api => {
                let answer = reply.json().ok()?;
                let first = query.split_once("&cursor=").map_or(query, |(first, _)| first);
                Some(format!("{first}&cursor={}", answer.get("next")?.as_str()?))
            }
            Self::Console => {
                let (_, link) = reply.body.split_once("href=\"/console/domains?")?;
                Some(link.split('"').next()?.replace("&#38;", "&").replace("&amp;", "&"))
            }
        }
    }
}

const ASKS: [Ask; 8] = [
    Ask {
        work: "API, first page of all tenants",
        goal_millis: FIRST_PAGE,
        surface: Surface::Api,
        query: |_| String::new(),
    },
    Ask {
        work: "API, first page of a tenant",
        goal_millis: FIRST_PAGE,
        surface: Surface::Api,
        query: |number| format!("tenant={}", entries::tenant(number)),
    },
    Ask {
        work: "console, first page",
        goal_millis: FIRST_PAGE,
        surface: Surface::Console,
        query: |_| String::new(),
    },
    Ask {
        work: "API, search by prefix of a tenant's",
        goal_millis: SEARCH,
        surface: Surface::Api,
        query: |number| format!("tenant={}&prefix={}", entries::tenant(number), entries::prefix(number)),
    },
    Ask {
        work: "API, search by prefix of all tenants'",
        goal_millis: SEARCH,
        surface: Surface::Api,
        query: |number| format!("prefix={}", entries::prefix(number)),
    },
    Ask {
        work: "console, search by prefix",
        goal_millis: SEARCH,
        surface: Surface::Console,
        query: |number| format!("prefix={}", entries::prefix(number)),
    },
    Ask {
        work: "console, search by prefix of a tenant's",
        goal_millis: SEARCH,
        surface: Surface::Console,
        query: |number| format!("tenant={}&prefix={}", entries::tenant(number), entries::prefix(number)),
    },
    Ask {
        work: "console, search by status",
        goal_millis: SEARCH,
        surface: Surface::Console,
        query: |_| "status=suspended".to_owned(),
    },
];

const ENTRIES: u32 = 100_000;
const ROUNDS: u32 = 25;
/// Milliseconds.
const FIRST_PAGE: f64 = 100.0;
const SEARCH: f64 = 300.0;
const START: Duration = Duration::from_mins(2);
