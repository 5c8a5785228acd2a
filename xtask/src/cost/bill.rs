//! The bill: usage times prices.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{
    fleet::{Fleet, Key},
    prices::{Price, Prices},
    usage::{ACCELERATOR_ADDRESSES, FREE_DASHBOARDS, MONTH_HOURS, REGION_ALARMS, REGION_DASHBOARDS, Usage},
};

/// What one region with one small instance is to cost at most in a month, all included.
pub(super) const GOAL: f64 = 32.50;
pub(super) const GOAL_TYPE: &str = "t4g.nano";

pub(super) struct Bill {
    currency: String,
    region: String,
    pub(super) items: Vec<Item>,
    /// The total less the goal, where the goal is about such a fleet.
    pub(super) over_goal: Option<f64>,
    /// What would be saved by other options of this command.
    pub(super) savings: Vec<Saving>,
}

pub(super) struct Item {
    pub(super) what: &'static str,
    /// In the price's units.
    pub(super) quantity: f64,
    pub(super) price: Price,
}

pub(super) struct Saving {
    pub(super) options: &'static str,
    pub(super) amount: f64,
}

impl Item {
    pub(super) fn amount(&self) -> f64 {
        self.quantity * self.price.of_unit
    }
}

impl Bill {
    pub(super) fn of(fleet: &Fleet, prices: &Prices) -> anyhow::Result<Self> {
        let items = items(fleet, prices)?;
        let total = total(&items);
        let mut savings = Vec::new();
        for (options, other) in alternatives(fleet) {
            let amount = total - self::total(&self::items(&other, prices)?);
            if amount >= CENT {
                savings.push(Saving { options, amount });
            }
        }
        let is_goals =
            fleet.all_instances() <= 1.0 && fleet.instance_type == GOAL_TYPE && fleet.gigabytes <= 0.0;
        Ok(Self {
            currency: prices.currency.clone(),
            region: prices.region.clone(),
            items,
            over_goal: is_goals.then_some(total - GOAL),
            savings,
        })
    }

    pub(super) fn total(&self) -> f64 {
        total(&self.items)
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{:<32}{:>14} {:<11}{:>13}{:>10}  AS OF       SOURCE\n",
            "ITEM", "QUANTITY", "UNIT", "PRICE", "MONTH"
        );
        for item in &self.items {
            let price = &item.price;
            let mark = if price.doubt.is_some() { "?" } else { "" };
            let date = price.date.as_deref().unwrap_or("undated");
            let _ = writeln!(
                text,
                "{:<32}{:>14.3} {:<11}{:>13}{:>10.2}  {date:<12}{}",
                format!("{}{mark}", item.what),
                item.quantity,
                price.unit,
                price.of_unit,
                item.amount(),
                price.source
            );
        }
        let _ = writeln!(text, "{:<32}{:>49.2}", "TOTAL", self.total());
        self.remarks(&mut text);
        text
    }

    fn remarks(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n{} without taxes, for 30 days; every region at the prices of {}. Free tiers are left out, but the first 100 GB and three dashboards.",
            self.currency, self.region
        );
        text.push_str(
            "Not in it: a hosted zone, orders of new names, a larger DynamoDB backup, snapshots of images in each region, CPU beyond the credits of a burstable \
             type (`cpu_credits`), support.\n",
        );
        for (what, doubt) in
            self.items.iter().filter_map(|item| Some((item.what, item.price.doubt.as_ref()?)))
        {
            let _ = writeln!(text, "? {what}: {doubt}");
        }
        if let Some(over) = self.over_goal {
            let verdict = if over > 0.0 { "missed by" } else { "met, with a rest of" };
            let _ = writeln!(text, "\ngoal: at most {GOAL:.2}, {verdict} {:.2}", over.abs());
        }
        for saving in &self.savings {
            let _ = writeln!(text, "cheaper by {:.2}: {}", saving.amount, saving.options);
        }
    }

    pub(super) fn json(&self) -> Value {
        let items = self.items.iter().map(|item| {
            let Price { of_unit, unit, date, source, doubt } = &item.price;
            json!({
                "item": item.what, "quantity": item.quantity, "unit": unit, "price": of_unit,
                "month": item.amount(), "date": date, "source": source, "doubt": doubt,
            })
        });
        let savings =
            self.savings.iter().map(|saving| json!({ "options": saving.options, "month": saving.amount }));
        json!({
            "currency": self.currency, "prices_of": self.region, "items": items.collect::<Vec<_>>(),
            "total": self.total(), "over_goal": self.over_goal, "savings": savings.collect::<Vec<_>>(),
        })
    }
}

fn total(items: &[Item]) -> f64 {
    items.iter().map(Item::amount).sum()
}

fn items(fleet: &Fleet, prices: &Prices) -> anyhow::Result<Vec<Item>> {
    let usage = Usage::of(fleet);
    let instances = fleet.all_instances();
    let keys = if fleet.key == Key::Own { 1.0 } else { 0.0 };
    let dashboards = (fleet.regions * REGION_DASHBOARDS - FREE_DASHBOARDS).max(0.0);
    let charged = [
        ("their disks", "disk", instances * fleet.disk_gigabytes),
        ("their public IPv4 addresses", "ipv4", instances * MONTH_HOURS),
        ("accelerator", "accelerator", MONTH_HOURS),
        ("its public IPv4 addresses", "ipv4", ACCELERATOR_ADDRESSES * MONTH_HOURS),
        ("tables: reads", "table_reads", usage.read_units / MILLION),
        ("tables: writes", "table_writes", usage.write_units / MILLION),
        ("tables: storage", "table_storage", usage.stored_gigabytes),
        ("tables: restoration", "table_backup", usage.restorable_gigabytes),
        ("key of the tables", "key", keys),
        ("its use", "key_requests", usage.key_requests / 10_000.0),
        ("alarms", "alarm", fleet.regions * REGION_ALARMS),
        ("dashboards", "dashboard", dashboards),
        ("fleet function: calls", "function_calls", usage.function_calls / MILLION),
        ("fleet function: time", "function_seconds", usage.function_gb_seconds),
        ("fleet function: logs", "logs", usage.log_gigabytes),
        ("traffic to the internet", "traffic", usage.internet_gigabytes),
        ("traffic by the accelerator", "accelerator_traffic", fleet.gigabytes),
        ("tables to other regions", "between_regions", usage.region_gigabytes),
    ];
    let price = prices.instance(&fleet.instance_type)?;
    let first = Item { what: "instances", quantity: instances * MONTH_HOURS, price };
    let others = charged.into_iter().filter(|(_, _, quantity)| *quantity > 0.0);
    let others = others.map(|(what, price, quantity)| Ok(Item { what, quantity, price: prices.of(price)? }));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Options that cost less, with what they mean.
fn alternatives(fleet: &Fleet) -> [(&'static str, Fleet); 3] {
    [
        (
            "`--poll 5`: changes of names take up to five seconds instead of one",
            Fleet { poll_seconds: fleet.poll_seconds.max(5.0), ..fleet.clone() },
        ),
        (
            "`--key aws`: whoever may read the tables needs no right to a key",
            Fleet { key: Key::Aws, ..fleet.clone() },
        ),
        (
            "`--disk 4`: a launch template with a smaller disk, which the image has to fit",
            Fleet { disk_gigabytes: fleet.disk_gigabytes.min(4.0), ..fleet.clone() },
        ),
    ]
}

const MILLION: f64 = 1e6;
const CENT: f64 = 0.01;
