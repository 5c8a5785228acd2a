//! A scrape of an instance's metrics.

use std::fmt;

/// The samples of one scrape.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<(String, f64)>);

impl Metrics {
    /// Reads Prometheus's text format; lines that are no samples are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The sum over all series of `name` whose labels contain every one of `labels`, as `label="value"`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = |series: &str| series.split('{').next() == Some(name);
        let matching = self
            .0
            .iter()
            .filter(|(series, _)| of_name(series) && labels.iter().all(|label| series.contains(label)));
        matching.map(|(_, value)| value).sum()
    }

    /// Packets that met a verdict of the guard whose name starts with `verdict`.
    #[must_use]
    pub fn verdicts(&self, verdict: &str) -> f64 {
        self.sum("gatehouse_guard_packets_total", &[&format!("verdict=\"{verdict}")])
    }

    /// Whether there is a series of `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(series, _)| series.split('{').next() == Some(name))
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .filter(|(_, value)| *value != 0.0)
            .try_for_each(|(series, value)| writeln!(f, "{series} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let metrics = Metrics::parse(
            "# TYPE a_total counter\na_total{verdict=\"pass_x\",cpu=\"0\"} 1\na_total{verdict=\"pass_y\"} 2\n\
             a_total{verdict=\"reject\"} 4\na_total_other 8\nb 1.5\n",
        );
        for (name, labels, sum) in [
            ("a_total", &[][..], 7.0),
            ("a_total", &["verdict=\"pass_"], 3.0),
            ("a_total", &["verdict=\"pass_x\"", "cpu=\"0\""], 1.0),
            ("b", &[], 1.5),
            ("absent", &[], 0.0),
        ] {
            assert!((metrics.sum(name, labels) - sum).abs() < 1e-9, "{name} {labels:?}");
        }
    }
}
