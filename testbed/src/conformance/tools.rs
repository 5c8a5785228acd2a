//! What each tool's output says. Nothing here runs anything.

use serde_json::Value;

use super::verdict::{Finding, Verdict};

/// A line for each case, and before that what was seen in one that failed.
pub(super) fn varnishtest(output: &str) -> Verdict {
    let mut verdict = Verdict::default();
    let mut seen = Vec::new();
    for line in output.lines() {
        if let Some(complaint) = line.strip_prefix("----") {
            seen.push(complaint.trim());
        }
        let Some(rest) = line.strip_prefix("#").and_then(|line| line.trim().strip_prefix("top  TEST "))
        else {
            continue;
        };
        let (case, outcome) = rest.split_once(' ').unwrap_or((rest, ""));
        let case = case.rsplit('/').next().unwrap_or(case);
        match outcome {
            passed if passed.starts_with("passed") => verdict.held += 1,
            // What it says next is how the process ended.
            "TIMED OUT (kill -9)" => seen.push("it took too long"),
            _ => verdict.findings.push(Finding::new(case, seen.join("; "))),
        }
        if outcome != "TIMED OUT (kill -9)" {
            seen.clear();
        }
    }
    verdict
}

/// `ok CASE`, or `failed CASE: what was seen`.
pub(super) fn websocket(output: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for line in output.lines() {
        match line.split_once(' ') {
            Some(("ok", _)) => verdict.held += 1,
            Some(("failed", rest)) => {
                let (case, seen) = rest.split_once(": ").unwrap_or((rest, ""));
                verdict.findings.push(Finding::new(case, seen));
            }
            _ => verdict.findings.push(Finding::new("the script", line)),
        }
    }
    verdict
}

/// One request, whose response says what the upstream read.
pub(super) fn nghttp(output: &str) -> Verdict {
    let Some((_, response)) = output.split_once(":status: ") else {
        return Verdict::of_nothing(last_line(output));
    };
    let expected = [
        ("the status", response.starts_with("200")),
        ("the end of the stream", response.contains("; END_STREAM\n")),
        ("the body at the upstream", response.contains("\"body_bytes\":")),
        ("fields in CONTINUATION frames at the upstream", response.contains("\"continuation-test-6\"")),
    ];
    each(&expected, |(case, holds)| (*case, *holds, "it is not in the response".to_owned()))
}

/// The lines of totals.
pub(super) fn h2load(output: &str) -> Verdict {
    let line = output.lines().find_map(|line| line.strip_prefix("requests: "));
    let Some(line) = line else { return Verdict::of_nothing(last_line(output)) };
    let count = |what: &str| {
        let counts = line.split(", ").filter_map(|count| count.split_once(' '));
        counts.filter(|(_, name)| *name == what).find_map(|(count, _)| count.parse::<u64>().ok())
    };
    let all_succeeded =
        count("succeeded").is_some_and(|count| count > 0) && count("succeeded") == count("total");
    let statuses = output.lines().find(|line| line.starts_with("status codes")).unwrap_or_default();
    if all_succeeded {
        return Verdict { held: 1, findings: Vec::new() };
    }
    Verdict::default().and("requests", format!("{line}; {statuses}"))
}

/// What it says of Mozilla's configuration, and the scans that say `OK` beside it.
pub(super) fn sslyze(output: &str) -> Verdict {
    let Some((scans, compliance)) = output.split_once("COMPLIANCE AGAINST TLS CONFIGURATION") else {
        return Verdict::of_nothing(last_line(output));
    };
    let mut verdict = Verdict::default();
    verdict.held += scans.lines().filter(|line| line.contains(" OK - ")).count();
    let vulnerable = scans.lines().filter(|line| line.contains("VULNERABLE - "));
    verdict.findings.extend(vulnerable.map(|line| Finding::new("a scan", line.trim())));
    let mut lines = compliance.lines().map(str::trim);
    if lines.any(|line| line.ends_with(": OK - Compliant.")) {
        verdict.held += 1;
        return verdict;
    }
    let failures = compliance.lines().filter_map(|line| line.trim().strip_prefix("* ")?.split_once(": "));
    verdict.findings.extend(failures.map(|(case, seen)| Finding::new(case, seen)));
    if verdict.findings.is_empty() {
        verdict.findings.push(Finding::new("compliance", compliance.trim()));
    }
    verdict
}

