//! Licences of what is linked: that we may ship it, and the texts that have to go with it.
//!
//! `cargo-about` does the same, and is three hundred crates to compile; the texts lie in the crates' own folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, ensure};

use super::crates::{Crate, Origin};

/// Fails when a crate's licence is unknown, or permits nothing we know.
pub(super) fn judge(crates: &BTreeSet<Crate>) -> anyhow::Result<()> {
    for found in crates {
        let Crate { name, version, licence, .. } = found;
        let licence = licence.as_deref().with_context(|| format!("{name} {version} names no licence"))?;
        ensure!(
            is_permitted(licence),
            "{name} {version}: `{licence}` is not among the permitted licences ({}); leave the crate out, or permit it there",
            PERMITTED.join(", ")
        );
    }
    Ok(())
}

/// All texts, each once with the crates it came with; `into` says into what they are linked.
pub(super) fn texts(crates: &BTreeSet<Crate>, into: &str) -> anyhow::Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    let mut paper = format!("What is linked into {into}, {INTRODUCTION}");
    for found in crates.iter().filter(|found| found.origin == Origin::Registry) {
        let title = format!("{} {}", found.name, found.version);
        let licence = found.licence.as_deref().unwrap_or_default();
        writeln!(paper, "  {title}: {licence}")?;
        let found_texts = texts_of(&found.folder)?;
        if found_texts.is_empty() {
            without
                .push(format!("  {title}: {}", found.repository.as_deref().unwrap_or("no repository named")));
        }
        for text in found_texts {
            texts.entry(text).or_default().push(title.clone());
        }
    }
    writeln!(paper, "\nThese came without a text; it lies in their repositories:\n\n{}", without.join("\n"))?;
    for (text, titles) in texts {
        writeln!(paper, "\n{RULE}\n{}\n{RULE}\n\n{text}", titles.join(", "))?;
    }
    Ok(paper)
}

fn texts_of(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if entry.file_type()?.is_file() && STARTS.iter().any(|start| name.starts_with(start)) {
            texts.insert(String::from_utf8_lossy(&fs::read(entry.path())?).trim().replace('\r', ""));
        }
    }
    Ok(texts)
}

/// Whether an SPDX expression (SPDX 2.3, annex D; `/` for OR as older manifests have it) leaves a choice we may take.
/// AND binds closer than OR.
fn is_permitted(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    any(&mut tokens) && tokens.next().is_none()
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(tokens: &mut Tokens<'_>) -> bool {
    let mut permitted = all(tokens);
    while tokens.next_if_eq(&"OR").is_some() {
        permitted |= all(tokens);
    }
    permitted
}

fn all(tokens: &mut Tokens<'_>) -> bool {
    let mut permitted = one(tokens);
    while tokens.next_if_eq(&"AND").is_some() {
        permitted &= one(tokens);
    }
    permitted
}

fn one(tokens: &mut Tokens<'_>) -> bool {
    match tokens.next() {
        Some("(") => {
            let permitted = any(tokens);
            tokens.next() == Some(")") && permitted
        }
        Some(licence) => {
            // An exception only adds permissions.
            if tokens.next_if_eq(&"WITH").is_some() {
                tokens.next();
            }
            PERMITTED.contains(&licence)
        }
        None => false,
    }
}

/// Licences that ask for no more than their text.
const PERMITTED: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
const STARTS: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];
const RULE: &str = "------------------------------------------------------------------------";
const INTRODUCTION: &str = "\
and under which licences. Where one may be
chosen, Gatehouse takes it under any of those permitted.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_permitted_by_what_it_lets_us_choose() {
        for (expression, permitted) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT AND ISC", true),
            ("(GPL-3.0-only OR MIT) AND ISC", true),
            ("(GPL-3.0-only OR MIT) AND MPL-2.0", false),
            ("Apache-2.0 WITH LLVM-exception OR MPL-2.0", true),
            ("GPL-2.0-only", false),
            ("(MIT", false),
            ("MIT)", false),
            ("MIT Apache-2.0", false),
            ("", false),
        ] {
            assert_eq!(is_permitted(expression), permitted, "{expression}");
        }
    }
}
