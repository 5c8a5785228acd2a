//! Why a packet met its verdict, in a sentence for an operator.

use std::net::{IpAddr, SocketAddr};

use proxy_common::maps::Verdict;

use super::{
    knowledge::{Budget, Knowledge, KnowledgeOrigin, NameFacts},
    step::Step,
};
use crate::{config::GuardMode, name::ServerName};

/// What is known of the packet.
pub(super) struct Told<'a> {
    /// Where it comes from; none when that is not said.
    pub(super) source: Option<IpAddr>,
    /// Where it goes.
    pub(super) destination: SocketAddr,
    /// The name in its hello; none if there is none that could be served.
    pub(super) name: Option<&'a ServerName>,
    /// What is known of the guard.
    pub(super) knowledge: &'a Knowledge,
}

/// Why it met `verdict` at `step`.
pub(super) fn reason(verdict: Verdict, step: Step, told: &Told<'_>) -> String {
    match verdict {
        Verdict::PassUnguarded => told.unguarded(step),
        Verdict::DropDeniedSource => told.network(),
        Verdict::PassDeniedSource => format!("{}, but nothing is dropped: {}", told.network(), told.idle()),
        Verdict::PassSyn => told.syn(),
        Verdict::DropSynExcess => format!("a SYN beyond {}", told.source_budget()),
        Verdict::PassSynExcess => {
            format!("a SYN beyond {}, but nothing is dropped: {}", told.source_budget(), told.idle())
        }
        Verdict::PassAllowed => told.allowed(),
        Verdict::PassUnenforced | Verdict::PassObserved => {
            format!("{}, but nothing is rejected: {}", told.unknown(), told.idle())
        }
        Verdict::PassUnknown => format!("{}, but is within {}", told.unknown(), told.names_budget()),
        Verdict::RejectForeignServer | Verdict::RejectForeignClient | Verdict::RejectForeignDrop => {
            told.rejected()
        }
        Verdict::RejectDeniedServer | Verdict::RejectDeniedClient | Verdict::RejectDeniedDrop => {
            told.denied()
        }
        Verdict::PassFragment
        | Verdict::PassUnparsed
        | Verdict::PassNoHello
        | Verdict::PassNoName
        | Verdict::PassMalformed
        | Verdict::PassTooLong
        | Verdict::PassIncomplete
        | Verdict::PassOutOfOrder
        | Verdict::PassForgotten => of_its_bytes(verdict).to_owned(),
    }
}

/// Of verdicts that the packet's own bytes decide.
fn of_its_bytes(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::PassFragment => "an IP fragment, whose ports or payload are in another packet",
        Verdict::PassUnparsed => {
            "more headers than are walked, or a packet cut short, as by a capture's snap length"
        }
        Verdict::PassNoHello => "no payload, or one that neither starts a ClientHello nor continues one",
        Verdict::PassNoName => "a ClientHello without a server name; the TLS handshake refuses it",
        Verdict::PassMalformed => "a ClientHello that breaks its own lengths, or whose name is an address",
        Verdict::PassTooLong => "a ClientHello with more records or extensions than are walked",
        Verdict::PassIncomplete => "the beginning of a ClientHello; its name is in a segment that follows",
        Verdict::PassOutOfOrder => "a segment of a ClientHello that is not the next one",
        Verdict::PassForgotten => "a later segment of a ClientHello whose beginning is no longer remembered",
        _ => "",
    }
}

