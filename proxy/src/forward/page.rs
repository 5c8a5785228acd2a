//! What a person sees when there is no answer from the site itself: one page, nothing to load.

use bytes::Bytes;
use http::StatusCode;

/// An HTML page for `status`; `advice` is one sentence of ours, never a stranger's words.
pub(super) fn page(status: StatusCode, advice: &str) -> Bytes {
    let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>{code} {reason}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<p>{code}</p>\n<h1>{reason}</h1>\n<div>{advice}</div>\n</main>\n</body>\n</html>\n"
    )
    .into()
}

const STYLE: &str = ":root{color-scheme:light dark}\
body{margin:0;min-height:100vh;display:grid;place-items:center;font:1rem/1.5 system-ui,sans-serif}\
main{max-width:32rem;padding:2rem}\
p{margin:0;font-size:.875rem;letter-spacing:.1em;opacity:.6}\
h1{margin:.25rem 0 .75rem;font-size:1.75rem;line-height:1.2}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing() {
        let page = page(StatusCode::BAD_GATEWAY, "Try again.");
        let text = std::str::from_utf8(&page).unwrap();
        for part in ["502", "Bad Gateway", "Try again."] {
            assert!(text.contains(part), "{part} in {text}");
        }
        for reference in ["src=", "href=", "url(", "@import", "<script"] {
            assert!(!text.contains(reference), "{reference} in {text}");
        }
    }
}
