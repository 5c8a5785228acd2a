//! Whether the links of the documentation lead somewhere: each relative link of README, ARCHITECTURE and the other pages names a file
//! that exists, and each anchor a heading of that page.
//! Not here: links to other hosts, which a test must not depend on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use super::workspace;

/// A link as it is written in a page.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    /// Before `#`; empty for a heading of the same page.
    file: String,
    anchor: Option<String>,
}

/// Links of a Markdown text to files, without code and without other hosts.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (at, _) in line.match_indices("](") {
            let rest = line.get(at + 2..).unwrap_or_default();
            let Some((target, _)) = rest.split_once(')') else { continue };
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) =
                target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            found.push(Link { line: number, file: file.to_owned(), anchor: anchor.map(str::to_owned) });
        }
    }
    found
}

/// The anchors of a Markdown text's headings, as GitHub makes them: lower case, spaces as `-`, no other punctuation; a heading that
/// occurs again gets `-1`, `-2`.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor(heading.trim());
        let times = seen.entry(anchor.clone()).or_insert(0_usize);
        found.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
        *times += 1;
    }
    found
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Lines with their numbers, without fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().zip(1..).map(|(line, number)| (number, line)).filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// Links of `page` that lead nowhere, one a line of text, with `page` relative to `root`.
fn broken(root: &Path, page: &Path) -> Vec<String> {
    let text = fs::read_to_string(root.join(page)).unwrap();
    let folder = page.parent().unwrap_or(Path::new(""));
    let fault = |link: Link| {
        let target = if link.file.is_empty() { page.to_owned() } else { resolved(&folder.join(&link.file)) };
        let shown = format!("{}:{}: `{}`", page.display(), link.line, target.display());
        if !root.join(&target).exists() {
            return Some(format!("{shown} does not exist"));
        }
        let anchor = link.anchor?;
        let there = anchors(&fs::read_to_string(root.join(&target)).unwrap());
        (!there.contains(&anchor)).then(|| format!("{shown} has no heading `#{anchor}`: {there:?}"))
    };
    links(&text).into_iter().filter_map(fault).collect()
}

/// `docs/../CHANGELOG.md` as `CHANGELOG.md`: a folder that does not exist must not be walked through.
fn resolved(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            whole.pop();
        } else {
            whole.push(part);
        }
    }
    whole
}

/// The pages at the root and in `docs`, relative to `root`.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = PathBuf::from(entry.unwrap().file_name());
            if name.extension().is_some_and(|extension| extension == "md") {
                pages.push(Path::new(folder).join(name));
            }
        }
    }
    pages.sort();
    pages
}

#[test]
fn links_of_the_documentation_lead_to_files_and_headings() {
    let root = workspace();
    let pages = pages(root);
    assert!(pages.contains(&PathBuf::from("docs/operations.md")), "{pages:?}");
    let broken: Vec<_> = pages.iter().flat_map(|page| broken(root, page)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn links_are_found_outside_code_only() {
    let text = "[a](b.md#c-d) `[x](y)` [e](#f)\n```\n[g](h)\n```\n[i](https://j) [k](l)";
    let link = |line, file: &str, anchor: Option<&str>| Link {
        line,
        file: file.to_owned(),
        anchor: anchor.map(str::to_owned),
    };
    let wanted = [link(1, "b.md", Some("c-d")), link(1, "", Some("f")), link(5, "l", None)];
    assert_eq!(links(text), wanted);
}

#[test]
fn anchors_are_those_that_github_makes() {
    for (heading, wanted) in [
        ("## AWS permissions", "aws-permissions"),
        ("### `proxy-ebpf`, `cli`", "proxy-ebpf-cli"),
        ("## 0.1.0 - unreleased", "010---unreleased"),
        ("## What others have, and we do not", "what-others-have-and-we-do-not"),
    ] {
        assert_eq!(anchors(heading), BTreeSet::from([wanted.to_owned()]), "{heading}");
    }
    let again = anchors("# a\n## a\n#no heading\n```\n# a comment\n```");
    assert_eq!(again, BTreeSet::from(["a".to_owned(), "a-1".to_owned()]));
}
