//! What a fleet asks of AWS in a month of 30 days, from the defaults of its settings. Where a number depends on what clients do,
//! it is one that is not exceeded.

use super::fleet::{Fleet, Key};

pub(super) const MONTH_HOURS: f64 = 720.0;
pub(super) const MONTH_SECONDS: f64 = MONTH_HOURS * 3600.0;
const MONTH_DAYS: f64 = MONTH_HOURS / 24.0;
const GIGABYTE: f64 = 1e9;

/// A query of an index, or any read that need not be consistent, of up to 4 KiB.
const EVENTUAL: f64 = 0.5;
const CONSISTENT: f64 = 1.0;

/// The feed is read whole each hour, in calls of a megabyte, which are charged by what they read; of entries with few settings a row has
/// some 250 bytes.
pub(super) const WHOLE_READING_HOURS: f64 = 1.0;
const ROW_BYTES: f64 = 250.0;
/// What a read unit reads.
const UNIT_BYTES: f64 = 4_096.0;
/// Partitions of the feed, each a query (`domains.poll` says: "each read is four calls").
pub(super) const FEEDS: f64 = 4.0;
/// `domains.idle_poll`.
pub(super) const IDLE_POLL_SECONDS: f64 = 30.0;
/// An instance is idle when no client has connected for twice `domains.idle_poll`.
const IDLE_AFTER_SECONDS: f64 = 2.0 * IDLE_POLL_SECONDS;
/// `certificates.renewal_period`: then the due index and the budgets are read.
pub(super) const RENEWAL_PERIOD_SECONDS: f64 = 60.0;
/// Parts of the due index, each a query.
pub(super) const DUE_SHARDS: f64 = 8.0;
/// Of one issuer: its budgets, and its pause.
const BUDGET_QUERIES: f64 = 2.0;
/// The list of own certificates, and the chains that clients were presented since, are read this often.
pub(super) const FOLLOW_SECONDS: f64 = 20.0;
/// A chain has some 5 KiB in the table, which is two units of which an eventual read is half.
const CHAIN_READ: f64 = 2.0 * EVENTUAL;
const CHAIN_BYTES: f64 = 5_120.0;
/// Keys of session tickets are read every five to ten minutes.
const TICKETS_SECONDS: f64 = 300.0;
/// Each instance says how it is, in an item of less than 1 KB, once in at least as much time.
pub(super) const REPORT_SECONDS: f64 = 60.0;
const REPORTS: f64 = MONTH_SECONDS / REPORT_SECONDS;

/// Days after which a certificate of 90 is renewed.
const RENEWED_AFTER_DAYS: f64 = 60.0;
/// Of an order's 18 calls (docs/operations.md) one is the commit, of a chain of 5 KiB and four small items, which a transaction
/// counts twice: 18 units. Of the other 17 each is counted as a write and as a read, which is more than they are.
const ORDER_WRITES: f64 = 2.0 * (5.0 + 4.0) + ORDER_OTHER_CALLS;
const ORDER_READS: f64 = ORDER_OTHER_CALLS;
const ORDER_OTHER_CALLS: f64 = 17.0;

/// Let's Encrypt wants to be asked every six hours when a certificate is to be renewed (ARI); each time is one write, of an item and
/// twice of the index by the attribute that it changes.
const QUESTIONS_A_DAY: f64 = 4.0;
const QUESTION_WRITES: f64 = 3.0;
/// The search for those that are due takes place once in so many periods of renewals.
const QUESTION_PERIODS: f64 = 10.0;

/// `verification.interval` is a day; each check reads an entry and writes it.
const CHECKS_A_DAY: f64 = 1.0;

/// Of a name: chain, key, description, the state's records, the entry, and its copies in two indexes.
const NAME_BYTES: f64 = 12_288.0;
/// Those of it in tables that can be restored to a point in time, which are all but the state table.
const RESTORABLE_NAME_BYTES: f64 = 10_240.0;

/// An answer of DynamoDB with its header section, when it says that nothing is new.
const ANSWER_BYTES: f64 = 500.0;

const TABLES: f64 = 3.0;
/// DynamoDB keeps a table's key for as long, and asks KMS again then.
const KEY_KEPT_SECONDS: f64 = 300.0;

/// The accelerator has two public IPv4 addresses.
pub(super) const ACCELERATOR_ADDRESSES: f64 = 2.0;
/// Alarms of a region's stack.
pub(super) const REGION_ALARMS: f64 = 2.0;
/// Dashboards of a region's stack.
pub(super) const REGION_DASHBOARDS: f64 = 1.0;
/// Dashboards that cost an account nothing.
pub(super) const FREE_DASHBOARDS: f64 = 3.0;
/// A region's fleet function runs each minute,
const FUNCTION_CALLS: f64 = MONTH_SECONDS / 60.0;
/// for less than a second, with 128 MB,
const FUNCTION_GB_SECONDS: f64 = FUNCTION_CALLS * 0.128;
/// and writes some lines.
const FUNCTION_LOG_BYTES: f64 = 500.0;
/// Of an account, to the internet, in a month.
const FREE_GIGABYTES: f64 = 100.0;

