//! What a tool's output means, once the exceptions that we state are taken from it.

use std::fmt;

/// What a tool found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The tool's own name of what it looked at.
    pub(super) case: String,
    /// What it saw there.
    pub(super) seen: String,
}

/// What an output says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// How many expectations held.
    pub(super) held: usize,
    /// Those that did not.
    pub(super) findings: Vec<Finding>,
}

/// A finding that is no fault, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exception {
    pub(super) tool: &'static str,
    /// As in [`Finding::case`].
    pub(super) case: &'static str,
    pub(super) reason: &'static str,
}

/// A verdict beside the exceptions of its tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    held: usize,
    excepted: Vec<&'static str>,
    faults: Vec<Finding>,
}

impl Exception {
    pub(super) const fn new(tool: &'static str, case: &'static str, reason: &'static str) -> Self {
        Self { tool, case, reason }
    }
}

impl Finding {
    pub(super) fn new(case: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { case: case.into(), seen: seen.into() }
    }
}

impl Verdict {
    /// One finding, and nothing that held: the tool did not do what it was started for.
    pub(super) fn of_nothing(seen: impl Into<String>) -> Self {
        Self::default().and("the run itself", seen)
    }

    /// With one finding more.
    pub(super) fn and(mut self, case: impl Into<String>, seen: impl Into<String>) -> Self {
        self.findings.push(Finding::new(case, seen));
        self
    }
}

impl Judgement {
    /// Takes from `verdict` what is excepted. An exception that nothing needs is a fault, too: it would hide the next one.
    pub(super) fn new(tool: &str, verdict: Verdict, exceptions: &[Exception]) -> Self {
        let own: Vec<_> = exceptions.iter().filter(|exception| exception.tool == tool).collect();
        let is_met =
            |exception: &Exception| verdict.findings.iter().any(|finding| finding.case == exception.case);
        let (met, unneeded): (Vec<&Exception>, Vec<&Exception>) =
            own.into_iter().partition(|exception| is_met(exception));
        let is_new = |finding: &Finding| met.iter().all(|exception| exception.case != finding.case);
        let mut faults: Vec<_> = verdict.findings.into_iter().filter(is_new).collect();
        let nothing = |exception: &Exception| Finding::new(exception.case, "an exception that nothing needs");
        faults.extend(unneeded.into_iter().map(nothing));
        if verdict.held == 0 && faults.is_empty() {
            faults.push(Finding::new("the run itself", "nothing was expected, so that nothing held"));
        }
        Self { held: verdict.held, excepted: met.iter().map(|exception| exception.reason).collect(), faults }
    }

    /// Whether there is no fault.
    pub(super) fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} held", self.held)?;
        if !self.excepted.is_empty() {
            write!(f, ", {} excepted", self.excepted.len())?;
        }
        if !self.faults.is_empty() {
            write!(f, ", {} FAILED", self.faults.len())?;
        }
        for reason in &self.excepted {
            write!(f, "\n    excepted: {reason}")?;
        }
        for Finding { case, seen } in &self.faults {
            write!(f, "\n    FAILED {case}: {seen}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCEPTIONS: &[Exception] =
        &[Exception::new("tool", "known", "because"), Exception::new("other", "elsewhere", "because")];

    fn verdict(held: usize, cases: &[&str]) -> Verdict {
        Verdict { held, findings: cases.iter().map(|case| Finding::new(*case, "seen")).collect() }
    }

    fn faults(held: usize, cases: &[&str]) -> Vec<String> {
        let judgement = Judgement::new("tool", verdict(held, cases), EXCEPTIONS);
        assert_eq!(judgement.holds(), judgement.faults.is_empty());
        judgement.faults.into_iter().map(|finding| finding.case).collect()
    }

    #[test]
    fn what_is_excepted_is_no_fault_and_all_else_is() {
        assert!(faults(3, &["known"]).is_empty());
        assert_eq!(faults(3, &["known", "new", "elsewhere"]), ["new", "elsewhere"]);
    }

    #[test]
    fn an_exception_that_nothing_needs_fails() {
        assert_eq!(faults(3, &[]), ["known"]);
    }

    #[test]
    fn what_looked_at_nothing_fails() {
        assert_eq!(faults(0, &["known"]), ["the run itself"]);
        assert!(!Judgement::new("new tool", verdict(0, &[]), EXCEPTIONS).holds());
    }

    #[test]
    fn a_judgement_names_case_and_what_was_seen() {
        let text = Judgement::new("tool", verdict(2, &["known", "new"]), EXCEPTIONS).to_string();
        assert_eq!(text, "2 held, 1 excepted, 1 FAILED\n    excepted: because\n    FAILED new: seen");
    }
}
