//! The instructions that work took when they were last recorded, which it may not exceed unnoticed.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Thousands of instructions for each kind of work, of a binary of this compiler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    pub(super) compiler: String,
    pub(super) thousands: BTreeMap<String, f64>,
}

impl Recorded {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not as it was recorded", path.display()))
    }

    /// Fails where `counted` is more than was recorded; says where it is less. Both have to be of the same work.
    pub(super) fn judge(&self, counted: &Self) -> anyhow::Result<String> {
        // Another compiler makes other code of the same sources.
        let tolerance = if self.compiler == counted.compiler { TOLERANCE } else { ACROSS_COMPILERS };
        let mut said = Vec::new();
        let (mut more, mut less) = (false, false);
        for (work, recorded) in &self.thousands {
            let now = counted.thousands.get(work).with_context(|| format!("{work} was not counted"))?;
            let change = now / recorded - 1.0;
            (more, less) = (more || change > tolerance, less || change < -tolerance);
            let percent = 100.0 * change;
            said.push(format!("{work}: {now:.2} thousand instructions, {percent:+.1} % of {recorded:.2}"));
        }
        if let Some(work) = counted.thousands.keys().find(|work| !self.thousands.contains_key(*work)) {
            bail!("{work} is not recorded");
        }
        if more || less {
            said.push(format!("to be recorded, if it is meant: {}", serde_json::to_string(counted)?));
        }
        let said = said.join("\n");
        if more {
            bail!("more than {:.0} % above what was recorded:\n{said}", 100.0 * tolerance)
        }
        Ok(said)
    }
}

const TOLERANCE: f64 = 0.02;
const ACROSS_COMPILERS: f64 = 0.15;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(compiler: &str, kept_alive: f64) -> Recorded {
        let thousands = BTreeMap::from([("kept-alive request".to_owned(), kept_alive)]);
        Recorded { compiler: compiler.to_owned(), thousands }
    }

    #[test]
    fn what_takes_more_is_refused_and_what_takes_less_is_told() {
        let recorded = counts("rustc 1", 30.0);
        assert!(!recorded.judge(&counts("rustc 1", 30.5)).unwrap().contains("recorded"));
        assert!(recorded.judge(&counts("rustc 1", 29.0)).unwrap().contains("to be recorded"));
        let refused = recorded.judge(&counts("rustc 1", 30.7)).unwrap_err().to_string();
        assert!(
            refused.contains("+2.3 % of 30.00") && refused.contains(r#""kept-alive request":30.7"#),
            "{refused}"
        );
        assert!(recorded.judge(&counts("rustc 2", 34.0)).is_ok());
        assert!(recorded.judge(&counts("rustc 2", 35.0)).is_err());
    }

    #[test]
    fn the_same_work_is_compared() {
        let (recorded, mut counted) = (counts("rustc 1", 30.0), counts("rustc 1", 30.0));
        counted.thousands.insert("another".to_owned(), 1.0);
        assert_eq!(recorded.judge(&counted).unwrap_err().to_string(), "another is not recorded");
        assert_eq!(counted.judge(&recorded).unwrap_err().to_string(), "another was not counted");
    }
}
