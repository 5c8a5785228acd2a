//! Pages of ours: plain, styled, without anything to load.

use bytes::Bytes;
use hyper::StatusCode;

/// A page held in memory.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) media_type: &'static str,
    pub(super) content: Bytes,
}

impl Page {
    /// Plain text.
    pub(super) fn text(status: StatusCode, content: impl Into<Bytes>) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", content: content.into() }
    }

    /// The page of an error.
    pub(super) fn of(status: StatusCode) -> Self {
        let (title, advice) = words(status);
        let content = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<p class=\"code\">{}</p>\n<h1>{title}</h1>\n\
             <p>{advice}</p>\n</main>\n</body>\n</html>\n",
            status.as_u16()
        );
        Self { status, media_type: "text/html; charset=utf-8", content: content.into() }
    }
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::NOT_FOUND => {
            ("Nothing here", "This address is not set up. If it is yours, add it with your provider.")
        }
        StatusCode::METHOD_NOT_ALLOWED => ("Not possible here", "This server does not open tunnels."),
        StatusCode::REQUEST_TIMEOUT => ("Too slow", "The request did not arrive in time. Please try again."),
        StatusCode::MISDIRECTED_REQUEST => {
            ("Wrong address", "This address is not served over this connection. Please reload the page.")
        }
        StatusCode::BAD_GATEWAY => {
            ("The site does not answer", "Something is wrong behind this address. Please try again soon.")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            ("Not available", "This site cannot be shown right now. Please try again soon.")
        }
        StatusCode::GATEWAY_TIMEOUT => {
            ("The site is too slow", "It did not answer in time. Please try again soon.")
        }
        _ => ("Bad request", "This request cannot be understood."),
    }
}

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;\
    background:#f6f6f4;color:#222}main{max-width:30rem;padding:2rem}.code{font-weight:600;color:#777;margin:0}\
    h1{margin:.2rem 0 1rem;font-size:1.8rem}@media(prefers-color-scheme:dark){body{background:#1b1b1a;color:#eee}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_load_nothing_from_elsewhere() {
        for status in [400, 404, 405, 408, 421, 502, 503, 504] {
            let page = Page::of(StatusCode::from_u16(status).unwrap());
            let text = String::from_utf8(page.content.to_vec()).unwrap();
            assert!(text.contains(&format!(">{status}<")), "{status}");
            for loader in ["src=", "href=", "@import", "url("] {
                assert!(!text.contains(loader), "{status}: {loader}");
            }
        }
    }
}
