//! `infra/prices.json`.

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

/// What is charged, by item.
pub(super) struct Prices {
    pub(super) currency: String,
    /// The region whose prices they are.
    pub(super) region: String,
    table: Map<String, Value>,
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
        let Some(Value::Object(table)) = value.get_mut("prices").map(Value::take) else {
            bail!("`prices` is missing: an object of items");
        };
        let prices = Self { currency, region, table };
        for item in prices.table.keys() {
            prices.of(item)?;
        }
        Ok(prices)
    }

    /// # Errors
    /// There is none for `item`, or it lacks something.
    pub(super) fn of(&self, item: &str) -> anyhow::Result<Price> {
        let found = self.table.get(item).with_context(|| {
            let known: Vec<_> = self.table.keys().map(String::as_str).collect();
            format!("`{item}` has no price; add it to infra/prices.json, or take one of {}", known.join(", "))
        })?;
        let text = |key: &str| found.get(key).and_then(Value::as_str).map(str::to_owned);
        let price = found.get("price").and_then(Value::as_f64);
        let price = price.with_context(|| format!("`{item}`: `price` must be a number, in the currency"))?;
        ensure!(price >= 0.0, "`{item}`: `price` is {price}, and must not be negative");
        let missing = |key: &str| format!("`{item}`: `{key}` is missing: write who says so, and for what");
        Ok(Price {
            of_unit: price,
            unit: text("unit").with_context(|| missing("unit"))?,
            date: text("date"),
            source: text("source").with_context(|| missing("source"))?,
            doubt: text("doubt"),
        })
    }
}
