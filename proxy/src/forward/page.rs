//! The error page: one document that loads nothing else.

use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use crate::telemetry::RequestId;

/// What happened, and who can do something about it: our own fixed texts, never untrusted input or an error's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) what: &'static str,
    pub(super) advice: &'static str,
}

/// The id by which the operator finds the request in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference<'a> {
    pub(super) id: &'a RequestId,
    pub(super) at: SystemTime,
}

/// An HTML page for `status`.
pub(super) fn page(status: StatusCode, notice: Notice, reference: Reference<'_>) -> Bytes {
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    let (Notice { what, advice }, Reference { id, at }) = (notice, reference);
    let at = OffsetDateTime::from(at).format(INSTANT).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{what}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<p class=\"code\">{code} {reason}</p>\n<h1>{what}</h1>\n<p>{advice}</p>\n\
         <p class=\"reference\">If you ask for help, please give this reference:<br>\n\
         <code>{id}</code> at {at}</p>\n</main>\n</body>\n</html>\n"
    )
    .into()
}

const INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");

const STYLE: &str = ":root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;font:1rem/1.5 system-ui,sans-serif}\
main{max-width:34rem;padding:2rem}\
h1{margin:.25rem 0 .75rem;font-size:1.75rem;line-height:1.2}\
p{margin:0}\
.code,.reference{font-size:.875rem;opacity:.7}\
.reference{margin-top:2rem;padding-top:1rem;border-top:1px solid}\
code{font-size:1rem}";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown() -> String {
        let notice = Notice { what: "The site did not answer correctly", advice: "Please try again." };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_487_294);
        let page = page(StatusCode::BAD_GATEWAY, notice, Reference { id: &RequestId::numbered(0xab), at });
        String::from_utf8(page.to_vec()).unwrap()
    }

    #[test]
    fn the_page_says_what_happened_who_can_act_and_how_to_ask() {
        let text = shown();
        for part in [
            "502 Bad Gateway",
            "<h1>The site did not answer correctly</h1>",
            "<p>Please try again.</p>",
            "<code>00000000000000ab</code> at 2026-11-24 02:28:14 UTC",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let text = shown();
        for reference in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!text.contains(reference), "{reference} in {text}");
        }
    }
}
