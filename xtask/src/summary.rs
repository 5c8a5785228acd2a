//! What ran, counted from what libtest prints.

use std::fmt;

/// Counts per suite.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    suites: [Count; Suite::ALL.len()],
    /// Test binaries that ended badly without naming a failed test: a crash, or code that does not compile.
    lost: u32,
    failed_before: u32,
}

/// Whether a line is for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It is.
    Yes,
    /// It is counted only.
    No,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    passed: u32,
    failed: u32,
    ignored: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suite {
    Unit,
    Property,
    Verifier,
    EndToEnd,
}

impl Suite {
    const ALL: [Self; 4] = [Self::Unit, Self::Property, Self::Verifier, Self::EndToEnd];

    /// Suites go by the place of a test: property tests live in modules `properties`, the kernel's verdicts in
    /// `guard_program*`, and cases of the boundaries in the modules of `proxy/tests/it`.
    fn of(test: &str) -> Self {
        let first = test.split("::").next().unwrap_or_default();
        if test.split("::").any(|module| module == "properties") {
            Self::Property
        } else if first.starts_with("guard_program") || first == "guard_userspace" {
            Self::Verifier
        } else if END_TO_END.contains(&first) {
            Self::EndToEnd
        } else {
            Self::Unit
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Property => "property",
            Self::Verifier => "verifier",
            Self::EndToEnd => "end to end",
        }
    }
}

impl Summary {
    /// Takes a line of libtest's output.
    pub(crate) fn read(&mut self, line: &str) -> Shown {
        let Some((test, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return if is_noise(line) { Shown::No } else { Shown::Yes };
        };
        let suite = Suite::of(test);
        let Some(count) = self.suites.get_mut(suite as usize) else { return Shown::Yes };
        match outcome.split(',').next().unwrap_or_default() {
            "ok" => count.passed += 1,
            "ignored" => count.ignored += 1,
            _ => count.failed += 1,
        }
        if outcome == "ok" && matches!(suite, Suite::Unit | Suite::Property) { Shown::No } else { Shown::Yes }
    }

    /// Takes the outcome of an end-to-end case that is none of libtest's.
    pub(crate) fn count(&mut self, holds: bool) {
        let [.., Count { passed, failed, .. }] = &mut self.suites;
        *(if holds { passed } else { failed }) += 1;
    }

    /// A run of `cargo test` has ended; one that failed without a failed test has lost a binary.
    pub(crate) fn end(&mut self, success: bool) {
        let failed = self.failed();
        if !success && failed == self.failed_before {
            self.lost += 1;
        }
        self.failed_before = failed;
    }

    /// Whether everything passed and no suite was empty.
    pub(crate) fn holds(&self) -> bool {
        let ran = self.suites.iter().all(|count| count.passed > 0 && count.ignored == 0);
        ran && self.failed() == 0 && self.lost == 0
    }

    /// The last line: passed and failed, a lost binary counted as a failure.
    pub(crate) fn verdict(&self) -> String {
        let passed: u32 = self.suites.iter().map(|count| count.passed).sum();
        format!("{passed} passed, {} failed", self.failed() + self.lost)
    }

    fn failed(&self) -> u32 {
        self.suites.iter().map(|count| count.failed).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suite, Count { passed, failed, ignored }) in Suite::ALL.into_iter().zip(&self.suites) {
            write!(f, "{:12} {passed:5} passed {failed:3} failed", suite.name())?;
            if *ignored > 0 {
                write!(f, " {ignored} ignored, which this project does not allow")?;
            }
            if passed + failed == 0 {
                write!(f, " (none ran, and that is a failure)")?;
            }
            writeln!(f)?;
        }
        if self.lost > 0 {
            writeln!(f, "{} test binaries crashed or did not compile", self.lost)?;
        }
        Ok(())
    }
}

fn is_noise(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with("running ") || line.starts_with("test result: ok")
}

