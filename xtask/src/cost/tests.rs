use clap::Parser;

use super::{
    CostArguments,
    bill::{Bill, GOAL},
    fleet::{Fleet, Key},
    prices::Prices,
    usage::{
        DUE_SHARDS, FEEDS, FOLLOW_SECONDS, IDLE_POLL_SECONDS, MONTH_SECONDS, REGION_ALARMS,
        REGION_DASHBOARDS, RENEWAL_PERIOD_SECONDS, REPORT_SECONDS, Usage, WHOLE_READING_HOURS, busy_share,
    },
};

const PRICES: &str = include_str!("../../../infra/prices.json");

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    cost: CostArguments,
}

/// The fleet of `cargo xtask cost OPTIONS`.
fn fleet(options: &str) -> Fleet {
    CommandLine::try_parse_from(["cost"].into_iter().chain(options.split_whitespace())).unwrap().cost.into()
}

fn prices() -> Prices {
    Prices::read(PRICES).unwrap()
}

fn bill(options: &str) -> Bill {
    Bill::of(&fleet(options), &prices()).unwrap()
}

/// What `item` costs in a month.
fn amount(bill: &Bill, item: &str) -> f64 {
    bill.items.iter().filter(|found| found.what == item).map(super::bill::Item::amount).sum()
}

fn assert_near(seen: f64, wanted: f64) {
    assert!((seen - wanted).abs() < 0.005, "{seen}, not {wanted}");
}

#[test]
fn the_fixed_part_is_hours_times_prices() {
    let bill = bill("");
    for (item, wanted) in [
        ("instances", 3.024),
        ("their disks", 0.64),
        ("their public IPv4 addresses", 3.60),
        ("accelerator", 18.00),
        ("its public IPv4 addresses", 7.20),
        ("key of the tables", 1.00),
        ("alarms", 0.20),
        ("traffic to the internet", 0.0),
    ] {
        assert_near(amount(&bill, item), wanted);
    }
    assert_near(bill.items.iter().map(super::bill::Item::amount).sum(), bill.total());
}

/// The seed's fleet: $26.39 by its own table, which left out addresses and disk.
#[test]
fn the_seeds_fleet_costs_what_was_computed_by_hand() {
    let bill = bill("--instance-type t2.micro --key aws");
    let hand = [
        "instances",
        "their disks",
        "their public IPv4 addresses",
        "accelerator",
        "its public IPv4 addresses",
    ];
    assert_near(hand.iter().map(|item| amount(&bill, item)).sum(), 8.352 + 0.64 + 3.60 + 18.00 + 7.20);
}

#[test]
fn a_region_more_costs_no_second_accelerator() {
    let (one, two) = (bill("--regions 1"), bill("--regions 2"));
    assert_near(amount(&two, "accelerator"), amount(&one, "accelerator"));
    assert_near(amount(&two, "instances"), 2.0 * amount(&one, "instances"));
    assert_near(amount(&two, "alarms"), 2.0 * amount(&one, "alarms"));
    let dashboards = |regions: u32| amount(&bill(&format!("--regions {regions}")), "dashboards");
    assert_near(dashboards(3), 0.0);
    assert_near(dashboards(5), 6.0);
    assert!(amount(&one, "tables to other regions") == 0.0 && amount(&two, "tables to other regions") > 0.0);
}

/// `docs/operations.md` says 10.4 million queries a month for an instance with clients.
#[test]
fn a_busy_instance_reads_the_feed_each_second_and_an_idle_one_each_half_minute() {
    let (idle, busy) = (Usage::of(&fleet("")), Usage::of(&fleet("--domains 0 --requests 100000000")));
    assert_near(busy_share(&fleet("")), 0.0);
    assert_near(busy_share(&fleet("--requests 100000000")), 1.0);
    let feed = FEEDS * MONTH_SECONDS;
    assert_near(feed / 1e6, 10.368);
    let more = busy.read_units - idle.read_units + fleet("").domains / 2.0 * 17.0;
    assert_near(more / 1e6, (feed - feed / IDLE_POLL_SECONDS) * 0.5 / 1e6);
    let slower = Usage::of(&fleet("--domains 0 --requests 100000000 --poll 5"));
    assert_near((busy.read_units - slower.read_units) / 1e6, feed * 0.8 * 0.5 / 1e6);
}

