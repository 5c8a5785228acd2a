//! One command for a fleet on AWS: what is wanted and what is found become a plan, and the plan is carried out.
//! Not here: the stacks themselves (`infra`), the image (`fleet`), what keeps endpoints and instances in step (`fleet-function`).
//! Invariants: nothing is changed while anything is refused (`a_refusal_comes_before_any_change`); what is as wanted is not
//! touched (`a_second_deploy_plans_nothing`); fleets change one region after the other (`fleets_change_one_region_after_the_other`);
//! tables go on request only, and after everything else (`tables_go_last_and_on_request_only`).

mod aws;
mod cli;
mod code_package;
mod domain_functions;
mod execute;
mod found;
mod look;
mod plan;
mod stack;
mod status;
mod wanted;

pub use cli::command;