/// What is charged by use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    pub(super) read_units: f64,
    pub(super) write_units: f64,
    pub(super) stored_gigabytes: f64,
    pub(super) restorable_gigabytes: f64,
    pub(super) key_requests: f64,
    pub(super) function_calls: f64,
    pub(super) function_gb_seconds: f64,
    pub(super) log_gigabytes: f64,
    pub(super) internet_gigabytes: f64,
    /// From the tables' region to instances of others.
    pub(super) region_gigabytes: f64,
}

impl Usage {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let instances = fleet.all_instances();
        let polling = polling(fleet);
        let followed = followed_chains(fleet);
        let orders = fleet.domains * MONTH_DAYS / RENEWED_AFTER_DAYS;
        let questions = fleet.domains * MONTH_DAYS * QUESTIONS_A_DAY;
        let checks = if fleet.is_verifying { fleet.domains * MONTH_DAYS * CHECKS_A_DAY } else { 0.0 };
        let abroad = (fleet.regions - 1.0) * fleet.instances;
        Self {
            read_units: instances * (polling.read_units + whole_readings(fleet) + followed * CHAIN_READ)
                + orders * ORDER_READS
                + checks * CONSISTENT,
            write_units: orders * ORDER_WRITES + questions * QUESTION_WRITES + checks + instances * REPORTS,
            stored_gigabytes: fleet.domains * NAME_BYTES / GIGABYTE,
            restorable_gigabytes: fleet.domains * RESTORABLE_NAME_BYTES / GIGABYTE,
            key_requests: match fleet.key {
                Key::Own => instances * TABLES * MONTH_SECONDS / KEY_KEPT_SECONDS,
                Key::Aws => 0.0,
            },
            function_calls: fleet.regions * FUNCTION_CALLS,
            function_gb_seconds: fleet.regions * FUNCTION_GB_SECONDS,
            log_gigabytes: fleet.regions * FUNCTION_CALLS * FUNCTION_LOG_BYTES / GIGABYTE,
            internet_gigabytes: (fleet.gigabytes - FREE_GIGABYTES).max(0.0),
            region_gigabytes: abroad
                * ((polling.calls + REPORTS) * ANSWER_BYTES
                    + whole_readings(fleet) / EVENTUAL * UNIT_BYTES
                    + followed * CHAIN_BYTES)
                / GIGABYTE,
        }
    }
}

/// What an instance asks for without any client's doing.
struct Polling {
    calls: f64,
    read_units: f64,
}

fn polling(fleet: &Fleet) -> Polling {
    let busy = busy_share(fleet);
    let feed = FEEDS * MONTH_SECONDS * (busy / fleet.poll_seconds + (1.0 - busy) / IDLE_POLL_SECONDS);
    let searches = MONTH_SECONDS / RENEWAL_PERIOD_SECONDS;
    let eventual = feed + DUE_SHARDS * searches * (1.0 + 1.0 / QUESTION_PERIODS);
    let consistent =
        BUDGET_QUERIES * searches + MONTH_SECONDS / FOLLOW_SECONDS + MONTH_SECONDS / TICKETS_SECONDS;
    Polling { calls: eventual + consistent, read_units: eventual * EVENTUAL + consistent * CONSISTENT }
}

/// Units of an instance's whole readings of the feed.
fn whole_readings(fleet: &Fleet) -> f64 {
    MONTH_HOURS / WHOLE_READING_HOURS * fleet.domains * ROW_BYTES / UNIT_BYTES * EVENTUAL
}

/// The part of the time in which an instance polls as one with clients, if they come at random.
pub(super) fn busy_share(fleet: &Fleet) -> f64 {
    let arrivals = connections(fleet) * IDLE_AFTER_SECONDS / MONTH_SECONDS;
    1.0 - (-arrivals).exp()
}

/// Chains that an instance reads again: in each round those of the names that were asked for since the last one.
fn followed_chains(fleet: &Fleet) -> f64 {
    if fleet.domains == 0.0 {
        return 0.0;
    }
    let rounds = MONTH_SECONDS / FOLLOW_SECONDS;
    let handshakes = connections(fleet) / rounds;
    rounds * fleet.domains * (1.0 - (-handshakes / fleet.domains).exp())
}

/// Of one instance in a month.
fn connections(fleet: &Fleet) -> f64 {
    fleet.requests / fleet.requests_per_connection / fleet.all_instances()
}
