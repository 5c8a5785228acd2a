//! Our own table: the record of each name's orders, the challenges that CAs may ask for, what CAs say of when certificates are to be renewed, budgets, pauses and leases; the keys of
//! session tickets; the list of the operator's own certificates; tokens of the API; who changed which domain; what each instance says of
//! itself; requests of the API that are made once; the key of setup links; how many entries tenants have; what became of domains and certificates, and how far webhooks
//! have told of it.
//! Not here: when a name is ordered or due, which budgets there are, how long a pause lasts (`certificates`).
//! Invariants: of all that find a name due one claims it (`of_many_that_find_a_name_due_one_claims_it`); a back-off is written whatever its item holds (`put_failure`); instances together never pass a budget
//! (`instances_together_never_pass_a_budget`); no item, whoever wrote it, causes a panic (`no_item_panics`).

mod api_tokens;
mod audit;
pub mod budget;
mod check_progress;
mod day_log;
mod entry_count;
mod events;
mod idempotency;
mod instances;
mod item;
pub mod lease;
mod link_key;
mod open_challenges;
mod open_order;
mod order_record;
mod order_records;
mod out_of_renewals;
mod own_certificates;
pub mod pause;
mod renewal_info;
mod renewals;
pub mod ticket_keys;
mod webhook_state;

pub use api_tokens::{
    MOST_KEPT_TOKENS, MOST_TOKENS, TokenReach, TokenRecord, TooManyTokens, find_token, list_tokens,
    put_token, revoke_token,
};
pub use audit::{AuditPage, AuditRecord, Change, audit};
pub use check_progress::{checks_settled, put_checks_settled};
pub use day_log::LogDay;
pub use entry_count::{CountChange, EntryCount, find_entry_count, put_entry_count};
pub use events::{EVENTS_KEPT, Event, EventId, EventPage, NoEventId, events, put_event};
pub use idempotency::{Claimed, KeptAnswer, RequestClaim, RequestKey, claim_request};
pub use instances::{InstanceItem, MOST_INSTANCES, end_instance, list_instances, put_instance};
pub(in crate::store) use link_key::{LINK_KEY_CONTEXT, find_sealed_link_key, replace_link_key};
pub use link_key::{ensure_link_key, find_link_key};
pub use open_challenges::{OpenChallenge, find_open_challenges, put_open_challenge, remove_open_challenge};
pub use open_order::{OpenOrder, OpenOrders, put_open_order, remove_open_order, remove_open_orders};
pub use order_record::{FAILED_AT, OrderRecord, SHARDS, put_failure, put_record, shard};
pub use order_records::read_records;
pub use out_of_renewals::forget;
pub use own_certificates::{MOST_OWN, OwnCertificate, OwnCertificates, change_own, find_own};
pub use renewal_info::{
    RenewalInfo, RenewalInfoClaim, RenewalWindow, claim_renewal_info, due_renewal_info, end_renewal_info,
    find_renewal_info, put_renewal_info, settle_renewal_info, stop_renewal_info,
};
pub use renewals::{
    Claim, Due, DuePage, DueStart, Rescheduled, bring_forward, claim, due, postpone, reschedule,
};

pub use webhook_state::{
    MOST_DELIVERED, RefusedEvent, WebhookState, begin_again, find_delivered, find_webhook, list_webhooks,
    put_delivered, put_webhook,
};

#[cfg(test)]
pub(super) use open_order::open_order_for_tests;
pub(super) use order_record::key;

#[cfg(test)]
mod tests;
