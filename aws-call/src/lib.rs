//! Calls to AWS services by hand, for programs that make one or two of a service's hundred: signed (Signature Version 4), with a bound on
//! the time and the size of the answer. The appliance and the fleet's function share it.
//! Not here: what is called, and what an answer means beyond its form.
//! Invariant: of an answer with a limit, no more than the limit is read (`an_answer_beyond_the_bound_is_an_error`).

mod bounded;
mod call;
mod fault;
mod rest_call;

pub use self::{
    bounded::{bounded, read_bounded},
    call::{BoxedError, Call, CallLimits, endpoint_of},
    fault::{LONGEST_WORDS, ServiceFault, shortened},
    rest_call::RestCall,
};