/// `domains::feed` reads the whole feed so often; that an index row has some 250 bytes, docs/deploying.md says, too.
#[test]
fn the_whole_table_is_read_each_hour_by_each_instance() {
    let reads = |options: &str| Usage::of(&fleet(options)).read_units;
    let orders = 1e6 / 2.0 * 17.0;
    let one = reads("--domains 1000000") - reads("--domains 0") - orders;
    assert_near(one / 1e6, 720.0 * 250.0 / 4096.0 / 2.0);
    let three = reads("--domains 1000000 --instances 3") - reads("--domains 0 --instances 3") - orders;
    assert_near(three / 1e6, 3.0 * one / 1e6);
    let feed = include_str!("../../../proxy/src/domains/feed.rs");
    assert!(feed.contains(&format!("FULL_PERIOD: Duration = Duration::from_hours({WHOLE_READING_HOURS});")));
}

/// A client each minute finds the instance awake for the part of it that chance gives: 1 - 1/e.
#[test]
fn few_clients_keep_an_instance_busy_for_a_part_of_the_time() {
    assert_near(busy_share(&fleet("--requests 43200 --requests-per-connection 1")), 0.632);
    assert_near(busy_share(&fleet("--requests 432000")), 0.632);
    assert_near(busy_share(&fleet("--requests 432000 --instances 2")), 0.393);
}

#[test]
fn chains_are_followed_for_names_that_are_asked_for_and_no_others() {
    let reads = |options: &str| Usage::of(&fleet(options)).read_units;
    // Of many names that share few handshakes, each handshake has one read: the bound is the number of handshakes.
    let few = reads("--domains 1000000 --requests 1000000") - reads("--domains 1000000 --requests 0");
    let polls = reads("--domains 0 --requests 1000000") - reads("--domains 0 --requests 0");
    assert!((few - polls - 100_000.0).abs() < 100.0, "{few} {polls}");
    // One name is read three times a minute at most.
    let one = reads("--domains 1 --requests 1000000000") - reads("--domains 0 --requests 1000000000");
    assert!((one - MONTH_SECONDS / FOLLOW_SECONDS).abs() < 100.0, "{one}");
}

/// `docs/verification.md`: 100,000 names that are right cost about 3 million writes a month. `docs/operations.md`: CAs are asked four times
/// a day when to renew.
#[test]
fn verification_writes_each_name_daily_questions_to_cas_four_times_and_renewals_each_second_month() {
    let [with, without] =
        ["--domains 100000 --verification", "--domains 100000"].map(|options| Usage::of(&fleet(options)));
    assert_near((with.write_units - without.write_units) / 1e6, 3.0);
    let reports = MONTH_SECONDS / REPORT_SECONDS;
    let questions = 100_000.0 * 30.0 * 12.0;
    assert_near(without.write_units / 1e6, (50_000.0 * 35.0 + questions + reports) / 1e6);
}

/// `docs/operations.md`: an instance that says how it is costs a write a minute.
#[test]
fn each_instance_writes_how_it_is_once_a_minute() {
    let [one, three] = ["--domains 0", "--domains 0 --instances 3"].map(|options| Usage::of(&fleet(options)));
    assert_near(one.write_units, 43_200.0);
    assert_near(three.write_units, 3.0 * 43_200.0);
}

#[test]
fn traffic_costs_twice_and_its_first_gigabytes_once() {
    let bill = bill("--gigabytes 1100");
    assert_near(amount(&bill, "traffic to the internet"), 90.0);
    assert_near(amount(&bill, "traffic by the accelerator"), 16.5);
}

/// The goal is for everything; the bill says by how much it is missed, and which options cost less.
#[test]
fn the_goal_is_missed_and_by_cents_even_without_a_key_on_a_smaller_disk() {
    let usual = bill("");
    let over = usual.over_goal.unwrap();
    assert_near(over, usual.total() - GOAL);
    assert!((1.0..2.0).contains(&over), "{over}");
    assert!(usual.text().contains("goal: at most 32.50, missed by 1."), "{}", usual.text());
    let saved: Vec<_> =
        usual.savings.iter().map(|saving| saving.options.split('`').nth(1).unwrap()).collect();
    assert_eq!(saved, ["--key aws", "--disk 4"]);
    let lean = bill("--key aws --disk 4");
    assert!((0.0..0.1).contains(&lean.over_goal.unwrap()), "{}", lean.text());
    let page = include_str!("../../../docs/deploying.md");
    for total in [usual.total(), lean.total()] {
        assert!(page.contains(&format!("{total:.2}")), "docs/deploying.md does not say {total:.2}");
    }
    for other in ["--instances 2", "--regions 2", "--instance-type t4g.micro", "--gigabytes 1"] {
        assert_eq!(bill(other).over_goal, None, "{other}");
    }
}

