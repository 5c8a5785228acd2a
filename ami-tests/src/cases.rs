//! What is asserted of the image, one function each. The name says what an operator may rely on.

mod disk;
mod fleet;
mod inside;
mod names;
mod refusals;
mod restarts;
mod shortage;

use crate::{guest::Guest, world::World};

/// One of them.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    /// What it saw, for the output of the run.
    pub(crate) run: fn(&World, &mut Guest) -> anyhow::Result<String>,
}

/// Which machine a case finds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// One that has just become healthy, whatever cases before it did.
    Saved,
    /// As the case before has left it.
    AsIs,
}

/// In this order.
pub(crate) const ALL: &[Case] = &[
    saved("the_guard_is_attached_natively_and_enforces", names::guard),
    as_is("a_name_added_to_the_table_is_served_with_a_certificate_issued_on_demand", names::added),
    as_is("a_foreign_name_is_refused_in_the_kernel", names::foreign),
    as_is("prometheus_takes_the_metrics", names::metrics),
    as_is("workers_have_the_ring_inside_the_unit", inside::ring),
    as_is("only_the_public_ports_are_open", inside::ports),
    as_is("the_unit_is_closed_and_its_process_small", inside::unit),
    as_is("the_doctor_finds_nothing_to_mend", inside::doctor),
    as_is("nothing_of_its_making_is_in_the_image", disk::clean),
    saved("the_console_says_where_it_is_and_how_it_is", inside::console),
    saved("without_settings_of_a_fleet_it_serves_alone", fleet::alone),
    saved("a_malformed_setting_is_named_with_file_and_line_and_nothing_is_served", refusals::malformed),
    as_is("a_missing_region_is_named_and_nothing_is_served", refusals::no_region),
    as_is("a_table_that_does_not_exist_is_named_and_nothing_is_served", refusals::no_table),
    as_is("a_table_without_permission_is_named_and_nothing_is_served", refusals::no_permission),
    as_is("a_port_in_use_is_named_and_nothing_is_served", refusals::port_taken),
    saved("a_restart_of_the_service_refuses_no_connection", restarts::service),
    saved("an_upgrade_of_the_package_refuses_no_connection", restarts::upgrade),
    saved("memory_that_runs_short_sheds_load_and_kills_nothing", shortage::memory),
    saved("an_instance_that_is_scaled_in_drains", fleet::scale_in),
    saved("a_process_that_hangs_is_replaced", restarts::watchdog),
    saved("a_reboot_keeps_everything", restarts::reboot),
    as_is("a_power_cut_in_the_middle_of_an_order_loses_nothing", restarts::power_cut),
    as_is(
        "a_machine_with_wrong_user_data_serves_nothing_and_says_why_and_a_right_one_joins_the_fleet",
        fleet::second,
    ),
];

const fn saved(name: &'static str, run: fn(&World, &mut Guest) -> anyhow::Result<String>) -> Case {
    Case { name, start: Start::Saved, run }
}

const fn as_is(name: &'static str, run: fn(&World, &mut Guest) -> anyhow::Result<String>) -> Case {
    Case { name, start: Start::AsIs, run }
}
