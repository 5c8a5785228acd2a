//! Metrics declared once, in the module they belong to, with labels that come from enums only.
//! Invariant: a label's values are known when the program is compiled, so that no client can create a series
//! (`every_variant_has_its_series_from_the_start`).

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// An enum that labels a metric. Declare it with [`crate::label!`].
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every variant, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// The label's value.
    fn as_str(self) -> &'static str;
    /// The variant's place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum whose variants are the values of one metric label:
/// `label! { /// Doc. pub enum Outcome["outcome"] { /// Doc. Done = "done", } }`.
#[macro_export]
macro_rules! label {
    ($(#[$meta:meta])* $vis:vis enum $name:ident[$label:literal] {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        $vis enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $crate::telemetry::metrics::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// Counters of one name, one per variant of `L`; all exist from the start.
#[derive(Clone)]
pub struct Counters<L>(Box<[IntCounter]>, std::marker::PhantomData<L>);

impl<L: Label> Counters<L> {
    /// Registers `name`, which ends in `_total`.
    pub fn register(registry: &Registry, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &[L::NAME])?)?;
        let children = L::ALL.iter().map(|label| family.with_label_values(&[label.as_str()])).collect();
        Ok(Self(children, std::marker::PhantomData))
    }

    /// Counts one more.
    pub fn bump(&self, label: L) {
        self.add(label, 1);
    }

    /// Counts `n` more.
    pub fn add(&self, label: L, n: u64) {
        if let Some(counter) = self.0.get(label.index()) {
            counter.inc_by(n);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn count(&self, label: L) -> u64 {
        self.0.get(label.index()).map_or(0, IntCounter::get)
    }
}

/// Counters of one name by two labels, one for each combination; all exist from the start.
#[derive(Clone)]
pub struct Counters2<A, B>(Box<[IntCounter]>, std::marker::PhantomData<(A, B)>);

impl<A: Label, B: Label> Counters2<A, B> {
    /// Registers `name`, which ends in `_total`.
    pub fn register(registry: &Registry, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &[A::NAME, B::NAME])?)?;
        let pairs = A::ALL.iter().flat_map(|a| B::ALL.iter().map(move |b| (a, b)));
        let children = pairs.map(|(a, b)| family.with_label_values(&[a.as_str(), b.as_str()])).collect();
        Ok(Self(children, std::marker::PhantomData))
    }

    /// Counts one more.
    pub fn bump(&self, a: A, b: B) {
        if let Some(counter) = self.0.get(a.index() * B::ALL.len() + b.index()) {
            counter.inc();
        }
    }
}

/// Counters of one name by three labels, one for each combination; all exist from the start.
#[derive(Clone)]
pub struct Counters3<A, B, C>(Box<[IntCounter]>, std::marker::PhantomData<(A, B, C)>);

impl<A: Label, B: Label, C: Label> Counters3<A, B, C> {
    /// Registers `name`, which ends in `_total`.
    pub fn register(registry: &Registry, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let labels = [A::NAME, B::NAME, C::NAME];
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &labels)?)?;
        let mut children = Vec::with_capacity(A::ALL.len() * B::ALL.len() * C::ALL.len());
        for a in A::ALL {
            for b in B::ALL {
                for c in C::ALL {
                    children.push(family.with_label_values(&[a.as_str(), b.as_str(), c.as_str()]));
                }
            }
        }
        Ok(Self(children.into(), std::marker::PhantomData))
    }

    /// Counts one more.
    pub fn bump(&self, a: A, b: B, c: C) {
        let place = (a.index() * B::ALL.len() + b.index()) * C::ALL.len() + c.index();
        if let Some(counter) = self.0.get(place) {
            counter.inc();
        }
    }
}

/// Gauges of one name, one per variant of `L`.
#[derive(Clone)]
pub struct Gauges<L>(Box<[IntGauge]>, std::marker::PhantomData<L>);

impl<L: Label> Gauges<L> {
    /// Registers `name`.
    pub fn register(registry: &Registry, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let family = registered(registry, IntGaugeVec::new(Opts::new(name, help), &[L::NAME])?)?;
        let children = L::ALL.iter().map(|label| family.with_label_values(&[label.as_str()])).collect();
        Ok(Self(children, std::marker::PhantomData))
    }

    /// The gauge of `label`.
    pub fn set(&self, label: L, value: i64) {
        if let Some(gauge) = self.0.get(label.index()) {
            gauge.set(value);
        }
    }
}

/// Histograms of one name, one per variant of `L`.
#[derive(Clone)]
pub struct Histograms<L>(Box<[Histogram]>, std::marker::PhantomData<L>);

impl<L: Label> Histograms<L> {
    /// Registers `name`, which ends in its unit, with the upper bounds `buckets`.
    pub fn register(
        registry: &Registry,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = registered(registry, HistogramVec::new(options, &[L::NAME])?)?;
        let children = L::ALL.iter().map(|label| family.with_label_values(&[label.as_str()])).collect();
        Ok(Self(children, std::marker::PhantomData))
    }

    /// Takes one observation.
    pub fn observe(&self, label: L, value: f64) {
        if let Some(histogram) = self.0.get(label.index()) {
            histogram.observe(value);
        }
    }
}

/// Registers one counter without labels; `name` ends in `_total`.
pub fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    registered(registry, IntCounter::new(name, help)?)
}

/// Registers one gauge without labels.
pub fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    registered(registry, IntGauge::new(name, help)?)
}

/// Registers one histogram without labels; `name` ends in its unit.
pub fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    registered(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
}

/// Registers `metric`, whatever its labels.
pub(crate) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    label! {
        enum Colour["colour"] {
            Red = "red",
            Green = "green",
        }
    }

    label! {
        enum Size["size"] {
            Small = "small",
            Large = "large",
        }
    }

    #[test]
    fn each_combination_of_three_labels_is_a_series_of_its_own() {
        let registry = Registry::new();
        let all = Counters3::<Colour, Size, Colour2>::register(&registry, "things_total", "Things.").unwrap();
        for (n, colour) in Colour::ALL.iter().enumerate() {
            for (m, size) in Size::ALL.iter().enumerate() {
                for (o, other) in Colour2::ALL.iter().enumerate() {
                    (0..n * 4 + m * 2 + o).for_each(|_| all.bump(*colour, *size, *other));
                }
            }
        }
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "things_total{colour=\"red\",other=\"a\",size=\"small\"} 0",
            "things_total{colour=\"red\",other=\"b\",size=\"large\"} 3",
            "things_total{colour=\"green\",other=\"b\",size=\"large\"} 7",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    label! {
        enum Colour2["other"] {
            A = "a",
            B = "b",
        }
    }

    #[test]
    fn every_variant_has_its_series_from_the_start() {
        let registry = Registry::new();
        let colours = Counters::<Colour>::register(&registry, "colours_total", "Colours seen.").unwrap();
        colours.bump(Colour::Green);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in ["colours_total{colour=\"red\"} 0", "colours_total{colour=\"green\"} 1"] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