/// Rows in JSON, each with a severity, behind the text for people.
pub(super) fn testssl(output: &str) -> Verdict {
    let report = output.rfind("\n[").and_then(|start| serde_json::from_str(output.get(start..)?).ok());
    let Some(Value::Array(rows)) = report else { return Verdict::of_nothing(last_line(output)) };
    let text =
        |row: &Value, field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_fine = |row: &Value| matches!(text(row, "severity").as_str(), "OK" | "INFO");
    let rows: Vec<_> =
        rows.into_iter().filter(|row| !NOT_JUDGED.contains(&text(row, "id").as_str())).collect();
    each(&rows, |row| {
        (text(row, "id"), is_fine(row), format!("{}: {}", text(row, "severity"), text(row, "finding")))
    })
}

/// What testssl cannot see here: its OpenSSL has no engines; without a server name it meets alert 112, which a row for renegotiation is the
/// only one to do without; and it does not wait for the tickets of TLS 1.3. sslyze and the case `session_tickets` look at the last two.
const NOT_JUDGED: [&str; 3] = ["engine_problem", "secure_renego", "sessionresumption_ticket"];

/// Why it ended, and rows of seconds.
pub(super) fn slowhttptest(output: &str) -> Verdict {
    let output = without_colours(output);
    let exit =
        output.lines().find_map(|line| line.trim().strip_prefix("Exit status:")).unwrap_or_default().trim();
    let ended = ("slow clients lose their connections", exit == "No open connections left", exit.to_owned());
    slow_clients(&output, ended)
}

/// The same rows, and how many connections that Gatehouse has ended the kernel keeps: a few may be about to go.
pub(super) fn slow_reads(output: &str) -> Verdict {
    // The tool's line before it does not end.
    let kept = output
        .split_once("ended, and kept by the kernel: ")
        .and_then(|(_, kept)| kept.lines().next()?.parse().ok());
    let kept: u32 = kept.unwrap_or(u32::MAX);
    let ended = ("slow readers leave nothing behind", kept < 3, format!("{kept} connections in FIN-WAIT-1"));
    slow_clients(output, ended)
}