impl Told<'_> {
    fn unguarded(&self, step: Step) -> String {
        let Self { destination, knowledge, .. } = self;
        let (port, ports) = (destination.port(), &knowledge.rules.ports);
        match step {
            Step::Port => format!("port {port} is not guarded; hellos are judged at {ports}"),
            Step::Address => format!("hellos to {destination} are not judged; they are at {ports}"),
            _ => "not TCP over IPv4 or IPv6".to_owned(),
        }
    }

    /// That the source is in a network with a rule.
    fn network(&self) -> String {
        let rule = self.source.and_then(|source| self.knowledge.source(source)?.network.as_ref());
        let (Some(rule), Some(source)) = (rule, self.source) else {
            return "its source is in a network of `guard.deny`".to_owned();
        };
        format!("{source} is in `{}` of `{}`", rule.network, rule.listed_in.as_str())
    }

    fn syn(&self) -> String {
        if self.source.is_none() {
            return "a SYN; networks and budgets of sources are left out, for no source is given".to_owned();
        }
        let network = self.source.and_then(|source| self.knowledge.source(source)?.network.as_ref());
        match (self.knowledge.rules.syns_per_source, network) {
            (None, _) => "a SYN; `guard.syns_per_source_per_second` sets no limit".to_owned(),
            (Some(_), Some(_)) => format!("a SYN without a limit: {}", self.network()),
            (Some(_), None) => format!("a SYN, as long as it is within {}", self.source_budget()),
        }
    }

    fn source_budget(&self) -> String {
        let budget = self.knowledge.rules.syns_per_source;
        budget
            .map_or_else(String::new, |budget| format!("its source's budget of {}", amount(&budget, "SYNs")))
    }

    fn allowed(&self) -> String {
        let facts = self.facts();
        let entry = facts.and_then(|facts| self.knowledge.passes(facts));
        let entry = entry.map_or_else(|| "an entry".to_owned(), |entry| format!("`{entry}`"));
        let holder = match self.knowledge.origin {
            KnowledgeOrigin::Kernel => "the kernel has it",
            KnowledgeOrigin::GuardOff => "the instance serves it",
            KnowledgeOrigin::Settings => "`domains.static` lists it",
        };
        match facts.and_then(|facts| facts.denied_for_seconds) {
            Some(_) => format!("{holder} by {entry}, which counts more than that user space denied it"),
            None => format!("{holder} by {entry}"),
        }
    }

    /// That the kernel does not have the name, and what may be behind that.
    fn unknown(&self) -> String {
        let name = self.name.map_or_else(|| "the name".to_owned(), |name| format!("`{name}`"));
        let listed = self.facts().and_then(|facts| facts.listed.as_ref());
        match (self.knowledge.origin, listed) {
            (KnowledgeOrigin::Kernel, Some(entry)) => {
                format!("{name} is not in the kernel yet, though the instance has `{entry}`")
            }
            (KnowledgeOrigin::Kernel, None) => {
                format!("{name} is not in the kernel, nor among the instance's names")
            }
            (KnowledgeOrigin::GuardOff, _) => format!("{name} is not among the instance's names"),
            (KnowledgeOrigin::Settings, _) => {
                format!("{name} is not in `domains.static` (table and ask endpoint were not asked)")
            }
        }
    }

    fn rejected(&self) -> String {
        match self.knowledge.rules.mode {
            GuardMode::Strict => format!("{}, and mode `strict` rejects such names", self.unknown()),
            GuardMode::Adaptive | GuardMode::Observe => {
                format!("{}, and nothing is left of {}", self.unknown(), self.names_budget())
            }
        }
    }

    fn denied(&self) -> String {
        let seconds = self.facts().and_then(|facts| facts.denied_for_seconds);
        let until = seconds.map_or_else(String::new, |seconds| format!(", for {seconds} s more"));
        format!("{}, and user space has denied it{until}", self.unknown())
    }

    fn names_budget(&self) -> String {
        format!("the budget of {}", amount(&self.knowledge.rules.unknown_names, "unknown names"))
    }

    /// Why the guard lets pass what it would stop.
    fn idle(&self) -> String {
        let rules = &self.knowledge.rules;
        if rules.enforces {
            format!("the mode is `{}`", rules.mode)
        } else {
            format!("the guard does not enforce (`{}`)", rules.enforcement)
        }
    }

    fn facts(&self) -> Option<&NameFacts> {
        self.knowledge.name(self.name?)
    }
}

fn amount(budget: &Budget, what: &str) -> String {
    let Budget { per_second, burst, left } = budget;
    let left = left.map_or_else(String::new, |left| format!(", {left} left"));
    format!("{per_second} {what} a second, {burst} at once{left}")
}