/// Modules of `proxy/tests/it`, `proxy/tests/process` and the functions' tests, and the testbed's own tests. `every_case_is_counted_as_one` keeps this in step.
const END_TO_END: &[&str] = &[
    "an_edge_comes_up_and_goes_without_a_trace",
    "clients_tell_a_server_that_serves_from_one_that_does_not",
    "only_a_reader_who_does_not_insist_sees_the_table_as_it_was",
    "what_is_held_is_counted_and_goes_on_when_let_go",
    "acme",
    "api",
    "caddy",
    "challenges",
    "circuit_breaking",
    "compression",
    "console",
    "deployment",
    "domain_changes",
    "domain_checker",
    "domain_verifier",
    "drain",
    "encrypted_keys",
    "events",
    "fail_open",
    "first_handshake",
    "fleet",
    "fleet_function",
    "fleet_simulation",
    "floods",
    "foreign_names",
    "grpc",
    "guard_sources",
    "hostile_requests",
    "load_balancers",
    "local_copy",
    "names_and_addresses",
    "origins",
    "outages",
    "own_certificates",
    "privileges",
    "protocols",
    "proxy_headers",
    "random_names",
    "session_tickets",
    "single_order",
    "slow_clients",
    "soak",
    "stacks",
    "standalone",
    "tenants",
    "unix_sockets",
    "upgrades",
    "upstream_tls",
    "verification",
    "wildcard_certificates",
    "www_pairs",
    "trouble",
    "administration",
    "answers",
    "certificate_commands",
    "ending",
    "error_pages",
    "lifecycle",
    "manager",
    "parameter",
    "reload",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Modules there without a case.
    const FIXTURES: [&str; 8] = ["dns", "fixture", "function", "load", "region", "server", "table", "tables"];

    fn summary(lines: &[&str]) -> Summary {
        let mut summary = Summary::default();
        for line in lines {
            summary.read(line);
        }
        summary
    }

    #[test]
    fn tests_are_counted_under_their_suite() {
        for (test, suite) in [
            ("config::quantity::tests::quantities_read_what_they_write", Suite::Unit),
            ("client_hello::properties::never_panics", Suite::Property),
            ("guard_program::fragments_pass", Suite::Verifier),
            ("drain::uring::sigterm_under_load_fails_no_request", Suite::EndToEnd),
            ("proxy/src/name.rs - name::ServerName (line 12)", Suite::Unit),
        ] {
            assert_eq!(Suite::of(test), suite, "{test}");
        }
    }

    #[test]
    fn every_case_is_counted_as_one() {
        let mains = [
            include_str!("../../domain-functions/tests/functions/main.rs"),
            include_str!("../../fleet-function/tests/function/main.rs"),
            include_str!("../../proxy/tests/it/main.rs"),
            include_str!("../../proxy/tests/process/main.rs"),
        ];
        let lines = mains.into_iter().flat_map(str::lines);
        let modules = lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
        for module in modules.filter(|module| !FIXTURES.contains(module)) {
            assert_ne!(Suite::of(&format!("{module}::a_case")), Suite::Unit, "{module} is in no suite");
        }
    }

    #[test]
    fn a_suite_without_a_test_fails_the_run() {
        let mut lines =
            vec!["test a::tests::b ... ok", "test a::properties::b ... ok", "test drain::b ... ok"];
        assert!(!summary(&lines).holds());
        lines.push("test guard_program::b ... ok");
        assert!(summary(&lines).holds());
        lines.push("test guard_program::c ... ignored, not today");
        assert!(!summary(&lines).holds());
    }

    #[test]
    fn a_case_that_is_none_of_libtests_counts_as_one() {
        let mut summary = summary(&["test drain::b ... ok"]);
        summary.count(true);
        assert_eq!(summary.verdict(), "2 passed, 0 failed");
        summary.count(false);
        assert_eq!(summary.verdict(), "2 passed, 1 failed");
        assert!(
            !summary.holds() && summary.to_string().contains("end to end       2 passed   1 failed"),
            "{summary}"
        );
    }

    #[test]
    fn failures_and_lost_binaries_are_counted() {
        let mut summary =
            summary(&["test a::b ... ok", "test a::c ... FAILED", "test result: FAILED. 1 passed;"]);
        summary.end(false);
        assert_eq!(summary.verdict(), "1 passed, 1 failed");
        summary.end(false);
        assert_eq!(summary.verdict(), "1 passed, 2 failed");
    }
}
