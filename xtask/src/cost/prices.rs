//! `infra/prices.json`.

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

/// What is charged, by item.
pub(super) struct Prices {
    pub(super) currency: String,
    /// The region whose prices they are.
    pub(super) region: String,
    instances: Map<String, Value>,
    others: Map<String, Value>,
}

/// What one unit costs, and who says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Price {
    pub(super) of_unit: f64,
    pub(super) unit: String,
    /// ISO 8601; without one, the source has none.
    pub(super) date: Option<String>,
    pub(super) source: String,
    /// Why it may be another, if it may.
    pub(super) doubt: Option<String>,
}

impl Prices {
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let mut value: Value = serde_json::from_str(text).context("is no JSON")?;
        let field = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let currency = field("currency").context("`currency` is missing, like \"USD\"")?;
        let region = field("region").context("`region` is missing, like \"us-east-1\"")?;
        let mut table = |key: &str| match value.get_mut(key).map(Value::take) {
            Some(Value::Object(table)) => Ok(table),
            _ => bail!("`{key}` is missing: an object of prices"),
        };
        let prices = Self { currency, region, instances: table("instances")?, others: table("prices")? };
        for (item, found) in prices.instances.iter().chain(&prices.others) {
            price(item, found)?;
        }
        Ok(prices)
    }

    /// An hour of an instance.
    ///
    /// # Errors
    /// There is no price for `instance_type`.
    pub(super) fn instance(&self, instance_type: &str) -> anyhow::Result<Price> {
        let found = self.instances.get(instance_type).with_context(|| {
            let known: Vec<_> = self.instances.keys().map(String::as_str).collect();
            format!(
                "--instance-type: `{instance_type}` has no price; add it to infra/prices.json, or take one of {}",
                known.join(", ")
            )
        })?;
        price(instance_type, found)
    }

    /// # Errors
    /// There is no price for `item`.
    pub(super) fn of(&self, item: &str) -> anyhow::Result<Price> {
        price(item, self.others.get(item).with_context(|| format!("`{item}` has no price; add it"))?)
    }
}

fn price(item: &str, found: &Value) -> anyhow::Result<Price> {
    let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_owned);
    let of_unit = found.get("price").and_then(Value::as_f64);
    let of_unit = of_unit.with_context(|| format!("`{item}`: `price` must be a number, in the currency"))?;
    ensure!(of_unit >= 0.0, "`{item}`: `price` is {of_unit}, and must not be negative");
    let missing = |key: &str| format!("`{item}`: `{key}` is missing: write who says so, and for what");
    Ok(Price {
        of_unit,
        unit: text("unit").with_context(|| missing("unit"))?,
        date: text("date"),
        source: text("source").with_context(|| missing("source"))?,
        doubt: text("doubt"),
    })
}
