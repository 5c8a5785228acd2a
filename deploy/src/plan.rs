//! From what is wanted and what is found to what is done: steps in an order, each a sentence.
//! Not here: calls (`execute`), what is refused before (`refusal`). Pure.

mod losses;
mod parameters;
mod refusal;
mod removal;
mod rollout;
mod step;

pub(crate) use self::{
    refusal::Refusal,
    removal::{Removal, remove},
    rollout::{Purpose, deploy},
    step::{Plan, StackChange, Step, Value},
};

#[cfg(test)]
mod tests;