#[test]
fn what_is_uncertain_is_marked_and_explained() {
    let text = bill("").text();
    for line in [
        "alarms?",
        "? alarms: undated",
        "undated     c3x.dev",
        "every region at the prices of us-east-1",
        "snapshots of images in each region",
        "beyond the credits of a burstable type (`cpu_credits`)",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    for item in &bill("--gigabytes 1 --regions 2").items {
        assert!(
            item.price.date.is_some() || item.price.doubt.is_some(),
            "{} is undated without a doubt",
            item.what
        );
    }
}

#[test]
fn json_has_every_item_and_the_sum() {
    let bill = bill("--regions 2 --gigabytes 500");
    let json = bill.json();
    let months = json["items"].as_array().unwrap().iter().map(|item| item["month"].as_f64().unwrap());
    assert_near(months.sum(), json["total"].as_f64().unwrap());
    assert_eq!(json["items"][0]["source"], bill.items[0].price.source.as_str());
}

#[test]
fn wrong_options_name_option_value_and_remedy() {
    for (options, named) in [
        (["--regions", "0"], "--regions <N>"),
        (["--requests", "1e6"], "--requests <R>"),
        (["--domains", "many"], "--domains <M>"),
        (["--poll", "0"], "--poll <SECONDS>"),
        (["--key", "mine"], "--key <KEY>"),
    ] {
        let said =
            CommandLine::try_parse_from(["cost"].into_iter().chain(options)).err().unwrap().to_string();
        assert!(said.contains(named) && said.contains(options[1]), "{options:?}: {said}");
        let has_remedy =
            ["write", "possible values", "tip", "Usage"].iter().any(|remedy| said.contains(remedy));
        assert!(has_remedy, "{options:?}: {said}");
    }
    assert!(Bill::of(&fleet("--instance-type disk"), &prices()).is_err());
    let said = Bill::of(&fleet("--instance-type x9.huge"), &prices()).err().unwrap().to_string();
    assert!(
        said.contains(
            "--instance-type: `x9.huge` has no price; add it to infra/prices.json, or take one of c7g.large, "
        ) && said.contains("t4g.nano")
    );
}

#[test]
fn a_wrong_price_is_named_with_its_item() {
    let read = |item: &str| {
        let text = format!(
            r#"{{ "currency": "USD", "region": "us-east-1", "instances": {{}}, "prices": {{ "disk": {item} }} }}"#
        );
        Prices::read(&text).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(read(r#"{ "price": 0.08, "unit": "GB-month", "source": "x" }"#), "");
    assert!(read(r#"{ "unit": "GB-month", "source": "x" }"#).contains("`disk`: `price` must be a number"));
    assert!(
        read(r#"{ "price": -1, "unit": "GB-month", "source": "x" }"#)
            .contains("is -1, and must not be negative")
    );
    assert!(read(r#"{ "price": 0.08, "unit": "GB-month" }"#).contains("`disk`: `source` is missing"));
}

/// The numbers that the bill takes from the program are the program's.
#[test]
fn defaults_are_those_of_the_settings() {
    let settings = include_str!("../../../docs/settings.md");
    for row in [
        "| `domains.poll` | `\"1s\"` |",
        "| `domains.idle_poll` | `\"30s\"` |",
        "| `certificates.renewal_period` | `\"1m\"` |",
        "| `verification.interval` | `\"1d\"` |",
    ] {
        assert!(settings.contains(row), "{row}");
    }
    assert_eq!((IDLE_POLL_SECONDS, RENEWAL_PERIOD_SECONDS), (30.0, 60.0));
    let shards = include_str!("../../../proxy/src/store/state_table/order_record.rs");
    assert!(shards.contains(&format!("SHARDS: u8 = {DUE_SHARDS};")));
    let follow = include_str!("../../../proxy/src/certificates/follow.rs");
    assert!(follow.contains(&format!("PERIOD: Duration = Duration::from_secs({FOLLOW_SECONDS});")));
    assert!(include_str!("../../../docs/operations.md").contains("18 calls for a new name"));
    let stack = include_str!("../../../infra/fleet.yaml");
    let alarms = format!("{}", stack.matches("Type: AWS::CloudWatch::Alarm").count());
    assert_eq!(alarms, REGION_ALARMS.to_string());
    let dashboards = stack.matches("Type: AWS::CloudWatch::Dashboard").count().to_string();
    assert_eq!(dashboards, REGION_DASHBOARDS.to_string());
    assert_eq!((fleet("").poll_seconds, fleet("").key), (1.0, Key::Own));
}
