//! A page with places for what is known of a request, such as `{{status}}`.

use bytes::{Bytes, BytesMut};

use crate::{label, telemetry::metrics::Label as _};

label! {
    /// What a page can say of a request.
    pub(super) enum Placeholder["placeholder"] {
        /// The status code.
        Status = "status",
        /// Its name (RFC 9110 §15), as `Bad Gateway`.
        Reason = "reason",
        /// What happened.
        Title = "title",
        /// Who can do something about it.
        Advice = "advice",
        /// The request's id.
        Reference = "reference",
        /// When it came.
        Time = "time",
        /// The site's name; empty where it is not known.
        Host = "host",
    }
}

/// A page, and where something is to be filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageTemplate {
    /// What stands before each placeholder.
    parts: Vec<(Bytes, Placeholder)>,
    rest: Bytes,
}

/// Why a text is no page.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("line {line}: `{{{{{name}}}}}` is no placeholder; there are {}", every())]
    Unknown { line: usize, name: String },
    #[error("line {line}: `{{{{` is not closed; write `}}}}` behind the placeholder, in the same line")]
    Open { line: usize },
}

impl PageTemplate {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let (mut rest, mut line) = (text, 1);
        while let Some((before, after)) = rest.split_once("{{") {
            line += before.matches('\n').count();
            let (name, behind) = after
                .split_once("}}")
                .filter(|(name, _)| !name.contains('\n'))
                .ok_or(TemplateError::Open { line })?;
            let is_meant = |known: &&Placeholder| known.as_str() == name.trim();
            let Some(placeholder) = Placeholder::ALL.iter().find(is_meant) else {
                let name = name.trim().chars().take(LONGEST_SHOWN).collect();
                return Err(TemplateError::Unknown { line, name });
            };
            parts.push((Bytes::copy_from_slice(before.as_bytes()), *placeholder));
            rest = behind;
        }
        Ok(Self { parts, rest: Bytes::copy_from_slice(rest.as_bytes()) })
    }

    /// The page in pieces, none of them empty; `put` writes what stands for a placeholder. Long texts are shared by all pages that are being
    /// sent: a page is large where its images are in it, and no limit counts what waits behind a client's window.
    pub(super) fn fill(&self, put: impl Fn(Placeholder, &mut BytesMut)) -> Vec<Bytes> {
        let (mut pieces, mut short) = (Vec::new(), BytesMut::new());
        for (before, placeholder) in &self.parts {
            add(before, &mut short, &mut pieces);
            put(*placeholder, &mut short);
        }
        add(&self.rest, &mut short, &mut pieces);
        if !short.is_empty() {
            pieces.push(short.freeze());
        }
        pieces
    }
}

fn add(text: &Bytes, short: &mut BytesMut, pieces: &mut Vec<Bytes>) {
    if text.len() <= COPIED {
        return short.extend_from_slice(text);
    }
    if !short.is_empty() {
        pieces.push(short.split().freeze());
    }
    pieces.push(text.clone());
}

fn every() -> String {
    Placeholder::ALL
        .iter()
        .map(|known| format!("`{{{{{}}}}}`", known.as_str()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Bytes up to which a text is copied: a piece of its own costs more.
const COPIED: usize = 4096;
/// Characters of a wrong placeholder that its error shows.
const LONGEST_SHOWN: usize = 40;
