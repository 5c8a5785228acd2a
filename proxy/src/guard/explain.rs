//! What the guard does with a connection, and why: the decision of `proxy_common` over a model of the kernel's tables, told by
//! the step that made it.
//! Not here: who is asked for the state of an instance (`cli`, `control`), the decision itself (`proxy_common::decide`).
//! Invariants: it says what the kernel does, since both call one function (`the_kernel_judges_segments_as_the_model_does`);
//! a capture of any bytes is read without a panic, in time and memory that its length bounds
//! (`a_mutated_corpus_of_captures_is_read_or_refused`).

mod capture;
mod connection;
mod flows;
mod knowledge;
mod packets;
mod reason;
mod step;

pub(super) use self::knowledge::sources_by;
pub(crate) use self::{
    capture::{Capture, CaptureError},
    connection::{Connection, ConnectionReport, Judgement, explain},
    flows::{CaptureReport, FlowReport, judge},
    knowledge::{GuardFacts, GuardQuestion, GuardRules, Knowledge, KnowledgeOrigin, NameFacts, SourceFacts},
};
