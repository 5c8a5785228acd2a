//! Calls to AWS services by hand, for programs that make one or two of a service's hundred: signed (Signature Version 4), with a bound on
//! the time and the size of the answer. The appliance and the fleet's function share it.
//! Not here: what is called, and what an answer means beyond its form.
//! Invariants: of an answer with a limit, no more than the limit is read (`an_answer_beyond_the_bound_is_an_error`); an answer in XML that was
//! cut is none (`what_was_cut_anywhere_is_not_complete`).

mod bounded;
mod call;
mod fault;
mod rest_call;
mod xml;

pub use self::{
    bounded::{bounded, read_bounded},
    call::{BoxedError, Call, CallLimits, endpoint_of},
    fault::{LONGEST_WORDS, ServiceFault, shortened},
    rest_call::RestCall,
    xml::complete_xml,
};