/// A row of a second: its number; connections closed, pending, and connected; and 0 where others were not served.
fn slow_clients(output: &str, ended: (&'static str, bool, String)) -> Verdict {
    let row = |line: &str| line.split(',').map(|cell| cell.trim().parse().ok()).collect::<Option<Vec<u64>>>();
    let rows: Vec<_> = output.lines().filter_map(row).filter(|row| row.len() == 5).collect();
    if rows.is_empty() {
        return Verdict::of_nothing(last_line(output));
    }
    let most = rows.iter().filter_map(|row| row.get(3)).max().copied().unwrap_or_default();
    let unserved = rows.iter().filter(|row| row.last() == Some(&0)).filter_map(|row| row.first());
    let unserved: Vec<_> = unserved.collect();
    let expected = [
        ("clients connect", most > 0, "not one was connected".to_owned()),
        ("others are served meanwhile", unserved.is_empty(), format!("not in seconds {unserved:?}")),
        ended,
    ];
    each(&expected, |(case, holds, seen)| (*case, *holds, seen.clone()))
}

/// Each expectation with its name, whether it holds, and what was seen if not.
fn each<'a, T, C: Into<String>>(all: &'a [T], look: impl Fn(&'a T) -> (C, bool, String)) -> Verdict {
    let mut verdict = Verdict::default();
    for (case, holds, seen) in all.iter().map(look) {
        if holds {
            verdict.held += 1;
        } else {
            verdict.findings.push(Finding::new(case, seen));
        }
    }
    verdict
}

/// Without the sequences that colour a terminal: ESC, `[`, digits and semicolons, `m`.
fn without_colours(output: &str) -> String {
    let mut parts = output.split("\x1b[");
    let first = parts.next().unwrap_or_default();
    let coloured = parts.map(|part| part.split_once('m').map_or(part, |(_, text)| text));
    [first].into_iter().chain(coloured).collect()
}

fn last_line(output: &str) -> String {
    output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output").trim().to_owned()
}

/// On outputs of the tools' own.
#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! saved {
        ($name:literal) => {
            include_str!(concat!("../../conformance/outputs/", $name))
        };
    }

    fn cases(verdict: &Verdict) -> Vec<&str> {
        verdict.findings.iter().map(|finding| finding.case.as_str()).collect()
    }

    #[test]
    fn cases_that_fail_or_take_too_long_say_what_was_seen() {
        let verdict = varnishtest(saved!("varnishtest.txt"));
        assert_eq!((verdict.held, cases(&verdict)), (2, vec!["wrong_status.vtc", "too_slow.vtc"]));
        let seen: Vec<_> = verdict.findings.iter().map(|finding| finding.seen.as_str()).collect();
        assert_eq!(seen, [r#"c1    EXPECT resp.status (400) == "200" failed"#, "it took too long"]);
    }

    #[test]
    fn a_script_that_breaks_off_is_a_finding() {
        let output = "ok echoes\nfailed closes: TimeoutError: late\nTraceback (most recent call last):\n";
        let verdict = websocket(output);
        assert_eq!((verdict.held, cases(&verdict)), (1, vec!["closes", "the script"]));
    }

    #[test]
    fn a_response_must_say_what_was_sent() {
        let echo = r#"{"headers":[["continuation-test-6","--"]],"body_bytes":126}"#;
        let whole = saved!("nghttp.txt").replace("hello 126", echo);
        assert_eq!(nghttp(&whole), Verdict { held: 4, findings: Vec::new() });
        let lost = whole.replace("\"continuation-test-6\"", "\"\"").replace(":status: 200", ":status: 400");
        assert_eq!(cases(&nghttp(&lost)).len(), 2, "{lost}");
        assert_eq!(nghttp("Some requests were not processed").held, 0);
    }

    #[test]
    fn one_request_that_fails_is_a_finding() {
        assert_eq!(h2load(saved!("h2load.txt")), Verdict { held: 1, findings: Vec::new() });
        let refused = h2load(saved!("h2load_refused.txt"));
        assert!(refused.held == 0 && refused.findings[0].seen.contains("2434 failed"), "{refused:?}");
        assert_eq!(h2load("could not connect").findings[0].seen, "could not connect");
        let none = "requests: 0 total, 0 started, 0 done, 0 succeeded, 0 failed, 0 errored, 0 timeout";
        assert_eq!(h2load(none).held, 0);
    }

    #[test]
    fn each_deviation_from_mozillas_configuration_is_a_finding() {
        let intermediate = sslyze(saved!("sslyze.txt"));
        assert!(intermediate.findings.is_empty() && intermediate.held > 5, "{intermediate:?}");
        assert_eq!(cases(&sslyze(saved!("sslyze_modern.txt"))), ["tls_versions", "ciphers"]);
        assert_eq!(sslyze("no route to host").held, 0);
        let vulnerable =
            saved!("sslyze.txt").replace("OK - Not vulnerable to Heartbleed", "VULNERABLE - Heartbleed");
        assert_eq!(cases(&sslyze(&vulnerable)), ["a scan"]);
    }

    #[test]
    fn rows_with_a_severity_are_findings() {
        let verdict = testssl(saved!("testssl.txt"));
        assert_eq!(verdict.held, 3);
        assert!(cases(&verdict).contains(&"cipher_order"), "{verdict:?}");
        assert_eq!(testssl("Fatal error: nobody is there").held, 0);
    }

    #[test]
    fn slow_clients_must_lose_their_connections_and_others_be_served() {
        assert_eq!(slowhttptest(saved!("slow_headers.txt")), Verdict { held: 3, findings: Vec::new() });
        let open = slowhttptest(saved!("slow_reads.txt"));
        assert_eq!(cases(&open), ["slow clients lose their connections"], "{open:?}");
        let kept = slow_reads(saved!("slow_reads.txt"));
        assert_eq!(cases(&kept), ["slow readers leave nothing behind"], "{kept:?}");
        let reset = saved!("slow_reads.txt").replace("kernel: 200", "kernel: 0");
        assert_eq!(slow_reads(&reset), Verdict { held: 3, findings: Vec::new() });
        let deaf = saved!("slow_headers.txt").replace("\n5,0,0,100,100\n", "\n5,0,0,100,0\n");
        assert_eq!(cases(&slowhttptest(&deaf)), ["others are served meanwhile"], "{deaf}");
        assert_eq!(slowhttptest("").held, 0);
    }
}
